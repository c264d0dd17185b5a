//! `mixbench flood`: what honest peers keep while junk comes at ten times their rate.
//!
//! One phase a kind of junk, and one without, each with a node of its own. The worker is pinned to the first core; the
//! peers, the attacker and the next hops share the second; the handshake thread runs where there is room. On veth the XDP program runs where the
//! attacker sends, so what dies there costs the worker's core nothing, as with a NIC whose interrupts another core
//! serves; the program's own cost is in the sender's.

mod junk;
mod program;
pub(crate) mod report;
mod traffic;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use port::uring_available;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::clock::on_core;
use crate::envelope::{Envelope, Results, Session, Skipped};
use crate::lockstep;
use crate::scene::place::{Place, SENDERS};
use crate::scene::running::{Ended, Ground, Scene};
use crate::scene::world::World;
use crate::scene::{FRAMES, PortName, Shape};
use junk::Junk;
pub(crate) use junk::Kind;
pub(crate) use report::Report;
use report::Row;
use traffic::Traffic;

/// What `mixbench flood` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Short phases: figures less steady.
    #[arg(long)]
    quick: bool,
    /// Packets a second of all peers together [default: half of what one core forwards in lockstep].
    #[arg(long, value_name = "PPS")]
    rate: Option<u32>,
}

const PHASE: Duration = Duration::from_secs(3);
const PHASE_QUICK: Duration = Duration::from_millis(700);
/// Honest traffic alone before the count begins.
const WARM_UP: Duration = Duration::from_millis(200);
/// After the last packet was sent, for those under way.
const TAIL: Duration = Duration::from_millis(100);
/// One honest packet in so many is timed.
const TIMED: usize = 8;

/// Runs all phases.
///
/// # Errors
/// Fewer than two cores, or sockets can't be had.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    let mut session = Session::begin(arguments.quick, 2);
    let port = match (rustix::process::geteuid().is_root(), uring_available()) {
        (true, _) => PortName::Xsk,
        (false, Ok(())) => PortName::Uring,
        (false, Err(_)) => PortName::Plain,
    };
    if port != PortName::Xsk {
        let why = "not root, so there is no XDP program before the node, and other work on this machine takes its share \
                   of the cores: this shows a host without XDP";
        session.skipped.push(Skipped::new("xsk", why));
    }
    let name = port.name();
    // On the same core as the worker later.
    let cost_ns = on_core(0, || lockstep::node_cost_ns(port, Shape::default()))?;
    let capacity_pps = (1e9 / cost_ns) as u32;
    let honest_pps = arguments.rate.unwrap_or(capacity_pps / 2).max(1);
    on_core(1, || Ok(())).map_err(|_| io::Error::other("a flood takes two cores"))?;
    let span = if arguments.quick { PHASE_QUICK } else { PHASE };
    let flood = Flood {
        port,
        capacity_pps,
        honest_pps,
        span,
        packets: packets(honest_pps, WARM_UP + span)?,
    };
    let baseline = flood.phase(None)?;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let phase = flood.phase(Some(kind))?;
        rows.push(Row::new(kind, &baseline, &phase));
    }
    let report = Report {
        port: name.to_owned(),
        cores: "worker on the first core; peers, junk, XDP program, next hops on the second; handshakes where there is room".to_owned(),
        capacity_pps,
        honest_pps,
        baseline_pps: baseline.goodput_pps(),
        baseline_sent_pps: baseline.sent_pps(),
        baseline_p99_us: baseline.p99_us(),
        baseline_deaths: report::deaths(&baseline),
        kinds: rows,
    };
    Ok(session.end(Results::Flood(report), BTreeMap::new()))
}

/// A packet prepared: bytes, and for one that is timed what its next hop knows it by.
struct Prepared {
    bytes: [u8; sphinx::PACKET_BYTES],
    mark: Option<[u8; 8]>,
}

fn world(place: &Place) -> io::Result<World> {
    // The same seed, so the same keys: packets made once fit every phase's node.
    let rng = ChaCha20Rng::seed_from_u64(1);
    World::new(place.address, place.sources(), &place.next_hops, rng)
}

/// Packets for one phase: packet N is of peer N modulo their number, and goes to the next hop of that number.
fn packets(pps: u32, span: Duration) -> io::Result<Vec<Prepared>> {
    let mut world = world(&Place::loopback(SENDERS)?)?;
    let count = (f64::from(pps) * span.as_secs_f64()) as usize;
    let mut packets = Vec::with_capacity(count);
    for number in 0..count {
        let packet = world.packet(number % SENDERS, 0)?;
        let mark = number.is_multiple_of(TIMED + 1).then(|| {
            let public = PublicKey::from(&StaticSecret::from(packet.next_secret));
            let mut mark = [0; 8];
            mark.copy_from_slice(&public.as_bytes()[..8]);
            mark
        });
        packets.push(Prepared {
            bytes: packet.bytes,
            mark,
        });
    }
    Ok(packets)
}

struct Flood {
    port: PortName,
    capacity_pps: u32,
    honest_pps: u32,
    span: Duration,
    packets: Vec<Prepared>,
}

/// What one phase came to.
struct Phase {
    /// Honest packets sent and forwarded, by peer.
    sent: [u64; SENDERS],
    forwarded: [u64; SENDERS],
    junk: u64,
    seconds: f64,
    latency_us: Histogram<u64>,
    cpu_ns: u64,
    ended: Ended,
    /// The XDP program's counters.
    program: Vec<(String, u64)>,
    /// Nanoseconds of one run of it.
    program_ns: Option<f64>,
}

impl Phase {
    /// Honest packets of these peers, forwarded and sent.
    fn honest(&self, peers: std::ops::Range<usize>) -> (u64, u64) {
        (
            self.forwarded[peers.clone()].iter().sum(),
            self.sent[peers].iter().sum(),
        )
    }

    fn goodput_pps(&self) -> f64 {
        (self.honest(0..SENDERS).0 as f64 / self.seconds).round()
    }

    fn sent_pps(&self) -> f64 {
        (self.honest(0..SENDERS).1 as f64 / self.seconds).round()
    }

    fn p99_us(&self) -> u64 {
        self.latency_us.value_at_quantile(0.99)
    }
}

impl Flood {
    fn phase(&self, kind: Option<Kind>) -> io::Result<Phase> {
        let xdp = self.port == PortName::Xsk;
        let measuring = xdp.then(program::measure).flatten();
        let ground = Ground {
            port: self.port,
            core: 0,
            shape: Shape {
                next_hops: SENDERS,
                ..Shape::default()
            },
            listening: SENDERS,
            frames: FRAMES,
            capacity_pps: self.capacity_pps,
            granted: Some((self.capacity_pps / 4, (self.capacity_pps / 80).max(64))),
        };
        let Scene { place, world, node } = Scene::start(&ground, xdp, world)?;
        let mut traffic = Traffic::new(self, &place, world)?;
        let (seconds, cpu_ns) = on_core(1, || {
            traffic.run(self, WARM_UP, None)?;
            let junk = match kind {
                Some(kind) => {
                    let frames = std::mem::take(&mut traffic.frames);
                    Some(Junk::new(kind, &mut traffic.world, &place, &node, &frames)?)
                }
                None => None,
            };
            traffic.start_counting()?;
            let before = node.cpu_ns();
            let seconds = traffic.run(self, self.span, junk)?;
            let cpu_ns = node.cpu_ns() - before;
            traffic.listen(TAIL)?;
            Ok((seconds, cpu_ns))
        })?;
        let program = match &place.steering {
            Some(steering) => steering.counters()?,
            None => Vec::new(),
        };
        let runs = program.iter().map(|(_, packets)| packets).sum();
        Ok(Phase {
            program_ns: measuring.and_then(|_| program::run_ns(runs)),
            sent: traffic.sent,
            forwarded: traffic.forwarded,
            junk: traffic.junk,
            seconds,
            latency_us: traffic.latency_us,
            cpu_ns,
            ended: node.end()?,
            program,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood too small to overrun anything: where each kind dies is what counts.
    fn flood(port: PortName) -> Flood {
        let (honest_pps, span) = (500, Duration::from_millis(400));
        Flood {
            port,
            capacity_pps: 4_000,
            honest_pps,
            span,
            packets: packets(honest_pps, WARM_UP + span).unwrap(),
        }
    }

    fn each_kind_dies_at(port: PortName, places: [&[&str]; 10]) {
        let flood = flood(port);
        let baseline = flood.phase(None).unwrap();
        assert!(baseline.honest(0..SENDERS).0 > 0);
        assert!(!baseline.latency_us.is_empty(), "no packet was known again");
        assert_eq!(report::deaths(&baseline), Vec::new());
        for (kind, places) in Kind::ALL.into_iter().zip(places) {
            let phase = flood.phase(Some(kind)).unwrap();
            assert!(phase.junk > 0);
            let row = Row::new(kind, &baseline, &phase);
            let deaths = report::deaths(&phase);
            assert!(places.contains(&row.died_at()), "{kind:?}: {deaths:?}");
            // Not forwarded: what the next hops got are honest packets, those of the warm-up that came late among them.
            let (forwarded, made) = (phase.honest(0..SENDERS).0, flood.packets.len() as u64);
            assert!(forwarded <= made, "{kind:?}: {forwarded} of {made}");
        }
    }

    #[test]
    fn without_xdp_each_kind_of_junk_dies_where_the_worker_looks_for_it() {
        each_kind_dies_at(
            PortName::Plain,
            [
                &["link: type"],
                &["socket: dropped"],
                &["link: counter"],
                &["link: forged", "link: counter"],
                &["link: unknown_session"],
                &[
                    "handshake: refused",
                    "handshake: answered with a cookie",
                    "link: handshake_queue_full",
                ],
                &["sphinx: mac", "link: neighbour_rate"],
                &["link: forged", "link: counter", "link: unknown_session"],
                &[
                    "handshake: half-open",
                    "handshake: refused",
                    // Of a worker whose handshake thread gets no turn.
                    "link: handshake_queue_full",
                ],
                &["link: client_rate"],
            ],
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn with_xdp_what_no_session_vouches_for_dies_before_the_worker() {
        each_kind_dies_at(
            PortName::Xsk,
            [
                &["xdp: unknown_type"],
                &["xdp: wrong_size"],
                // In a node's name: as many pass the program as a worker can ask the session's key about, and a slow
                // machine's worker is behind with fewer.
                &["link: counter", "xdp: source_rate", "xsk: ring full"],
                &[
                    "link: forged",
                    "link: counter",
                    "xdp: source_rate",
                    "xsk: ring full",
                ],
                &["xdp: unknown_index"],
                &["xdp: handshake_source_rate", "xdp: handshake_rate"],
                &[
                    "sphinx: mac",
                    "link: neighbour_rate",
                    "xdp: source_rate",
                    "xsk: ring full",
                ],
                &["xdp: unknown_index", "xdp: stranger_rate"],
                &[
                    "xdp: handshake_source_rate",
                    "xdp: handshake_cookie_rate",
                    // As many as the program lets through are more than a busy handshake thread takes from one source.
                    "handshake: half-open",
                    "handshake: refused",
                    "link: handshake_queue_full",
                ],
                &["link: client_rate", "xdp: source_rate"],
            ],
        );
    }
}
