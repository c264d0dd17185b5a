//! Laboratories of several sizes: what a client's packet takes of the nodes when users and nodes become more, and cores
//! fewer. Clients ask for as much as they do in all of them, so this says nothing of what nodes could bear.

use std::fmt::Write;
use std::io;

use program::signals::Stop;
use serde::{Deserialize, Serialize};

use super::report::quantiles;
use super::{Arguments, Effort, Lab, QUICK, laboratory};
use crate::envelope::Session;
use crate::host;
use crate::node::points::Quantiles;
use crate::rows::thousands;

/// For how long each laboratory is measured.
const SECONDS: u32 = 15;
const SECONDS_QUICK: u32 = 2;
/// Of three layers.
const LAYERS: u16 = 3;

/// What becomes more from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    Users,
    Nodes,
    /// Those that nodes may use. Clients have all.
    Cores,
}

/// All that was measured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scaling {
    pub(crate) rate_pps: u32,
    pub(crate) mean_delay_ms: u32,
    pub(crate) port: String,
    /// Where one laboratory is part of several series, it is in each.
    pub(crate) scaling: Vec<Scale>,
}

/// One laboratory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scale {
    pub(crate) by: By,
    pub(crate) users: u16,
    pub(crate) nodes: u16,
    pub(crate) cores: usize,
    pub(crate) seconds: f64,
    /// Datagrams that clients sent, all together.
    pub(crate) pps: f64,
    /// Of all nodes together.
    pub(crate) cpu_s: f64,
    pub(crate) lost_messages: u64,
    pub(crate) one_way: Quantiles,
    /// How late clients filled their slots.
    pub(crate) late: Quantiles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    users: u16,
    mixes: u16,
    cores: usize,
}

/// Each size once, with the series that it is in: one thing changes in each, from a middle that is in all.
fn sizes(quick: bool, cores: usize) -> Vec<(Size, Vec<By>)> {
    let (middle, users): (u16, &[u16]) = if quick {
        (12, &[6, 12])
    } else {
        (200, &[50, 200, 800])
    };
    let mixes: &[u16] = if quick { &[1, 2] } else { &[1, 2, 4] };
    let base = Size {
        users: middle,
        mixes: 2,
        cores,
    };
    let users = users.iter().map(|users| {
        (
            By::Users,
            Size {
                users: *users,
                ..base
            },
        )
    });
    let nodes = mixes.iter().map(|mixes| {
        (
            By::Nodes,
            Size {
                mixes: *mixes,
                ..base
            },
        )
    });
    // One, and twice as many again and again.
    let fewer = std::iter::successors(Some(1), |cores| Some(2 * cores));
    let fewer = fewer.take_while(|fewer| *fewer < cores).chain([cores]);
    let cores = fewer.map(|cores| (By::Cores, Size { cores, ..base }));
    let mut sizes: Vec<(Size, Vec<By>)> = Vec::new();
    for (by, size) in users.chain(nodes).chain(cores) {
        match sizes.iter_mut().find(|(known, _)| *known == size) {
            Some((_, series)) => series.push(by),
            None => sizes.push((size, vec![by])),
        }
    }
    sizes
}

/// Runs all of them.
pub(super) fn run(
    arguments: &Arguments,
    stop: &Stop,
    session: &mut Session,
) -> io::Result<Scaling> {
    let cores = host::cores();
    if cores < 3 {
        session.warnings.push(format!(
            "shared cores: nodes and clients have {cores} together"
        ));
    }
    let usual = Effort::of(arguments);
    let mut scaling = Scaling {
        rate_pps: usual.rate_pps,
        mean_delay_ms: usual.mean_delay_ms,
        port: String::new(),
        scaling: Vec::new(),
    };
    for (size, series) in sizes(arguments.quick, cores) {
        let short = if arguments.quick {
            SECONDS_QUICK
        } else {
            SECONDS
        };
        let effort = Effort {
            clients: size.users,
            seconds: arguments.seconds.unwrap_or(short),
            epoch: QUICK.epoch,
            probes: QUICK.probes,
            ..Effort::of(arguments)
        };
        let own = Arguments {
            mixes: size.mixes,
            ..arguments.clone()
        };
        let fewer = Some(size.cores).filter(|own| *own < cores);
        let lab = laboratory(&own, &effort, fewer, stop);
        if stop.is_asked() {
            return Err(io::Error::other("interrupted"));
        }
        let nodes = arguments.gateways + LAYERS * size.mixes;
        match lab {
            Ok(lab) => {
                scaling.port.clone_from(&lab.port);
                scaling.add(size, nodes, &lab, &series, session);
            }
            Err(error) => session
                .failures
                .push(format!("{}: {error}", named(size, nodes))),
        }
    }
    match scaling.scaling.is_empty() {
        true => Err(io::Error::other(session.failures.join("; "))),
        false => Ok(scaling),
    }
}

fn named(size: Size, nodes: u16) -> String {
    format!(
        "{} users and {nodes} nodes on {} cores",
        size.users, size.cores
    )
}

impl Scaling {
    fn add(&mut self, size: Size, nodes: u16, lab: &Lab, series: &[By], session: &mut Session) {
        let seen = &lab.seen;
        let mut took_us = seen.took_us.clone();
        took_us.sort_by(f64::total_cmp);
        let lost_probes = seen.probes_sent.saturating_sub(took_us.len() as u64);
        let lost = lost_probes + seen.files.sent.saturating_sub(seen.files.delivered);
        if lost > 0 {
            session
                .failures
                .push(format!("{}: {lost} messages got lost", named(size, nodes)));
        }
        let round = |value: f64, parts: f64| (value * parts).round() / parts;
        let [gateways_s, mixes_s, _] = lab.cpu_seconds;
        for by in series {
            self.scaling.push(Scale {
                by: *by,
                users: size.users,
                nodes,
                cores: size.cores,
                seconds: round(seen.seconds, 10.0),
                pps: round(seen.datagrams as f64 / seen.seconds.max(1e-9), 10.0),
                cpu_s: round(gateways_s + mixes_s, 100.0),
                lost_messages: lost,
                one_way: quantiles(&took_us),
                late: seen.late,
            });
        }
    }

    /// Those of one series, from the least on.
    pub(crate) fn of(&self, by: By) -> Vec<&Scale> {
        let mut scales: Vec<&Scale> = self.scaling.iter().filter(|one| one.by == by).collect();
        scales.sort_by_key(|one| one.count());
        scales
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "network  clients at {}/s, {} ms a hop, port {}\n\n  {:<6} {:>6} {:>6} {:>6} {:>10} {:>9} {:>9} {:>6} {:>10} {:>10}\n",
            self.rate_pps,
            self.mean_delay_ms,
            self.port,
            "by",
            "users",
            "nodes",
            "cores",
            "datagrams/s",
            "CPU s",
            "µs each",
            "lost",
            "p50 ms",
            "p99 ms"
        );
        for by in [By::Users, By::Nodes, By::Cores] {
            for one in self.of(by) {
                let _ = writeln!(
                    out,
                    "  {:<6} {:>6} {:>6} {:>6} {:>10} {:>9.2} {:>9.0} {:>6} {:>10.1} {:>10.1}",
                    format!("{by:?}").to_lowercase(),
                    one.users,
                    one.nodes,
                    one.cores,
                    thousands(one.pps),
                    one.cpu_s,
                    one.cpu_us(),
                    one.lost_messages,
                    one.one_way.p50_us as f64 / 1e3,
                    one.one_way.p99_us as f64 / 1e3
                );
            }
        }
        out
    }
}

impl Scale {
    /// Of what its series is about.
    pub(crate) fn count(&self) -> usize {
        match self.by {
            By::Users => self.users.into(),
            By::Nodes => self.nodes.into(),
            By::Cores => self.cores,
        }
    }

    /// CPU time of nodes for each datagram of a client.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_s * 1e6 / (self.pps * self.seconds).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Files, Seen};
    use super::*;
    use crate::envelope::Results;

    #[test]
    fn one_thing_changes_in_each_series_and_no_laboratory_runs_twice() {
        for (quick, cores) in [(false, 2), (true, 2), (false, 8), (false, 1)] {
            let sizes = sizes(quick, cores);
            for (number, (size, _)) in sizes.iter().enumerate() {
                assert!(sizes[number + 1..].iter().all(|(other, _)| other != size));
            }
            let of = |by| {
                let own = sizes.iter().filter(|(_, series)| series.contains(&by));
                own.map(|(size, _)| *size).collect::<Vec<_>>()
            };
            let (users, nodes, all) = (of(By::Users), of(By::Nodes), of(By::Cores));
            let base = users[1];
            assert!(nodes.contains(&base) && all.contains(&base));
            assert!(
                users
                    .iter()
                    .all(|size| (size.mixes, size.cores) == (2, cores))
            );
            assert!(
                nodes
                    .iter()
                    .all(|size| (size.users, size.cores) == (base.users, cores))
            );
            assert!(
                all.iter()
                    .all(|size| (size.users, size.mixes) == (base.users, 2))
            );
            let mut counts: Vec<usize> = all.iter().map(|size| size.cores).collect();
            counts.sort_unstable();
            let expected: &[usize] = match cores {
                1 => &[1],
                2 => &[1, 2],
                _ => &[1, 2, 4, 8],
            };
            assert_eq!(counts, expected);
        }
    }

    fn lab(delivered: usize) -> Lab {
        Lab {
            seen: Seen {
                seconds: 10.0,
                probes_sent: 100,
                crowded: 0,
                fetching: [[0; 2]; 2],
                took_us: (0..delivered).map(|number| number as f64 * 1e3).collect(),
                files: Files::default(),
                files_meanwhile: 0,
                datagrams: 8_000,
                late: quantiles(&[5.0; 10]),
                letters_pps: 3.6,
                granted_pps: 4.0,
                cpu_seconds: 9.0,
                troubles: Vec::new(),
            },
            busy: 0,
            port: "uring".into(),
            cpu_seconds: [1.5, 2.5, 9.0],
            kernel_drops: 0,
            rss_bytes: Vec::new(),
        }
    }

    #[test]
    fn what_nodes_take_for_a_datagram_is_told_and_what_gets_lost_too() {
        let mut scaling = Scaling {
            rate_pps: 4,
            mean_delay_ms: 50,
            port: "uring".into(),
            scaling: Vec::new(),
        };
        let mut session = Session::begin(true, 0);
        let size = |users| Size {
            users,
            mixes: 2,
            cores: 2,
        };
        let both = [By::Users, By::Cores];
        scaling.add(size(800), 8, &lab(100), &[By::Users], &mut session);
        scaling.add(size(200), 8, &lab(100), &both, &mut session);
        assert_eq!(session.failures, Vec::<String>::new());
        let counts: Vec<usize> = scaling
            .of(By::Users)
            .iter()
            .map(|one| one.count())
            .collect();
        assert_eq!(counts, [200, 800]);
        assert_eq!(scaling.of(By::Cores)[0].count(), 2);
        // Four seconds of nodes for 8,000 datagrams; what clients took is not theirs.
        assert!((scaling.scaling[0].cpu_us() - 500.0).abs() < 1e-9);
        scaling.add(size(50), 8, &lab(99), &[By::Users], &mut session);
        let said = "50 users and 8 nodes on 2 cores: 1 messages got lost";
        assert_eq!(session.failures, [said]);
        let envelope = session.end(Results::Scaling(scaling), BTreeMap::new());
        crate::envelope::assert_valid(&envelope);
        assert!(!envelope.is_sound() && envelope.text().contains("500"));
    }
}
