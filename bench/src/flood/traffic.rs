//! The peers', the attacker's and the next hops' side of a flood: one loop on one core.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use link::DATAGRAM_BYTES;

use super::junk::Junk;
use super::{Flood, Prepared, TAIL};
use crate::scene::place::{Place, SENDERS};
use crate::scene::world::World;

/// Junk a second to honest packets a second.
const JUNK_TIMES: f64 = 10.0;
/// Most datagrams in a row from one of the sources, so that none starves the others.
const TURN: usize = 32;

/// The peers' and next hops' side.
pub(super) struct Traffic<'a> {
    packets: &'a [Prepared],
    place: &'a Place,
    pub(super) world: World,
    sinks: Vec<UdpSocket>,
    /// The next packet.
    next: usize,
    /// When timed packets were sent.
    marks: HashMap<[u8; 8], Instant>,
    pub(super) sent: [u64; SENDERS],
    pub(super) forwarded: [u64; SENDERS],
    pub(super) junk: u64,
    pub(super) latency_us: Histogram<u64>,
    /// Frames of peer 0.
    pub(super) frames: Vec<[u8; DATAGRAM_BYTES]>,
}

/// Frames of peer 0 that are remembered, to be replayed.
const FRAMES_KEPT: usize = 512;

impl<'a> Traffic<'a> {
    pub(super) fn new(flood: &'a Flood, place: &'a Place, world: World) -> io::Result<Traffic<'a>> {
        let sinks = place.sinks.iter().map(UdpSocket::try_clone);
        let mut traffic = Traffic {
            packets: &flood.packets,
            place,
            world,
            sinks: sinks.collect::<io::Result<_>>()?,
            next: 0,
            marks: HashMap::new(),
            sent: [0; SENDERS],
            forwarded: [0; SENDERS],
            junk: 0,
            latency_us: Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?,
            frames: Vec::new(),
        };
        // Handshakes of the start.
        traffic.listen(TAIL)?;
        traffic.start_counting()?;
        Ok(traffic)
    }

    pub(super) fn start_counting(&mut self) -> io::Result<()> {
        self.listen(TAIL)?;
        (self.sent, self.forwarded) = ([0; SENDERS], [0; SENDERS]);
        self.latency_us.clear();
        self.marks.clear();
        Ok(())
    }

    /// Sends at the honest rate, and ten times as much junk, for `span`; gives the seconds it took.
    pub(super) fn run(
        &mut self,
        flood: &Flood,
        span: Duration,
        mut junk: Option<Junk>,
    ) -> io::Result<f64> {
        let (start, first) = (Instant::now(), self.next);
        loop {
            let elapsed = start.elapsed();
            if elapsed >= span {
                return Ok(elapsed.as_secs_f64());
            }
            let due = elapsed.as_secs_f64() * f64::from(flood.honest_pps);
            let behind = (due as usize).saturating_sub(self.next - first);
            for _ in 0..behind.min(TURN) {
                self.send_one()?;
            }
            if let Some(junk) = &mut junk {
                let due = (due * JUNK_TIMES) as u64;
                for _ in 0..TURN / 4 {
                    if self.junk >= due {
                        break;
                    }
                    let sent = junk.send(&mut self.world)?;
                    self.junk += sent;
                    if sent == 0 {
                        break;
                    }
                }
            }
            self.take_in()?;
        }
    }

    fn send_one(&mut self) -> io::Result<()> {
        let Some(packet) = self.packets.get(self.next) else {
            return Ok(());
        };
        let peer = self.next % SENDERS;
        self.next += 1;
        let datagram = self.world.seal(peer, &packet.bytes)?;
        if peer == 0 && self.frames.len() < FRAMES_KEPT {
            self.frames.push(datagram);
        }
        if let Some(mark) = packet.mark {
            self.marks.insert(mark, Instant::now());
        }
        self.place.send(peer, &datagram)?;
        self.sent[peer] += 1;
        Ok(())
    }

    /// Reads what the next hops got.
    fn take_in(&mut self) -> io::Result<()> {
        let mut datagram = [0; DATAGRAM_BYTES];
        for number in 0..self.sinks.len() {
            for _ in 0..TURN {
                match self.sinks[number].recv(&mut datagram) {
                    Ok(_) => self.forwarded[number] += 1,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
                if let Some(content) = self.world.open(number, &mut datagram)
                    && let Some(mark) = content.first_chunk::<8>()
                    && let Some(sent) = self.marks.remove(mark)
                {
                    let spent = sent.elapsed().as_micros();
                    self.latency_us
                        .saturating_record(u64::try_from(spent).unwrap_or(u64::MAX));
                }
            }
        }
        Ok(())
    }

    pub(super) fn listen(&mut self, span: Duration) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < span {
            self.take_in()?;
        }
        Ok(())
    }
}
