//! What was measured, as JSON and as a table.

use super::measure::Samples;
use super::{hops, symmetric, x25519};
use crate::stats::{Ratio, Spread};
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
    pub(super) results: Vec<Row>,
    pub(super) ratios: Ratios,
    /// What makes the figures doubtful.
    pub(super) warnings: Vec<String>,
}

/// One line of the report, of one operation.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) batch: usize,
    #[serde(flatten)]
    pub(super) spread: Spread,
}

/// How many times faster; none if one of the two was not measured.
#[derive(Serialize)]
pub(super) struct Ratios {
    hop_native_vs_sphinx_packet: Option<Ratio>,
    hop_nym_vs_sphinx_packet: Option<Ratio>,
    x25519_vs_aws_lc: Option<Ratio>,
    x25519_vs_dalek: Option<Ratio>,
    avx2_x25519_vs_aws_lc: Option<Ratio>,
    /// The native hop over the sum of its parts measured alone: 1 is a hop that costs nothing beside them.
    hop_native_vs_parts: Option<Ratio>,
}

/// The computed row: X25519 at a full batch and the symmetric parts.
pub(super) const SUM_OF_PARTS: &str = "hop native, sum of its parts";

const FULL: usize = sphinx::BATCH_MAX;

impl Report {
    pub(super) fn new(
        lanes: Lanes,
        runs: usize,
        mut samples: Vec<Samples>,
        warning: Option<String>,
    ) -> Self {
        if let Some(sum) = sum_of_parts(lanes, &samples) {
            let after = samples.iter().rposition(|row| row.name == hops::HOP_NATIVE);
            samples.insert(after.map_or(samples.len(), |index| index + 1), sum);
        }
        let ratios = ratios(lanes, &samples);
        let results = samples.into_iter().map(|samples| Row {
            spread: Spread::of(&samples.ns),
            name: samples.name,
            batch: samples.batch,
        });
        Self {
            cpu: crate::host::cpu(),
            lanes: lanes.name(),
            runs,
            results: results.collect(),
            ratios,
            warnings: warning.into_iter().collect(),
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
                    "\n{:<48} {:>5} {:>10} {:>17} {:>10} {:>10} {:>11}\n",
                    heading(group),
                    "batch",
                    "median µs",
                    "its 95 %",
                    "min",
                    "p90",
                    "a second"
                );
            }
            let _ = writeln!(
                out,
                "  {:<46} {:>5} {:>10} {:>17} {:>10} {:>10} {:>11}",
                row.name,
                row.batch,
                micros(row.spread.median_ns),
                row.spread.median_95_ns.map(micros).join(" to "),
                micros(row.spread.min_ns),
                micros(row.spread.p90_ns),
                thousands(1e9 / row.spread.median_ns),
            );
        }
        out.push_str("\nTimes faster, at full batches, with the 95 % interval\n");
        for (name, ratio) in self.ratios.named() {
            let value = ratio.map_or("not measured".into(), |ratio| ratio.to_string());
            let _ = writeln!(out, "  {name:<46} {value:>23}");
        }
        if let Some(ratio) = self.ratios.hop_native_vs_parts {
            let over = (ratio.median - 1.0) * 100.0;
            let _ = writeln!(
                out,
                "\nThe native hop costs {over:+.1} % beside the sum of its parts."
            );
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "\nwarning: {warning}");
        }
        out
    }
}

impl Ratios {
    fn named(&self) -> [(&'static str, Option<Ratio>); 5] {
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

fn find<'a>(samples: &'a [Samples], name: &str, batch: usize) -> Option<&'a [f64]> {
    samples
        .iter()
        .find(|row| row.name == name && row.batch == batch)
        .map(|row| row.ns.as_slice())
}

fn ratios(lanes: Lanes, samples: &[Samples]) -> Ratios {
    let of = |name: &str, batch| find(samples, name, batch);
    let times = |slow: Option<&[f64]>, fast: Option<&[f64]>| Some(Ratio::of(slow?, fast?));
    let ours = of(&x25519::name(lanes), FULL);
    let aws_lc = of(x25519::AWS_LC, 1);
    let peer = of(hops::HOP_PEER, 1);
    let native = of(hops::HOP_NATIVE, FULL);
    Ratios {
        hop_native_vs_sphinx_packet: times(peer, native),
        hop_nym_vs_sphinx_packet: times(peer, of(hops::HOP_NYM, FULL)),
        x25519_vs_aws_lc: times(aws_lc, ours),
        x25519_vs_dalek: times(of(x25519::DALEK, 1), ours),
        avx2_x25519_vs_aws_lc: times(aws_lc, of("x25519 ours, avx2", FULL)),
        hop_native_vs_parts: times(native, of(SUM_OF_PARTS, FULL)),
    }
}

/// Added up round by round.
fn sum_of_parts(lanes: Lanes, samples: &[Samples]) -> Option<Samples> {
    let mut ns = find(samples, &x25519::name(lanes), FULL)?.to_vec();
    for part in symmetric::PARTS {
        let part = find(samples, part, 1)?;
        ns.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    Some(Samples {
        name: SUM_OF_PARTS.into(),
        batch: FULL,
        ns,
    })
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
