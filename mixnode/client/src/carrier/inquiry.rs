//! What other gateways say of a document that this client's own does not have.
//!
//! A gateway that withholds the document of an epoch would make its client's packets the only ones of the epoch before.
//! So nobody goes on with the old document on one gateway's word: further gateways, each of another operator, are asked
//! one after the other, each at a random moment. Two that have none are believed, or where there are fewer all that
//! answer; one that does not answer is passed over, so that a dead gateway stops nobody. Every question takes an ordinary
//! slot; until there is an answer the others carry link cover alone.

use std::net::SocketAddr;

use link::control::{Assembly, Control};
use link::{ClientKeys, DATAGRAM_BYTES, SendSession};

use super::attachment::{Attachment, Frame, Inbound};
use super::departures::seal;
use super::{Carrier, unit};
use crate::event::Event;

/// Gateways that must say that there is no document.
const DENIALS: u32 = 2;
/// Rate of the stream that is asked of a further gateway, packets a second.
const STREAM_PPS: u32 = 10;
/// One slot in this many carries a question.
const ASK_EVERY: u32 = 4;
/// A gateway is given so long to answer, and so many slots if those take longer.
const PATIENCE_NS: u64 = 10_000_000_000;
const PATIENCE_SLOTS: f64 = 60.0;
/// Draws of a gateway of another operator before there is none.
const DRAWS: usize = 256;

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

struct Asking {
    gateway: [u8; 32],
    attachment: Attachment,
    /// The sending half of its session.
    link: Option<SendSession>,
    until_ns: u64,
    /// However much it hands over.
    ends_ns: u64,
    has_denied: bool,
    slots: u32,
    assembly: Option<Assembly>,
    cursor: u16,
}

impl Carrier {
    /// What this slot asks another gateway, and where that is.
    pub(super) fn inquire(
        &mut self,
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        let epoch = self.documents.epoch_at(unix_ms);
        // While the own gateway hands it over, or says nothing at all, there is nothing to ask others: through a silent
        // gateway nothing could be sent either.
        if !self.documents.is_in_doubt(epoch) || !self.is_denied(epoch) {
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
            self.ask_another(epoch, now_ns)?;
        }
        let asking = self.inquiry.as_mut()?.asking.as_mut()?;
        let node = self.documents.find(&asking.gateway, unix_ms)?;
        let address = *node.addresses.first()?;
        if let Some(datagram) = asking
            .attachment
            .handshake(&node.link, now_ns, &mut self.rng)
        {
            return Some((address, datagram));
        }
        asking.slots += 1;
        if let Some(link) = asking.attachment.take_link() {
            asking.link = Some(link);
        }
        if !asking.slots.is_multiple_of(ASK_EVERY) || !asking.attachment.has_session(now_ns) {
            return None;
        }
        let frame = match asking.attachment.attach(now_ns) {
            Some(frame) => frame,
            None => {
                let missing = |assembly: &Assembly| assembly.missing(asking.cursor);
                let chunk = asking.assembly.as_ref().and_then(missing).unwrap_or(0);
                asking.cursor = chunk.saturating_add(1);
                Frame::control(&Control::Fetch { epoch, chunk })
            }
        };
        let link = asking.link.as_mut()?;
        Some((address, seal(link, &frame, now_ns)?))
    }

    /// Turns to a gateway of an operator that was not asked; without one, what was said so far counts.
    fn ask_another(&mut self, epoch: u32, now_ns: u64) -> Option<()> {
        let inquiry = self.inquiry.as_mut()?;
        let consensus = self.documents.of(epoch.checked_sub(1)?)?;
        let found = (0..DRAWS).find_map(|_| {
            let index = directory::pick_gateway(consensus, &mut self.rng).ok()?;
            let node = consensus.node(index)?;
            (!inquiry.asked.contains(&node.operator)).then_some(node)
        });
        let Some(node) = found else {
            if !inquiry.promised {
                self.documents.set_missing(epoch);
            }
            // Else everybody is asked again: there is one.
            self.inquiry = None;
            return None;
        };
        inquiry.asked.push(node.operator.clone());
        let rate_pps = self.rate_pps;
        let slots_ns = (PATIENCE_SLOTS * 1e9 / rate_pps) as u64;
        inquiry.asking = Some(Asking {
            gateway: node.identity,
            // A key of its own: the two gateways see two strangers.
            attachment: Attachment::new(ClientKeys::generate(&mut self.rng), rate_pps, STREAM_PPS),
            link: None,
            until_ns: now_ns.saturating_add(PATIENCE_NS.max(slots_ns)),
            ends_ns: now_ns
                .saturating_add(self.documents.parameters().epoch_ms.saturating_mul(125_000)),
            has_denied: false,
            slots: 0,
            assembly: None,
            cursor: 0,
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
        let chunk = match asking.attachment.receive(datagram, now_ns) {
            Some(Inbound::Control(Control::Attached { rate_pps })) => {
                asking.attachment.attached(rate_pps);
                return;
            }
            Some(Inbound::Control(chunk @ Control::Chunk { .. })) => chunk,
            Some(_) | None => return,
        };
        let Control::Chunk {
            epoch, total_bytes, ..
        } = chunk
        else {
            return;
        };
        if epoch != inquiry.epoch || asking.has_denied {
            return;
        }
        if total_bytes == 0 {
            inquiry.denials += 1;
            // One gateway has one voice: what else it says is not heard. The next slot draws the next one's moment.
            asking.until_ns = 0;
            asking.has_denied = true;
            if inquiry.denials >= DENIALS {
                self.documents.set_missing(epoch);
                self.inquiry = None;
            }
            return;
        }
        // A document that is being handed over exists, however long that takes.
        inquiry.promised = true;
        asking.until_ns = asking
            .until_ns
            .max(now_ns + PATIENCE_NS)
            .min(asking.ends_ns);
        match &mut asking.assembly {
            Some(assembly) => assembly.accept(chunk),
            assembly => *assembly = Assembly::start(chunk),
        }
        let Some(document) = asking.assembly.as_ref().and_then(Assembly::finish) else {
            return;
        };
        let consensus = self.documents.verify(&document, epoch, &self.authorities);
        match consensus {
            Some(consensus) => {
                self.documents.insert(consensus);
                self.events.push_back(Event::Consensus { epoch, document });
                self.inquiry = None;
            }
            // A forged document is no answer.
            None => asking.until_ns = 0,
        }
    }
}
