//! What a client tells of, for whoever drives it.

use std::net::SocketAddr;

use directory::Chain;
use serde::{Deserialize, Serialize};

use crate::carrier::GuardState;
use crate::identity::KEM_KEY_BYTES;
use crate::transfer::{Phase, Received, TransferId};

/// A gateway has granted less than it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Less {
    /// Packets a second that it sends, and takes.
    pub granted_pps: u32,
    /// What it was asked for, 1.25 times the client's slots.
    pub asked_pps: u32,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The gateway delivers to this client, at this rate.
    Attached {
        /// Packets a second.
        rate_pps: u32,
    },
    /// Nothing comes from the gateway. The client keeps trying, with growing pauses.
    GatewaySilent {
        /// Where it should be.
        address: SocketAddr,
    },
    /// The gateway is heard again.
    GatewayBack,
    /// The gateway has no room for this client. It is asked again, with growing pauses.
    GatewayFull,
    /// The gateway grants less than it was asked for. Told once a gateway.
    GrantedLess(Less),
    /// The gateway says that it leaves the network. Nothing follows from its word alone. Told once a gateway, and once
    /// more when it names a later epoch.
    GatewayLeaving {
        /// The last epoch in which it serves.
        epoch: u32,
    },
    /// Another gateway is used from now on, by the rule of the guard.
    GatewayMoved {
        /// One of the reserves, or the guard again.
        to_reserve: bool,
    },
    /// Where the client stands with its guard, to be stored.
    Guard(GuardState),
    /// The authorities have changed: the whole chain of their sets, to be stored.
    Authorities(Chain),
    /// The consensus of this epoch or of the next was fetched and verified.
    Consensus {
        /// Its epoch.
        epoch: u32,
        /// The document, to be stored.
        document: Vec<u8>,
    },
    /// A recipient's ML-KEM key was fetched and has the hash that its address names.
    Key {
        /// The hash.
        hash: [u8; 32],
        /// The key, to be cached.
        key: Box<[u8; KEM_KEY_BYTES]>,
    },
    /// A transfer's phase or progress changed.
    Sending {
        /// The transfer.
        transfer: TransferId,
        /// Its phase.
        phase: Phase,
        /// Chunks acknowledged.
        chunks: u32,
        /// Chunks in all.
        total: u32,
        /// Share of its packets that got lost lately, 0 to 1.
        loss: f64,
    },
    /// Something arrived.
    Received(Received),
}
