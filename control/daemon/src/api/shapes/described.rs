//! How types of crate `handover`, which knows no HTTP, look in the API's description. A test holds live answers against it,
//! so that none has a field more or less than here.
#![expect(dead_code, reason = "for the description alone")]

use utoipa::ToSchema;

/// Sums over a node's workers.
#[derive(ToSchema)]
pub(super) struct Totals {
    /// Datagrams that arrived.
    received: u64,
    /// Frames sent.
    transmitted: u64,
    /// Frames dropped, all reasons.
    rejected: u64,
    /// Packets held now.
    held: u64,
    /// Sessions open now.
    sessions: u64,
    /// Clients attached now.
    clients: u64,
    /// Frames that the accounts do not explain: 0, or a defect.
    unconserved: u64,
}

/// Two quantiles of a distribution; zeros if nothing was recorded.
#[derive(ToSchema)]
pub(super) struct Quantiles {
    /// The median.
    p50: u64,
    /// The 99th percentile.
    p99: u64,
}

/// A quantile and the samples between which it lies with 95 % certainty.
#[derive(ToSchema)]
pub(super) struct Bounded {
    /// Lower end.
    low: u32,
    /// That of the samples.
    mid: u32,
    /// Upper end; none where too few were taken to say.
    high: Option<u32>,
}

/// Loop packets.
#[derive(ToSchema)]
pub(super) struct LoopCounts {
    /// Mean time between two, milliseconds; 0 if none are sent.
    interval_ms: u32,
    /// Sent since the start.
    sent: u64,
    /// Come back since the start.
    returned: u64,
    /// Given up since the start.
    lost: u64,
    /// Round trips in the last second, delays included.
    round_us: Quantiles,
}

/// An interface with the XDP program on it.
#[derive(ToSchema)]
pub(super) struct InterfaceStatus {
    /// Its name.
    interface: String,
    /// The node's UDP port.
    port: u16,
    /// How the program runs.
    mode: Mode,
    /// Queues of the interface.
    queues: u32,
    /// Queues with a node's socket behind them.
    steered: u32,
    /// The node's address, while one is connected.
    node: Option<String>,
    /// Receiver indices let in.
    indices: u32,
    /// Nodes with a rate of their own.
    peers: u32,
    /// What keeps datagrams from coming and going over it now, and the remedy.
    fault: Option<String>,
}

/// How the program runs on an interface.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's network stack, after the packet was copied: slower.
    Generic,
}
