//! What a node says of itself to `mixctld` once a second, for the API and who asks it. No peer, no client, no path: sums over
//! all traffic alone, and rates no finer than a second.

use serde::{Deserialize, Serialize};

/// Longest description, bytes of JSON.
pub const STATUS_BYTES_MAX: usize = 24 * 1024;
/// Most workers that a description tells of.
pub const WORKERS_MAX: usize = 64;
/// Most drop reasons, and most epochs.
const REASONS_MAX: usize = 96;
const EPOCHS_MAX: usize = 8;
/// Most sentences on why a node is not ready, and their bytes; those of a word.
pub const SENTENCES_MAX: usize = 8;
/// Bytes of a sentence.
pub const SENTENCE_BYTES_MAX: usize = 256;
const WORD_BYTES_MAX: usize = 128;
/// Most next hops that a description tells of, and most nodes that it names otherwise.
pub const HOPS_MAX: usize = 32;
/// Most nodes named as bad.
pub const NODES_NAMED_MAX: usize = 16;

/// A node, as it was when it said so. An upgrade renews `mixctld` and lets the node run, so one is heard that says less, or
/// more, than is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// When the process started, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// It is stopping: it takes nothing new.
    pub is_stopping: bool,
    /// Why it would not forward a packet now, each with what to do; empty if it would.
    pub not_ready: Vec<String>,
    /// The port in use: `uring`, `plain` or `xsk`.
    pub port: String,
    /// Backend of the scalar multiplications.
    pub lanes: String,
    /// What the node gave up, in words.
    pub sandbox: String,
    /// Where its epoch keys came from: `new`, `kept`, `returned`.
    pub keys_origin: String,
    /// The epochs whose documents it works by, ascending.
    pub epochs: Vec<Joined>,
    /// Sums over all workers since the start.
    pub totals: Totals,
    /// Frames dropped since the start, by the reason's name; those that never happened are left out.
    pub drops: Vec<(String, u64)>,
    /// Datagrams lost before a worker saw them, by cause; those that never happened are left out.
    pub shed: Vec<(String, u64)>,
    /// Its loop packets.
    pub loops: Loops,
    /// What it found by them.
    pub found: Found,
    /// The same by next hop, ascending; of very many those that lose most.
    pub hops: Vec<HopLoops>,
    /// How many packets a departing one could have been.
    pub anonymity: Anonymity,
    /// How late packets left in the last second.
    pub lateness_us: Quantiles,
    /// How long they were held.
    pub hold_us: Quantiles,
    /// Each worker.
    pub workers: Vec<Worker>,
}

/// An epoch that a node works by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its number.
    pub epoch: u32,
    /// The node's layer; none while it sits out.
    pub layer: Option<u8>,
}

/// Sums over a node's workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Datagrams that arrived.
    pub received: u64,
    /// Frames sent.
    pub transmitted: u64,
    /// Frames dropped, all reasons.
    pub rejected: u64,
    /// Packets held now.
    pub held: u64,
    /// Sessions open now.
    pub sessions: u64,
    /// Clients attached now.
    pub clients: u64,
    /// Frames that the accounts do not explain: 0, or a defect.
    pub unconserved: u64,
}

/// Loop packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loops {
    /// Mean time between two, milliseconds; 0 if none are sent.
    pub interval_ms: u32,
    /// Sent since the start.
    pub sent: u64,
    /// Come back since the start.
    pub returned: u64,
    /// Not home when they were due, nor later.
    pub lost: u64,
    /// Round trips in the last second, delays included.
    pub round_us: Quantiles,
}

/// What a node found by its loops. Nodes are numbers of an epoch's consensus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// The epoch.
    pub epoch: u32,
    /// Nothing is known of it now: no loops are sent, or the machine is too late to judge.
    pub is_unmeasured: bool,
    /// Loops come home on no way: somebody may keep others' packets from this node.
    pub n1_suspected: bool,
    /// Nodes that lose packets, at any place of a way.
    pub bad: Vec<u16>,
    /// How many nodes of the layer before are silent for longer than chance explains; none while that can't be told.
    pub previous_silent: Option<u16>,
    /// How many nodes it has; 0 with that.
    pub previous: u16,
}

/// Loops through one next hop in the last fifteen minutes, of those whose fate is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HopLoops {
    /// Which node: its number in the consensus of [`Found::epoch`].
    pub index: u16,
    /// Sent.
    pub sent: u32,
    /// Come home in time.
    pub returned: u32,
    /// Not home in time.
    pub overdue: u32,
    /// What they took beside their delays: the median.
    pub p50_us: Option<Bounded>,
    /// The 99th percentile.
    pub p99_us: Option<Bounded>,
}

/// A quantile and the samples between which it lies with 95 % certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounded {
    /// Lower end.
    pub low: u32,
    /// That of the samples.
    pub mid: u32,
    /// Upper end; none where too few were taken to say.
    pub high: Option<u32>,
}

/// The anonymity figure: log2 of the packets that a worker held when it let one go, means over what left, in tenths of a
/// bit and no finer. None where nothing left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Anonymity {
    /// Over the last second.
    pub short: Option<u16>,
    /// The same without what the neighbour with most of the pool has there.
    pub short_apart: Option<u16>,
    /// Over five minutes.
    pub long: Option<u16>,
    /// Likewise.
    pub long_apart: Option<u16>,
    /// The operator's floor.
    pub floor: u16,
    /// Five minutes below it.
    pub is_low: bool,
}

/// Two quantiles of a distribution; zeros if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
}

/// A worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Turns since the start: its heartbeat.
    pub turns: u64,
    /// Datagrams that arrived here.
    pub received: u64,
    /// Packets held now.
    pub held: u64,
    /// Frames of its pool.
    pub pool_frames: u64,
    /// Those in use.
    pub pool_in_use: u64,
    /// Sessions open now.
    pub sessions: u64,
}

impl NodeStatus {
    /// Whether it is as short as it has to be: what is longer comes from no node of this project.
    pub fn is_bounded(&self) -> bool {
        let words = [&self.port, &self.lanes, &self.sandbox, &self.keys_origin];
        let named = |counts: &[(String, u64)]| {
            counts.len() <= REASONS_MAX
                && counts.iter().all(|(name, _)| {
                    let plain = |byte: u8| byte == b'_' || byte.is_ascii_lowercase();
                    name.len() <= 32 && name.bytes().all(plain)
                })
        };
        words.iter().all(|word| word.len() <= WORD_BYTES_MAX)
            && self.not_ready.len() <= SENTENCES_MAX
            && self
                .not_ready
                .iter()
                .all(|why| why.len() <= SENTENCE_BYTES_MAX)
            && self.epochs.len() <= EPOCHS_MAX
            && self.workers.len() <= WORKERS_MAX
            && self.hops.len() <= HOPS_MAX
            && self.found.bad.len() <= NODES_NAMED_MAX
            && named(&self.drops)
            && named(&self.shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_another_release_is_heard() {
        let said = r#"{"port":"xsk","totals":{"received":7,"lost":1},"weather":"fine"}"#;
        let status: NodeStatus = serde_json::from_str(said).unwrap();
        assert_eq!((status.port.as_str(), status.totals.received), ("xsk", 7));
        assert!(status.is_bounded());
    }

    fn largest() -> NodeStatus {
        let quantiles = Quantiles {
            p50: 120_000_000,
            p99: 120_000_000,
        };
        let bounded = Bounded {
            low: 120_000_000,
            mid: 120_000_000,
            high: Some(120_000_000),
        };
        // More than any node counts in a year at a million a second.
        let many = 1 << 46;
        NodeStatus {
            started_unix_ms: many,
            is_stopping: false,
            not_ready: vec!["x".repeat(SENTENCE_BYTES_MAX); SENTENCES_MAX],
            port: "uring".to_owned(),
            lanes: "avx512ifma".to_owned(),
            sandbox: "x".repeat(WORD_BYTES_MAX),
            keys_origin: "returned".to_owned(),
            epochs: vec![
                Joined {
                    epoch: u32::MAX,
                    layer: Some(255)
                };
                EPOCHS_MAX
            ],
            totals: Totals {
                received: many,
                transmitted: many,
                rejected: many,
                held: many,
                sessions: many,
                clients: many,
                unconserved: many,
            },
            drops: vec![("handshake_queue_full".to_owned(), many); 40],
            shed: vec![("kernel_limited".to_owned(), many); 8],
            loops: Loops {
                interval_ms: u32::MAX,
                sent: many,
                returned: many,
                lost: many,
                round_us: quantiles,
            },
            found: Found {
                epoch: u32::MAX,
                is_unmeasured: false,
                n1_suspected: false,
                bad: vec![u16::MAX; NODES_NAMED_MAX],
                previous_silent: Some(u16::MAX),
                previous: u16::MAX,
            },
            hops: vec![
                HopLoops {
                    index: u16::MAX,
                    sent: 16_384,
                    returned: 16_384,
                    overdue: 16_384,
                    p50_us: Some(bounded),
                    p99_us: Some(bounded),
                };
                HOPS_MAX
            ],
            anonymity: Anonymity {
                short: Some(240),
                short_apart: Some(240),
                long: Some(240),
                long_apart: Some(240),
                floor: 240,
                is_low: false,
            },
            lateness_us: quantiles,
            hold_us: quantiles,
            workers: vec![
                Worker {
                    turns: many,
                    received: many,
                    held: 1 << 24,
                    pool_frames: 1 << 24,
                    pool_in_use: 1 << 24,
                    sessions: 1 << 16,
                };
                WORKERS_MAX
            ],
        }
    }

    #[test]
    fn the_largest_description_fits_its_bound_and_a_message() {
        let largest = largest();
        assert!(largest.is_bounded());
        let bytes = serde_json::to_vec(&largest).unwrap().len();
        assert!(bytes <= STATUS_BYTES_MAX, "{bytes} bytes");
        const { assert!(STATUS_BYTES_MAX < crate::protocol::MESSAGE_BYTES_MAX) };
    }

    #[test]
    fn what_is_longer_or_no_name_is_not_bounded() {
        let base = NodeStatus::default();
        assert!(base.is_bounded());
        let long = |change: fn(&mut NodeStatus)| {
            let mut status = base.clone();
            change(&mut status);
            !status.is_bounded()
        };
        assert!(long(|status| status.port = "x".repeat(129)));
        assert!(long(|status| status.not_ready = vec![String::new(); 9]));
        assert!(long(|status| status.not_ready = vec!["x".repeat(257)]));
        assert!(long(|status| status.workers = vec![Worker::default(); 65]));
        assert!(long(|status| status.drops = vec![(String::new(), 0); 97]));
        assert!(long(|status| status.hops = vec![HopLoops::default(); 33]));
        assert!(long(|status| status.found.bad = vec![1; 17]));
        assert!(long(
            |status| status.drops = vec![("10.0.0.1".to_owned(), 1)]
        ));
        assert!(long(|status| status.shed = vec![("a b".to_owned(), 1)]));
    }
}
