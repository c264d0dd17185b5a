//! `mixbench node --mode lockstep` and `mixbench ports`: what forwarding costs, in lockstep on one core.
//!
//! One pinned thread puts a burst before a port, then runs the port or the whole node over it, and only the latter is
//! on the clock: the thread's CPU time, no wall clock. Cases are interleaved round by round, and the report gives
//! medians. What the kernel does in interrupts for a datagram is billed to whoever causes it: delivering to the node
//! to the sender of the burst, which is not on the clock; delivering what the node sends to the node.

pub(crate) mod breakdown;
mod marks;
mod node;
mod ports;
mod report;

use std::io;
use std::sync::Arc;

use port::pool::FramePool;
use port::{EventFd, PlainPort, Port, PortParts, UringPort, uring_available};
use sphinx::lanes::Lanes;

use crate::cases::{Case, measure};
use crate::clock;
use crate::envelope::{Envelope, Results, Session, Skipped};
use crate::rows::Rows;
use crate::scene::place::Place;
use crate::scene::veth::Cable;
use crate::scene::{FRAMES, PortName, Shape};
use crate::stats;

/// Packets of one round: what a busy worker takes at a time.
const BATCH: usize = port::BATCH_MAX;

/// What `mixbench ports` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Few rounds: seconds less, medians less steady.
    #[arg(long)]
    quick: bool,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The whole node.
    Node,
    /// The ports alone.
    Ports,
}

const ROUNDS: usize = 1_000;
const ROUNDS_QUICK: usize = 100;

/// Measures the ports.
///
/// # Errors
/// The thread can't be pinned, sockets can't be had, or datagrams got lost on the way.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    measure_all(What::Ports, Shape::default(), arguments.quick)
}

pub(crate) fn measure_all(what: What, shape: Shape, quick: bool) -> io::Result<Envelope> {
    clock::pin_to_this_core()?;
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let mut session = Session::begin(quick, 1).with_lanes(shape.lanes);
    let network = network(&mut session.skipped);
    measured(what, shape, network, rounds, session)
}

fn measured(
    what: What,
    shape: Shape,
    network: Network,
    rounds: usize,
    mut session: Session,
) -> io::Result<Envelope> {
    let mut cases = cases(what, shape, network, &mut session.skipped)?;
    let (mut samples, warning) = measure(&mut cases, rounds)?;
    session.warnings.extend(warning);
    if what == What::Ports {
        report::add_totals(&mut samples);
    }
    let ratios = report::ratios(what, &samples);
    let results = match what {
        What::Node => {
            let report = breakdown::Lockstep::new(network.name(), shape, rounds, &samples);
            session.failures.extend(report.failures(session.quick()));
            Results::Node(report.into())
        }
        What::Ports => Results::Ports(Rows::new(rounds, Some(network.name()), samples)),
    };
    Ok(session.end(results, ratios))
}

/// The whole node as a case, beside others, on those of these ports that there are; and where its packets go.
pub(crate) fn node_cases(
    wanted: &[PortName],
    skipped: &mut Vec<Skipped>,
) -> io::Result<(Vec<Case>, &'static str)> {
    let network = network(skipped);
    let ports = ports(network, skipped);
    let ports = ports.into_iter().filter(|port| wanted.contains(port));
    let shape = Shape::default();
    let cases = ports.map(|port| on_port(What::Node, shape, port, Table::Touched, network));
    Ok((cases.collect::<io::Result<_>>()?, network.name()))
}

/// CPU nanoseconds a packet that the whole node costs on this port.
pub(crate) fn node_cost_ns(port: PortName, shape: Shape) -> io::Result<f64> {
    let network = network(&mut Vec::new());
    let mut cases = [on_port(What::Node, shape, port, Table::Touched, network)?];
    let (samples, _) = measure(&mut cases, ROUNDS_QUICK)?;
    samples
        .first()
        .map(|samples| stats::median(&samples.ns))
        .ok_or_else(|| io::Error::other(format!("nothing was measured on {}", port.name())))
}

/// Ports that there are.
fn ports(network: Network, skipped: &mut Vec<Skipped>) -> Vec<PortName> {
    let mut ports = vec![PortName::Plain];
    match uring_available() {
        Ok(()) => ports.push(PortName::Uring),
        Err(reason) => skipped.push(Skipped::new("uring", reason)),
    }
    if network == Network::Veth {
        ports.push(PortName::Xsk);
    }
    ports
}

/// Where to measure: as root between namespaces, where there is everything.
fn network(skipped: &mut Vec<Skipped>) -> Network {
    if !rustix::process::geteuid().is_root() {
        skipped.push(Skipped::new(
            "xsk",
            "it takes network namespaces and an XDP program: run as root",
        ));
        return Network::Loopback;
    }
    match Cable::lay(0) {
        Ok(_) => Network::Veth,
        Err(error) => {
            skipped.push(Skipped::new(
                "xsk, and the others between namespaces",
                error,
            ));
            Network::Loopback
        }
    }
}

/// Everything that is there, and the reason for everything that is not.
fn cases(
    what: What,
    shape: Shape,
    network: Network,
    skipped: &mut Vec<Skipped>,
) -> io::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let ports = ports(network, skipped);
    let tables: &[Table] = match what {
        What::Node => &[Table::InParts, Table::Untouched],
        What::Ports => &[Table::Touched],
    };
    for &table in tables {
        for &port in &ports {
            cases.push(on_port(what, shape, port, table, network)?);
        }
    }
    if what == What::Ports {
        let (place, pool, event) = network.open(shape.next_hops)?;
        let port = PlainPort::new(parts(&place, &event)?, &pool)?;
        cases.push(ports::case(
            "plain among empty ones",
            true,
            place,
            pool,
            port,
        )?);
        if ports.contains(&PortName::Uring) {
            let (place, pool, event) = network.open(shape.next_hops)?;
            let port = UringPort::new(parts(&place, &event)?, &pool)?;
            cases.push(ports::case(
                "uring among empty ones",
                true,
                place,
                pool,
                port,
            )?);
        }
        let (place, ..) = network.open(shape.next_hops)?;
        cases.push(ports::segmented("plain", place)?);
    }
    Ok(cases)
}

/// One port, or the node on it.
fn on_port(
    what: What,
    shape: Shape,
    port: PortName,
    table: Table,
    network: Network,
) -> io::Result<Case> {
    let name = port.name();
    match port {
        PortName::Plain => {
            let (place, pool, event) = network.open(shape.next_hops)?;
            let port = PlainPort::new(parts(&place, &event)?, &pool)?;
            case(what, name, (table, shape.lanes), place, pool, event, port)
        }
        PortName::Uring => {
            let (place, pool, event) = network.open(shape.next_hops)?;
            let port = UringPort::new(parts(&place, &event)?, &pool)?;
            case(what, name, (table, shape.lanes), place, pool, event, port)
        }
        PortName::Xsk => {
            let mut cable = Cable::lay(0)?;
            let mut place = cable.place(shape.next_hops)?;
            let event = Arc::new(EventFd::new()?);
            let opened = cable.open_xsk(&place, Arc::clone(&event), u32::MAX, FRAMES)?;
            let (pool, port, steering) = opened;
            place.steering = Some(steering);
            place.cable = Some(cable);
            case(what, name, (table, shape.lanes), place, pool, event, port)
        }
    }
}

/// The node's replay table at the start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// Made resident ahead, as a node does it.
    Touched,
    /// Not: the packets of a run are the first that come to their pages.
    Untouched,
    /// Made resident; each round once without and once with the clock read at the borders of the worker's parts.
    InParts,
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
    fn open(self, next_hops: usize) -> io::Result<(Place, FramePool, Arc<EventFd>)> {
        let place = match self {
            Network::Loopback => Place::loopback(next_hops)?,
            Network::Veth => {
                let cable = Cable::lay(0)?;
                let mut place = cable.place(next_hops)?;
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
    (table, lanes): (Table, Lanes),
    place: Place,
    pool: FramePool,
    event: Arc<EventFd>,
    port: P,
) -> io::Result<Case> {
    match what {
        What::Node => node::case(name, (table, lanes), place, pool, event, port),
        What::Ports => ports::case(name, false, place, pool, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_ports_forward(what: What, network: Network) -> Vec<String> {
        // A round fails unless every packet comes through.
        let session = Session::begin(true, 1);
        let envelope = measured(what, Shape::default(), network, 2, session).unwrap();
        let json = crate::envelope::assert_valid(&envelope);
        let rows = match what {
            What::Node => &json["results"]["lockstep"]["ports"],
            What::Ports => &json["results"]["rows"],
        };
        let rows = rows.as_array().unwrap();
        let median = |row: &serde_json::Value| match what {
            What::Node => row["cpu_per_packet"]["median_ns"].as_f64(),
            What::Ports => row["median_ns"].as_f64(),
        };
        assert!(rows.iter().all(|row| median(row).unwrap() > 0.0));
        assert!(envelope.text().contains("plain"));
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
    fn a_node_of_other_lanes_and_with_more_next_hops_says_so() {
        let of = |lanes, next_hops| {
            let shape = Shape { lanes, next_hops };
            let mut rig = on_port(
                What::Node,
                shape,
                PortName::Plain,
                Table::Untouched,
                Network::Loopback,
            );
            let (samples, _) = measure(std::slice::from_mut(rig.as_mut().unwrap()), 1).unwrap();
            let lockstep = breakdown::Lockstep::new("loopback", shape, 1, &samples);
            let session = Session::begin(true, 1).with_lanes(lanes);
            let report: crate::node::Report = lockstep.into();
            let envelope = session.end(Results::Node(report), std::collections::BTreeMap::new());
            crate::envelope::assert_valid(&envelope)
        };
        for lanes in Lanes::available() {
            for next_hops in [1, crate::node::NEXT_HOPS_MAX] {
                let json = of(lanes, next_hops);
                assert_eq!(json["machine"]["lanes"], lanes.name());
                assert_eq!(json["results"]["lockstep"]["next_hops"], next_hops);
            }
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
