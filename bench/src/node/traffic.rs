//! The load: senders, and the one next hop that is listened to. One loop on one core.
//!
//! A packet to that next hop is known again by the public key it goes on with, and is timed: from just before its send
//! to when the loop has read what came out, less the delay it asked for. Between two sends the loop looks once, so a time
//! is coarse by a few microseconds, and too long rather than too short.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use link::DATAGRAM_BYTES;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::PACKET_BYTES;
use x25519_dalek::{PublicKey, StaticSecret};

use super::pacer::{Pacer, Step};
use crate::scene::place::{Place, SENDERS};
use crate::scene::world::{MEAN_DELAY_US, World};

/// The next hop that is listened to.
const HEARD: usize = 0;
/// Sends after which the loop looks at what came out though it has no time to.
const SENDS_UNSEEN: u32 = 16;

/// What packets ask this node for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delays {
    /// To go on at once.
    None,
    /// An exponential delay of the network's mean.
    Exponential,
}

impl Delays {
    pub(super) fn name(self) -> String {
        match self {
            Delays::None => "none".to_owned(),
            Delays::Exponential => format!("exponential, mean {} ms", MEAN_DELAY_US / 1_000),
        }
    }

    /// How long a packet may be held.
    pub(super) fn longest(self) -> Duration {
        match self {
            Delays::None => Duration::ZERO,
            // What `directory::sample_delay_us` keeps below.
            Delays::Exponential => Duration::from_micros(10 * u64::from(MEAN_DELAY_US)),
        }
    }
}

/// A packet made ahead.
pub(super) struct Prepared {
    bytes: [u8; PACKET_BYTES],
    delay_us: u32,
    /// What the next hop that is listened to knows it by.
    mark: Option<[u8; 8]>,
}

/// The world of every phase: the same seed, so the same keys, and packets made once fit every phase's node.
pub(super) fn world(place: &Place) -> io::Result<World> {
    let rng = ChaCha20Rng::seed_from_u64(1);
    World::new(place.address, place.sources(), &place.next_hops, rng)
}

/// So many distinct packets to random next hops, made on all cores.
pub(super) fn packets(count: usize, next_hops: usize, delays: Delays) -> io::Result<Vec<Prepared>> {
    let cores = crate::host::cores();
    let one = |number: usize| {
        let mut world = world(&Place::loopback(next_hops)?)?;
        world.rng = ChaCha20Rng::seed_from_u64(2 + number as u64);
        let share = count / cores + usize::from(number < count % cores);
        let packets = (0..share).map(|_| packet(&mut world, next_hops, delays));
        packets.collect::<io::Result<Vec<Prepared>>>()
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

fn packet(world: &mut World, next_hops: usize, delays: Delays) -> io::Result<Prepared> {
    let next = world.rng.random_range(0..next_hops);
    let delay_us = match delays {
        Delays::None => 0,
        Delays::Exponential => directory::sample_delay_us(MEAN_DELAY_US, &mut world.rng),
    };
    let packet = world.packet(next, delay_us)?;
    let mark = (next == HEARD).then(|| {
        let public = PublicKey::from(&StaticSecret::from(packet.next_secret));
        let mut mark = [0; 8];
        mark.copy_from_slice(&public.as_bytes()[..8]);
        mark
    });
    Ok(Prepared {
        bytes: packet.bytes,
        delay_us,
        mark,
    })
}

/// What one phase sent and heard.
pub(super) struct Load<'a> {
    place: &'a Place,
    world: World,
    packets: &'a [Prepared],
    /// When packets to the next hop that is listened to were sent, and what delay they asked for.
    under_way: HashMap<[u8; 8], (Instant, Duration)>,
    pub(super) sent: u64,
    pub(super) behind: u64,
    /// Time from the first packet to the last.
    pub(super) seconds: f64,
    /// What the node and the wires added to the delays asked for.
    pub(super) added_us: Histogram<u64>,
}

impl<'a> Load<'a> {
    pub(super) fn new(
        place: &'a Place,
        world: World,
        packets: &'a [Prepared],
    ) -> io::Result<Load<'a>> {
        Ok(Load {
            place,
            world,
            packets,
            under_way: HashMap::new(),
            sent: 0,
            behind: 0,
            seconds: 0.0,
            added_us: Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?,
        })
    }

    /// Sends all packets at this rate, and listens until the last one has left the node.
    pub(super) fn run(&mut self, pps: f64, tail: Duration) -> io::Result<()> {
        let mut pacer = Pacer::new(pps, self.packets.len() as u64);
        let start = Instant::now();
        let mut unseen = 0;
        loop {
            match pacer.step(start.elapsed().as_nanos() as u64) {
                Step::Send => {
                    self.send()?;
                    unseen += 1;
                    if unseen < SENDS_UNSEEN {
                        continue;
                    }
                }
                Step::Wait => {}
                Step::Over => break,
            }
            unseen = 0;
            self.listen()?;
        }
        self.seconds = start.elapsed().as_secs_f64();
        self.behind = pacer.behind;
        let end = Instant::now();
        while end.elapsed() < tail {
            self.listen()?;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let packet = &self.packets[self.sent as usize];
        let sender = self.sent as usize % SENDERS;
        let datagram = self.world.seal(sender, &packet.bytes)?;
        self.sent += 1;
        if let Some(mark) = packet.mark {
            let delay = Duration::from_micros(u64::from(packet.delay_us));
            self.under_way.insert(mark, (Instant::now(), delay));
        }
        self.place.send(sender, &datagram)
    }

    /// Takes one datagram that came out, if there is one.
    fn listen(&mut self) -> io::Result<()> {
        let mut datagram = [0; DATAGRAM_BYTES];
        match self.place.sinks[HEARD].recv(&mut datagram) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        if let Some(content) = self.world.open(HEARD, &mut datagram)
            && let Some(mark) = content.first_chunk::<8>()
            && let Some((sent, delay)) = self.under_way.remove(mark)
        {
            let added = now.duration_since(sent).saturating_sub(delay).as_micros();
            self.added_us
                .saturating_record(u64::try_from(added).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}
