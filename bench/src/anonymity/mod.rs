//! `mixbench anonymity`: what a watcher of all wires learns, by a model that is held against its law first.

mod calendar;
mod checks;
mod correlation;
mod curves;
#[cfg(test)]
mod full;
pub(crate) mod law;
mod model;
mod n1;
mod network;
mod presence;
mod senders;
mod shard;
mod warnings;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub(crate) use checks::Check;
pub(crate) use curves::{Curve, Named};
use model::{Tally, Traffic};
use network::{Network, Size};
pub(crate) use shard::{Part, merge};

use crate::envelope::{Envelope, Results, Session, Skipped};
use crate::rows::thousands;

/// What `mixbench anonymity` is told.
#[derive(Clone, clap::Args)]
pub struct Arguments {
    /// Short runs: seconds less, intervals wider.
    #[arg(long)]
    quick: bool,
    /// Users of the large run, which says how far the model reaches.
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=i64::from(shard::USERS_MOST)))]
    users: Option<u32>,
    /// Slots a second of each.
    #[arg(long, default_value_t = 1.0, value_parser = rate)]
    rate: f64,
    /// Seconds of the large run.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(shard::SECONDS_MOST)))]
    seconds: Option<u32>,
    /// Mean delays of a hop, milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 50, 100], value_parser = clap::value_parser!(u32).range(1..=1_000))]
    delays: Vec<u32>,
    /// Only how soon a node notices that others' packets are kept from it.
    #[arg(long)]
    n1: bool,
    /// Only this part of the users of the large run, as 1/4: with --json, what it counted, for --merge.
    #[arg(long, value_name = "PART/PARTS", conflicts_with = "n1")]
    shard: Option<shard::Shard>,
    /// Simulate nothing: add up what all parts counted, and hold it against the law.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["n1", "shard"])]
    merge: Vec<PathBuf>,
    /// Everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=shard::RATE_MOST).contains(&rate) => Ok(rate),
        _ => Err(format!("not from 0.01 to {}", shard::RATE_MOST)),
    }
}

/// How much is simulated.
#[derive(Clone, Copy, Debug)]
struct Effort {
    check_seconds: f64,
    large_users: u32,
    large_seconds: f64,
    pool_seconds: f64,
    /// Pairs of the attack, and minutes of its longest observation.
    pairs: usize,
    minutes: [f64; 3],
    targets: usize,
    days: usize,
    /// n−1 attacks of a kind, and hours without one.
    n1_runs: u64,
    n1_hours: f64,
}

const FULL: Effort = Effort {
    check_seconds: 600.0,
    large_users: 1_000_000,
    large_seconds: 60.0,
    pool_seconds: 30.0,
    pairs: 2_000,
    minutes: [1.0, 10.0, 60.0],
    targets: 1_000,
    days: 30,
    n1_runs: 200,
    n1_hours: 100.0,
};
const QUICK: Effort = Effort {
    check_seconds: 60.0,
    large_users: 10_000,
    large_seconds: 20.0,
    pool_seconds: 5.0,
    pairs: 400,
    minutes: [1.0, 3.0, 10.0],
    targets: 100,
    days: 10,
    n1_runs: 20,
    n1_hours: 2.0,
};

/// The network of the check against the law: a hundred nodes.
const CHECKED: Size = Size {
    gateways: 10,
    mixes: 30,
    layers: 3,
    mean_delay_us: 50_000,
};
const CHECKED_USERS: u32 = 1_000;

/// All that was simulated.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) engine: String,
    pub(crate) large: Option<Large>,
    pub(crate) checks: Vec<Check>,
    pub(crate) curves: Vec<Curve>,
    /// Of --shard: what others are added to.
    pub(crate) part: Option<Part>,
}

/// A run as large as the model reaches.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Large {
    pub(crate) users: u32,
    pub(crate) rate_pps: f64,
    pub(crate) simulated_seconds: f64,
    pub(crate) packets: u64,
    pub(crate) events: u64,
    pub(crate) took_seconds: f64,
    pub(crate) event_ns: f64,
}

/// Simulates, checks, and attacks.
///
/// # Errors
/// A network of such a size can't be.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    let effort = if arguments.quick { QUICK } else { FULL };
    measured(arguments, effort)
}

fn measured(arguments: &Arguments, effort: Effort) -> io::Result<Envelope> {
    let mut session = Session::begin(arguments.quick, 0);
    if arguments.n1 {
        // It has no part in the model.
        let report = Report {
            engine: "loops of one node".to_owned(),
            large: None,
            checks: Vec::new(),
            curves: warnings::curves(effort, arguments.seed),
            part: None,
        };
        return Ok(session.end(Results::Anonymity(report), BTreeMap::new()));
    }
    if let Some(shard) = arguments.shard {
        let part = shard::run(&arguments.traffic(effort), shard)?;
        let report = Report {
            engine: format!("model, part {} of {}", shard.number, shard.of),
            large: Some(part.large()),
            checks: Vec::new(),
            curves: Vec::new(),
            part: Some(part),
        };
        return Ok(session.end(Results::Anonymity(report), BTreeMap::new()));
    }
    if !arguments.merge.is_empty() {
        let report = merged(&arguments.merge)?;
        session.failures.extend(failed(&report.checks));
        return Ok(session.end(Results::Anonymity(report), BTreeMap::new()));
    }
    let checked = Network::new(CHECKED)?;
    let traffic = Traffic {
        users: CHECKED_USERS,
        rate_pps: arguments.rate,
        seconds: effort.check_seconds,
        seed: arguments.seed,
    };
    let checks = checks::checks(&checked, &traffic, f64::from(CHECKED.mean_delay_us))?;
    session.failures.extend(failed(&checks));
    let large = large(arguments, effort)?;
    let curves = match checks.iter().all(|check| check.passed) {
        true => curves::all(arguments, effort)?,
        false => Vec::new(),
    };
    session.skipped.push(Skipped::new(
        "observations of a day",
        "the attack was followed for an hour at most",
    ));
    if !arguments.quick {
        session.failures.extend(curves.iter().filter_map(unproven));
    }
    let report = Report {
        engine: "model".to_owned(),
        large: Some(large),
        checks,
        curves,
        part: None,
    };
    Ok(session.end(Results::Anonymity(report), BTreeMap::new()))
}

impl Arguments {
    /// Of the large run.
    fn traffic(&self, effort: Effort) -> Traffic {
        Traffic {
            users: self.users.unwrap_or(effort.large_users),
            rate_pps: self.rate,
            seconds: self.seconds.map_or(effort.large_seconds, f64::from),
            seed: self.seed,
        }
    }
}

fn failed(checks: &[Check]) -> Vec<String> {
    let failed = checks.iter().filter(|check| !check.passed);
    let said = failed.map(|check| {
        format!(
            "the model is not what it should be: {}, {} = {} where {} is the most; nothing is drawn of it",
            check.what, check.statistic, check.value, check.at_most
        )
    });
    said.collect()
}

/// All parts of a run, from the outputs of `--shard`.
fn merged(files: &[PathBuf]) -> io::Result<Report> {
    let parts = files.iter().map(|file| shard::read(file));
    let whole = merge(parts.collect::<io::Result<_>>()?)?;
    Ok(Report {
        engine: format!("model, {} parts", files.len()),
        large: Some(whole.large()),
        checks: whole.checks()?,
        curves: Vec::new(),
        part: None,
    })
}

/// At a constant rate the interval of the longest observation has to be near guessing, and no wider than that; without
/// cover the same attacker has to be right, or he proves nothing.
const GUESSING: [f64; 2] = [0.45, 0.55];
const RIGHT: f64 = 0.9;

/// What the attack on pairs was to show and does not.
fn unproven(curve: &Curve) -> Option<String> {
    let last = |line: usize| curve.series.get(line)?.points.last();
    let (constant, bare) = match curve.curve.as_str() {
        "correlation" => (last(0)?, last(1)?),
        _ => return None,
    };
    let [least, most] = GUESSING;
    if bare.low <= RIGHT {
        return Some(format!(
            "without cover the attack should be right: {:.3}, from {:.3} on, and more than {RIGHT} is asked",
            bare.y, bare.low
        ));
    }
    (constant.low < least || constant.high > most).then(|| {
        format!(
            "at a constant rate the attack should be guessing: {:.3} to {:.3}, and {least} to {most} is asked",
            constant.low, constant.high
        )
    })
}

fn large(arguments: &Arguments, effort: Effort) -> io::Result<Large> {
    let network = Network::new(CHECKED)?;
    let traffic = arguments.traffic(effort);
    let mut pools = model::Pools::new(network.nodes());
    let start = Instant::now();
    let Tally { packets, events } = model::run(&network, &traffic, |event| {
        pools.follow(&network, event);
    })?;
    let took = start.elapsed().as_secs_f64();
    Ok(Large {
        users: traffic.users,
        rate_pps: traffic.rate_pps,
        simulated_seconds: traffic.seconds,
        packets,
        events,
        took_seconds: (took * 10.0).round() / 10.0,
        event_ns: (took * 1e9 / events.max(1) as f64).round(),
    })
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("engine   {}\n", self.engine);
        if let Some(large) = &self.large {
            let _ = writeln!(
                out,
                "model    production path choice and delays, pools as counts\nlarge    {} users at {}/s for {} s: {} events in {} s, {} ns each\n",
                thousands(f64::from(large.users)),
                large.rate_pps,
                large.simulated_seconds,
                thousands(large.events as f64),
                large.took_seconds,
                large.event_ns
            );
        }
        for check in &self.checks {
            let _ = writeln!(
                out,
                "  {:<18} {} = {:.5} of {}, at most {}: {}",
                check.what,
                check.statistic,
                check.value,
                thousands(check.n as f64),
                check.at_most,
                if check.passed { "passed" } else { "FAILED" }
            );
        }
        for curve in &self.curves {
            let _ = writeln!(out, "\n  {}", curve.title);
            for series in &curve.series {
                let points = series
                    .points
                    .iter()
                    .map(|point| match point.high > point.low {
                        true => format!(
                            "{}: {:.3} ({:.3} to {:.3})",
                            point.x, point.y, point.low, point.high
                        ),
                        false => format!("{}: {:.3}", point.x, point.y),
                    });
                let points: Vec<String> = points.collect();
                let _ = writeln!(out, "    {:<34} {}", series.label, points.join("  "));
            }
            let _ = writeln!(out, "    {}", curve.reading);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_is_checked_draws_every_curve_and_fits_the_schema() {
        let effort = Effort {
            check_seconds: 25.0,
            large_users: 500,
            large_seconds: 2.0,
            pool_seconds: 1.0,
            pairs: 30,
            minutes: [0.5, 1.0, 2.0],
            targets: 20,
            days: 4,
            n1_runs: 3,
            n1_hours: 0.1,
        };
        let arguments = Arguments {
            quick: true,
            users: None,
            rate: 1.0,
            seconds: None,
            delays: vec![20, 50],
            n1: false,
            shard: None,
            merge: Vec::new(),
            seed: 1,
        };
        let envelope = measured(&arguments, effort).unwrap();
        assert!(envelope.is_sound(), "{:?}", envelope.failures);
        let json = crate::envelope::assert_valid(&envelope);
        let curves = json["results"]["curves"].as_array().unwrap();
        let names: Vec<&str> = curves
            .iter()
            .map(|curve| curve["curve"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "node",
                "senders",
                "delays",
                "rates",
                "layers",
                "correlation",
                "presence",
                "n1",
                "n1 thresholds"
            ]
        );
        assert!(envelope.text().contains("no cover"));
        assert!(rate("0").is_err() && rate("2.5") == Ok(2.5));

        let folder = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for shard in ["1/2", "2/2"] {
            let part = Arguments {
                shard: Some(shard.parse().unwrap()),
                users: Some(700),
                seconds: Some(30),
                ..arguments.clone()
            };
            let json = crate::envelope::assert_valid(&measured(&part, effort).unwrap());
            let file = folder.path().join(shard.replace('/', "of"));
            std::fs::write(&file, json.to_string()).unwrap();
            files.push(file);
        }
        let merge = |files: &[PathBuf]| {
            let all = Arguments {
                merge: files.to_vec(),
                ..arguments.clone()
            };
            measured(&all, effort)
        };
        let whole = merge(&files).unwrap();
        assert!(whole.is_sound(), "{:?}", whole.failures);
        let json = crate::envelope::assert_valid(&whole);
        assert_eq!(json["results"]["checks"].as_array().unwrap().len(), 3);
        assert_eq!(json["results"]["large"]["users"], 700);
        let refused = merge(&files[..1]).unwrap_err().to_string();
        assert!(
            refused.contains("of 2 parts each has to be there once"),
            "{refused}"
        );
        let whole = std::fs::read(&files[1]).unwrap();
        std::fs::write(&files[1], &whole[..whole.len() / 2]).unwrap();
        let refused = merge(&files).unwrap_err().to_string();
        assert!(refused.contains("2of2: the file is cut short"), "{refused}");

        let alone = Arguments {
            n1: true,
            ..arguments
        };
        let json = crate::envelope::assert_valid(&measured(&alone, effort).unwrap());
        let curves = json["results"]["curves"].as_array().unwrap();
        assert!(json["results"]["large"].is_null() && curves.len() == 2);
    }

    #[test]
    fn an_attack_that_is_right_at_a_constant_rate_or_wrong_without_cover_is_told() {
        let line = |low, high| curves::Line {
            label: String::new(),
            is_theory: false,
            points: vec![
                curves::Place::new(1.0, [0.2, 0.5, 0.8], 9),
                curves::Place::new(60.0, [low, (low + high) / 2.0, high], 9),
            ],
        };
        let of = |name: &str, [constant, bare]: [[f64; 2]; 2]| {
            let curve = Curve {
                curve: name.to_owned(),
                title: String::new(),
                x: curves::named("observation", "min", true),
                y: curves::named("area", "", false),
                levels: Vec::new(),
                series: [constant, bare].map(|[low, high]| line(low, high)).into(),
                reading: String::new(),
            };
            unproven(&curve)
        };
        let bare = [0.95, 0.99];
        assert_eq!(of("correlation", [[0.46, 0.54], bare]), None);
        let wide = of("correlation", [[0.44, 0.54], bare]).unwrap();
        assert!(wide.contains("0.440 to 0.540"), "{wide}");
        assert!(of("correlation", [[0.46, 0.56], bare]).is_some());
        let blind = of("correlation", [[0.46, 0.54], [0.9, 0.95]]).unwrap();
        assert!(blind.contains("from 0.900 on"), "{blind}");
        assert_eq!(of("node", [[0.1, 0.2], bare]), None);
    }
}
