//! What other gateways say of a document that this client's own does not hand over.
//!
//! A gateway that withholds the document of an epoch would make its client's packets the only ones of the epoch before.
//! So nobody goes on with the old document on one gateway's word: further gateways, each of another operator, are asked
//! one after the other, each at a random moment: the client's reserves first, so that who withholds a document gets no
//! other gateways asked than those that were drawn long ago. Two that have none are believed, or where there are fewer
//! all that answer; one that is full or silent is passed over. Where all are, they are asked again, for silence is no word:
//! whoever withholds a document could keep the others busy. An own gateway that neither denies the document nor hands it over
//! in time is taken for one that withholds it. Every question takes an ordinary slot; until there is an
//! answer the others carry link cover alone. An own gateway that has not served for minutes is no answer either: it may
//! have left the network, as the document would tell.
//!
//! Who is asked again knows the client as the one that asked before, and goes on where it was: a new key each time would
//! take place after place, from all others who ask.

use std::net::SocketAddr;

use directory::RECORD_BYTES_MAX;
use link::control::{CHUNK_BYTES, Control};
use link::{ClientKeys, DATAGRAM_BYTES};

use super::attachment::{Attachment, Frame, Inbound};
use super::download::{Download, Taken};
use super::visit::{ASK_EVERY, Visit, patience_ns};
use super::{Carrier, unit};

/// Gateways that must say that there is no document.
const DENIALS: usize = 2;
/// Rate of the stream that is asked of a further gateway, packets a second.
const STREAM_PPS: u32 = 10;

/// Questions about one epoch's document.
pub(super) struct Inquiry {
    epoch: u32,
    /// Operator of the own gateway, which is not asked.
    own: Option<String>,
    /// Who was asked, each of another operator, in order.
    asked: Vec<Asked>,
    /// The next of them in this round; beyond them it is a newcomer.
    next: usize,
    /// When to ask the next, Unix ms.
    next_ms: u64,
    asking: Option<Asking>,
}

/// A gateway that was asked, and what it is known by if it is asked again.
struct Asked {
    gateway: [u8; 32],
    operator: String,
    /// Of its own: two gateways see two strangers.
    keys: ClientKeys,
    /// What it has handed over.
    download: Download,
    /// It has said, in this round, that it has none.
    has_denied: bool,
    /// It began to hand the document over, so there is one; until when it may take over it. Set once: who begins again
    /// promises nothing anew.
    promised_until_ns: Option<u64>,
}

/// The gateway that is being asked.
struct Asking {
    number: usize,
    visit: Visit,
    until_ns: u64,
    /// However much it hands over.
    ends_ns: u64,
}

impl Inquiry {
    /// The call at the gateway that is being asked.
    pub(super) fn visit(&mut self) -> Option<&mut Visit> {
        self.asking.as_mut().map(|asking| &mut asking.visit)
    }

    /// Operators that are not asked any more.
    fn operators(&self) -> Vec<String> {
        let asked = self.asked.iter().map(|asked| &asked.operator);
        self.own.iter().chain(asked).cloned().collect()
    }

    fn denials(&self) -> usize {
        self.asked.iter().filter(|asked| asked.has_denied).count()
    }

    /// Whether somebody is handing the document over, as far as can be believed before it is whole.
    fn is_promised(&self, now_ns: u64) -> bool {
        let mut until_ns = self
            .asked
            .iter()
            .filter_map(|asked| asked.promised_until_ns);
        until_ns.any(|until_ns| now_ns < until_ns)
    }
}

impl Carrier {
    /// Whether others are asked for the document of now, because the own gateway does not hand it over.
    pub(crate) fn is_asking_others(&self) -> bool {
        self.inquiry.is_some()
    }

    /// What this slot asks another gateway, and where that is.
    pub(super) fn inquire(
        &mut self,
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        let epoch = self.documents.epoch_at(unix_ms);
        // While the own gateway hands it over, and for as long as that may take, there is nothing to ask others.
        let is_denied = self.is_denied(epoch)
            || self.is_owed(epoch, now_ns, unix_ms)
            || self.guard.is_unserved();
        if !self.documents.is_in_doubt(epoch) || !is_denied {
            self.inquiry = None;
            return None;
        }
        if self.inquiry.as_ref().is_none_or(|one| one.epoch != epoch) {
            let own = self.documents.find(&self.place.gateway, unix_ms);
            self.inquiry = Some(Inquiry {
                epoch,
                own: own.map(|node| node.operator.clone()),
                asked: Vec::new(),
                next: 0,
                next_ms: self.inquiry_at_ms(unix_ms),
                asking: None,
            });
        }
        let next_ms = self.inquiry_at_ms(unix_ms);
        let inquiry = self.inquiry.as_mut()?;
        if let Some(asking) = &inquiry.asking
            && now_ns >= asking.until_ns
        {
            (inquiry.asking, inquiry.next_ms) = (None, next_ms);
        }
        if inquiry.asking.is_none() {
            if unix_ms < inquiry.next_ms {
                return None;
            }
            self.ask_another(epoch, now_ns, unix_ms)?;
        }
        let inquiry = self.inquiry.as_mut()?;
        let asking = inquiry.asking.as_mut()?;
        let node = self.documents.find(&asking.visit.gateway, unix_ms)?;
        let download = &mut inquiry.asked.get_mut(asking.number)?.download;
        let question = || Some(Frame::control(&download.question()));
        asking.visit.next(node, now_ns, &mut self.rng, question)
    }

    /// Turns to the next gateway of this round, one that was not asked yet if there is one.
    fn ask_another(&mut self, epoch: u32, now_ns: u64, unix_ms: u64) -> Option<()> {
        let inquiry = self.inquiry.as_ref()?;
        if inquiry.next >= inquiry.asked.len() {
            let operators = inquiry.operators();
            let Some((gateway, operator)) = self.stranger(&operators, unix_ms) else {
                self.end_round(epoch, now_ns, unix_ms);
                return None;
            };
            let asked = Asked {
                gateway,
                operator,
                keys: ClientKeys::generate(&mut self.rng),
                download: Download::new(epoch),
                has_denied: false,
                promised_until_ns: None,
            };
            self.inquiry.as_mut()?.asked.push(asked);
        }
        let until_ns = now_ns.saturating_add(patience_ns(self.rate_pps));
        let ends_ns = until_ns.saturating_add(self.handing_ns(unix_ms));
        let inquiry = self.inquiry.as_mut()?;
        let number = inquiry.next;
        inquiry.next += 1;
        let asked = inquiry.asked.get(number)?;
        let attachment = Attachment::new(asked.keys.clone(), self.rate_pps, STREAM_PPS);
        inquiry.asking = Some(Asking {
            number,
            visit: Visit::new(asked.gateway, attachment),
            until_ns,
            ends_ns,
        });
        Some(())
    }

    /// A gateway of none of these operators, the guard and its reserves first, and its operator.
    fn stranger(&mut self, operators: &[String], unix_ms: u64) -> Option<([u8; 32], String)> {
        let known = self.guard.gateways().find_map(|gateway| {
            let node = self.documents.find(gateway, unix_ms)?;
            (!operators.contains(&node.operator)).then_some(node)
        });
        let node = known.or_else(|| {
            let consensus = self.documents.nearest(unix_ms)?;
            let index = directory::pick_gateway_besides(consensus, &mut self.rng, operators)?;
            consensus.node(index)
        })?;
        Some((node.identity, node.operator.clone()))
    }

    /// Everybody was asked. What was said counts if somebody said something, and if there is nobody to say it; else all
    /// are asked again: there is a document, or nobody knows.
    fn end_round(&mut self, epoch: u32, now_ns: u64, unix_ms: u64) {
        let next_ms = self.inquiry_at_ms(unix_ms);
        let Some(inquiry) = &mut self.inquiry else {
            return;
        };
        let is_said = inquiry.denials() > 0 || inquiry.asked.is_empty();
        if is_said && !inquiry.is_promised(now_ns) {
            self.documents.set_missing(epoch);
            self.inquiry = None;
            return;
        }
        (inquiry.next, inquiry.next_ms) = (0, next_ms);
        for asked in &mut inquiry.asked {
            asked.has_denied = false;
        }
    }

    /// How long a gateway may take to hand a document over: an eighth of the epoch, or twice what the parts of one of as
    /// many nodes as the last take in the slots of this client, but no longer than half of the epoch: one that never
    /// ends must not keep the client from asking others.
    pub(super) fn handing_ns(&self, unix_ms: u64) -> u64 {
        let epoch_ns = self
            .documents
            .parameters()
            .epoch_ms
            .saturating_mul(1_000_000);
        let nearest = self.documents.nearest(unix_ms);
        let nodes = nearest.map_or(0, |consensus| consensus.nodes().len());
        let parts = 1 + (nodes * RECORD_BYTES_MAX).div_ceil(CHUNK_BYTES);
        let slots = 2.0 * f64::from(ASK_EVERY) * parts as f64;
        ((slots * 1e9 / self.rate_pps) as u64).clamp(epoch_ns / 8, epoch_ns / 2)
    }

    /// A random moment of what is left of the epoch's first eighth; after it, of a sixty-fourth from now on.
    fn inquiry_at_ms(&mut self, unix_ms: u64) -> u64 {
        let parameters = self.documents.parameters();
        let epoch = parameters.epoch_at(unix_ms);
        let window_ms = parameters.epoch_starts_ms(epoch) + parameters.epoch_ms / 8;
        let left_ms = window_ms
            .saturating_sub(unix_ms)
            .max(parameters.epoch_ms / 64);
        unix_ms + (unit(&mut self.rng) * left_ms as f64) as u64
    }

    /// Takes a datagram if it comes from the gateway that is being asked.
    pub(super) fn on_inquiry(&mut self, datagram: &mut [u8; DATAGRAM_BYTES], now_ns: u64) {
        let Some(inquiry) = &mut self.inquiry else {
            return;
        };
        let Some(asking) = &mut inquiry.asking else {
            return;
        };
        let chunk = match asking.visit.receive(datagram, now_ns, &mut self.rng) {
            Some(Inbound::Control(Control::Attached { rate_pps })) => {
                asking.visit.attachment.attached(rate_pps);
                return;
            }
            Some(Inbound::Control(Control::Full)) => {
                // No room for the question: passed over.
                asking.until_ns = 0;
                return;
            }
            Some(Inbound::Control(chunk @ Control::Chunk { .. })) => chunk,
            Some(_) | None => return,
        };
        let Some(asked) = inquiry.asked.get_mut(asking.number) else {
            return;
        };
        if asked.has_denied {
            return;
        }
        let patient_ns = now_ns.saturating_add(patience_ns(self.rate_pps));
        let epoch = inquiry.epoch;
        match asked
            .download
            .take(chunk, &self.documents, &self.authorities)
        {
            Taken::Absent => {
                // One gateway has one voice: what else it says is not heard. The next slot draws the next one's moment.
                asking.until_ns = 0;
                asked.has_denied = true;
                if inquiry.denials() >= DENIALS {
                    self.documents.set_missing(epoch);
                    self.inquiry = None;
                }
            }
            Taken::Unasked => {}
            Taken::More => {
                asked.promised_until_ns.get_or_insert(asking.ends_ns);
                asking.until_ns = asking.until_ns.max(patient_ns).min(asking.ends_ns);
            }
            Taken::Whole(fetched) => {
                self.inquiry = None;
                self.keep(*fetched);
            }
            // A forged document is no answer.
            Taken::Forged => {
                asked.download = Download::new(epoch);
                asked.promised_until_ns = Some(0);
                asking.until_ns = 0;
            }
        }
    }
}
