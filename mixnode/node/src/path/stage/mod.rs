//! The stages of the packet path, in the order a packet meets them; one file each.
//!
//! `admit → open → unwrap → route … due: release → seal → transmit`. A frame gains a type with every check it passed
//! ([`Sealed`], [`Opened`], [`Unwrapped`], [`Delayed`], [`crate::path::core::Outgoing`], [`port::Departing`]) and
//! leaves early only through [`crate::path::ledger::Ledger::reject`] or, where it ends as intended,
//! [`crate::path::ledger::Ledger::absorb`]. Beside the path lie what a gateway does for its clients ([`control`],
//! [`deliver`], [`stream`]) and what a node sends by itself ([`cover`]).

pub mod admit;
pub mod control;
pub mod cover;
pub mod deliver;
pub mod open;
pub mod release;
pub mod route;
pub mod seal;
pub mod stream;
pub mod transmit;
pub mod unwrap;

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use sphinx::{DestinationTag, Id};

use port::BATCH_MAX;
use port::pool::Frame;

/// The parts that a worker's time goes to. It says which one it has just done, so that a benchmark can read a clock there;
/// who does not listen pays nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Receiving, sending, and taking frames back.
    Port,
    /// Sessions, counters and the AEAD of the link, both ways.
    Link,
    /// A layer of Sphinx.
    Sphinx,
    /// The replay filter.
    Replay,
    /// Choosing the way, holding, and letting go.
    Wheel,
    /// Letters, clients, cover, the account.
    Other,
}

/// A data frame of a known session with a counter that may be fresh. Nothing of it is authenticated.
#[derive(Debug)]
pub struct Sealed {
    /// Holds the datagram.
    pub frame: Frame,
    /// Receiver index: names the session.
    pub session: u32,
    /// Number of the frame in the session.
    pub counter: u64,
    /// Claims to have sent it.
    pub source: SocketAddr,
}

/// A Sphinx packet from an authenticated neighbour.
#[derive(Debug)]
pub struct Opened {
    /// Holds the packet as the frame's content.
    pub frame: Frame,
    /// Who sent it.
    pub neighbour: u16,
    /// Its epoch modulo 4.
    pub epoch: u8,
}

/// A packet with this hop's layer removed.
#[derive(Debug)]
pub struct Unwrapped {
    /// Holds what is left of it.
    pub frame: Frame,
    /// Who sent it.
    pub neighbour: u16,
    /// Its epoch modulo 4.
    pub epoch: u8,
    /// What to do with it.
    pub command: sphinx::Command,
    /// How long to hold it first.
    pub delay_us: u32,
}

/// Where a held frame goes when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a next hop.
    Forward {
        /// The link.
        link: u16,
        /// Epoch modulo 4.
        epoch: u8,
    },
    /// To a client.
    Deliver {
        /// Its tag.
        destination: DestinationTag,
        /// Meant for it.
        id: Id,
    },
}

/// A packet that waits in the wheel.
#[derive(Debug, PartialEq, Eq)]
pub struct Delayed {
    /// Holds what is sent when it is due.
    pub frame: Frame,
    /// Who sent it.
    pub neighbour: u16,
    /// When it came.
    pub since_ns: u64,
    /// When it is due.
    pub due_ns: u64,
    /// Where it goes.
    pub route: Route,
}

/// Frames between `admit` and `open`.
pub type SealedBatch = ArrayVec<Sealed, BATCH_MAX>;
/// Frames between `open` and `unwrap`.
pub type OpenedBatch = ArrayVec<Opened, BATCH_MAX>;
/// Frames between `unwrap` and `route`.
pub type UnwrappedBatch = ArrayVec<Unwrapped, BATCH_MAX>;
/// Frames out of the wheel.
pub type DelayedBatch = ArrayVec<Delayed, BATCH_MAX>;
