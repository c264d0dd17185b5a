//! What was measured, as JSON and as a table.

use super::measure::Measured;
use super::{hops, symmetric, x25519};
use serde::Serialize;
use sphinx::lanes::Lanes;
use std::fmt::Write;

/// Everything `mixbench crypto` says.
#[derive(Serialize)]
pub(super) struct Report {
    /// The CPU's name as it gives it.
    pub(super) cpu: String,
    /// The backend that the hops used.
    pub(super) lanes: &'static str,
    /// Rounds: measurements of each case.
    pub(super) runs: usize,
    pub(super) results: Vec<Measured>,
    pub(super) ratios: Ratios,
}

/// How many times faster, from the medians; none if one of the two was not measured.
#[derive(Serialize)]
pub(super) struct Ratios {
    hop_native_vs_sphinx_packet: Option<f64>,
    hop_nym_vs_sphinx_packet: Option<f64>,
    x25519_vs_aws_lc: Option<f64>,
    x25519_vs_dalek: Option<f64>,
    avx2_x25519_vs_aws_lc: Option<f64>,
    /// The native hop over the sum of its parts measured alone: 1 is a hop that costs nothing beside them.
    hop_native_vs_parts: Option<f64>,
}

/// The computed row: X25519 at a full batch and the symmetric parts.
pub(super) const SUM_OF_PARTS: &str = "hop native, sum of its parts";

const FULL: usize = sphinx::BATCH_MAX;

impl Report {
    pub(super) fn new(lanes: Lanes, runs: usize, mut results: Vec<Measured>) -> Self {
        if let Some(sum) = sum_of_parts(lanes, &results) {
            let after = results.iter().rposition(|row| row.name == hops::HOP_NATIVE);
            results.insert(after.map_or(results.len(), |index| index + 1), sum);
        }
        let ratios = ratios(lanes, &results);
        Self {
            cpu: crate::host::cpu(),
            lanes: lanes.name(),
            runs,
            results,
            ratios,
        }
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = format!(
            "CPU    {}\nlanes  {}\nrounds {}, one pinned core, thread CPU time, cases interleaved\n",
            self.cpu, self.lanes, self.runs
        );
        let mut group = "";
        for row in &self.results {
            let first = row.name.split_whitespace().next().unwrap_or_default();
            if first != group {
                group = first;
                let _ = write!(
                    out,
                    "\n{:<48} {:>5} {:>10} {:>10} {:>10} {:>11}\n",
                    heading(group),
                    "batch",
                    "median µs",
                    "min",
                    "p90",
                    "a second"
                );
            }
            let _ = writeln!(
                out,
                "  {:<46} {:>5} {:>10} {:>10} {:>10} {:>11}",
                row.name,
                row.batch,
                micros(row.median_ns),
                micros(row.min_ns),
                micros(row.p90_ns),
                thousands(1e9 / row.median_ns),
            );
        }
        out.push_str("\nTimes faster, at full batches\n");
        for (name, ratio) in self.ratios.named() {
            let value = ratio.map_or("not measured".into(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(out, "  {name:<46} {value:>16}");
        }
        if let Some(ratio) = self.ratios.hop_native_vs_parts {
            let over = (ratio - 1.0) * 100.0;
            let _ = writeln!(
                out,
                "\nThe native hop costs {over:+.1} % beside the sum of its parts."
            );
        }
        out
    }
}

impl Ratios {
    fn named(&self) -> [(&'static str, Option<f64>); 5] {
        [
            (
                "native hop vs sphinx-packet",
                self.hop_native_vs_sphinx_packet,
            ),
            (
                "nym hop vs sphinx-packet, same packets",
                self.hop_nym_vs_sphinx_packet,
            ),
            ("X25519 vs aws-lc-rs", self.x25519_vs_aws_lc),
            ("X25519 vs x25519-dalek", self.x25519_vs_dalek),
            ("X25519 on AVX2 vs aws-lc-rs", self.avx2_x25519_vs_aws_lc),
        ]
    }
}

fn heading(group: &str) -> &'static str {
    match group {
        "x25519" => "X25519, variable point",
        "hop" => "Whole hops, in place",
        "wrap" => "Wrapping a packet",
        "surb" => "Using a reply block",
        "part" => "Parts of the native hop, alone",
        "link" => "Link frames, AES-256-GCM, 1,232 bytes",
        _ => "",
    }
}

fn find<'a>(results: &'a [Measured], name: &str, batch: usize) -> Option<&'a Measured> {
    results
        .iter()
        .find(|row| row.name == name && row.batch == batch)
}

fn ratios(lanes: Lanes, results: &[Measured]) -> Ratios {
    let median = |name: &str, batch| find(results, name, batch).map(|row| row.median_ns);
    let times = |slow: Option<f64>, fast: Option<f64>| {
        let ratio = slow? / fast?;
        Some((ratio * 1000.0).round() / 1000.0)
    };
    let ours = median(&x25519::name(lanes), FULL);
    let aws_lc = median(x25519::AWS_LC, 1);
    let peer = median(hops::HOP_PEER, 1);
    let native = median(hops::HOP_NATIVE, FULL);
    Ratios {
        hop_native_vs_sphinx_packet: times(peer, native),
        hop_nym_vs_sphinx_packet: times(peer, median(hops::HOP_NYM, FULL)),
        x25519_vs_aws_lc: times(aws_lc, ours),
        x25519_vs_dalek: times(median(x25519::DALEK, 1), ours),
        avx2_x25519_vs_aws_lc: times(aws_lc, median("x25519 ours, avx2", FULL)),
        hop_native_vs_parts: times(native, median(SUM_OF_PARTS, FULL)),
    }
}

fn sum_of_parts(lanes: Lanes, results: &[Measured]) -> Option<Measured> {
    let mut sum = find(results, &x25519::name(lanes), FULL)?.clone();
    sum.name = SUM_OF_PARTS.into();
    for part in symmetric::PARTS {
        let part = find(results, part, 1)?;
        sum.median_ns += part.median_ns;
        sum.min_ns += part.min_ns;
        sum.p90_ns += part.p90_ns;
    }
    for value in [&mut sum.median_ns, &mut sum.min_ns, &mut sum.p90_ns] {
        *value = (*value * 10.0).round() / 10.0;
    }
    Some(sum)
}

/// Nanoseconds as microseconds, with as many digits as mean something.
pub(super) fn micros(ns: f64) -> String {
    let digits = if ns < 10_000.0 { 3 } else { 1 };
    format!("{:.digits$}", ns / 1000.0)
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
