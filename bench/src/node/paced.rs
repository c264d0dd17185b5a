//! `mixbench node --mode paced`: rates one after the other, each with a node of its own.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use port::uring_available;

use super::Arguments;
use super::pacer::bisect;
use super::points::{Offered, Paced, PacedPort, Point};
use super::traffic::{Delays, Load, Prepared, packets, world};
use crate::clock::on_core;
use crate::envelope::{Envelope, Results, Session, Skipped};
use crate::host;
use crate::lockstep;
use crate::scene::running::{Ground, Scene};
use crate::scene::veth::Cable;
use crate::scene::{PortName, Shape};
use crate::stats;

/// Rates, in percent of what a core forwards in lockstep.
const RATES: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 25.0, 40.0, 60.0, 80.0, 100.0, 120.0,
];
const RATES_QUICK: [f64; 2] = [10.0, 50.0];
const SECONDS: f64 = 10.0;
const SECONDS_QUICK: f64 = 0.4;
/// What the plans of a network promised, and for how long it is tried.
const LINE_PPS: f64 = 25_000.0;
const LINE_SECONDS: f64 = 60.0;
/// Searches for the sustained rate, and halvings of each.
const SEARCHES: usize = 3;
const HALVINGS: u32 = 6;
const HALVINGS_QUICK: u32 = 2;
/// Frames of the node's packet memory: what lies in the wheel at the highest rate with the network's mean delay, and the
/// port's.
const FRAMES: u32 = 16_384;
/// After the last packet, for what is under way.
const TAIL: Duration = Duration::from_millis(100);
/// Packets made ahead may take one byte in so many of the machine's memory.
const MEMORY_PART: u64 = 4;

/// How it is measured.
struct Plan {
    rates: Vec<f64>,
    seconds: f64,
    line_seconds: f64,
    searches: usize,
    halvings: u32,
    shape: Shape,
    node_core: usize,
    load_core: usize,
    on_veth: bool,
}

/// Measures all ports that there are.
///
/// # Errors
/// Fewer than two cores, or sockets can't be had.
pub(super) fn run(arguments: &Arguments) -> io::Result<Envelope> {
    let shape = arguments.shape();
    let mut session = Session::begin(arguments.quick, 2).with_lanes(shape.lanes);
    let (node_core, load_core) = (arguments.node_core, arguments.load_core);
    if node_core == load_core {
        return Err(io::Error::other("node and load take a core each"));
    }
    on_core(load_core, || Ok(()))?;
    let on_veth = on_veth(&mut session);
    let ports = ports(arguments.port, on_veth, &mut session)?;
    let quick = arguments.quick;
    let plan = Plan {
        rates: match (arguments.rates.is_empty(), quick) {
            (false, _) => arguments.rates.clone(),
            (true, false) => RATES.to_vec(),
            (true, true) => RATES_QUICK.to_vec(),
        },
        seconds: arguments
            .seconds
            .unwrap_or(if quick { SECONDS_QUICK } else { SECONDS }),
        line_seconds: if quick { SECONDS_QUICK } else { LINE_SECONDS },
        searches: if quick { 1 } else { SEARCHES },
        halvings: if quick { HALVINGS_QUICK } else { HALVINGS },
        shape,
        node_core,
        load_core,
        on_veth,
    };
    if !(plan.rates.iter().all(|rate| *rate > 0.0) && plan.seconds > 0.0) {
        return Err(io::Error::other("rates and seconds are more than nothing"));
    }
    if host::cores() < 3 {
        session.warnings.push(format!(
            "shared cores: node and load have one each of {}, and handshakes, the kernel and all else share them",
            host::cores()
        ));
    }
    let measured = plan.measure(&ports, &mut session)?;
    let paced = Paced {
        network: match on_veth {
            true => "veth between two network namespaces; one next hop is listened to, frames to the others go to a MAC address nobody has",
            false => "loopback",
        }
        .to_owned(),
        next_hops: shape.next_hops,
        cores: format!("the node's worker on core {node_core}, the load on core {load_core}"),
        seconds: plan.seconds,
        ports: measured,
    };
    let report = super::Report {
        lockstep: None,
        paced: Some(paced),
    };
    Ok(session.end(Results::Node(report), BTreeMap::new()))
}

fn on_veth(session: &mut Session) -> bool {
    if !rustix::process::geteuid().is_root() {
        let why = "it takes network namespaces and an XDP program: run as root";
        session.skipped.push(Skipped::new("xsk", why));
        return false;
    }
    match Cable::lay(0) {
        Ok(_) => true,
        Err(error) => {
            let what = "xsk, and the others between namespaces";
            session.skipped.push(Skipped::new(what, error));
            false
        }
    }
}

/// Those that there are, or the one that was asked for.
fn ports(
    wanted: Option<PortName>,
    on_veth: bool,
    session: &mut Session,
) -> io::Result<Vec<PortName>> {
    let mut ports = vec![PortName::Plain];
    if on_veth {
        ports.insert(0, PortName::Xsk);
    }
    match uring_available() {
        Ok(()) => ports.push(PortName::Uring),
        Err(reason) => session.skipped.push(Skipped::new("uring", reason)),
    }
    ports.retain(|port| wanted.is_none_or(|wanted| wanted == *port));
    match ports.is_empty() {
        true => Err(io::Error::other("that port is not to be had here")),
        false => Ok(ports),
    }
}

impl Plan {
    fn measure(&self, ports: &[PortName], session: &mut Session) -> io::Result<Vec<PacedPort>> {
        let mut capacities = Vec::new();
        for port in ports {
            let cost = || lockstep::node_cost_ns(*port, self.shape);
            capacities.push(1e9 / on_core(self.node_core, cost)?);
        }
        let most = capacities.iter().copied().fold(0.0, f64::max);
        let highest = self.rates.iter().copied().fold(0.0, f64::max) / 100.0 * most;
        let wanted = (highest * self.seconds).max(LINE_PPS * self.line_seconds);
        let count = self.affordable(wanted as usize, session);
        let mut points: Vec<Vec<Point>> = vec![Vec::new(); ports.len()];
        let mut measured = Vec::new();
        // Packets of both kinds together would take twice the memory.
        for delays in [Delays::Exponential, Delays::None] {
            let packets = packets(count, self.shape.next_hops, delays)?;
            for ((port, capacity), points) in ports.iter().zip(&capacities).zip(&mut points) {
                for rate in &self.rates {
                    let pps = capacity * rate / 100.0;
                    points.push(self.phase(*port, delays, &packets, pps, self.seconds)?);
                }
                if delays == Delays::None {
                    let points = std::mem::take(points);
                    measured.push(self.sustained(*port, *capacity, points, &packets)?);
                }
            }
        }
        session.warnings.extend(measured.iter().filter_map(lag));
        Ok(measured)
    }

    /// As many packets as memory allows.
    fn affordable(&self, wanted: usize, session: &mut Session) -> usize {
        let memory = host::memory_bytes().unwrap_or(u64::MAX) / MEMORY_PART;
        let most = usize::try_from(memory).unwrap_or(usize::MAX) / size_of::<Prepared>();
        if wanted > most {
            session.warnings.push(format!(
                "memory holds {most} packets of {wanted}: the highest rates were tried for less time"
            ));
        }
        wanted.clamp(1, most.max(1))
    }

    /// One rate for so long, on a node of its own.
    fn phase(
        &self,
        port: PortName,
        delays: Delays,
        packets: &[Prepared],
        pps: f64,
        seconds: f64,
    ) -> io::Result<Point> {
        let count = ((pps * seconds) as usize).clamp(1, packets.len());
        let ground = Ground {
            port,
            core: self.node_core,
            shape: self.shape,
            listening: 1,
            frames: FRAMES,
            capacity_pps: u32::MAX,
            granted: None,
        };
        let Scene { place, world, node } = Scene::start(&ground, self.on_veth, world)?;
        let mut load = Load::new(&place, world, &packets[..count])?;
        let before = node.cpu_ns();
        let cpu_ns = on_core(self.load_core, || {
            load.run(pps, TAIL + delays.longest())?;
            Ok(node.cpu_ns() - before)
        })?;
        let ended = node.end()?;
        let offered = Offered {
            delay: delays.name(),
            wanted_pps: pps,
            sent: load.sent,
            behind: load.behind,
            seconds: load.seconds,
            added_us: &load.added_us,
            cpu_ns,
        };
        Ok(Point::new(&offered, &ended))
    }

    /// Searches for the highest rate that holds, from what the rates tried before showed; and tries the line.
    fn sustained(
        &self,
        port: PortName,
        capacity: f64,
        points: Vec<Point>,
        packets: &[Prepared],
    ) -> io::Result<PacedPort> {
        let alone = Delays::None.name();
        let tried = || points.iter().filter(|point| point.delay == alone);
        let fails = tried().filter(|point| !point.holds());
        let ceiling = fails.map(|point| point.wanted_pps).fold(f64::MAX, f64::min);
        let held = tried().filter(|point| point.holds() && point.wanted_pps < ceiling);
        let floor = held.map(|point| point.wanted_pps).fold(0.0, f64::max);
        // If all held, so may half as much again.
        let ceiling = ceiling.min(floor.max(capacity) * 1.5);
        let mut runs = Vec::new();
        for _ in 0..self.searches {
            let found = bisect(floor, ceiling, self.halvings, |pps| {
                let point = self.phase(port, Delays::None, packets, pps, self.seconds)?;
                Ok::<_, io::Error>(point.holds())
            })?;
            runs.push(found.round());
        }
        let at_25k = self.phase(port, Delays::None, packets, LINE_PPS, self.line_seconds)?;
        Ok(PacedPort {
            port: port.name().to_owned(),
            lockstep_pps: capacity.round(),
            points,
            sustained_pps: stats::median(&runs),
            sustained_runs_pps: runs,
            sustained_25k: at_25k.is_flawless(),
            at_25k,
        })
    }
}

/// Whether a port was asked for less than it seems.
fn lag(port: &PacedPort) -> Option<String> {
    let lagged = port.points.iter().filter(|point| point.generator_lagged());
    let lagged = lagged.count();
    (lagged > 0).then(|| {
        format!(
            "{}: at {lagged} of {} rates the generator did not keep up, and the node was asked for less",
            port.port,
            port.points.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::points::tests::point;
    use super::*;

    #[test]
    fn a_generator_that_lags_is_told_beside_the_figures() {
        let port = |points: Vec<Point>| PacedPort {
            port: "plain".into(),
            lockstep_pps: 1.0,
            points,
            sustained_pps: 1.0,
            sustained_runs_pps: vec![1.0],
            sustained_25k: false,
            at_25k: point(1, 0, 1),
        };
        let kept_up = || point(100_000, 0, 100_000);
        assert_eq!(lag(&port(vec![kept_up(), kept_up()])), None);
        let said = lag(&port(vec![kept_up(), point(98_900, 1_100, 98_900)]));
        let wanted =
            "plain: at 1 of 2 rates the generator did not keep up, and the node was asked for less";
        assert_eq!(said.as_deref(), Some(wanted));
    }

    /// Rates that any machine forwards: what is held and counted is looked at, not how fast.
    #[test]
    fn each_port_on_loopback_forwards_what_is_offered_and_accounts_for_it() {
        let plan = Plan {
            rates: vec![1.0],
            seconds: 0.3,
            line_seconds: 0.1,
            searches: 1,
            halvings: 1,
            shape: Shape {
                next_hops: 3,
                ..Shape::default()
            },
            node_core: 0,
            load_core: 1,
            on_veth: false,
        };
        let mut session = Session::begin(true, 2);
        let ports = ports(None, false, &mut session).unwrap();
        for delays in [Delays::None, Delays::Exponential] {
            let packets = packets(60, plan.shape.next_hops, delays).unwrap();
            for port in &ports {
                let point = plan.phase(*port, delays, &packets, 200.0, 0.3).unwrap();
                assert_eq!(point.sent + point.behind, 60, "{point:?}");
                assert!(point.lost <= point.sent);
                assert!(point.lateness.count <= point.sent);
                // Of 60 packets to 32 next hops some go to the one that is listened to, if any was sent at all.
                assert!(point.added.count <= point.sent);
                let report = super::super::Report {
                    lockstep: None,
                    paced: Some(Paced {
                        network: "loopback".into(),
                        next_hops: 3,
                        cores: "two".into(),
                        seconds: 0.3,
                        ports: vec![plan.sustained(*port, 200.0, vec![point], &packets).unwrap()],
                    }),
                };
                let envelope = Session::begin(true, 2).end(Results::Node(report), BTreeMap::new());
                crate::envelope::assert_valid(&envelope);
                assert!(envelope.text().contains(port.name()));
            }
        }
    }
}
