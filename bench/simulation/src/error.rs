//! Why a simulation can't be built or can't go on.

use std::io;

use authority::AloneError;
use directory::VerifyError;
use directory::authority_set::SetError;
use mixnode::path::counters::Counters;

/// Why a simulation can't be built or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The system gives no memory or no descriptors, or two hosts have one address.
    #[error("the simulation gets no memory, descriptor or address: {0}")]
    System(#[from] io::Error),
    /// The plan's parameters are none of a network.
    #[error("the plan makes no network: {0}")]
    Parameters(#[from] SetError),
    /// The nodes make no consensus.
    #[error("the nodes make no consensus: {0}")]
    Consensus(#[from] AloneError),
    /// A document that the authority signed is refused.
    #[error("the authority's own document is refused: {0}")]
    Document(#[from] VerifyError),
    /// There is no document for now.
    #[error("no document is signed yet")]
    NoDocument,
    /// A worker lost or invented a frame.
    #[error("a worker does not account for every frame: {0:?}")]
    Unconserved(Box<Counters>),
    /// The wires lost or invented a datagram.
    #[error("the wires do not account for every datagram: {0:?}")]
    UnconservedWires(port::sim::NetworkCounters),
    /// A worker's mailbox has no room for the next epoch.
    #[error("a worker's mailbox is full")]
    MailboxFull,
    /// A node asks to be run again and again without time going on.
    #[error("a node is never done at {now_ns} ns")]
    NeverDone {
        /// The clock.
        now_ns: u64,
    },
    /// A client that is dead was asked to send.
    #[error("user {0} has no client that runs")]
    NoClient(usize),
}
