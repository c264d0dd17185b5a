//! Ports: where datagrams enter and leave a worker.
//!
//! One trait, implemented over recvmmsg/sendmmsg ([`plain`]), io_uring ([`uring`]), AF_XDP ([`xsk`]) and an in-memory
//! network ([`sim`]). A worker is generic over its port, so the choice costs nothing a packet. The port in use is never
//! replaced behind the operator's back: [`PortKind::resolve`] says what "auto" became and why.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::pool::{Frame, FramePool};

pub mod affinity;
pub mod available;
mod batch;
mod door;
pub mod exclusive;
pub mod mapping;
pub mod plain;
pub mod pool;
pub mod sim;
pub mod socket;
mod unproven;
pub mod uring;
pub mod wake;
pub mod xsk;

pub use available::{UringUnavailable, uring_available};
pub use exclusive::{Exclusive, ExclusiveError};
pub use plain::PlainPort;
pub use sim::SimPort;
pub use socket::SocketOptions;
pub use uring::UringPort;
pub use wake::{EventFd, boot_ns, monotonic_ns};
pub use xsk::{QueueSocket, Routes, XskParts, XskPort};

/// Most datagrams of one batch anywhere on the packet path.
pub const BATCH_MAX: usize = 64;

/// A datagram that came in.
#[derive(Debug)]
pub struct Received {
    /// Holds the datagram.
    pub frame: Frame,
    /// Who sent it (claims to have).
    pub source: SocketAddr,
    /// Its bytes on the wire (UDP payload), capped at [`crate::pool::ROOM_BYTES`]; anything but
    /// [`crate::pool::DATAGRAM_BYTES`] is to be rejected.
    pub length: usize,
}

/// A datagram of [`crate::pool::DATAGRAM_BYTES`] ready to leave.
#[derive(Debug)]
pub struct Departing {
    /// Holds the datagram.
    pub frame: Frame,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Whether it carries a delivery to a client: counted apart by whoever sends it, of no meaning to a port.
    pub delivery: bool,
    /// Whether somebody at the destination has answered before. The kernel may hold what is sent to an address that
    /// nobody has for seconds: datagrams to unproven ones take only what room the others leave, and are dropped where
    /// they would wait.
    pub proven: bool,
}

/// A batch of datagrams that came in.
pub type ReceivedBatch = ArrayVec<Received, BATCH_MAX>;
/// A batch of datagrams to send.
pub type DepartingBatch = ArrayVec<Departing, BATCH_MAX>;

/// What a port counted since its start. Conservation: every frame taken by `transmit` ends in `transmitted`,
/// `transmit_failed` or `transmit_dropped`; every datagram read from the kernel in `received`, `pool_full`, `foreign`
/// or `kernel_limited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Datagrams handed to the worker.
    pub received: u64,
    /// Datagrams read and discarded because no frame was free.
    pub pool_full: u64,
    /// Datagrams the kernel accepted for sending.
    pub transmitted: u64,
    /// Datagrams the kernel refused for good (unreachable, forbidden, too large); never retried.
    pub transmit_failed: u64,
    /// Datagrams dropped because they would have waited, or made others wait: to addresses that nobody has answered
    /// from yet, or beside the fast path.
    pub transmit_dropped: u64,
    /// Datagrams that the kernel dropped at the sockets' door: of another length than
    /// [`crate::pool::DATAGRAM_BYTES`], with a wrong checksum, or because a receive buffer was full. The kernel has one
    /// number for all three. As of the last [`Port::housekeeping`].
    pub kernel_dropped: u64,
    /// Of those received, how many came through the kernel's socket beside the fast path (xsk only, as all below).
    pub received_through_kernel: u64,
    /// Datagrams that came through the kernel's socket and were dropped: more than may come that way.
    pub kernel_limited: u64,
    /// Of those transmitted, how many went through the kernel's socket beside the fast path.
    pub transmitted_through_kernel: u64,
    /// Packets the kernel dropped because the receive ring was full: the worker is too slow. As of the last
    /// [`Port::housekeeping`], like `fill_empty` and, on this port, `pool_full`.
    pub ring_full: u64,
    /// Times the kernel looked for a chunk to receive into and found none.
    pub fill_empty: u64,
    /// Packets steered here that are no datagrams to this node: a program that is not ours, or not for this address.
    pub foreign: u64,
    /// Ring entries and indices from the kernel that make no sense; the frames they should name stay accounted for.
    pub corrupt: u64,
}

/// The way in and out of a worker. Every method but [`Port::wait`] returns at once, and none allocates.
pub trait Port {
    /// Fills `into` (as far as it has room) with datagrams that have come; returns how many. When `pool` is
    /// empty, datagrams are read and discarded, and counted as `pool_full`: a full node sheds at its door.
    fn receive(&mut self, pool: &mut FramePool, into: &mut ReceivedBatch) -> usize;

    /// Takes what it can from the front of `departing`; returns how many. What it took stays with the port until
    /// [`Port::reclaim`]; what it did not take is tried again later.
    fn transmit(&mut self, departing: &mut DepartingBatch) -> usize;

    /// Gives the frames of finished transmissions back to `pool`; returns how many.
    fn reclaim(&mut self, pool: &mut FramePool) -> usize;

    /// Sleeps until a datagram or a completion is there, the worker's event was signalled (the port clears it;
    /// the worker empties its mailbox after every wait), or `deadline_ns` of [`Port::now_ns`]'s clock has come.
    /// `None` waits without limit. May return early.
    ///
    /// # Errors
    /// What the kernel answered, never `EINTR`.
    fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<()>;

    /// Gives back every frame the port holds, and stops it: nothing is received or sent after.
    fn close(&mut self, pool: &mut FramePool);

    /// `plain`, `uring`, `xsk` or `sim`: shown in the log, the status and a metric.
    fn name(&self) -> &'static str;

    /// Frames taken by `transmit` and not yet reclaimed.
    fn in_flight(&self) -> usize;

    /// Frames the port has: those in flight, and those it took from the pool to receive into.
    fn holds(&self) -> usize;

    /// The address the port receives on.
    fn local_address(&self) -> SocketAddr;

    /// Counters since the start.
    fn counters(&self) -> PortCounters;

    /// What needs doing now and then, a few times a second: reads the counters that cost a system call.
    fn housekeeping(&mut self) {}

    /// The clock of `wait`'s deadline: CLOCK_MONOTONIC, or the simulated network's.
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortKind {
    /// io_uring where the host allows it, else plain.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// recvmmsg and sendmmsg.
    Plain,
    /// AF_XDP sockets that the loader hands over. "auto" never means it: it takes a loader and an interface.
    Xsk,
}

/// A port kind that exists: never "auto".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// io_uring is there.
    Uring,
    /// AF_XDP; whether the loader hands its sockets over shows when it is asked.
    Xsk,
    /// Plain, and if io_uring was preferred, why it is not used.
    Plain(Option<UringUnavailable>),
}

impl Resolved {
    /// `uring`, `xsk` or `plain`.
    pub fn name(&self) -> &'static str {
        match self {
            Resolved::Uring => "uring",
            Resolved::Xsk => "xsk",
            Resolved::Plain(_) => "plain",
        }
    }
}

impl PortKind {
    /// Decides, by trying, what runs.
    ///
    /// # Errors
    /// Why io_uring can't be had, when it was asked for by name, or for xsk.
    pub fn resolve(self) -> Result<Resolved, UringUnavailable> {
        match (self, uring_available()) {
            (PortKind::Plain, _) => Ok(Resolved::Plain(None)),
            (PortKind::Xsk, Ok(())) => Ok(Resolved::Xsk),
            (_, Ok(())) => Ok(Resolved::Uring),
            (PortKind::Auto, Err(reason)) => Ok(Resolved::Plain(Some(reason))),
            // Its workers sleep in an io_uring, too.
            (PortKind::Uring | PortKind::Xsk, Err(reason)) => Err(reason),
        }
    }
}

impl std::str::FromStr for PortKind {
    type Err = UnknownPort;

    fn from_str(text: &str) -> Result<PortKind, UnknownPort> {
        match text {
            "auto" => Ok(PortKind::Auto),
            "uring" => Ok(PortKind::Uring),
            "plain" => Ok(PortKind::Plain),
            "xsk" => Ok(PortKind::Xsk),
            _ => Err(UnknownPort),
        }
    }
}

/// A port name that is none of `auto`, `uring`, `plain`, `xsk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown port: use auto, uring, plain or xsk")]
pub struct UnknownPort;

/// What a port over a UDP socket is made of.
pub struct PortParts {
    /// The bound socket ([`socket::open`]).
    pub socket: std::net::UdpSocket,
    /// Wakes the worker out of [`Port::wait`].
    pub event: Arc<EventFd>,
}
