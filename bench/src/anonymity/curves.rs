//! The curves, each with what one reads off it.

use std::io;

use serde::{Deserialize, Serialize};

use super::correlation::{Clients, attack};
use super::model::{Pools, Traffic, run};
use super::network::{Network, Size};
use super::presence::{Habit, candidates};
use super::senders::entropies;
use super::{Arguments, Effort, warnings};
use crate::rows::thousands;

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Curve {
    pub(crate) curve: String,
    /// What it shows.
    pub(crate) title: String,
    pub(crate) x: Named,
    pub(crate) y: Named,
    /// Values of y that mean something.
    pub(crate) levels: Vec<Level>,
    pub(crate) series: Vec<Line>,
    pub(crate) reading: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) log: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Level {
    pub(crate) y: f64,
    pub(crate) label: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) label: String,
    /// Not simulated.
    pub(crate) is_theory: bool,
    pub(crate) points: Vec<Place>,
}

/// One point; `low` and `high` are what the curve's reading says they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) n: u64,
}

impl Place {
    pub(super) fn new(x: f64, [low, y, high]: [f64; 3], n: usize) -> Place {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        Place {
            x,
            y: rounded(y),
            low: rounded(low),
            high: rounded(high),
            n: n as u64,
        }
    }
}

pub(super) fn named(name: &str, unit: &str, log: bool) -> Named {
    Named {
        name: name.to_owned(),
        unit: unit.to_owned(),
        log,
    }
}

/// A value of sorted ones.
fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}

pub(super) fn spread(sorted: &[f64]) -> [f64; 3] {
    [0.05, 0.5, 0.95].map(|share| at(sorted, share))
}

const GATEWAYS: u16 = 4;
const MIXES: u16 = 10;

fn size(delay_ms: u32) -> Size {
    Size {
        gateways: GATEWAYS,
        mixes: MIXES,
        layers: 3,
        mean_delay_us: delay_ms * 1_000,
    }
}

/// All of them.
pub(super) fn all(arguments: &Arguments, effort: Effort) -> io::Result<Vec<Curve>> {
    let mut all = vec![
        node(arguments, effort)?,
        senders(arguments, effort)?,
        delays(arguments, effort)?,
        rates(arguments, effort)?,
        layers(arguments, effort)?,
        correlation(arguments, effort)?,
        presence(arguments, effort),
    ];
    all.extend(warnings::curves(effort, arguments.seed));
    Ok(all)
}

/// Bits of a mix: log2 of how many packets one that leaves was among.
fn node(arguments: &Arguments, effort: Effort) -> io::Result<Curve> {
    let mut series = Vec::new();
    let mut reading = String::new();
    for delay_ms in &arguments.delays {
        let network = Network::new(size(*delay_ms))?;
        let mut points = Vec::new();
        for rate in [10.0, 30.0, 100.0, 300.0, 1_000.0] {
            let traffic = Traffic {
                users: (rate * f64::from(MIXES) / arguments.rate).round().max(1.0) as u32,
                rate_pps: arguments.rate,
                seconds: effort.pool_seconds.max(300.0 / rate) + 2.0,
                seed: arguments.seed,
            };
            let mut pools = Pools::new(network.nodes());
            let mut bits = Vec::new();
            run(&network, &traffic, |event| {
                let among = pools.follow(&network, event);
                // Once the pools are full.
                if let Some(among) = among.filter(|_| event.at_us > 2_000_000)
                    && network.is_mix(event.from)
                {
                    bits.push(f64::from(among).log2());
                }
            })?;
            bits.sort_by(f64::total_cmp);
            points.push(Place::new(rate, spread(&bits), bits.len()));
        }
        if let Some(point) = points.get(2) {
            reading.push_str(&format!(
                "At 100 packets a second and {delay_ms} ms: {:.1} bits. ",
                point.y
            ));
        }
        let theory = points.iter().map(|point| {
            let pool = point.x * f64::from(*delay_ms) / 1e3;
            let bits = pool.log2().max(0.0);
            Place::new(point.x, [bits; 3], 0)
        });
        let theory: Vec<Place> = theory.collect();
        series.push(Line {
            label: format!("{delay_ms} ms"),
            is_theory: false,
            points,
        });
        series.push(Line {
            label: format!("log2(rate × {delay_ms} ms)"),
            is_theory: true,
            points: theory,
        });
    }
    reading.push_str(
        "Whiskers: 5 and 95 of 100 packets. A packet that leaves was itself among them, so a mix with little traffic has more than theory's bits.",
    );
    Ok(Curve {
        curve: "node".to_owned(),
        title: "One mix hides a packet among rate × mean delay others: ten times the traffic is 3.3 bits more".to_owned(),
        x: named("packets a second through the mix", "", true),
        y: named("uncertainty at one mix", "bits", false),
        levels: Vec::new(),
        series,
        reading,
    })
}

/// A network and who is in it.
#[derive(Clone, Copy)]
struct Case {
    delay_ms: u32,
    users: u32,
    layers: u8,
    rate_pps: f64,
    /// Share of the mixes that are hostile.
    hostile: f64,
}

impl Case {
    /// What the others are beside what a curve is about.
    fn usual(arguments: &Arguments) -> Case {
        Case {
            delay_ms: 50,
            users: 1_000,
            layers: 3,
            rate_pps: arguments.rate,
            hostile: 0.0,
        }
    }

    /// A point with the bits that are left about the sender.
    fn point(self, x: f64, arguments: &Arguments, effort: Effort) -> io::Result<Place> {
        let network = Network::new(Size {
            layers: self.layers,
            ..size(self.delay_ms)
        })?;
        let traffic = Traffic {
            users: self.users,
            rate_pps: self.rate_pps,
            // Twice as long as a packet may take through all layers and back again.
            seconds: (f64::from(self.delay_ms) / 1e3 * 120.0).max(4.0),
            seed: arguments.seed,
        };
        let bits = entropies(&network, &traffic, self.hostile, effort.targets)?;
        Ok(Place::new(x, spread(&bits), bits.len()))
    }
}

/// Bits of a whole path by users, and by the share of mixes that are hostile.
fn senders(arguments: &Arguments, effort: Effort) -> io::Result<Curve> {
    let usual = Case::usual(arguments);
    let users = [30, 100, 300, 1_000, 3_000];
    let mut series = vec![Line {
        label: "all users alike: log2(users)".to_owned(),
        is_theory: true,
        points: users
            .map(|users| Place::new(f64::from(users), [f64::from(users).log2(); 3], 0))
            .into(),
    }];
    for hostile in [0.0, 0.1, 0.2, 0.3] {
        let points = users.map(|users| {
            let case = Case {
                users,
                hostile,
                ..usual
            };
            case.point(f64::from(users), arguments, effort)
        });
        series.push(Line {
            label: format!("{:.0} % hostile mixes", hostile * 100.0),
            is_theory: false,
            points: points.into_iter().collect::<io::Result<_>>()?,
        });
    }
    let of = |line: usize, point: usize| series.get(line).and_then(|line| line.points.get(point));
    let reading = match (of(1, 3), of(4, 3)) {
        (Some(none), Some(third)) => format!(
            "With 1,000 users and {} ms a hop a delivered packet may be of any of about {:.0} of them (5 in 100 packets: {:.0} or fewer); where 30 % of the mixes tell all, of {:.0} ({:.0}). Whiskers: 5 and 95 of 100 packets.",
            usual.delay_ms,
            none.y.exp2(),
            none.low.exp2(),
            third.y.exp2(),
            third.low.exp2()
        ),
        _ => String::new(),
    };
    Ok(Curve {
        curve: "senders".to_owned(),
        title: "Who sent a delivered packet: users are the anonymity, and hostile mixes take little of it until all of a path are".to_owned(),
        x: named("users of the network", "", true),
        y: named("uncertainty about the sender", "bits", false),
        levels: Vec::new(),
        series,
        reading,
    })
}

/// Bits of a whole path by mean delay.
fn delays(arguments: &Arguments, effort: Effort) -> io::Result<Curve> {
    let mut series = Vec::new();
    for users in [100, 1_000] {
        let points = [5, 10, 20, 50, 100, 200].map(|delay_ms| {
            let case = Case {
                delay_ms,
                users,
                ..Case::usual(arguments)
            };
            case.point(f64::from(delay_ms), arguments, effort)
        });
        series.push(Line {
            label: format!("{} users", thousands(f64::from(users))),
            is_theory: false,
            points: points.into_iter().collect::<io::Result<_>>()?,
        });
    }
    let reading = match series.last().map(|line| line.points.as_slice()) {
        Some([.., fifty, hundred, twice]) => format!(
            "1,000 users at {}/s: {:.1} bits with 50 ms a hop, {:.1} with 100, {:.1} with 200: more delay buys less once most users are candidates. Whiskers: 5 and 95 of 100 packets.",
            arguments.rate, fifty.y, hundred.y, twice.y
        ),
        _ => String::new(),
    };
    Ok(Curve {
        curve: "delays".to_owned(),
        title: "Delay buys anonymity until all users are candidates".to_owned(),
        x: named("mean delay of a hop", "ms", true),
        y: named("uncertainty about the sender", "bits", false),
        levels: Vec::new(),
        series,
        reading,
    })
}

/// Bits of a whole path by how often users send.
fn rates(arguments: &Arguments, effort: Effort) -> io::Result<Curve> {
    let mut series = Vec::new();
    for users in [100, 1_000] {
        let points = [0.2, 0.5, 1.0, 2.0].map(|rate_pps| {
            let case = Case {
                users,
                rate_pps,
                ..Case::usual(arguments)
            };
            case.point(rate_pps, arguments, effort)
        });
        series.push(Line {
            label: format!("{} users", thousands(f64::from(users))),
            is_theory: false,
            points: points.into_iter().collect::<io::Result<_>>()?,
        });
    }
    let reading = match series.last().map(|line| line.points.as_slice()) {
        Some([least, .., most]) => format!(
            "1,000 users, 50 ms a hop: {:.1} bits at {} slots a second, {:.1} at {}. What a slot holds does not matter. \
             Whiskers: 5 and 95 of 100 packets.",
            least.y, least.x, most.y, most.x
        ),
        _ => String::new(),
    };
    Ok(Curve {
        curve: "rates".to_owned(),
        title: "Cover buys what delay buys: packets that meet in a mix".to_owned(),
        x: named("slots a second of each user", "", true),
        y: named("uncertainty about the sender", "bits", false),
        levels: Vec::new(),
        series,
        reading,
    })
}

/// Bits of a whole path by its length.
fn layers(arguments: &Arguments, effort: Effort) -> io::Result<Curve> {
    let mut series = Vec::new();
    for hostile in [0.0, 0.1, 0.3] {
        let points = [1, 2, 3].map(|layers| {
            let case = Case {
                layers,
                hostile,
                ..Case::usual(arguments)
            };
            case.point(f64::from(layers), arguments, effort)
        });
        series.push(Line {
            label: format!("{:.0} % hostile mixes", hostile * 100.0),
            is_theory: false,
            points: points.into_iter().collect::<io::Result<_>>()?,
        });
    }
    let of = |line: usize, point: usize| {
        let line: Option<&Line> = series.get(line);
        line.and_then(|line| line.points.get(point))
    };
    let reading = match (of(2, 0), of(2, 2)) {
        (Some(one), Some(three)) => format!(
            "Where 30 % of the mixes tell all, 5 in 100 packets keep {:.1} bits or fewer behind one layer and {:.1} behind \
             three: the median says little of them. 1,000 users, 50 ms a hop, ten mixes a layer. Whiskers: 5 and 95 of 100 \
             packets.",
            one.low, three.low
        ),
        _ => String::new(),
    };
    Ok(Curve {
        curve: "layers".to_owned(),
        title: "Layers are there for the packets that meet hostile mixes".to_owned(),
        x: named("layers of mixes", "", false),
        y: named("uncertainty about the sender", "bits", false),
        levels: Vec::new(),
        series,
        reading,
    })
}

/// The attack on pairs.
fn correlation(arguments: &Arguments, effort: Effort) -> io::Result<Curve> {
    let network = Network::new(size(50))?;
    let mut series = Vec::new();
    for (clients, label) in [
        (Clients::Constant, "clients at a constant rate"),
        (Clients::Bare, "no cover"),
        (Clients::Colluding, "both gateways tell volumes"),
    ] {
        let points = effort.minutes.map(|minutes| {
            let area = attack(
                &network,
                clients,
                effort.pairs,
                minutes * 60.0,
                arguments.seed,
            )?;
            Ok(Place::new(
                minutes,
                [area.low, area.auc, area.high],
                effort.pairs,
            ))
        });
        series.push(Line {
            label: label.to_owned(),
            is_theory: false,
            points: points.into_iter().collect::<io::Result<_>>()?,
        });
    }
    let last = |line: usize| series.get(line).and_then(|line: &Line| line.points.last());
    let reading = match (last(0), last(1), last(2)) {
        (Some(constant), Some(bare), Some(told)) => format!(
            "After {} min: {:.3} ({:.3} to {:.3}) at a constant rate, where 0.5 is guessing; {:.3} ({:.3} to {:.3}) without cover, which shows that the attacker works; {:.3} where both gateways put together what they deliver, which the threat model leaves open. {} pairs; each user writes 0.2 letters a second, half of them to one correspondent. Whiskers: 99 % by bootstrap over users.",
            constant.x,
            constant.y,
            constant.low,
            constant.high,
            bare.y,
            bare.low,
            bare.high,
            told.y,
            thousands(effort.pairs as f64)
        ),
        _ => String::new(),
    };
    Ok(Curve {
        curve: "correlation".to_owned(),
        title: "Times on the wires tell who writes to whom without cover, and nothing at a constant rate".to_owned(),
        x: named("observation", "min", true),
        y: named("area under the attack's curve", "", false),
        levels: vec![Level {
            y: 0.5,
            label: "guessing".to_owned(),
        }],
        series,
        reading,
    })
}

/// Who is left after days.
fn presence(arguments: &Arguments, effort: Effort) -> Curve {
    const USERS: usize = 1_000;
    let mut series = Vec::new();
    for (habit, label) in [
        (Habit::Always, "always attached"),
        (Habit::Nights, "away at night"),
    ] {
        let left = candidates(habit, USERS, effort.days, arguments.seed);
        let points = (1..).zip(left).map(|(day, left)| {
            let left = left.map(|left| left.max(1) as f64);
            Place::new(f64::from(day), left, 101)
        });
        series.push(Line {
            label: label.to_owned(),
            is_theory: false,
            points: points.collect(),
        });
    }
    let last = series.last().and_then(|line: &Line| line.points.last());
    let left = last.map_or(0.0, |point| point.y);
    Curve {
        curve: "presence".to_owned(),
        title: "Who leaves at night is found within weeks; who stays attached is one of all"
            .to_owned(),
        x: named("days", "", false),
        y: named("candidates left", "users", true),
        levels: Vec::new(),
        series,
        reading: format!(
            "{} users, two letters a day that the attacker sees arrive: after {} days {left:.0} are left of those who are away for eight hours at a time of their own. Whiskers: quartiles of 101 targets. Habits are assumed, not measured.",
            thousands(USERS as f64),
            effort.days
        ),
    }
}
