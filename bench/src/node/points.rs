//! What the node did at each rate, as JSON and as a table.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::hdr;
use crate::rows::thousands;
use crate::scene::running::Ended;
use crate::scene::world::MEAN_DELAY_US;

/// What `mixnode` takes for the pool beside what a rate and the mean delay make.
pub(crate) const POOL_OVER: f64 = 1.5;
/// A frame's place.
pub(crate) const FRAME_BYTES: f64 = 2_048.0;
/// Of the delays that are stored: to three digits they would be megabytes.
const DIGITS: u8 = 1;

/// The whole node in real time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paced {
    /// Where the packets went.
    pub(crate) network: String,
    /// How many the packets went on to, in random order.
    pub(crate) next_hops: usize,
    /// What shares which core.
    pub(crate) cores: String,
    /// Of each rate.
    pub(crate) seconds: f64,
    pub(crate) ports: Vec<PacedPort>,
}

/// One port.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PacedPort {
    pub(crate) port: String,
    /// 10⁹ over the CPU nanoseconds of a packet in lockstep.
    pub(crate) lockstep_pps: f64,
    pub(crate) points: Vec<Point>,
    /// The highest rate that lost one packet in a thousand or less: median of the searches.
    pub(crate) sustained_pps: f64,
    pub(crate) sustained_runs_pps: Vec<f64>,
    /// 25,000 packets a second: none lost, and 99 in 100 held up by 1 ms at most.
    pub(crate) sustained_25k: bool,
    /// What happened at that rate.
    pub(crate) at_25k: Point,
}

/// One rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    /// What packets asked for.
    pub(crate) delay: String,
    pub(crate) wanted_pps: f64,
    pub(crate) offered_pps: f64,
    pub(crate) forwarded_pps: f64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// Packets whose time had passed before the generator came to them: not sent.
    pub(crate) behind: u64,
    /// What node and wires added to the delays asked for.
    pub(crate) added: Quantiles,
    /// How late packets left the wheel, as the node counts it.
    pub(crate) lateness: Quantiles,
    /// CPU time of the node's threads over time.
    pub(crate) busy_ratio: f64,
    /// Datagrams that the kernel dropped before the node saw them.
    pub(crate) kernel_drops: u64,
    /// Packet memory of a node for this rate with the network's mean delay.
    pub(crate) pool_bytes: u64,
    /// All that was added: microseconds, at most, and how many packets, in steps of 3 to 6 %. The quantiles are finer.
    pub(crate) added_us_counts: Vec<(u64, u64)>,
    /// The same as other programs read it: HdrHistogram V2 in base64.
    pub(crate) added_us_histogram: String,
}

/// Of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Quantiles {
        Quantiles {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

/// What a generator did, and how busy the node was.
pub(super) struct Offered<'a> {
    pub(super) delay: String,
    pub(super) wanted_pps: f64,
    pub(super) sent: u64,
    pub(super) behind: u64,
    pub(super) seconds: f64,
    pub(super) added_us: &'a Histogram<u64>,
    pub(super) cpu_ns: u64,
}

/// Packets of others that the node sent on: what it made itself, and what the kernel would not have, left aside.
fn forwarded(ended: &Ended) -> u64 {
    let worker = &ended.worker;
    let others = worker.generated + worker.transmit_failed + worker.transmit_dropped;
    worker.transmitted.saturating_sub(others)
}

impl Point {
    pub(super) fn new(offered: &Offered, ended: &Ended) -> Point {
        let drops = ended.port.kernel_dropped + ended.port.ring_full;
        let lateness = Quantiles::of(&ended.distributions.lateness_us);
        Point::of(offered, forwarded(ended), drops, lateness)
    }

    fn of(offered: &Offered, forwarded: u64, kernel_drops: u64, lateness: Quantiles) -> Point {
        let seconds = offered.seconds.max(1e-9);
        let mean_seconds = f64::from(MEAN_DELAY_US) / 1e6;
        let stored = hdr::coarser(offered.added_us, DIGITS);
        Point {
            delay: offered.delay.clone(),
            wanted_pps: offered.wanted_pps.round(),
            offered_pps: (offered.sent as f64 / seconds).round(),
            forwarded_pps: (forwarded as f64 / seconds).round(),
            sent: offered.sent,
            lost: offered.sent.saturating_sub(forwarded),
            behind: offered.behind,
            added: Quantiles::of(offered.added_us),
            lateness,
            busy_ratio: (offered.cpu_ns as f64 / 1e9 / seconds * 1_000.0).round() / 1_000.0,
            kernel_drops,
            pool_bytes: (offered.wanted_pps * mean_seconds * POOL_OVER * FRAME_BYTES) as u64,
            added_us_counts: counts(&stored),
            added_us_histogram: hdr::base64_v2(&stored),
        }
    }

    /// Whether one packet in a thousand was lost at most, and the generator kept up: where it did not, the node was
    /// asked for less.
    pub(super) fn holds(&self) -> bool {
        self.sent > 0 && self.lost * 1_000 <= self.sent && !self.generator_lagged()
    }

    /// Whether more than one packet in a hundred was not sent.
    pub(super) fn generator_lagged(&self) -> bool {
        self.behind * 100 > self.sent + self.behind
    }

    /// Whether nothing was lost, and 99 packets in 100 were held up by a millisecond at most.
    pub(super) fn is_flawless(&self) -> bool {
        self.lost == 0
            && !self.generator_lagged()
            && self.added.count > 0
            && self.added.p99_us <= 1_000
    }
}

/// Each value that was recorded, and how often.
pub(crate) fn counts(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded
        .map(|one| (one.value_iterated_to(), one.count_at_value()))
        .collect()
}

impl Paced {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "network  {}, {} next hops\ncores    {}\nphases   {} s, packets at fixed times\n",
            self.network, self.next_hops, self.cores, self.seconds
        );
        for port in &self.ports {
            let _ = writeln!(
                out,
                "\n  {}: {} packets/s sustained with 0.1 % lost at most ({} in lockstep); 25,000/s: {}",
                port.port,
                thousands(port.sustained_pps),
                thousands(port.lockstep_pps),
                if port.sustained_25k {
                    "passed"
                } else {
                    "FAILED"
                },
            );
            let _ = writeln!(
                out,
                "  {:<28} {:>8} {:>9} {:>7} {:>7} {:>7} {:>8} {:>8} {:>9} {:>6} {:>6}",
                "delay asked for",
                "offered",
                "forwarded",
                "lost",
                "behind",
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
                "late p99",
                "busy",
                "MiB"
            );
            for point in port.points.iter().chain([&port.at_25k]) {
                let _ = writeln!(
                    out,
                    "  {:<28} {:>8} {:>9} {:>7} {:>7} {:>7} {:>8} {:>8} {:>9} {:>6.2} {:>6.1}",
                    point.delay,
                    thousands(point.offered_pps),
                    thousands(point.forwarded_pps),
                    point.lost,
                    point.behind,
                    point.added.p50_us,
                    point.added.p99_us,
                    point.added.p999_us,
                    point.lateness.p99_us,
                    point.busy_ratio,
                    point.pool_bytes as f64 / 1_048_576.0
                );
            }
        }
        out
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn point(sent: u64, behind: u64, forwarded: u64) -> Point {
        let mut added_us = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        added_us.record_n(80, 990).unwrap();
        added_us.record_n(900, 10).unwrap();
        let offered = Offered {
            delay: "none".into(),
            wanted_pps: 25_000.0,
            sent,
            behind,
            seconds: 4.0,
            added_us: &added_us,
            cpu_ns: 1_000_000_000,
        };
        let lateness = Quantiles::of(&added_us);
        Point::of(&offered, forwarded, 0, lateness)
    }

    #[test]
    fn a_node_that_drops_one_packet_in_a_thousand_is_reported() {
        let good = point(100_000, 0, 100_000);
        assert_eq!(
            (good.lost, good.holds(), good.is_flawless()),
            (0, true, true)
        );
        assert_eq!(good.busy_ratio, 0.25);
        let one_in_1000 = point(100_000, 0, 99_900);
        assert_eq!(one_in_1000.lost, 100);
        assert!(one_in_1000.holds() && !one_in_1000.is_flawless());
        assert!(!point(100_000, 0, 99_899).holds());
    }

    #[test]
    fn a_generator_that_lagged_proves_nothing() {
        let lagging = point(98_900, 1_100, 98_900);
        assert_eq!(lagging.lost, 0);
        assert!(!lagging.holds() && !lagging.is_flawless());
        // Less than one in a hundred, and it is the node's rate.
        assert!(point(99_100, 900, 99_100).holds());
        assert!(!point(0, 0, 0).holds());
    }

    #[test]
    fn all_that_was_recorded_is_there() {
        let point = point(1, 0, 1);
        assert_eq!((point.added.p50_us, point.added.max_us), (80, 900));
        assert_eq!(point.added_us_counts, [(83, 990), (927, 10)]);
        let mut same = Histogram::new_with_bounds(1, 60_000_000, DIGITS).unwrap();
        for (value, count) in point.added_us_counts {
            same.record_n(value, count).unwrap();
        }
        assert_eq!(point.added_us_histogram, hdr::base64_v2(&same));
    }

    /// Three ports have 23 points each, and all results together may take 200 kB.
    #[test]
    fn what_is_stored_of_a_point_is_small_however_far_its_delays_are_apart() {
        let bytes = |most_us: f64| {
            let mut added_us = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
            for number in 0..30_000 {
                let part = f64::from(number) / 30_000.0;
                added_us
                    .record((20.0 * (most_us / 20.0).powf(part)) as u64)
                    .unwrap();
            }
            let lateness = Quantiles::of(&added_us);
            let offered = Offered {
                delay: "exponential, mean 20 ms".into(),
                wanted_pps: 100_000.0,
                sent: 1_000_000,
                behind: 0,
                seconds: 10.0,
                added_us: &added_us,
                cpu_ns: 1,
            };
            let point = Point::of(&offered, 1_000_000, 0, lateness);
            serde_json::to_string(&point).unwrap().len()
        };
        // Up to a millisecond, as below what a core sustains; and up to a second.
        assert!(bytes(1_000.0) < 2_300, "{}", bytes(1_000.0));
        assert!(bytes(1e6) < 4_500, "{}", bytes(1e6));
    }
}
