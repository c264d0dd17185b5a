//! What a packet costs a node, and the parts of it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::marks::{NAMES, PARTS};
use super::{BATCH, node};
use crate::cases::Samples;
use crate::rows::{micros, thousands};
use crate::scene::Shape;
use crate::stats::{Spread, median};

/// How far the sum of the parts may be from the whole; short rounds are allowed more.
const OFF_MAX: f64 = 0.10;
const OFF_MAX_QUICK: f64 = 0.30;

/// The whole node in lockstep.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lockstep {
    /// Where the packets went.
    pub(crate) network: String,
    /// How many the packets went on to, in random order.
    pub(crate) next_hops: usize,
    /// Measurements that count.
    pub(crate) rounds: usize,
    pub(crate) ports: Vec<PortRow>,
}

/// The node on one port.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortRow {
    pub(crate) port: String,
    /// The backend of the wide arithmetic.
    pub(crate) lanes: String,
    /// Packets that were forwarded; one that is lost ends the measurement.
    pub(crate) packets: usize,
    pub(crate) lost: usize,
    /// Thread CPU time.
    pub(crate) cpu_per_packet: Spread,
    /// The same with a replay table that the run's packets are the first to touch.
    pub(crate) cpu_per_packet_untouched_table: Option<Spread>,
    /// Thousands of packets a second that one core could forward at best: 10⁶ over the median, and over the ends of its
    /// 95 % interval.
    pub(crate) kpps_per_core: f64,
    pub(crate) kpps_per_core_95: [f64; 2],
    pub(crate) breakdown: Option<Breakdown>,
}

/// Medians of the parts, CPU nanoseconds a packet, from passes of their own on the same node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Breakdown {
    /// Receiving, sending, and what the kernel does for the sent packets at once.
    pub(crate) port_ns: f64,
    /// Sessions, counters and AEAD of the link, both ways.
    pub(crate) link_ns: f64,
    /// A layer of Sphinx.
    pub(crate) sphinx_ns: f64,
    pub(crate) replay_ns: f64,
    /// Choosing the way, holding, and letting go.
    pub(crate) wheel_ns: f64,
    pub(crate) other_ns: f64,
    /// Median of the rounds' sums of these.
    pub(crate) sum_ns: f64,
    /// The sum over the whole, which the same rounds measured without reading the clock, less 1: the median of the rounds.
    pub(crate) sum_off: f64,
    /// Reading the clock: in the passes in parts, on top of these, and not in the whole.
    pub(crate) clock_ns: f64,
    /// The sender's send and the kernel's delivery to the node's port: billed to the sender, not in the whole.
    pub(crate) delivery_ns: f64,
}

impl Lockstep {
    pub(super) fn new(network: &str, shape: Shape, rounds: usize, samples: &[Samples]) -> Lockstep {
        let row = |port: &&str| PortRow::new(port, shape, rounds, samples);
        Lockstep {
            network: network.to_owned(),
            next_hops: shape.next_hops,
            rounds,
            ports: ["xsk", "plain", "uring"].iter().filter_map(row).collect(),
        }
    }

    /// Ports whose parts do not add up.
    pub(super) fn failures(&self, quick: bool) -> Vec<String> {
        let most = if quick { OFF_MAX_QUICK } else { OFF_MAX };
        let off = |row: &PortRow| {
            let breakdown = row.breakdown.as_ref()?;
            (breakdown.sum_off.abs() > most).then(|| {
                format!(
                    "{}: the parts come to {:.0} ns and the whole to {:.0} ns, more than {:.0} % apart",
                    row.port,
                    breakdown.sum_ns,
                    row.cpu_per_packet.median_ns,
                    most * 100.0
                )
            })
        };
        self.ports.iter().filter_map(off).collect()
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "network  {}, {} next hops\nrounds   {}, one pinned core, thread CPU time, cases interleaved\n\n",
            self.network, self.next_hops, self.rounds
        );
        let _ = writeln!(
            out,
            "  {:<8} {:>10} {:>17} {:>8} {:>8} {:>10} {:>13}",
            "port", "median µs", "its 95 %", "min", "p90", "a second", "fresh table"
        );
        for row in &self.ports {
            let fresh = row.cpu_per_packet_untouched_table;
            let _ = writeln!(
                out,
                "  {:<8} {:>10} {:>17} {:>8} {:>8} {:>10} {:>13}",
                row.port,
                micros(row.cpu_per_packet.median_ns),
                row.cpu_per_packet.median_95_ns.map(micros).join(" to "),
                micros(row.cpu_per_packet.min_ns),
                micros(row.cpu_per_packet.p90_ns),
                thousands(row.kpps_per_core * 1_000.0),
                fresh.map_or("-".into(), |fresh| micros(fresh.median_ns)),
            );
        }
        let _ = writeln!(
            out,
            "\n  {:<8} {:>6} {:>6} {:>7} {:>7} {:>6} {:>6} {:>8} {:>7} {:>7} {:>9}",
            "ns",
            "port",
            "link",
            "sphinx",
            "replay",
            "wheel",
            "other",
            "sum",
            "off",
            "clock",
            "delivery"
        );
        for (port, parts) in self
            .ports
            .iter()
            .filter_map(|row| Some((&row.port, row.breakdown.as_ref()?)))
        {
            let _ = writeln!(
                out,
                "  {port:<8} {:>6.0} {:>6.0} {:>7.0} {:>7.0} {:>6.0} {:>6.0} {:>8.0} {:>6.1}% {:>7.0} {:>9.0}",
                parts.port_ns,
                parts.link_ns,
                parts.sphinx_ns,
                parts.replay_ns,
                parts.wheel_ns,
                parts.other_ns,
                parts.sum_ns,
                parts.sum_off * 100.0,
                parts.clock_ns,
                parts.delivery_ns
            );
        }
        out.push_str(
            "  clock: reading it, in the passes in parts alone. delivery: the sender's, not in the whole.\n",
        );
        out
    }
}

impl PortRow {
    /// None if the port was not measured.
    fn new(port: &str, shape: Shape, rounds: usize, samples: &[Samples]) -> Option<PortRow> {
        let of = |name: &str| samples.iter().find(|one| one.name == name);
        let whole = of(port)?;
        let spread = Spread::of(&whole.ns);
        let thousands = |ns: f64| (1e7 / ns).round() / 10.0;
        let [low, high] = spread.median_95_ns;
        let untouched = of(&format!("{port}, untouched replay table"));
        let parts = NAMES.map(|part| of(&format!("{port} {}", node::in_parts(part))));
        let parts = parts.iter().map(|one| one.map(|one| one.ns.as_slice()));
        let parts: Option<Vec<&[f64]>> = parts.collect();
        Some(PortRow {
            port: port.to_owned(),
            lanes: shape.lanes.name().to_owned(),
            packets: rounds * BATCH,
            lost: 0,
            cpu_per_packet: spread,
            cpu_per_packet_untouched_table: untouched.map(|one| Spread::of(&one.ns)),
            kpps_per_core: thousands(spread.median_ns),
            kpps_per_core_95: [thousands(high), thousands(low)],
            breakdown: parts.and_then(|parts| Breakdown::new(&parts, &whole.ns)),
        })
    }
}

impl Breakdown {
    /// Of the parts' samples in the order of [`NAMES`].
    fn new(parts: &[&[f64]], whole_ns: &[f64]) -> Option<Breakdown> {
        let sums = Samples::sum(parts.get(..PARTS)?);
        let sum_ns = median(&sums);
        let off = sums
            .iter()
            .zip(whole_ns)
            .map(|(sum, whole)| sum / whole - 1.0);
        let off = median(&off.collect::<Vec<_>>());
        let medians: Vec<f64> = parts.iter().map(|part| median(part).round()).collect();
        let [
            port_ns,
            link_ns,
            sphinx_ns,
            replay_ns,
            wheel_ns,
            other_ns,
            clock_ns,
            delivery_ns,
        ] = medians.try_into().ok()?;
        Some(Breakdown {
            port_ns,
            link_ns,
            sphinx_ns,
            replay_ns,
            wheel_ns,
            other_ns,
            sum_ns: sum_ns.round(),
            sum_off: (off * 1_000.0).round() / 1_000.0,
            clock_ns,
            delivery_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lockstep(parts_ns: f64) -> Lockstep {
        let one = |name: &str, ns: f64| Samples {
            name: name.into(),
            batch: None,
            ns: vec![ns; 5],
        };
        let mut samples = vec![
            one("xsk", 9_000.0),
            one("xsk, untouched replay table", 9_500.0),
        ];
        for (number, name) in NAMES.iter().enumerate() {
            let ns = if number < PARTS { parts_ns } else { 100.0 };
            samples.push(one(&format!("xsk in parts: {name}"), ns));
        }
        Lockstep::new("a network", Shape::default(), 5, &samples)
    }

    #[test]
    fn a_row_has_its_parts_and_what_a_core_could_forward() {
        let lockstep = lockstep(1_500.0);
        let [row] = lockstep.ports.as_slice() else {
            panic!("{lockstep:?}");
        };
        assert_eq!(row.kpps_per_core, 111.1);
        assert_eq!(row.packets, 5 * BATCH);
        let breakdown = row.breakdown.as_ref().unwrap();
        assert_eq!((breakdown.sum_ns, breakdown.sum_off), (9_000.0, 0.0));
        assert_eq!((breakdown.clock_ns, breakdown.delivery_ns), (100.0, 100.0));
        assert_eq!(lockstep.failures(false), Vec::<String>::new());
    }

    #[test]
    fn parts_that_miss_a_fifth_of_the_whole_are_reported() {
        for parts_ns in [1_200.0, 1_800.0] {
            let lockstep = lockstep(parts_ns);
            let failures = lockstep.failures(false);
            assert_eq!(failures.len(), 1);
            assert!(failures[0].starts_with("xsk: "), "{failures:?}");
            // Short rounds on a busy machine are allowed as much.
            assert_eq!(lockstep.failures(true), Vec::<String>::new());
        }
        assert_eq!(lockstep(1_000.0).failures(true).len(), 1);
    }
}
