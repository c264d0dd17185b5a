//! What was measured, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::{Samples, What};
use crate::host;

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
    /// How many times cheaper the first is than the second, from the medians.
    ratios: BTreeMap<String, f64>,
    /// What could not be measured, and why.
    pub(super) skipped: Vec<String>,
}

/// CPU nanoseconds a packet.
#[derive(Serialize)]
struct Row {
    name: String,
    median_ns: f64,
    min_ns: f64,
    p90_ns: f64,
    /// Packets a second of one core that does nothing else.
    pps: f64,
}

fn row(samples: Samples) -> Row {
    let mut ns = samples.ns;
    ns.sort_by(f64::total_cmp);
    let last = ns.len().saturating_sub(1);
    let quantile = |part: f64| ns.get((last as f64 * part).round() as usize).copied();
    let tenth = |value: Option<f64>| (value.unwrap_or(f64::NAN) * 10.0).round() / 10.0;
    let median_ns = tenth(quantile(0.5));
    Row {
        name: samples.name,
        median_ns,
        min_ns: tenth(quantile(0.0)),
        p90_ns: tenth(quantile(0.9)),
        pps: (1e9 / median_ns).round(),
    }
}

impl Report {
    pub(super) fn new(
        what: What,
        network: &'static str,
        runs: usize,
        results: Vec<Samples>,
        skipped: Vec<String>,
    ) -> Report {
        let mut results: Vec<Row> = results.into_iter().map(row).collect();
        if what == What::Ports {
            add_totals(&mut results);
        }
        let ratios = ratios(what, &results);
        Report {
            cpu: host::cpu(),
            network,
            runs,
            results,
            ratios,
            skipped,
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
            "{:<36} {:>10} {:>8} {:>8} {:>10}",
            "1,232-byte datagrams", "median ns", "min", "p90", "a second"
        );
        for row in &self.results {
            let _ = writeln!(
                out,
                "  {:<34} {:>10.0} {:>8.0} {:>8.0} {:>10.0}",
                row.name, row.median_ns, row.min_ns, row.p90_ns, row.pps
            );
        }
        out.push('\n');
        for (name, ratio) in &self.ratios {
            let _ = writeln!(out, "  {name:<34} {ratio:>10.2}");
        }
        for reason in &self.skipped {
            let _ = writeln!(out, "  skipped: {reason}");
        }
        out
    }
}

const TOTAL: &str = "receive + transmit";

/// A computed row a port: the sum of its two halves.
fn add_totals(results: &mut Vec<Row>) {
    for port in ["plain", "uring", "xsk"] {
        let of = |part: &str| {
            let name = format!("{port} {part}");
            results.iter().position(|row| row.name == name)
        };
        let (Some(receive), Some(transmit)) = (of("receive"), of("transmit")) else {
            continue;
        };
        let sum = |value: fn(&Row) -> f64| {
            [receive, transmit]
                .iter()
                .filter_map(|place| results.get(*place))
                .map(value)
                .sum::<f64>()
        };
        let median_ns = sum(|row| row.median_ns);
        let total = Row {
            name: format!("{port} {TOTAL}"),
            median_ns,
            min_ns: sum(|row| row.min_ns),
            p90_ns: sum(|row| row.p90_ns),
            pps: (1e9 / median_ns).round(),
        };
        results.insert(transmit + 1, total);
    }
}

fn ratios(what: What, results: &[Row]) -> BTreeMap<String, f64> {
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
    let median = |port: &str, parts: &[&str]| -> Option<f64> {
        let of = |part: &&str| {
            let name = format!("{port} {part}");
            let row = results.iter().find(|row| row.name == name.trim_end());
            row.map(|row| row.median_ns)
        };
        parts.iter().map(of).sum()
    };
    let mut ratios = BTreeMap::new();
    for (prefix, parts) in compared {
        for (fast, slow) in [("xsk", "uring"), ("xsk", "plain"), ("uring", "plain")] {
            if let (Some(fast_ns), Some(slow_ns)) = (median(fast, parts), median(slow, parts)) {
                let ratio = (slow_ns / fast_ns * 1000.0).round() / 1000.0;
                ratios.insert(format!("{prefix}_{fast}_vs_{slow}"), ratio);
            }
        }
    }
    ratios
}
