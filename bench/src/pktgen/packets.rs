//! Valid packets, made ahead: loops of a node that begin at one of those after it and end at its own door.
//!
//! A loop that comes home is known by the public key it goes on with at its last hop, which whoever made it drew. So the
//! node's epoch key, which never leaves its memory, is not needed.

use std::collections::HashMap;
use std::io;

use arrayvec::ArrayVec;
use directory::{Node, loop_path};
use hdrhistogram::Histogram;
use link::{DATAGRAM_BYTES, Kind, Session};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::{BODY_BYTES, HOPS_MAX, PACKET_BYTES, PathHop, Terminal, WrapJob, Wrapped, wrap_batch};
use x25519_dalek::{PublicKey, StaticSecret};

use super::call;
use super::seat::{self, Network};
use crate::host;

/// Packets of one batch: their hops fill the lanes.
const BATCH: usize = 8;
/// Packets made ahead may take one byte in so many of the machine's memory.
const MEMORY_PART: u64 = 4;
/// No loop takes longer: ten minutes.
const LONGEST_US: u64 = 600_000_000;
/// Bytes of a packet's padding without hops, and of a hop's block, which takes its room.
const PADDING_BYTES: usize = sphinx::ROUTING_BYTES - 32;
const BLOCK_BYTES: usize = 56;

/// A packet made ahead.
struct Prepared {
    bytes: [u8; PACKET_BYTES],
    /// What it begins with when it comes home.
    mark: [u8; 8],
    /// What its hops are asked to hold it for.
    delays_us: u64,
}

/// How many fit into memory.
pub(super) fn affordable() -> u64 {
    let memory = host::memory_bytes().unwrap_or(u64::MAX) / MEMORY_PART;
    memory / size_of::<Prepared>() as u64
}

/// What is sent, and what came home of it.
pub(super) struct Loops {
    prepared: Vec<Prepared>,
    /// One a flow.
    sessions: Vec<Session>,
    slot: u8,
    /// When those under way left, and what delays they asked for.
    under_way: HashMap<[u8; 8], (u64, u64)>,
    pub(super) returned: u64,
    /// From here to here, delays and all.
    pub(super) loop_us: Histogram<u64>,
    /// The same less the delays.
    pub(super) added_us: Histogram<u64>,
}

/// Makes `count` loops of node `own` by way of `first`, on all cores.
///
/// # Errors
/// The network has no way.
fn make(network: &Network, own: u16, first: &Node, count: usize) -> io::Result<Vec<Prepared>> {
    let cores = host::cores();
    let one = |number: usize| -> io::Result<Vec<Prepared>> {
        let share = count / cores + usize::from(number < count % cores);
        // Nothing in these packets is a secret, and what they draw is drawn twice.
        let mut rng = ChaCha20Rng::from_rng(&mut seat::random()?);
        let mut made = Vec::with_capacity(share);
        while made.len() < share {
            let wanted = BATCH.min(share - made.len());
            batch(network, (own, first), wanted, &mut rng, &mut made)?;
        }
        Ok(made)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|number| scope.spawn(move || one(number)))
            .collect();
        let mut packets = Vec::with_capacity(count);
        for thread in threads {
            let made = thread.join();
            packets.extend(
                made.unwrap_or_else(|_| Err(io::Error::other("packets could not be made")))?,
            );
        }
        Ok(packets)
    })
}

/// Public keys that packets with these paths have at their last hops: of what the next packets will draw.
fn marks(rng: &ChaCha20Rng, paths: &[directory::Path]) -> Vec<[u8; 8]> {
    let mut same = rng.clone();
    let mark = |path: &directory::Path| {
        let mut secret = [0; 32];
        path.iter().for_each(|_| same.fill_bytes(&mut secret));
        let mut padding = [0; PADDING_BYTES];
        let taken = BLOCK_BYTES * path.len().saturating_sub(1);
        same.fill_bytes(&mut padding[..PADDING_BYTES - taken]);
        let public = PublicKey::from(&StaticSecret::from(secret));
        let mut mark = [0; 8];
        mark.copy_from_slice(&public.as_bytes()[..8]);
        mark
    };
    paths.iter().map(mark).collect()
}

fn batch(
    network: &Network,
    (own, first): (u16, &Node),
    wanted: usize,
    rng: &mut ChaCha20Rng,
    made: &mut Vec<Prepared>,
) -> io::Result<()> {
    let mut paths: Vec<directory::Path> = Vec::with_capacity(wanted);
    while paths.len() < wanted {
        let path = loop_path(&network.consensus, rng, own);
        let mut path = path.map_err(|error| io::Error::other(format!("no way: {error}")))?;
        if let Some(hop) = path.first_mut() {
            *hop = PathHop {
                public_key: first.epoch_key,
                node: first.index,
                delay_us: hop.delay_us,
            };
        }
        paths.push(path);
    }
    let mut id = [0; 8];
    rng.fill_bytes(&mut id);
    let terminal = Terminal::Loop { id };
    let mut bodies = vec![[0; BODY_BYTES]; wanted];
    for body in &mut bodies {
        rng.fill_bytes(&mut body[sphinx::CHECK_BYTES..]);
    }
    let mut packets = vec![[0; PACKET_BYTES]; wanted];
    let marks = marks(rng, &paths);
    let jobs = paths.iter().zip(&bodies).zip(&mut packets);
    let mut jobs: Vec<WrapJob<'_>> = jobs
        .map(|((path, body), packet)| WrapJob::Packet {
            path,
            terminal: &terminal,
            body,
            packet,
        })
        .collect();
    let mut results: ArrayVec<Result<Wrapped, _>, BATCH> = ArrayVec::new();
    wrap_batch(Lanes::from_env_or_detect(), rng, &mut jobs, &mut results);
    for result in results {
        result.map_err(io::Error::other)?;
    }
    for ((bytes, mark), path) in packets.into_iter().zip(marks).zip(&paths) {
        // What the last hop is asked for is this end's own.
        let held = path.split_last().map_or(&[][..], |(_, held)| held);
        made.push(Prepared {
            bytes,
            mark,
            delays_us: held.iter().map(|hop| u64::from(hop.delay_us)).sum(),
        });
    }
    Ok(())
}

const _: () = assert!(BLOCK_BYTES * (HOPS_MAX - 1) + 32 == sphinx::ROUTING_BYTES);

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).map_err(io::Error::other)
}

impl Loops {
    /// Makes `count` of them.
    ///
    /// # Errors
    /// The network has no way.
    pub(super) fn make(
        network: &Network,
        own: u16,
        first: &Node,
        count: usize,
    ) -> io::Result<Loops> {
        Ok(Loops {
            prepared: make(network, own, first, count)?,
            sessions: Vec::new(),
            slot: network.slot(),
            under_way: HashMap::new(),
            returned: 0,
            loop_us: histogram()?,
            added_us: histogram()?,
        })
    }

    /// Takes the sessions, one a flow.
    pub(super) fn set_sessions(&mut self, sessions: Vec<Session>) {
        self.sessions = sessions;
    }

    /// Writes the one with that number, for a flow.
    ///
    /// # Errors
    /// The session is spent.
    pub(super) fn fill(
        &mut self,
        flow: usize,
        number: u64,
        datagram: &mut [u8; DATAGRAM_BYTES],
    ) -> io::Result<()> {
        let packet = self.prepared.get(number as usize);
        let packet = packet.ok_or_else(|| io::Error::other("no packet is left"))?;
        let session = &mut self.sessions[flow];
        call::seal_into(session, Kind::Sphinx, self.slot, &packet.bytes, datagram)
    }

    /// The one with that number left.
    pub(super) fn left(&mut self, number: u64, now_ns: u64) {
        if let Some(packet) = self.prepared.get(number as usize) {
            self.under_way
                .insert(packet.mark, (now_ns, packet.delays_us));
        }
    }

    /// A packet came here that begins so.
    pub(super) fn came(&mut self, mark: &[u8; 8], now_ns: u64) {
        if let Some((left_ns, delays_us)) = self.under_way.remove(mark) {
            let took_us = now_ns.saturating_sub(left_ns) / 1_000;
            self.returned += 1;
            self.loop_us.saturating_record(took_us);
            self.added_us
                .saturating_record(took_us.saturating_sub(delays_us));
        }
    }

    /// Whether some are on their way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use directory::{Consensus, Head};
    use link::LinkKeys;
    use sphinx::{Command, Engine, EpochSecret, Job};

    use super::*;
    use crate::pktgen::seat::tests::{PARAMETERS, record};

    /// A gateway, and one mix in each of two layers; with their secrets.
    fn network() -> (Network, Vec<EpochSecret>) {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let secrets: Vec<EpochSecret> = (0..3).map(|_| EpochSecret::generate(rng)).collect();
        let records = secrets.iter().zip(0u8..).map(|(secret, layer)| {
            let link = LinkKeys::generate(rng).public();
            record(layer, [layer; 32], link, *secret.public_key())
        });
        let consensus = Consensus::new(Head::bare(PARAMETERS, 0), records.collect()).unwrap();
        (Network { consensus }, secrets)
    }

    /// What a node makes of a packet.
    fn unwrap(secret: &EpochSecret, packet: &mut [u8; PACKET_BYTES]) -> sphinx::Unwrapped {
        let mut engine = Engine::new(Lanes::Portable, PARAMETERS.delay_max_us());
        let mut verdicts = ArrayVec::new();
        let jobs = &mut [Job { packet, secret }];
        engine.unwrap_batch(jobs, &mut |_, _| Ok(()), &mut verdicts);
        verdicts.pop().unwrap().unwrap()
    }

    #[test]
    fn a_loop_is_known_when_it_comes_home_and_no_two_are_the_same() {
        let (network, secrets) = network();
        let first = network.consensus.node(1).unwrap();
        // More than a batch on each core, and none that is full.
        let prepared = make(&network, 0, first, 8 * host::cores() + 3).unwrap();
        let mut marks = std::collections::HashSet::new();
        for one in &prepared {
            let mut packet = one.bytes;
            let (mut held_us, mut node) = (0, 1);
            while node != 0 {
                let unwrapped = unwrap(&secrets[usize::from(node)], &mut packet);
                held_us += u64::from(unwrapped.delay_us);
                let Command::Forward { next } = unwrapped.command else {
                    panic!("it ends at {node}");
                };
                node = next;
            }
            assert_eq!(packet[..8], one.mark);
            assert_eq!(held_us, one.delays_us);
            let home = unwrap(&secrets[0], &mut packet);
            assert!(matches!(home.command, Command::Loop { .. }));
            assert!(marks.insert(one.mark));
        }
        assert_eq!(marks.len(), 8 * host::cores() + 3);
    }

    #[test]
    fn what_comes_home_counts_once_and_with_its_delays_taken_off() {
        let (network, _) = network();
        let first = network.consensus.node(1).unwrap();
        let mut loops = Loops::make(&network, 0, first, 2).unwrap();
        let mark = loops.prepared[0].mark;
        let delays_us = loops.prepared[0].delays_us;
        loops.left(0, 1_000_000);
        loops.left(1, 1_000_000);
        loops.came(&[0; 8], 2_000_000);
        assert_eq!(loops.returned, 0);
        let now_ns = 1_000_000 + (delays_us + 70) * 1_000;
        loops.came(&mark, now_ns);
        loops.came(&mark, now_ns);
        assert_eq!(loops.returned, 1);
        assert_eq!((loops.added_us.len(), loops.added_us.max()), (1, 70));
        assert!(loops.loop_us.max() >= delays_us + 70);
        assert!(loops.is_waiting(), "the other one is on its way");
    }
}
