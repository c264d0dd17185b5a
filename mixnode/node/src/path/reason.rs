//! Why a frame was dropped. Every drop has exactly one reason, and every reason is a counter.

use link::{Malformed, OpenError, WindowError};
use sphinx::Reject;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal),+ $(,)?) => {
        /// Why a frame left the packet path other than by being sent or delivered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant),+ }

        impl Reason {
            /// All reasons, in the order of the checks.
            pub const ALL: &[Reason] = &[$(Reason::$variant),+];

            /// The label value in metrics and status.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }
        }
    };
}

reasons! {
    /// No frame was free: the node sheds at its door.
    PoolFull => "pool_full",
    /// Dropped on purpose by the laboratory's fault setting.
    Fault => "fault",
    /// The node is draining before it stops.
    Stopping => "stopping",
    /// Not 1,232 bytes.
    Size => "size",
    /// From an address that nobody out there has.
    Source => "source",
    /// Unknown type byte.
    Type => "type",
    /// Reserved bytes of the clear part are set.
    Reserved => "reserved",
    /// The queue to the handshake thread was full.
    HandshakeQueueFull => "handshake_queue_full",
    /// What a frame brought for another worker, whose mailbox was full.
    MailboxFull => "mailbox_full",
    /// A frame that landed on the wrong worker while too many waited for the right one.
    StraysFull => "strays_full",
    /// No session has this receiver index.
    UnknownSession => "unknown_session",
    /// The first frame of a session for which there is no room.
    SessionsFull => "sessions_full",
    /// The frame counter was seen before, or is outside the window.
    Counter => "counter",
    /// This neighbour already holds its share of the wheel.
    NeighbourShare => "neighbour_share",
    /// The frame is not authentic.
    Forged => "forged",
    /// Authentic, with an unknown kind or reserved bits.
    LinkReserved => "link_reserved",
    /// A kind of frame this neighbour has no business sending.
    Kind => "kind",
    /// A node sends more than its part of what this one can do.
    NeighbourRate => "neighbour_rate",
    /// A client sends faster than it was granted.
    ClientRate => "client_rate",
    /// No key of this epoch is accepted now.
    Epoch => "epoch",
    /// The way in or out breaks the layer graph.
    Layer => "layer",
    /// A client's packet that does not go on to a mix of layer 1.
    ClientRoute => "client_route",
    /// The KEM ciphertext has low order.
    LowOrder => "low_order",
    /// The header's MAC does not hold.
    Mac => "mac",
    /// The packet was seen before.
    Replay => "replay",
    /// The replay table has no room for it.
    ReplayFull => "replay_full",
    /// Unknown Sphinx command.
    Command => "command",
    /// Reserved bits of a routing block.
    HeaderReserved => "header_reserved",
    /// The delay exceeds the network's bound.
    Delay => "delay",
    /// The body of a packet that ends here was altered.
    Body => "body",
    /// A returned loop that this node did not send, or gave up.
    UnknownLoop => "unknown_loop",
    /// A delivery at a node that is no gateway.
    NotGateway => "not_gateway",
    /// Nobody with this destination tag is attached.
    NoClient => "no_client",
    /// The client's queue is full.
    ClientQueueFull => "client_queue_full",
    /// The client left, or attached elsewhere, with this still queued.
    ClientGone => "client_gone",
    /// A control frame that can't be read, or comes too fast.
    Control => "control",
    /// All clients together have queued what the pool has for them.
    QueuesFull => "queues_full",
    /// As many packets are held as the pool has frames for.
    WheelFull => "wheel_full",
    /// No session to the next hop yet.
    NoSession => "no_session",
}

/// Number of reasons.
pub const REASON_COUNT: usize = Reason::ALL.len();

impl From<Malformed> for Reason {
    fn from(error: Malformed) -> Reason {
        match error {
            Malformed::Size => Reason::Size,
            Malformed::Type => Reason::Type,
            Malformed::Reserved => Reason::Reserved,
        }
    }
}

impl From<WindowError> for Reason {
    fn from(_: WindowError) -> Reason {
        Reason::Counter
    }
}

impl From<OpenError> for Reason {
    fn from(error: OpenError) -> Reason {
        match error {
            OpenError::Forged => Reason::Forged,
            OpenError::Reserved => Reason::LinkReserved,
        }
    }
}

impl From<Reject> for Reason {
    fn from(reject: Reject) -> Reason {
        match reject {
            Reject::LowOrder => Reason::LowOrder,
            Reject::Mac => Reason::Mac,
            Reject::Replay => Reason::Replay,
            Reject::ReplayFull => Reason::ReplayFull,
            Reject::Command => Reason::Command,
            Reject::Reserved => Reason::HeaderReserved,
            Reject::Delay => Reason::Delay,
            Reject::Body => Reason::Body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_distinct_names_in_metric_style() {
        let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REASON_COUNT);
        assert!(
            Reason::ALL
                .iter()
                .enumerate()
                .all(|(n, reason)| *reason as usize == n)
        );
    }
}
