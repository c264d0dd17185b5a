//! `mixbench crypto`: what the cryptography costs, beside its peers.
//!
//! Everything runs in one process on one core, [round by round](crate::rounds). A measurement is the thread's CPU time
//! over enough operations to be far above the clock's own cost; the report gives medians over the rounds with their
//! spread, and ratios of what the same rounds measured.

mod hops;
mod links;
mod measure;
mod plot;
mod report;
mod symmetric;
mod x25519;

use crate::clock;
use measure::{Case, measure};
use report::Report;
use sphinx::lanes::Lanes;
use std::io;
use std::path::PathBuf;

/// What `mixbench crypto` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one line of JSON in place of the table.
    #[arg(long)]
    json: bool,
    /// Write the results as an SVG bar chart.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Few rounds: seconds less, medians less steady.
    #[arg(long)]
    quick: bool,
    /// Measure only cases whose name contains this. Ratios need both of their cases.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

const ROUNDS: usize = 400;
const ROUNDS_QUICK: usize = 40;

/// Runs the measurements and prints the report.
///
/// # Errors
/// If the thread can't be pinned, its clock can't be read, or the plot can't be written.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    clock::pin_to_this_core()?;
    let lanes = Lanes::from_env_or_detect();
    let rounds = if arguments.quick {
        ROUNDS_QUICK
    } else {
        ROUNDS
    };
    let mut cases = cases(lanes);
    if let Some(text) = &arguments.only {
        cases.retain(|case| case.name.contains(text.as_str()));
    }
    let (samples, warning) = measure(&mut cases, rounds)?;
    let report = Report::new(lanes, rounds, samples, warning);
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::svg(&report))?;
    }
    if arguments.json {
        program::print(&serde_json::to_string(&report)?)?;
    } else {
        program::print(report.table().trim_end())?;
    }
    Ok(())
}

fn cases(lanes: Lanes) -> Vec<Case> {
    let mut cases = x25519::cases();
    cases.extend(hops::cases(lanes));
    cases.extend(symmetric::cases(lanes));
    cases.extend(links::cases());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_of_everything_reports_every_ratio_that_this_cpu_can_have() {
        let lanes = Lanes::from_env_or_detect();
        let (samples, warning) = measure(&mut cases(lanes), 1).unwrap();
        assert!(samples.iter().all(|one| one.ns.iter().all(|ns| *ns > 0.0)));
        let report = Report::new(lanes, 1, samples, warning);
        let json = serde_json::to_value(&report).unwrap();
        for field in [
            "hop_native_vs_sphinx_packet",
            "hop_nym_vs_sphinx_packet",
            "x25519_vs_aws_lc",
            "x25519_vs_dalek",
        ] {
            assert!(
                json["ratios"][field]["median"].as_f64().unwrap() > 0.0,
                "{field}"
            );
        }
        assert!(plot::svg(&report).ends_with("</svg>\n"));
        assert!(report.table().contains("sphinx-packet"));
    }
}
