//! `mixbench node` and `mixbench ports`: what forwarding costs, in lockstep on one core.
//!
//! One pinned thread puts a burst before a port, then runs the port or the whole node over it, and only the latter is
//! on the clock: the thread's CPU time, no wall clock. Cases are interleaved round by round, and the report gives
//! medians. What the kernel does in interrupts for a datagram is billed to whoever causes it: delivering to the node
//! to the sender of the burst, which is not on the clock; delivering what the node sends to the node.

mod node;
mod place;
mod ports;
mod report;
mod world;

use std::io;
use std::sync::Arc;

use mixnode::pool::FramePool;
use mixnode::port::{EventFd, PlainPort, PortParts, UringPort, uring_available};

use crate::clock;
use place::Place;
use report::Report;

/// Packets of one round: what a busy worker takes at a time.
const BATCH: usize = mixnode::port::BATCH_MAX;

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
/// Rounds thrown away at the start.
const WARM_UP: usize = 5;

/// One measurement, repeatable.
trait Round {
    /// Makes everything ready, off the clock.
    fn prepare(&mut self) -> io::Result<()>;
    /// Does it and gives the CPU nanoseconds of each of its parts.
    fn run(&mut self) -> io::Result<Vec<u64>>;
}

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
    let mut cases = cases(what, &mut skipped)?;
    let results = measure(&mut cases, rounds)?;
    let report = Report::new(what, "loopback".into(), rounds, results, skipped);
    for reason in &report.skipped {
        eprintln!("mixbench: SKIPPED: {reason}");
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

fn cases(what: What, skipped: &mut Vec<String>) -> io::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let make = || -> io::Result<(Place, FramePool, Arc<EventFd>, PortParts)> {
        let place = Place::loopback()?;
        let pool = FramePool::new(node::FRAMES)?;
        let event = Arc::new(EventFd::new()?);
        let parts = PortParts {
            socket: place.node.try_clone()?,
            event: Arc::clone(&event),
        };
        Ok((place, pool, event, parts))
    };
    let (place, pool, event, parts) = make()?;
    let port = PlainPort::new(parts, &pool)?;
    cases.extend(case(what, "plain", place, pool, event, port)?);
    match uring_available() {
        Ok(()) => {
            let (place, pool, event, parts) = make()?;
            let port = UringPort::new(parts, &pool)?;
            cases.extend(case(what, "uring", place, pool, event, port)?);
        }
        Err(reason) => skipped.push(format!("uring: {reason}")),
    }
    if what == What::Ports {
        cases.push(ports::segmented("plain", Place::loopback()?)?);
    }
    Ok(cases)
}

fn case<P: mixnode::port::Port + 'static>(
    what: What,
    name: &str,
    place: Place,
    pool: FramePool,
    event: Arc<EventFd>,
    port: P,
) -> io::Result<Vec<Case>> {
    match what {
        What::Node => Ok(vec![node::case(name, place, pool, event, port)?]),
        What::Ports => Ok(vec![ports::case(name, place, pool, port)]),
    }
}

/// Nanoseconds a packet of one part of one case, all rounds.
struct Samples {
    name: String,
    ns: Vec<f64>,
}

fn measure(cases: &mut [Case], rounds: usize) -> io::Result<Vec<Samples>> {
    let mut results: Vec<Vec<Samples>> = Vec::new();
    for case in cases.iter() {
        let samples = case.parts.iter().map(|part| Samples {
            name: format!("{} {part}", case.name).trim_end().to_owned(),
            ns: Vec::with_capacity(rounds),
        });
        results.push(samples.collect());
    }
    for round in 0..WARM_UP + rounds {
        for (case, samples) in cases.iter_mut().zip(&mut results) {
            case.round.prepare()?;
            let spent = case.round.run()?;
            if round >= WARM_UP {
                for (samples, spent) in samples.iter_mut().zip(spent) {
                    samples.ns.push(spent as f64 / case.packets as f64);
                }
            }
        }
    }
    Ok(results.into_iter().flatten().collect())
}
