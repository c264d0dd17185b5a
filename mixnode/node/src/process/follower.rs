//! Follows the directory: makes epoch keys, publishes the descriptor, takes up each consensus in time.
//!
//! No thread and no clock: the node's control loop calls [`Follower::turn`] a few times a second.

use std::io;
use std::sync::{Arc, Weak};

use directory::store::Store;
use directory::{
    Authorities, Consensus, Descriptor, Identity, LinkKey, Parameters, Role, SignedConsensus,
};
use rand_core::CryptoRng;

use crate::keys::epoch::{Clocks, EpochState, KeyRing};

/// What a node publishes of itself beside keys and time.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Mix or gateway.
    pub role: Role,
    /// Who runs it.
    pub operator: String,
    /// Where it listens.
    pub addresses: Vec<std::net::SocketAddr>,
    /// Static keys of its links.
    pub link: LinkKey,
    /// Share of the traffic.
    pub capacity_pps: u32,
    /// Public key of the verifiable random function.
    pub vrf_key: [u8; 32],
}

/// How long an epoch that is in force stays so, in time since boot: reckoned once, when its document was taken up.
struct Life {
    epoch: u32,
    state: Weak<EpochState>,
    /// From here on it is refused if there is a newer document.
    refused_ns: u64,
    /// From here on in any case.
    ends_ns: u64,
}

/// A node's place in the directory.
pub struct Follower {
    identity: Identity,
    profile: Profile,
    max_pps: u32,
    keys: KeyRing,
    parameters: Option<Parameters>,
    /// Newest epoch whose document was taken up: older ones are refused from then on.
    newest: Option<u32>,
    /// Epoch the descriptor was last published in.
    published: Option<u32>,
    /// Epochs in force or still to come.
    lives: Vec<Life>,
}

impl Follower {
    /// A follower that knows nothing of the network yet.
    pub fn new(identity: Identity, profile: Profile, max_pps: u32) -> Follower {
        Follower {
            identity,
            profile,
            max_pps,
            keys: KeyRing::default(),
            parameters: None,
            newest: None,
            published: None,
            lives: Vec::new(),
        }
    }

    /// The network's parameters, once a document was seen.
    pub fn parameters(&self) -> Option<&Parameters> {
        self.parameters.as_ref()
    }

    /// The epoch of `unix_ms`; 0 as long as no document tells the network's beginning.
    pub fn epoch_at(&self, unix_ms: u64) -> u32 {
        self.parameters
            .map_or(0, |parameters| parameters.epoch_at(unix_ms))
    }

    /// Makes missing epoch keys. A descriptor to publish, if there are new ones.
    pub fn describe<R: CryptoRng + ?Sized>(
        &mut self,
        clocks: Clocks,
        rng: &mut R,
    ) -> Option<Descriptor> {
        let epoch = self.epoch_at(clocks.unix_ms);
        let parameters = self.parameters.as_ref();
        let fresh = self.keys.advance(epoch, parameters, clocks, rng);
        if !fresh && self.published == Some(epoch) {
            return None;
        }
        self.published = Some(epoch);
        Some(Descriptor {
            identity: self.identity.public(),
            role: self.profile.role,
            operator: self.profile.operator.clone(),
            addresses: self.profile.addresses.clone(),
            link: self.profile.link.clone(),
            epoch_keys: self.keys.public(epoch),
            capacity_pps: self.profile.capacity_pps,
            vrf_key: self.profile.vrf_key,
            vrf_proof: None,
            published_unix_ms: clocks.unix_ms,
        })
    }

    /// Epochs whose documents are wanted now, oldest first: the current one and the next.
    pub fn wanted(&self, unix_ms: u64) -> impl Iterator<Item = u32> + use<> {
        let now = self.epoch_at(unix_ms);
        let newest = self.newest;
        [Some(now), now.checked_add(1)]
            .into_iter()
            .flatten()
            .filter(move |epoch| newest.is_none_or(|newest| *epoch > newest))
    }

    /// Takes up a verified document.
    ///
    /// # Errors
    /// If there is no memory for the replay table: the document is wanted again then.
    pub fn take_up<R: CryptoRng + ?Sized>(
        &mut self,
        consensus: Consensus,
        document: Vec<u8>,
        clocks: Clocks,
        rng: &mut R,
    ) -> io::Result<Arc<EpochState>> {
        let (epoch, parameters) = (consensus.epoch(), *consensus.parameters());
        let state = Arc::new(EpochState::new(
            consensus,
            document,
            &self.identity.public(),
            &self.keys,
            self.max_pps,
            rng,
        )?);
        self.parameters = Some(parameters);
        self.newest = self.newest.max(Some(epoch));
        let over_ms = parameters.epoch_ends_ms(epoch);
        self.lives.push(Life {
            epoch,
            state: Arc::downgrade(&state),
            refused_ns: clocks.boot_at(over_ms.saturating_add(parameters.grace_ms())),
            ends_ns: clocks.boot_at(over_ms.saturating_add(parameters.epoch_ms)),
        });
        Ok(state)
    }

    /// Ends the epochs whose time has come and erases their keys: with the document of a newer epoch when no packet of
    /// the old one is on its way any more, without it at the end of the epoch after. To be called all the time.
    pub fn end_epochs(&mut self, boot_ns: u64) {
        self.keys.expire(boot_ns);
        let (newest, keys) = (self.newest, &mut self.keys);
        self.lives.retain(|life| {
            let newer = newest.is_some_and(|newest| newest > life.epoch);
            let over = boot_ns >= life.ends_ns || (newer && boot_ns >= life.refused_ns);
            if over {
                keys.erase(life.epoch);
                if let Some(state) = life.state.upgrade() {
                    state.end();
                }
            }
            !over
        });
    }

    /// One round over a store: learns the parameters, publishes the descriptor when it is due, ends what is over and
    /// returns the epochs to put in force. What can't be read or verified is reported and tried again in the next
    /// round.
    ///
    /// # Errors
    /// The store can't be used. What could be read of it comes first, and the error with the next round.
    pub fn turn<R: CryptoRng + ?Sized>(
        &mut self,
        store: &Store,
        clocks: Clocks,
        rng: &mut R,
    ) -> io::Result<Vec<Arc<EpochState>>> {
        self.end_epochs(clocks.boot_ns);
        let authorities = store.read_authorities()?;
        if let Some(authorities) = &authorities
            && self.parameters.is_none()
            && let Some((_, document)) = store.latest()?
        {
            match document.verify(authorities, None) {
                Ok(consensus) => self.parameters = Some(*consensus.parameters()),
                Err(error) => tracing::warn!(%error, "refused a consensus"),
            }
        }
        let published = match self.describe(clocks, rng) {
            Some(descriptor) => store.publish_descriptor(&descriptor, &self.identity),
            None => Ok(()),
        };
        if published.is_err() {
            // Not known to anybody yet.
            self.published = None;
        }
        let mut outcome = published;
        let mut states = Vec::new();
        for epoch in self.wanted(clocks.unix_ms) {
            let Some(authorities) = &authorities else {
                break;
            };
            match self.take_from(store, authorities, epoch, clocks, rng) {
                Ok(state) => states.extend(state),
                Err(error) => outcome = Err(error),
            }
        }
        // An epoch once taken up is not wanted again: no error may keep it from the workers.
        match outcome {
            Err(error) if states.is_empty() => Err(error),
            _ => Ok(states),
        }
    }

    fn take_from<R: CryptoRng + ?Sized>(
        &mut self,
        store: &Store,
        authorities: &Authorities,
        epoch: u32,
        clocks: Clocks,
        rng: &mut R,
    ) -> io::Result<Option<Arc<EpochState>>> {
        let Some(document) = store.read_consensus(epoch)? else {
            return Ok(None);
        };
        match verify(&document, authorities, epoch) {
            Ok(consensus) => self
                .take_up(consensus, document.encode(), clocks, rng)
                .map(Some),
            Err(error) => {
                tracing::warn!(epoch, %error, "refused a consensus");
                Ok(None)
            }
        }
    }
}

fn verify(
    document: &SignedConsensus,
    authorities: &Authorities,
    epoch: u32,
) -> Result<Consensus, String> {
    let consensus = document
        .verify(authorities, None)
        .map_err(|error| error.to_string())?;
    if consensus.epoch() == epoch {
        Ok(consensus)
    } else {
        Err(format!("it is the one of epoch {}", consensus.epoch()))
    }
}
