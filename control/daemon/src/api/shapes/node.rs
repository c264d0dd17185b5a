//! What the node beside the daemon says of itself: see [`handover::status`].

use handover::protocol::InterfaceStatus;
use handover::status::Quantiles;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::described;

/// A second's traffic, averaged over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Datagrams that arrived.
    pub received: f64,
    /// Frames sent.
    pub transmitted: f64,
    /// Frames dropped, all reasons.
    pub rejected: f64,
}

/// `GET /api/v1/workers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workers {
    /// How late packets left in the last second, all workers.
    #[schema(value_type = described::Quantiles)]
    pub lateness_us: Quantiles,
    /// How long they were held.
    #[schema(value_type = described::Quantiles)]
    pub hold_us: Quantiles,
    /// By number.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its number.
    pub number: usize,
    /// Turns since the start: its heartbeat.
    pub turns: u64,
    /// Datagrams that arrived here.
    pub received: u64,
    /// Packets held now.
    pub held: u64,
    /// Its frames.
    pub pool: Pool,
    /// Sessions open now.
    pub sessions: u64,
}

/// A worker's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// All.
    pub frames: u64,
    /// Those in use.
    pub in_use: u64,
}

/// `GET /api/v1/drops`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drops {
    /// Over how long the rates were taken, seconds; shorter than asked where the node has not said so much yet.
    pub over_s: f64,
    /// The fastest first; those that never happened are left out.
    pub drops: Vec<Drop>,
}

/// What was dropped for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drop {
    /// Who dropped: `xdp`, `kernel` or `node`.
    pub source: String,
    /// The reason's name in metrics.
    pub reason: String,
    /// Since the start; of the XDP program since it was attached.
    pub total: u64,
    /// A second, where it is known.
    pub per_s: Option<f64>,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub remedy: String,
}

/// A share with its 95 % interval (Wilson).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// What was counted.
    pub mid: f64,
    /// Upper end.
    pub high: f64,
}

/// `GET /api/v1/xdp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Xdp {
    /// Interfaces with the program on them.
    pub interfaces: Vec<Interface>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// How it stands.
    #[schema(value_type = described::InterfaceStatus)]
    pub status: InterfaceStatus,
    /// Packets by reason, since the program was attached.
    pub packets: Vec<(String, u64)>,
}
