//! `mixbench ports`: what a port alone costs a packet.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use link::{Kind, SealJob, SendKey, seal_batch};
use port::pool::{DATAGRAM_BYTES, FramePool};
use port::{Departing, DepartingBatch, Port, ReceivedBatch};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::BATCH;
use crate::cases::Case;
use crate::clock::thread_cpu_ns;
use crate::lost::lost;
use crate::rounds::Round;
use crate::scene::place::Place;

/// What a round measures: a burst in and out again, then a burst in alone, then one out alone.
///
/// `delivery` is the sender's side: its send, and the kernel's work up to the port, which is billed to it.
pub(super) const PARTS: [&str; 5] = ["receive", "transmit", "rx only", "tx only", "delivery"];
/// Calls of the port after which a burst must have come or gone.
const CALLS_MAX: u32 = 1_000;
/// The receiver index of what is sent to the port.
const INDEX: u32 = 0;
/// Segments of one send with segmentation offload.
const SEGMENTS: usize = 16;

struct Rig<P: Port> {
    port: P,
    pool: FramePool,
    place: Place,
    received: ReceivedBatch,
    departing: DepartingBatch,
    rng: ChaCha20Rng,
    /// A data frame of receiver index 0.
    datagram: [u8; DATAGRAM_BYTES],
    /// An empty datagram comes before each.
    among_empty: bool,
}

/// A case for a port with its packet memory; the datagrams of a burst may come with as many empty ones.
pub(super) fn case<P: Port + 'static>(
    name: &str,
    among_empty: bool,
    place: Place,
    pool: FramePool,
    port: P,
) -> io::Result<Case> {
    place.admit(INDEX, place.sources()[0])?;
    let mut datagram = [0; DATAGRAM_BYTES];
    seal_batch(&mut [SealJob {
        session: &SendKey::new(&[0; 32], INDEX),
        counter: 0,
        kind: Kind::Sphinx,
        epoch: 0,
        datagram: &mut datagram,
    }]);
    let rig = Rig {
        datagram,
        among_empty,
        port,
        pool,
        place,
        received: ReceivedBatch::new(),
        departing: DepartingBatch::new(),
        rng: ChaCha20Rng::seed_from_u64(11),
    };
    Ok(Case::with_parts(name, &PARTS, BATCH, rig))
}

impl<P: Port> Rig<P> {
    /// Puts a burst before the port.
    fn inject(&mut self) -> io::Result<()> {
        for number in 0..BATCH {
            if self.among_empty {
                self.place.send(number, &[])?;
            }
            self.place.send(number, &self.datagram)?;
        }
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        let soon_ns = self.port.now_ns() + 1_000_000;
        self.port.wait(Some(soon_ns))
    }

    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..CALLS_MAX {
            self.port.receive(&mut self.pool, &mut self.received);
            if self.received.is_full() {
                return Ok(());
            }
            if self.received.is_empty() {
                self.pause()?;
            }
        }
        Err(lost(format!(
            "{} of {BATCH} datagrams arrived on {}",
            self.received.len(),
            self.port.name()
        )))
    }

    fn address(&mut self) {
        for one in self.received.drain(..) {
            let hop = self.rng.random_range(0..self.place.next_hops.len());
            self.departing.push(Departing {
                frame: one.frame,
                destination: self.place.next_hops[hop],
                delivery: false,
                proven: true,
            });
        }
    }

    fn transmit(&mut self) -> io::Result<()> {
        let failed = self.port.counters().transmit_failed;
        for _ in 0..CALLS_MAX {
            self.port.transmit(&mut self.departing);
            self.port.reclaim(&mut self.pool);
            if self.departing.is_empty() && self.port.in_flight() == 0 {
                return match self.port.counters().transmit_failed == failed {
                    true => Ok(()),
                    false => Err(lost("the kernel refused datagrams")),
                };
            }
            if self.port.in_flight() > 0 {
                self.pause()?;
            }
        }
        Err(lost("datagrams did not leave"))
    }

    fn fill(&mut self) -> io::Result<()> {
        while !self.departing.is_full() {
            let mut frame = self.pool.take().ok_or_else(|| lost("no frame is free"))?;
            // Written before it is sent, as every packet is: the cache holds it.
            *self.pool.datagram_mut(&mut frame) = self.datagram;
            let hop = self.rng.random_range(0..self.place.next_hops.len());
            let destination = self.place.next_hops[hop];
            self.departing.push(Departing {
                frame,
                destination,
                delivery: false,
                proven: true,
            });
        }
        Ok(())
    }
}

fn timed(part: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let start = thread_cpu_ns();
    part()?;
    Ok(thread_cpu_ns() - start)
}

impl<P: Port> Round for Rig<P> {
    fn prepare(&mut self) -> io::Result<()> {
        // The first call arms a port that receives in the background.
        if self.port.receive(&mut self.pool, &mut self.received) > 0 {
            return Err(lost("a datagram nobody sent"));
        }
        self.place.drain();
        self.inject()
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        let receive = timed(|| self.receive())?;
        self.address();
        let transmit = timed(|| self.transmit())?;
        self.place.drain();
        let delivery = timed(|| self.inject())?;
        let alone_in = timed(|| self.receive())?;
        for one in self.received.drain(..) {
            self.pool.release(one.frame);
        }
        self.fill()?;
        let alone_out = timed(|| self.transmit())?;
        let detours = self.port.counters().transmitted_through_kernel;
        if detours != 0 {
            return Err(lost("datagrams took the way through the kernel's socket"));
        }
        Ok(vec![receive, transmit, alone_in, alone_out, delivery])
    }
}

/// Bursts of `SEGMENTS` datagrams to one next hop in one send, which the kernel cuts apart (UDP_SEGMENT).
struct Segmented {
    socket: UdpSocket,
    place: Place,
    burst: Vec<u8>,
    rng: ChaCha20Rng,
}

pub(super) fn segmented(name: &str, place: Place) -> io::Result<Case> {
    let socket = place.node.try_clone()?;
    port::socket::segment(&socket, DATAGRAM_BYTES)?;
    let rig = Segmented {
        socket,
        place,
        burst: vec![1; SEGMENTS * DATAGRAM_BYTES],
        rng: ChaCha20Rng::seed_from_u64(13),
    };
    // A veth device hands a burst on whole; hardware that can do the same takes it apart itself.
    let part = format!("tx only, GSO x{SEGMENTS}, one hop");
    Ok(Case::with_parts(name, &[&part], BATCH, rig))
}

impl Round for Segmented {
    fn prepare(&mut self) -> io::Result<()> {
        self.place.drain();
        Ok(())
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        let hops: Vec<SocketAddr> = (0..BATCH / SEGMENTS)
            .map(|_| self.place.next_hops[self.rng.random_range(0..self.place.next_hops.len())])
            .collect();
        let spent = timed(|| {
            for hop in &hops {
                self.socket.send_to(&self.burst, hop)?;
            }
            Ok(())
        })?;
        Ok(vec![spent])
    }
}
