//! What the node says of itself to mixctld: sums of all traffic, as its metrics page has them.

use std::time::Duration;

use directory::Parameters;
use handover::status::{
    Joined, Loops, NodeStatus, Quantiles, SENTENCE_BYTES_MAX, SENTENCES_MAX, Totals, WORKERS_MAX,
    Worker,
};
use hdrhistogram::Histogram;

use super::metrics::Sources;
use crate::path::counters::{Counters, Distributions};
use crate::path::reason::Reason;

/// What a loop may take beside its delays: the wires and the workers on its way.
const WIRES: Duration = Duration::from_secs(2);

/// The longest that a loop packet takes to come home, by the network's bound of delays.
pub(super) fn longest_loop(parameters: &Parameters) -> Duration {
    let delays = Duration::from_micros(parameters.delay_max_us().into());
    delays * sphinx::HOPS_MAX as u32 + WIRES
}

/// All of it. `missing` is why the node is not ready, `joined` the epochs that it works by.
pub(super) fn describe(
    sources: &Sources,
    missing: Vec<String>,
    joined: impl Iterator<Item = (u32, Option<u8>)>,
) -> NodeStatus {
    let (facts, standing) = (sources.facts.load(), sources.standing());
    let mut epochs: Vec<Joined> = joined
        .map(|(epoch, layer)| Joined { epoch, layer })
        .collect();
    epochs.sort_unstable_by_key(|joined| joined.epoch);
    let interval_ms = u32::try_from(standing.loop_interval.as_millis()).unwrap_or(u32::MAX);
    let mut measured = sources.measured();
    let base = NodeStatus {
        started_unix_ms: sources.started_unix_ms(),
        is_stopping: standing.is_draining,
        not_ready: missing
            .iter()
            .take(SENTENCES_MAX)
            .map(|why| cut(why))
            .collect(),
        port: facts.port.to_owned(),
        lanes: facts.lanes.to_owned(),
        sandbox: facts.confinement.to_string(),
        keys_origin: facts.keys_origin.to_owned(),
        epochs,
        found: measured.found(),
        hops: measured.hops(port::monotonic_ns()),
        anonymity: measured.anonymity(),
        ..NodeStatus::default()
    };
    drop(measured);
    sources
        .collector
        .for_mixctld(|workers, recent| counted(base, workers, recent, interval_ms))
}

/// A sentence as long as it may be.
fn cut(why: &str) -> String {
    let mut end = why.len().min(SENTENCE_BYTES_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.get(..end).unwrap_or_default().to_owned()
}

/// Fills in what the workers counted.
fn counted(
    base: NodeStatus,
    workers: &[Counters],
    recent: &Distributions,
    interval_ms: u32,
) -> NodeStatus {
    let mut sum = Counters::default();
    workers.iter().for_each(|worker| sum.add(worker));
    let drops = Reason::ALL
        .iter()
        .map(|reason| (reason.name(), sum.rejected(*reason)));
    let fast = &sum.fast_path;
    let shed = [
        ("kernel_dropped", sum.kernel_dropped),
        ("ring_full", fast.ring_full),
        ("fill_empty", fast.fill_empty),
        ("foreign", fast.foreign),
        ("kernel_limited", fast.kernel_limited),
        ("corrupt", fast.corrupt),
    ];
    NodeStatus {
        totals: Totals {
            received: sum.received,
            transmitted: sum.transmitted,
            rejected: sum.rejected_total(),
            held: sum.held,
            sessions: sum.sessions,
            clients: sum.clients,
            unconserved: sum.unconserved,
        },
        drops: happened(drops),
        shed: happened(shed.into_iter()),
        loops: Loops {
            interval_ms,
            sent: sum.loop_sent,
            returned: sum.loop_returned,
            // What came home late was not lost.
            lost: sum.loop_lost.saturating_sub(sum.loop_late),
            round_us: quantiles(&recent.loop_us),
        },
        lateness_us: quantiles(&recent.lateness_us),
        hold_us: quantiles(&recent.hold_us),
        workers: workers.iter().take(WORKERS_MAX).map(worker).collect(),
        ..base
    }
}

fn happened<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Vec<(String, u64)> {
    let counts = counts.filter(|(_, count)| *count > 0);
    counts
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
    }
}

fn worker(counters: &Counters) -> Worker {
    Worker {
        turns: counters.turns,
        received: counters.received,
        held: counters.held,
        pool_frames: counters.pool_frames,
        pool_in_use: counters.pool_in_use,
        sessions: counters.sessions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::counters::FastPath;
    use handover::meaning::{KERNEL, NODE, Source, find};

    #[test]
    fn every_reason_of_the_workers_is_explained_and_no_other() {
        let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        let explained: Vec<&str> = NODE.iter().map(|of| of.reason).collect();
        assert_eq!(names, explained);
    }

    #[test]
    fn what_was_counted_is_described_within_its_bounds_and_every_cause_is_explained() {
        let mut counters = Counters {
            received: 7,
            kernel_dropped: 1,
            pool_frames: 512,
            fast_path: FastPath {
                ring_full: 1,
                fill_empty: 1,
                foreign: 1,
                kernel_limited: 1,
                corrupt: 1,
                ..FastPath::default()
            },
            ..Counters::default()
        };
        counters.rejected = [1; crate::path::reason::REASON_COUNT];
        let mut recent = Distributions::new().unwrap();
        recent.lateness_us.saturating_record(40);
        let base = NodeStatus {
            not_ready: vec![cut(&"é".repeat(500))],
            ..NodeStatus::default()
        };
        let status = counted(base, &[counters; 3], &recent, 200);
        assert!(status.is_bounded());
        assert_eq!((status.totals.received, status.workers.len()), (21, 3));
        assert_eq!(status.drops.len(), Reason::ALL.len());
        assert_eq!(status.drops[0], ("pool_full".to_owned(), 3));
        assert_eq!(status.shed.len(), KERNEL.len());
        for (cause, _) in &status.shed {
            assert!(find(Source::Kernel, cause).is_some(), "{cause}");
        }
        assert_eq!(status.lateness_us.p50, 40);
        let quiet = counted(
            NodeStatus::default(),
            &[Counters::default(); 70],
            &recent,
            0,
        );
        assert!(quiet.drops.is_empty() && quiet.shed.is_empty());
        assert!(quiet.is_bounded(), "more workers than are told of");
    }
}
