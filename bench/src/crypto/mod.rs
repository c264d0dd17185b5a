//! `mixbench crypto`: what the cryptography costs, beside its peers.
//!
//! Everything runs in one process on one core, [round by round](crate::rounds). A measurement is the thread's CPU time
//! over enough operations to be far above the clock's own cost; the report gives medians over the rounds with their
//! spread, and ratios of what the same rounds measured.

mod hops;
mod links;
mod measure;
mod report;
mod symmetric;
mod x25519;

use crate::cases::{Case, measure};
use crate::clock;
use crate::envelope::{Envelope, Results, Session};
use crate::rows::Rows;
use sphinx::lanes::Lanes;
use std::io;

/// What `mixbench crypto` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Few rounds: seconds less, medians less steady.
    #[arg(long)]
    quick: bool,
    /// Measure only cases whose name contains this. Ratios need both of their cases.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

const ROUNDS: usize = 400;
const ROUNDS_QUICK: usize = 40;

/// Runs the measurements.
///
/// # Errors
/// The thread can't be pinned, or no case has that name.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
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
        if cases.is_empty() {
            return Err(io::Error::other(format!(
                "no case has {text:?} in its name"
            )));
        }
    }
    measured(lanes, &mut cases, rounds, arguments.quick)
}

fn measured(lanes: Lanes, cases: &mut [Case], rounds: usize, quick: bool) -> io::Result<Envelope> {
    let mut session = Session::begin(quick, 1);
    let (mut samples, warning) = measure(cases, rounds)?;
    session.warnings.extend(warning);
    report::add_sum(lanes, &mut samples);
    let ratios = report::ratios(lanes, &samples);
    let rows = Rows::new(rounds, None, samples);
    Ok(session.end(Results::Crypto(rows), ratios))
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
        let envelope = measured(lanes, &mut cases(lanes), 1, true).unwrap();
        let json = crate::envelope::assert_valid(&envelope);
        let rows = json["results"]["rows"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["min_ns"].as_f64().unwrap() > 0.0));
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
        assert!(envelope.text().contains("sphinx-packet"));
    }
}
