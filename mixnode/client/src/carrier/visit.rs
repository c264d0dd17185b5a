//! A call at another gateway beside the own one, in slots that carry a question: handshake, attaching, and then whatever
//! it is called for.

use std::net::SocketAddr;

use directory::Node;
use link::{DATAGRAM_BYTES, SendSession};
use sphinx::Generator;

use super::attachment::{Attachment, Frame, Inbound};
use super::departures::seal;

/// One slot in this many carries a question.
pub(super) const ASK_EVERY: u32 = 4;
/// A gateway is given so long to answer, and so many slots if those take longer.
const PATIENCE_NS: u64 = 10_000_000_000;
const PATIENCE_SLOTS: f64 = 60.0;

/// How long a gateway is waited for by a client of this rate.
pub(super) fn patience_ns(rate_pps: f64) -> u64 {
    PATIENCE_NS.max((PATIENCE_SLOTS * 1e9 / rate_pps) as u64)
}

/// The link to the gateway that is called at.
pub(super) struct Visit {
    /// Its Ed25519 identity.
    pub(super) gateway: [u8; 32],
    pub(super) attachment: Attachment,
    /// Where it was written to last.
    address: Option<SocketAddr>,
    /// The sending half of its session.
    link: Option<SendSession>,
    slots: u32,
}

impl Visit {
    /// A call at the gateway with this identity, by a link that is new.
    pub(super) fn new(gateway: [u8; 32], attachment: Attachment) -> Self {
        Self {
            gateway,
            attachment,
            address: None,
            link: None,
            slots: 0,
        }
    }

    /// What this slot carries to `node`, and where that is; once it is attached, `ask` in one of four.
    pub(super) fn next(
        &mut self,
        node: &Node,
        now_ns: u64,
        rng: &mut Generator,
        ask: impl FnOnce() -> Option<Frame>,
    ) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        let address = *node.addresses.first()?;
        self.address = Some(address);
        if let Some(initiation) = self.attachment.handshake(&node.link, now_ns, rng) {
            return Some((address, *initiation.datagram));
        }
        self.slots = self.slots.wrapping_add(1);
        if let Some(link) = self.attachment.take_link() {
            self.link = Some(link);
        }
        if !self.slots.is_multiple_of(ASK_EVERY) || !self.attachment.has_session(now_ns) {
            return None;
        }
        let frame = match self.attachment.attach(now_ns) {
            Some(frame) => frame,
            None => ask()?,
        };
        Some((address, seal(self.link.as_mut()?, &frame, now_ns)?))
    }

    /// Takes a datagram if it comes from there.
    pub(super) fn receive(
        &mut self,
        datagram: &mut [u8; DATAGRAM_BYTES],
        now_ns: u64,
        rng: &mut Generator,
    ) -> Option<Inbound> {
        self.attachment.receive(datagram, now_ns, rng)
    }

    /// The link as one's own: where it leads, and the sending half of its session apart.
    pub(super) fn into_own(mut self) -> Option<(Attachment, SocketAddr, SendSession)> {
        let link = self.attachment.take_link().or(self.link)?;
        Some((self.attachment, self.address?, link))
    }
}
