//! Rows of results: one operation each, with its spread.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::cases::Samples;
use crate::stats::Spread;

/// What a command measured case by case.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rows {
    /// Measurements of each case that count.
    pub(crate) rounds: usize,
    /// Where the packets went, if any did.
    pub(crate) network: Option<String>,
    /// One an operation.
    pub(crate) rows: Vec<Row>,
}

/// Thread CPU nanoseconds of one operation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Operations of one call, where that is a choice.
    pub(crate) batch: Option<usize>,
    /// How many a second one core does that does nothing else.
    pub(crate) per_second: f64,
    #[serde(flatten)]
    pub(crate) spread: Spread,
}

impl From<Samples> for Row {
    fn from(samples: Samples) -> Row {
        let spread = Spread::of(&samples.ns);
        Row {
            name: samples.name,
            batch: samples.batch,
            per_second: (1e9 / spread.median_ns).round(),
            spread,
        }
    }
}

impl Rows {
    pub(crate) fn new(rounds: usize, network: Option<&str>, samples: Vec<Samples>) -> Rows {
        Rows {
            rounds,
            network: network.map(str::to_owned),
            rows: samples.into_iter().map(Row::from).collect(),
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "rounds   {}, one pinned core, thread CPU time, cases interleaved\n",
            self.rounds
        );
        if let Some(network) = &self.network {
            let _ = writeln!(out, "network  {network}");
        }
        let mut group = "";
        for row in &self.rows {
            let first = row.name.split_whitespace().next().unwrap_or_default();
            if first != group {
                group = first;
                let _ = write!(
                    out,
                    "\n  {:<46} {:>5} {:>10} {:>17} {:>10} {:>10} {:>11}\n",
                    "", "batch", "median µs", "its 95 %", "min", "p90", "a second"
                );
            }
            let _ = writeln!(
                out,
                "  {:<46} {:>5} {:>10} {:>17} {:>10} {:>10} {:>11}",
                row.name,
                row.batch.map_or(String::new(), |batch| batch.to_string()),
                micros(row.spread.median_ns),
                row.spread.median_95_ns.map(micros).join(" to "),
                micros(row.spread.min_ns),
                micros(row.spread.p90_ns),
                thousands(row.per_second),
            );
        }
        out
    }
}

/// Nanoseconds as microseconds, with as many digits as mean something.
pub(crate) fn micros(ns: f64) -> String {
    let digits = if ns < 10_000.0 { 3 } else { 1 };
    format!("{:.digits$}", ns / 1000.0)
}

/// A whole number, its digits in threes.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    if value <= -0.5 {
        out.push('−');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!(thousands(0.4), "0");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(-1_234.0), "−1,234");
        assert_eq!(micros(9_982.0), "9.982");
        assert_eq!(micros(162_040.0), "162.0");
    }
}
