//! What uses the network: file transfer, and whatever joins it.
//!
//! A service touches no slot, path or packet. When a slot has room the carrier asks the services what to put in; what
//! arrives for one it hands over. A service sends nothing because of an event, so that nothing of it shows on the wire.

use sphinx::{BODY_BYTES, DestinationTag, REPLY_BYTES, Surb};

use super::packets::Packets;

/// What a reply block was made for, in its service's own terms; it comes back with the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Which of its conversations.
    pub(crate) conversation: [u8; 16],
    /// What of it.
    pub(crate) part: u32,
}

/// A body for a user at a gateway, sealed, with the reply blocks that it brings already inside.
pub(crate) struct Letter {
    pub(crate) gateway: [u8; 32],
    pub(crate) destination: DestinationTag,
    pub(crate) body: [u8; BODY_BYTES],
}

/// An answer through a reply block that came from somebody else.
pub(crate) struct Reply {
    pub(crate) surb: Surb,
    pub(crate) plaintext: [u8; REPLY_BYTES],
}

/// One use of the network. `now_ns` is the client's own steady clock.
pub(crate) trait Service {
    /// Time passes: called before each slot, and at [`Service::deadline`]. `epoch` is that of the document that the
    /// client makes packets with, if there is one, and a service knows no other: what follows the wall clock's, and
    /// shows in an answer, tells a correspondent how far that clock is off.
    fn tick(&mut self, now_ns: u64, epoch: Option<u32>);

    /// When it wants [`Service::tick`], should no slot come before.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// The answer that it owes by now, for the next slot that is for answers.
    fn reply(&mut self, now_ns: u64, packets: &Packets<'_>) -> Option<Reply>;

    /// What it has to send, for the next slot that is for letters; reply blocks to put in come from `packets`.
    fn letter(&mut self, now_ns: u64, packets: &mut Packets<'_>) -> Option<Letter>;

    /// A body was delivered that answers no reply block. Whether it is this service's: if not, others are asked.
    fn on_body(&mut self, body: &[u8; BODY_BYTES], now_ns: u64) -> bool;

    /// A reply came through the block that was made for `token`.
    fn on_reply(&mut self, token: Token, plaintext: &[u8; REPLY_BYTES], now_ns: u64);
}
