//! `mixbench pktgen`: datagrams to one node at fixed times.
//!
//! Valid packets are loops of a node whose place in its network is taken for the time: they go to a node after it and come
//! home by way of the others. They take that node's own keys, so it is no weapon; junk goes to this host and private
//! networks alone, unless the owner of another says so.

mod call;
mod generator;
mod junk;
mod lab;
mod outlet;
mod packets;
mod permit;
pub(crate) mod report;
mod seat;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use link::{CONTENT_BYTES, Kind};
use mixnode::loader_link::Unfiltered;
use program::signals::Stop;

use crate::envelope::{Envelope, Results, Session};
use crate::flood::Kind as JunkKind;
use crate::lost::refused;
use generator::{Generator, Load, Outcome};
use junk::{Grounds, Junk, Needs};
use lab::Laboratory;
use outlet::{Outlet, Via};
use packets::Loops;
pub(crate) use report::Report;
use report::Setting;
use seat::{Network, Seat, link_of, unix_ms};

/// What `mixbench pktgen` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where the datagrams go: to a node.
    #[arg(long, value_name = "ADDR:PORT", required_unless_present = "lab")]
    target: Option<SocketAddr>,
    /// The network's file, as clients begin with.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["junk", "lab"])]
    network: Option<PathBuf>,
    /// State folder of a node of yours that is down, from which packets go to the target: its keys are used, its place is
    /// taken for the time.
    #[arg(long = "as", value_name = "KEYDIR", requires = "network", required_unless_present_any = ["junk", "lab"])]
    keys: Option<PathBuf>,
    /// Junk of this kind in place of valid packets; some kinds take --network, and some --as.
    #[arg(long, value_name = "KIND", value_enum)]
    junk: Option<JunkKind>,
    /// The target is neither on this host nor in a private network, and it is yours.
    #[arg(long)]
    i_own_this_host: bool,
    /// A laboratory of its own in place of all that: one of its gateways makes way, and a mix after it is the target.
    #[arg(long, conflicts_with_all = ["target", "network", "keys", "i_own_this_host"])]
    lab: bool,
    /// UDP port of the laboratory's nodes.
    #[arg(long, value_name = "NUMBER", default_value_t = 9_300, requires = "lab", value_parser = clap::value_parser!(u16).range(1..))]
    udp_port: u16,
    /// Datagrams a second, at fixed times [default: 1000, with --quick 200].
    #[arg(long, value_name = "N", value_parser = rate)]
    pps: Option<f64>,
    /// Ports of this host that they come from in turn, each with a session of its own where there are sessions.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    flows: u16,
    /// For how long [default: 10, with --quick 1].
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<f64>,
    /// So many in all, if that is less.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// What they leave by [default: uring where it can be had].
    #[arg(long, value_enum)]
    via: Option<Via>,
    /// Short, for smoke tests.
    #[arg(long)]
    quick: bool,
}

const PPS: f64 = 1_000.0;
const PPS_QUICK: f64 = 200.0;
const SECONDS: f64 = 10.0;
const SECONDS_QUICK: f64 = 1.0;
const PPS_MAX: f64 = 100_000_000.0;
/// A session lasts so long before it has to be renewed, and some time of it is over before the first packet.
const SECONDS_MAX: f64 = 500.0;
/// Sessions that a node may have with one neighbour, of which its restart needs some.
const FLOWS_MAX: usize = 8;
/// After the longest delays that a loop may ask for.
const TAIL: Duration = Duration::from_secs(2);

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(pps) if pps > 0.0 && pps <= PPS_MAX => Ok(pps),
        _ => Err(format!("not more than 0 and at most {PPS_MAX}")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(seconds),
        _ => Err(format!("not more than 0 and at most {SECONDS_MAX}")),
    }
}

/// What is to be done.
struct Plan {
    target: SocketAddr,
    network: Option<PathBuf>,
    keys: Option<PathBuf>,
    junk: Option<JunkKind>,
    has_word: bool,
    pps: f64,
    flows: usize,
    count: u64,
    via: Via,
}

impl Arguments {
    fn plan(&self, lab: Option<&Laboratory>) -> io::Result<Plan> {
        let via = self.via()?;
        let (pps, seconds) = match self.quick {
            true => (PPS_QUICK, SECONDS_QUICK),
            false => (PPS, SECONDS),
        };
        let pps = self.pps.unwrap_or(pps);
        let count = (pps * self.seconds.unwrap_or(seconds)).ceil() as u64;
        let needs = self.junk.map_or(Needs::Seat, Needs::of);
        let network = self.network.clone().or(lab.map(|lab| lab.network.clone()));
        let keys = self.keys.clone().or(lab.map(|lab| lab.keys.clone()));
        if let Some(junk) = self.junk {
            let name = junk.name();
            if needs >= Needs::Network && network.is_none() {
                return Err(refused(format!(
                    "--junk {name} takes the target's keys: --network FILE"
                )));
            }
            if needs == Needs::Seat && keys.is_none() {
                return Err(refused(format!(
                    "--junk {name} takes a neighbour's keys: --as KEYDIR"
                )));
            }
        }
        let target = lab.map(|lab| match self.junk {
            // Mixes take no clients.
            Some(junk) if Needs::of(junk) == Needs::Network => lab.gateway,
            _ => lab.target,
        });
        let target = self.target.or(target);
        Ok(Plan {
            target: target.ok_or_else(|| refused("--target ADDR:PORT is missing"))?,
            network: network.filter(|_| needs >= Needs::Network),
            keys: keys.filter(|_| needs == Needs::Seat),
            junk: self.junk,
            has_word: self.i_own_this_host,
            pps,
            flows: self.flows.into(),
            count: count.min(self.count.unwrap_or(u64::MAX)).max(1),
            via,
        })
    }

    /// What needs no network to be known.
    fn check(&self) -> io::Result<()> {
        let needs = self.junk.map_or(Needs::Seat, Needs::of);
        if needs == Needs::Seat && usize::from(self.flows) > FLOWS_MAX {
            return Err(refused(format!(
                "--flows {}: one node has {FLOWS_MAX} sessions with another at most",
                self.flows
            )));
        }
        self.via().map(|_| ())
    }

    fn via(&self) -> io::Result<Via> {
        match (self.junk, self.via) {
            (Some(JunkKind::WrongSize), None | Some(Via::Plain)) => Ok(Via::Plain),
            (Some(JunkKind::WrongSize), Some(_)) => Err(refused(
                "--junk wrong_size: datagrams of another length leave by --via plain alone",
            )),
            (_, via) => Ok(via.unwrap_or_else(Via::usual)),
        }
    }
}

/// Sends.
///
/// # Errors
/// The target may not be sent to, a place can't be taken, or nothing could be sent.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    let mut session = Session::begin(arguments.quick, 0);
    // What is asked for wrongly is said before a laboratory is founded.
    arguments.check()?;
    if !arguments.lab {
        arguments.plan(None)?;
    }
    let stop = program::signals::of_terminal()?;
    let lab = match arguments.lab {
        true => Some(Laboratory::found(arguments.udp_port, &stop)?),
        false => None,
    };
    let plan = arguments.plan(lab.as_ref())?;
    let (load, outcome) = plan.run(&mut session, &stop)?;
    if outcome.sent == 0 {
        return Err(io::Error::other(format!(
            "nothing was sent: {} datagrams came too late to be, {} did not leave",
            outcome.behind, outcome.send_errors
        )));
    }
    let setting = Setting {
        what: plan.junk.map_or("packets", JunkKind::name).to_owned(),
        target: plan.target.to_string(),
        via: plan.via.name(),
        flows: plan.flows,
        pps: plan.pps,
    };
    let report = Report::new(setting, &outcome, &load);
    report.judge(arguments.lab, &mut session);
    Ok(session.end(Results::Pktgen(report), BTreeMap::new()))
}

impl Plan {
    fn run(&self, session: &mut Session, stop: &Stop) -> io::Result<(Load, Outcome)> {
        let network = self.network.as_deref().map(Network::read).transpose()?;
        let network = network.as_ref();
        let mut seat = None;
        if let (Some(network), Some(keys)) = (network, &self.keys) {
            let own = Seat::take(network, keys, self.target, Box::new(Unfiltered))?;
            let same = network.operators_are_one(own.index, self.target)?;
            let what = self.junk.map_or("a stream of packets", |_| "junk");
            // An operator's nodes are the operator's, and its junk is junk.
            let same = same && self.junk.is_none();
            permit::check(what, self.target, same, self.has_word)?;
            seat = Some(own);
        } else {
            permit::check("junk", self.target, false, self.has_word)?;
        }
        let source = match &seat {
            Some(seat) => seat.address,
            None => SocketAddr::new(outlet::source_of(self.target)?, 0),
        };
        let mut outlets = Vec::new();
        for number in 0..self.flows {
            // Home is the first.
            let port = if number == 0 { source.port() } else { 0 };
            outlets.push(Outlet::open(self.via, SocketAddr::new(source.ip(), port))?);
        }
        let mut count = self.count;
        let (mut load, tail) = match (self.junk, seat, network) {
            (None, Some(seat), Some(network)) => {
                count = self.affordable(session);
                let loops = self.loops(network, seat, &mut outlets, count, session)?;
                let delay_us = u64::from(network.consensus.parameters().delay_max_us());
                let hops = u64::from(network.consensus.parameters().layers);
                (loops, Duration::from_micros(delay_us * hops) + TAIL)
            }
            (Some(junk), seat, network) => {
                let grounds = Grounds {
                    target: self.target,
                    network,
                    seat,
                };
                let made = Junk::prepare(junk, grounds, &mut outlets)?;
                let load = match junk {
                    JunkKind::WrongSize => Load::Short(made),
                    _ => Load::Junk(made),
                };
                (load, Duration::ZERO)
            }
            _ => return Err(refused("valid packets take --network FILE and --as KEYDIR")),
        };
        let generator = Generator::new(&mut outlets, &mut load, self.target);
        let outcome = generator.run(self.pps, count, tail, stop)?;
        Ok((load, outcome))
    }

    /// As many packets as memory holds.
    fn affordable(&self, session: &mut Session) -> u64 {
        let most = packets::affordable().max(1);
        if self.count > most {
            session.warnings.push(format!(
                "memory holds {most} packets of {}: they were sent for less time",
                self.count
            ));
        }
        self.count.min(most)
    }

    /// Makes the packets, opens the links, and waits for those that lead home.
    fn loops(
        &self,
        network: &Network,
        mut seat: Seat,
        outlets: &mut [Outlet],
        count: u64,
        session: &mut Session,
    ) -> io::Result<Load> {
        program::complain!("mixbench: making {count} packets");
        let to = network.at(self.target)?;
        let mut loops = Loops::make(network, seat.index, to, count as usize)?;
        let left_ms = network.consensus.ends_ms().saturating_sub(unix_ms());
        let takes_ms = (count as f64 / self.pps * 1_000.0) as u64;
        if takes_ms > left_ms {
            return Err(io::Error::other(format!(
                "the epoch ends in {} s, and its packets with it: take fewer, or begin after its end",
                left_ms / 1_000
            )));
        }
        let remote = link_of(to);
        let mut sessions = Vec::new();
        for outlet in &mut *outlets {
            let mut one = seat.connect(outlet, &remote, self.target)?;
            // From its first frame on the session counts.
            let cover = call::seal(&mut one, Kind::Cover, network.slot(), &[0; CONTENT_BYTES])?;
            outlet.send(self.target, |frame| *frame = cover);
            sessions.push(one);
        }
        loops.set_sessions(sessions);
        if let Some(home) = outlets.first_mut() {
            let missing = seat.gather(home, network.slot())?;
            if missing > 0 {
                session.warnings.push(format!(
                    "{missing} nodes before this one opened no link: what goes through them does not come back"
                ));
            }
        }
        Ok(Load::Loops(Box::new(loops), Box::new(seat)))
    }
}
