//! What other gateways say of a document that this client's own does not hand over.
//!
//! A gateway that withholds the document of an epoch would make its client's packets the only ones of the epoch before.
//! So nobody goes on with the old document on one gateway's word: further gateways, each of another operator, are asked
//! one after the other, each at a random moment: the client's reserves first, so that who withholds a document gets no
//! other gateways asked than those that were drawn long ago. Two that have none are believed, or where there are fewer
//! all that answer; one that does not answer is passed over, so that a dead gateway stops nobody. Every question takes an
//! ordinary slot; until there is an answer the others carry link cover alone. An own gateway that
//! has not served for minutes is no answer either: it may have left the network, as the document would tell.

use std::net::SocketAddr;

use link::control::Control;
use link::{ClientKeys, DATAGRAM_BYTES};

use super::attachment::{Attachment, Frame, Inbound};
use super::download::{Download, Taken};
use super::visit::{Visit, patience_ns};
use super::{Carrier, unit};

/// Gateways that must say that there is no document.
const DENIALS: u32 = 2;
/// Rate of the stream that is asked of a further gateway, packets a second.
const STREAM_PPS: u32 = 10;

/// Questions about one epoch's document.
pub(super) struct Inquiry {
    epoch: u32,
    /// Operators whose gateways were asked, the own one's among them.
    asked: Vec<String>,
    denials: u32,
    /// A gateway began to hand the document over.
    promised: bool,
    /// When to ask the next, Unix ms.
    next_ms: u64,
    asking: Option<Asking>,
}

impl Inquiry {
    /// The call at the gateway that is being asked.
    pub(super) fn visit(&mut self) -> Option<&mut Visit> {
        self.asking.as_mut().map(|asking| &mut asking.visit)
    }
}

struct Asking {
    visit: Visit,
    until_ns: u64,
    /// However much it hands over.
    ends_ns: u64,
    has_denied: bool,
    download: Download,
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
        // While the own gateway hands it over there is nothing to ask others.
        let is_denied = self.is_denied(epoch) || self.guard.is_unserved();
        if !self.documents.is_in_doubt(epoch) || !is_denied {
            self.inquiry = None;
            return None;
        }
        if self.inquiry.as_ref().is_none_or(|one| one.epoch != epoch) {
            let own = self.documents.find(&self.place.gateway, unix_ms);
            self.inquiry = Some(Inquiry {
                epoch,
                asked: own.map(|node| node.operator.clone()).into_iter().collect(),
                denials: 0,
                promised: false,
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
        let asking = self.inquiry.as_mut()?.asking.as_mut()?;
        let node = self.documents.find(&asking.visit.gateway, unix_ms)?;
        let download = &mut asking.download;
        let question = || Some(Frame::control(&download.question()));
        asking.visit.next(node, now_ns, &mut self.rng, question)
    }

    /// Turns to a gateway of an operator that was not asked, the guard and its reserves first; without one, what was
    /// said so far counts.
    fn ask_another(&mut self, epoch: u32, now_ns: u64, unix_ms: u64) -> Option<()> {
        let inquiry = self.inquiry.as_mut()?;
        let asked = &mut inquiry.asked;
        let known = self.guard.gateways().find_map(|gateway| {
            let node = self.documents.find(gateway, unix_ms)?;
            (!asked.contains(&node.operator)).then_some(node)
        });
        let node = known.or_else(|| {
            let consensus = self.documents.nearest(unix_ms)?;
            let index = directory::pick_gateway_besides(consensus, &mut self.rng, asked)?;
            consensus.node(index)
        });
        let Some(node) = node else {
            if !inquiry.promised {
                self.documents.set_missing(epoch);
            }
            // Else everybody is asked again: there is one.
            self.inquiry = None;
            return None;
        };
        asked.push(node.operator.clone());
        // A key of its own: the two gateways see two strangers.
        let keys = ClientKeys::generate(&mut self.rng);
        let span_ns = (self.documents.parameters().epoch_ms).saturating_mul(125_000);
        inquiry.asking = Some(Asking {
            visit: Visit::new(
                node.identity,
                Attachment::new(keys, self.rate_pps, STREAM_PPS),
            ),
            until_ns: now_ns.saturating_add(patience_ns(self.rate_pps)),
            ends_ns: now_ns.saturating_add(span_ns),
            has_denied: false,
            download: Download::new(epoch),
        });
        Some(())
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
        let chunk = match asking.visit.receive(datagram, now_ns) {
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
        if asking.has_denied {
            return;
        }
        let patient_ns = now_ns.saturating_add(patience_ns(self.rate_pps));
        match asking
            .download
            .take(chunk, &self.documents, &self.authorities)
        {
            Taken::Absent => {
                let epoch = inquiry.epoch;
                inquiry.denials += 1;
                // One gateway has one voice: what else it says is not heard. The next slot draws the next one's moment.
                asking.until_ns = 0;
                asking.has_denied = true;
                if inquiry.denials >= DENIALS {
                    self.documents.set_missing(epoch);
                    self.inquiry = None;
                }
            }
            Taken::Unasked => {}
            // A document that is being handed over exists, however long that takes.
            Taken::More => {
                inquiry.promised = true;
                asking.until_ns = asking.until_ns.max(patient_ns).min(asking.ends_ns);
            }
            Taken::Whole(fetched) => {
                self.inquiry = None;
                self.keep(*fetched);
            }
            // A forged document is no answer.
            Taken::Forged => asking.until_ns = 0,
        }
    }
}
