//! A document on its way from a gateway, a part at a time in ordinary slots. Where it is signed by an authority set that is
//! not known here, the gateway is asked for the chain of sets after it: that chain has to continue the one that is known,
//! and to vouch for the document.

use directory::authority_set::CHAIN_BYTES_MAX;
use directory::{Chain, Consensus};
use link::control::{AUTHORITIES, Assembly, Control};

use super::Carrier;
use super::documents::{Documents, Unfit};
use crate::event::Event;

/// A document that is asked for.
pub(super) struct Download {
    epoch: u32,
    assembly: Option<Assembly>,
    cursor: u16,
    /// The whole document, while the chain is asked for.
    unproven: Option<Vec<u8>>,
}

/// What a part of a document led to.
pub(super) enum Taken {
    /// It was not asked for.
    Unasked,
    /// More is to come.
    More,
    /// The gateway has no such document.
    Absent,
    /// The whole document holds.
    Whole(Box<Fetched>),
    /// What was sent is no document of the epoch that authorities known here, or vouched for by them, signed.
    Forged,
}

/// A document that was fetched.
pub(super) struct Fetched {
    pub(super) consensus: Consensus,
    /// As it travels.
    pub(super) document: Vec<u8>,
    /// The chain that it needed, if that is longer than the one known here.
    pub(super) authorities: Option<Chain>,
}

impl Download {
    pub(super) fn new(epoch: u32) -> Self {
        Self {
            epoch,
            assembly: None,
            cursor: 0,
            unproven: None,
        }
    }

    /// Of which epoch the document is.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    fn asked(&self) -> u32 {
        match self.unproven {
            Some(_) => AUTHORITIES,
            None => self.epoch,
        }
    }

    /// The question for the next part that is missing.
    pub(super) fn question(&mut self) -> Control {
        let assembly = self.assembly.as_ref();
        let chunk = assembly.and_then(|assembly| assembly.missing(self.cursor));
        let chunk = chunk.unwrap_or(0);
        self.cursor = chunk.saturating_add(1);
        Control::Fetch {
            epoch: self.asked(),
            chunk,
        }
    }

    /// Takes a part.
    pub(super) fn take(
        &mut self,
        part: Control,
        documents: &Documents,
        authorities: &Chain,
    ) -> Taken {
        match &part {
            Control::Chunk {
                epoch, total_bytes, ..
            } if *epoch == self.asked() => {
                if *total_bytes == 0 {
                    return match self.unproven {
                        Some(_) => Taken::Forged,
                        None => Taken::Absent,
                    };
                }
                let is_chain = self.unproven.is_some();
                if is_chain && *total_bytes as usize > CHAIN_BYTES_MAX {
                    return Taken::Forged;
                }
            }
            // An answer to what was asked before.
            _ => return Taken::Unasked,
        }
        match &mut self.assembly {
            Some(assembly) => assembly.accept(part),
            assembly => *assembly = Assembly::start(part),
        }
        let Some(whole) = self.assembly.as_ref().and_then(Assembly::finish) else {
            return Taken::More;
        };
        (self.assembly, self.cursor) = (None, 0);
        let (document, chain) = match self.unproven.take() {
            None => (whole, None),
            Some(document) => match Chain::decode(&whole) {
                Ok(chain) if chain.continues(authorities) => (document, Some(chain)),
                _ => return Taken::Forged,
            },
        };
        let known = chain.as_ref().unwrap_or(authorities);
        match documents.verify(&document, self.epoch, known) {
            Ok(consensus) => Taken::Whole(Box::new(Fetched {
                consensus,
                document,
                authorities: chain,
            })),
            Err(Unfit::Unknown) if chain.is_none() => {
                self.unproven = Some(document);
                Taken::More
            }
            Err(_) => Taken::Forged,
        }
    }
}

impl Carrier {
    /// Holds what was fetched from now on, and has it stored.
    pub(super) fn keep(&mut self, fetched: Fetched) {
        if let Some(authorities) = fetched.authorities {
            self.authorities = authorities.clone();
            self.events.push_back(Event::Authorities(authorities));
        }
        let epoch = fetched.consensus.epoch();
        self.documents.insert(fetched.consensus);
        let document = fetched.document;
        self.events.push_back(Event::Consensus { epoch, document });
    }
}
