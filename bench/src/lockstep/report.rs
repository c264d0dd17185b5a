//! What was measured, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::{Samples, What};
use crate::host;
use crate::stats::{Ratio, Spread};

/// Everything `mixbench node` and `mixbench ports` say.
#[derive(Serialize)]
pub(super) struct Report {
    /// The CPU's name as the kernel gives it.
    cpu: String,
    /// Where the packets went.
    network: &'static str,
    /// Rounds: measurements of each case.
    runs: usize,
    results: Vec<Row>,
    /// How many times cheaper the first is than the second; among empty datagrams, how many times dearer a burst is.
    ratios: BTreeMap<String, Ratio>,
    /// What could not be measured, and why.
    pub(super) skipped: Vec<String>,
    /// What makes the figures doubtful.
    warnings: Vec<String>,
}

/// CPU nanoseconds a packet.
#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    spread: Spread,
    /// Packets a second of one core that does nothing else.
    pps: f64,
}

fn row(samples: Samples) -> Row {
    let spread = Spread::of(&samples.ns);
    Row {
        name: samples.name,
        pps: (1e9 / spread.median_ns).round(),
        spread,
    }
}

impl Report {
    pub(super) fn new(
        what: What,
        network: &'static str,
        runs: usize,
        mut samples: Vec<Samples>,
        skipped: Vec<String>,
        warning: Option<String>,
    ) -> Report {
        if what == What::Ports {
            add_totals(&mut samples);
        }
        let ratios = ratios(what, &samples);
        Report {
            cpu: host::cpu(),
            network,
            runs,
            results: samples.into_iter().map(row).collect(),
            ratios,
            skipped,
            warnings: warning.into_iter().collect(),
        }
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = format!(
            "CPU      {}\nnetwork  {}\nrounds   {}, one pinned core, thread CPU time, cases interleaved\n\n",
            self.cpu, self.network, self.runs
        );
        let _ = writeln!(
            out,
            "{:<36} {:>10} {:>15} {:>8} {:>8} {:>10}",
            "1,232-byte datagrams", "median ns", "its 95 %", "min", "p90", "a second"
        );
        for row in &self.results {
            let _ = writeln!(
                out,
                "  {:<34} {:>10.0} {:>15} {:>8.0} {:>8.0} {:>10.0}",
                row.name,
                row.spread.median_ns,
                row.spread
                    .median_95_ns
                    .map(|ns| format!("{ns:.0}"))
                    .join(" to "),
                row.spread.min_ns,
                row.spread.p90_ns,
                row.pps
            );
        }
        out.push('\n');
        for (name, ratio) in &self.ratios {
            let _ = writeln!(out, "  {name:<42} {ratio}");
        }
        for reason in &self.skipped {
            let _ = writeln!(out, "  skipped: {reason}");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "  warning: {warning}");
        }
        out
    }
}

const TOTAL: &str = "receive + transmit";

/// A computed row a port: the sum of its two halves, round by round.
fn add_totals(samples: &mut Vec<Samples>) {
    for port in [
        "plain",
        "uring",
        "xsk",
        "plain among empty ones",
        "uring among empty ones",
    ] {
        let of = |part: &str| {
            let name = format!("{port} {part}");
            samples.iter().position(|row| row.name == name)
        };
        let (Some(receive), Some(transmit)) = (of("receive"), of("transmit")) else {
            continue;
        };
        let total = Samples {
            name: format!("{port} {TOTAL}"),
            ns: sum(&[&samples[receive].ns, &samples[transmit].ns]),
        };
        samples.insert(transmit + 1, total);
    }
}

/// Sums by round.
fn sum(parts: &[&Vec<f64>]) -> Vec<f64> {
    let rounds = parts.iter().map(|part| part.len()).min().unwrap_or(0);
    (0..rounds)
        .map(|round| parts.iter().map(|part| part[round]).sum())
        .collect()
}

fn ratios(what: What, samples: &[Samples]) -> BTreeMap<String, Ratio> {
    // By name of the ratio, what is summed up.
    let compared: &[(&str, &[&str])] = match what {
        What::Node => &[("node", &[""])],
        What::Ports => &[
            ("ports", &[TOTAL]),
            // On veth this is where XDP costs most: the kernel copies each packet for the program. A NIC's driver
            // hands it the buffer.
            ("ports_with_delivery", &[TOTAL, "delivery"]),
        ],
    };
    let of = |port: &str, parts: &[&str]| -> Option<Vec<f64>> {
        let one = |part: &&str| {
            let name = format!("{port} {part}");
            let row = samples.iter().find(|row| row.name == name.trim_end());
            row.map(|row| &row.ns)
        };
        Some(sum(&parts.iter().map(one).collect::<Option<Vec<_>>>()?))
    };
    let mut ratios = BTreeMap::new();
    for (prefix, parts) in compared {
        for (fast, slow) in [("xsk", "uring"), ("xsk", "plain"), ("uring", "plain")] {
            if let (Some(fast_ns), Some(slow_ns)) = (of(fast, parts), of(slow, parts)) {
                ratios.insert(
                    format!("{prefix}_{fast}_vs_{slow}"),
                    Ratio::of(&slow_ns, &fast_ns),
                );
            }
        }
    }
    if what == What::Ports {
        // Junk that the kernel drops at the socket, one for each datagram: what that makes of a burst's cost.
        for port in ["plain", "uring"] {
            let alone = of(port, &["receive"]);
            let among = of(&format!("{port} among empty ones"), &["receive"]);
            if let (Some(alone_ns), Some(among_ns)) = (alone, among) {
                let name = format!("{port}_receive_among_empty_ones");
                ratios.insert(name, Ratio::of(&among_ns, &alone_ns));
            }
        }
    }
    ratios
}
