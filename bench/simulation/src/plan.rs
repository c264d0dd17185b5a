//! What is simulated: how many of what, for how long, and what goes wrong.

use mixnode::path::core::{Settings, strangers_max};
use port::sim::Conditions;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything random.
    pub seed: u64,
    /// Mixes of each of three layers.
    pub mixes: usize,
    /// Gateways.
    pub gateways: usize,
    /// Users who are only there.
    pub crowd: usize,
    /// Their slots a second.
    pub crowd_pps: f64,
    /// A sender, a recipient and one who idles at the same rate, so many times.
    pub trios: usize,
    /// Their slots a second.
    pub busy_pps: f64,
    /// Bytes of each sender's file; 0 for none.
    pub file_bytes: usize,
    /// How long it runs.
    pub span_ns: u64,
    /// Length of an epoch, milliseconds.
    pub epoch_ms: u64,
    /// Where in epoch 0 it begins, milliseconds.
    pub begins_ms: u64,
    /// Mean delay of a hop, microseconds.
    pub mean_delay_us: u32,
    /// Mean time between a node's loop packets, and between its drop packets.
    pub cover_ns: u64,
    /// The wires.
    pub conditions: Conditions,
    /// Nodes that die and start again.
    pub crashes: usize,
    /// Partitions.
    pub partitions: usize,
}

impl Plan {
    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.gateways + 3 * self.mixes
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.crowd + 3 * self.trios
    }

    /// Gateways that members of trios use: all but the last, which may crash.
    pub fn busy_gateways(&self) -> usize {
        (self.gateways - 1).max(1)
    }

    /// Sizes of a node.
    pub fn settings(&self) -> Settings {
        // In an epoch without a document everybody asks two further gateways, and has a place at each for a minute.
        let clients = 3 * self.users().div_ceil(self.gateways) + 16;
        Settings {
            number: 0,
            workers: 1,
            pool_frames: 512,
            // Beside strangers': a node's is kept for 15 minutes, and one is opened with each document.
            sessions_max: strangers_max(clients as u16) + 16 * self.nodes(),
            clients_max: clients as u16,
            client_queue_frames: 64,
            client_rate_max_pps: 1_000,
            loop_interval_ns: self.cover_ns,
            drop_interval_ns: self.cover_ns,
            capacity_pps: 0,
            loss: 0.0,
            ipv6: false,
        }
    }

    /// Packets a second that replay tables are made for.
    pub fn max_pps(&self) -> u32 {
        let busy = self.crowd as f64 * self.crowd_pps + 3.0 * self.trios as f64 * self.busy_pps;
        (4.0 * busy / self.gateways as f64) as u32 + 20
    }
}
