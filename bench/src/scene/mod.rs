//! What a node is measured in: its neighbourhood, and the network between.

pub(crate) mod place;
pub(crate) mod running;
pub(crate) mod veth;
pub(crate) mod world;

use mixnode::path::core::Settings;
use port::pool::FramePool;
use sphinx::lanes::Lanes;

use self::place::{NEXT_HOPS, Place};

/// Where a node's packets come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PortName {
    Xsk,
    Uring,
    Plain,
}

impl PortName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PortName::Xsk => "xsk",
            PortName::Uring => "uring",
            PortName::Plain => "plain",
        }
    }
}

/// How a node is made, and how many it sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The backend of the wide arithmetic.
    pub(crate) lanes: Lanes,
    pub(crate) next_hops: usize,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            lanes: Lanes::from_env_or_detect(),
            next_hops: NEXT_HOPS,
        }
    }
}

/// Frames of the node's packet memory.
pub(crate) const FRAMES: u32 = 4096;

/// A worker of that node: room for its neighbours, no clients, and no cover, which would be work beside the packets
/// that are counted.
pub(crate) fn settings(place: &Place, pool: &FramePool) -> Settings {
    Settings {
        number: 0,
        workers: 1,
        pool_frames: pool.capacity(),
        sessions_max: 4_096,
        clients_max: 0,
        client_queue_frames: 1,
        client_rate_max_pps: 1,
        loop_interval_ns: 0,
        drop_interval_ns: 0,
        capacity_pps: 0,
        loss: 0.0,
        ipv6: place.address.is_ipv6(),
    }
}
