//! What the node measures by its loops and in its pool.

use handover::status::{Bounded, Loops as Counted};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Interval, described};

/// `GET /api/v1/loops`: the node's own packets that should come back to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Loops {
    /// What was counted since the start.
    #[schema(value_type = described::LoopCounts)]
    pub loops: Counted,
    /// Share lost of those whose fate was decided in the last fifteen minutes; none before the first.
    pub loss: Option<Interval>,
    /// The epoch whose document gives nodes the numbers they have below.
    pub epoch: u32,
    /// Something is known of them now. If not, none are sent, or the machine is too late to judge; then nothing is held
    /// against anybody.
    pub is_measured: bool,
    /// They come home on no way: somebody may keep others' packets from this node.
    pub n1_suspected: bool,
    /// Nodes through which they do not come home while others do, at any place of a way.
    pub bad: Vec<BadHop>,
    /// Who of the layer before says nothing; none while that can't be told.
    pub silence: Option<Silence>,
    /// By next hop, ascending.
    pub hops: Vec<HopLoops>,
}

/// Of the layer before, nodes from which nothing has come for longer than chance explains: once in a million times at the
/// rate that they have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Silence {
    /// How many.
    pub silent: u16,
    /// Of how many.
    pub of: u16,
    /// The share.
    pub share: f64,
    /// What that means, beside what loops say.
    pub meaning: String,
    /// What to do.
    pub remedy: String,
}

/// A node that loses packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadHop {
    /// Its position in the document.
    pub index: u16,
    /// Who runs it, where the document is here.
    pub operator: Option<String>,
}

/// Loops through one next hop in the last fifteen minutes, of those whose fate is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HopLoops {
    /// Its position in the document.
    pub index: u16,
    /// Who runs it, where the document is here.
    pub operator: Option<String>,
    /// Sent.
    pub sent: u32,
    /// Come home in time.
    pub returned: u32,
    /// Not home in time.
    pub overdue: u32,
    /// Share of the latter; none where nothing is known.
    pub loss: Option<Interval>,
    /// What they took beside their delays.
    pub excess_us: Excess,
    /// Whether it counts as bad.
    pub state: HopState,
}

/// Quantiles of what loops took beside their delays, microseconds, with the bounds between which they lie with 95 % certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excess {
    /// The median.
    #[schema(value_type = Option<described::Bounded>)]
    pub p50: Option<Bounded>,
    /// The 99th percentile.
    #[schema(value_type = Option<described::Bounded>)]
    pub p99: Option<Bounded>,
}

/// What is held against a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HopState {
    /// Nothing.
    Sound,
    /// It loses packets.
    Bad,
}

/// The anonymity figure: log2 of the packets that a worker held when it let one go, a mean over what left. It is what a
/// watcher of this node alone is left with, at this one hop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Anonymity {
    /// Over the last second; none if nothing left.
    pub bits: Option<f64>,
    /// The same without what the neighbour with most of the pool has there: it knows its own.
    pub bits_without_largest: Option<f64>,
    /// Over five minutes.
    pub mean_bits: Option<f64>,
    /// Likewise.
    pub mean_bits_without_largest: Option<f64>,
    /// Below it for five minutes the node warns.
    pub floor: f64,
    /// It is.
    pub is_low: bool,
}
