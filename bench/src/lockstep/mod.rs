//! `mixbench node` and `mixbench ports`: what forwarding costs, in lockstep on one core.
//!
//! One pinned thread puts a burst before a port, then runs the port or the whole node over it, and only the latter is
//! on the clock: the thread's CPU time, no wall clock. Cases are interleaved round by round, and the report gives
//! medians. What the kernel does in interrupts for a datagram is billed to whoever causes it: delivering to the node
//! to the sender of the burst, which is not on the clock; delivering what the node sends to the node.

mod node;
mod ports;
mod report;

use std::io;
use std::sync::Arc;

use port::pool::FramePool;
use port::{EventFd, PlainPort, Port, PortParts, UringPort, uring_available};

use crate::clock;
use crate::rounds::{self, Round};
use crate::scene::FRAMES;
use crate::scene::place::{NEXT_HOPS, Place};
use crate::scene::veth::Cable;
use crate::stats;
use report::Report;

/// Packets of one round: what a busy worker takes at a time.
const BATCH: usize = port::BATCH_MAX;

/// What the commands are told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one line of JSON in place of the table.
    #[arg(long)]
    json: bool,
    /// Few rounds: seconds less, medians less steady.
    #[arg(long)]
    quick: bool,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The whole node.
    Node,
    /// The ports alone.
    Ports,
}

const ROUNDS: usize = 1_000;
const ROUNDS_QUICK: usize = 100;
/// Something to measure round by round.
struct Case {
    name: String,
    /// Names of what a round measures, in order.
    parts: Vec<String>,
    packets: usize,
    round: Box<dyn Round>,
}

impl Case {
    /// A case with one part.
    fn new(name: &str, packets: usize, round: impl Round + 'static) -> Case {
        Case::with_parts(name, &[""], packets, round)
    }

    /// A case whose rounds measure several parts apart.
    fn with_parts(name: &str, parts: &[&str], packets: usize, round: impl Round + 'static) -> Case {
        Case {
            name: name.to_owned(),
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            packets,
            round: Box::new(round),
        }
    }
}

impl Round for Case {
    fn prepare(&mut self) -> io::Result<()> {
        self.round.prepare()
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        self.round.run()
    }
}

/// Runs the measurements and prints the report.
///
/// # Errors
/// The thread can't be pinned, sockets can't be had, or datagrams got lost on the way.
pub fn run(what: What, arguments: &Arguments) -> io::Result<()> {
    clock::pin_to_this_core()?;
    let rounds = if arguments.quick {
        ROUNDS_QUICK
    } else {
        ROUNDS
    };
    let mut skipped = Vec::new();
    let network = network(&mut skipped);
    let mut cases = cases(what, network, &mut skipped)?;
    let (samples, warning) = measure(&mut cases, rounds)?;
    let report = Report::new(what, network.name(), rounds, samples, skipped, warning);
    for reason in &report.skipped {
        program::complain!("mixbench: SKIPPED: {reason}");
    }
    if arguments.json {
        program::print(&serde_json::to_string(&report)?)?;
    } else {
        program::print(report.table().trim_end())?;
    }
    Ok(())
}

/// CPU nanoseconds a packet that the whole node costs on the port of this name.
pub(crate) fn node_cost_ns(port: &str) -> io::Result<f64> {
    let mut skipped = Vec::new();
    let network = network(&mut skipped);
    let mut cases = cases(What::Node, network, &mut skipped)?;
    cases.retain(|case| case.name == port);
    let (samples, _) = measure(&mut cases, ROUNDS_QUICK)?;
    samples
        .first()
        .map(|samples| stats::median(&samples.ns))
        .ok_or_else(|| io::Error::other(format!("the port {port} is not to be had")))
}

/// Where to measure: as root between namespaces, where there is everything.
fn network(skipped: &mut Vec<String>) -> Network {
    if !rustix::process::geteuid().is_root() {
        skipped.push("xsk: it takes network namespaces and an XDP program: run as root".into());
        return Network::Loopback;
    }
    match Cable::lay(true) {
        Ok(_) => Network::Veth,
        Err(error) => {
            skipped.push(format!("xsk, and the others between namespaces: {error}"));
            Network::Loopback
        }
    }
}

/// Everything that is there, and the reason for everything that is not.
fn cases(what: What, network: Network, skipped: &mut Vec<String>) -> io::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let uring = uring_available();
    if let Err(reason) = &uring {
        skipped.push(format!("uring: {reason}"));
    }
    let tables: &[Table] = match what {
        What::Node => &[Table::Touched, Table::Untouched],
        What::Ports => &[Table::Touched],
    };
    for &table in tables {
        let (place, pool, event) = network.open()?;
        let port = PlainPort::new(parts(&place, &event)?, &pool)?;
        cases.push(case(what, "plain", table, place, pool, event, port)?);
        if uring.is_ok() {
            let (place, pool, event) = network.open()?;
            let port = UringPort::new(parts(&place, &event)?, &pool)?;
            cases.push(case(what, "uring", table, place, pool, event, port)?);
        }
        if network == Network::Veth {
            let mut cable = Cable::lay(true)?;
            let mut place = cable.place(NEXT_HOPS)?;
            let event = Arc::new(EventFd::new()?);
            let (pool, port, steering) = cable.open_xsk(&place, Arc::clone(&event), u32::MAX)?;
            place.steering = Some(steering);
            place.cable = Some(cable);
            cases.push(case(what, "xsk", table, place, pool, event, port)?);
        }
    }
    if what == What::Ports {
        let (place, pool, event) = network.open()?;
        let port = PlainPort::new(parts(&place, &event)?, &pool)?;
        cases.push(ports::case(
            "plain among empty ones",
            true,
            place,
            pool,
            port,
        )?);
        if uring.is_ok() {
            let (place, pool, event) = network.open()?;
            let port = UringPort::new(parts(&place, &event)?, &pool)?;
            cases.push(ports::case(
                "uring among empty ones",
                true,
                place,
                pool,
                port,
            )?);
        }
        let (place, ..) = network.open()?;
        cases.push(ports::segmented("plain", place)?);
    }
    Ok(cases)
}

/// The node's replay table at the start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// Made resident ahead, as a node does it.
    Touched,
    /// Not: the packets of a run are the first that come to their pages.
    Untouched,
}

/// Where everything is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Loopback,
    Veth,
}

impl Network {
    fn name(self) -> &'static str {
        match self {
            Network::Loopback => "loopback, receivers' sockets drained off the clock",
            Network::Veth => {
                "veth between two network namespaces, frames to a MAC address nobody has"
            }
        }
    }

    /// Surroundings for a port over a UDP socket.
    fn open(self) -> io::Result<(Place, FramePool, Arc<EventFd>)> {
        let place = match self {
            Network::Loopback => Place::loopback(NEXT_HOPS)?,
            Network::Veth => {
                let cable = Cable::lay(true)?;
                let mut place = cable.place(NEXT_HOPS)?;
                place.cable = Some(cable);
                place
            }
        };
        Ok((place, FramePool::new(FRAMES)?, Arc::new(EventFd::new()?)))
    }
}

fn parts(place: &Place, event: &Arc<EventFd>) -> io::Result<PortParts> {
    Ok(PortParts {
        socket: place.node.try_clone()?,
        event: Arc::clone(event),
    })
}

fn case<P: Port + 'static>(
    what: What,
    name: &str,
    table: Table,
    place: Place,
    pool: FramePool,
    event: Arc<EventFd>,
    port: P,
) -> io::Result<Case> {
    match what {
        What::Node => node::case(name, table, place, pool, event, port),
        What::Ports => ports::case(name, false, place, pool, port),
    }
}

/// Nanoseconds a packet of one part of one case, all rounds.
struct Samples {
    name: String,
    ns: Vec<f64>,
}

/// Measures all of them; says whether the machine was disturbed.
fn measure(cases: &mut [Case], rounds: usize) -> io::Result<(Vec<Samples>, Option<String>)> {
    let measured = rounds::measure(cases, rounds)?;
    let warning = measured.warning();
    let mut samples = Vec::new();
    for (case, parts) in cases.iter().zip(measured.samples) {
        for (part, ns) in case.parts.iter().zip(parts) {
            samples.push(Samples {
                name: format!("{} {part}", case.name).trim_end().to_owned(),
                ns: ns.into_iter().map(|ns| ns / case.packets as f64).collect(),
            });
        }
    }
    Ok((samples, warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_ports_forward(what: What, network: Network) -> Vec<String> {
        let mut skipped = Vec::new();
        let mut cases = cases(what, network, &mut skipped).unwrap();
        // A round fails unless every packet comes through.
        let (samples, warning) = measure(&mut cases, 2).unwrap();
        let report = Report::new(what, network.name(), 2, samples, skipped, warning);
        let json = serde_json::to_value(&report).unwrap();
        let rows = json["results"].as_array().unwrap();
        assert!(
            rows.iter()
                .all(|row| row["median_ns"].as_f64().unwrap() > 0.0)
        );
        assert!(report.table().contains("plain"));
        let ratios = json["ratios"].as_object().unwrap();
        ratios.keys().cloned().collect()
    }

    #[test]
    fn nodes_and_ports_on_loopback_forward_every_packet_of_a_round_and_are_compared() {
        let node = all_ports_forward(What::Node, Network::Loopback);
        let ports = all_ports_forward(What::Ports, Network::Loopback);
        if uring_available().is_ok() {
            assert_eq!(node, ["node_uring_vs_plain"]);
            assert_eq!(
                ports,
                [
                    "plain_receive_among_empty_ones",
                    "ports_uring_vs_plain",
                    "ports_with_delivery_uring_vs_plain",
                    "uring_receive_among_empty_ones",
                ]
            );
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn between_namespaces_xsk_is_compared_with_both_others() {
        for (what, wanted) in [
            (What::Node, ["node_xsk_vs_plain", "node_xsk_vs_uring"]),
            (What::Ports, ["ports_xsk_vs_plain", "ports_xsk_vs_uring"]),
        ] {
            let ratios = all_ports_forward(what, Network::Veth);
            for name in wanted {
                assert!(ratios.contains(&name.to_owned()), "{ratios:?}");
            }
        }
    }
}
