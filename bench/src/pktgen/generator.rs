//! The generator: one loop that sends what is due and looks at what comes. Open loop: see [`crate::node::pacer`].

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use link::DATAGRAM_BYTES;
use port::monotonic_ns;
use program::signals::Stop;

use super::junk::Junk;
use super::outlet::Outlet;
use super::packets::Loops;
use super::seat::{Arrived, Seat};
use crate::node::pacer::{Pacer, Step};
use crate::rows::thousands;

/// Sends after which the loop looks at what came though it has no time to.
const SENDS_UNSEEN: u32 = 16;
/// Before a time that is so far away the loop sleeps, up to so long before it.
const NAP_NS: u64 = 1_000_000;
const AWAKE_NS: u64 = 300_000;
/// Between a look at what comes and the next, when nothing is sent any more.
const TURN_NS: u64 = 10_000_000;
/// How long the port may take to send what it has.
const FLUSH: Duration = Duration::from_secs(2);
/// A live line each.
const LINE: Duration = Duration::from_secs(1);
/// Bytes of a datagram of the wrong size.
const WRONG_BYTES: usize = 1_200;

/// What is sent.
pub(super) enum Load {
    /// Valid packets, as the node at this place.
    Loops(Box<Loops>, Box<Seat>),
    Junk(Junk),
    /// Random bytes of another length than all datagrams have.
    Short(Junk),
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) sent: u64,
    /// Not taken by the port, or by the kernel.
    pub(super) send_errors: u64,
    /// Not sent, for their time had passed.
    pub(super) behind: u64,
    /// From the first to the last.
    pub(super) seconds: f64,
}

/// A generator under way.
pub(super) struct Generator<'a> {
    pub(super) outlets: &'a mut [Outlet],
    pub(super) load: &'a mut Load,
    pub(super) target: SocketAddr,
    /// Given to a port.
    taken: u64,
    said: Instant,
    taken_when_said: u64,
}

impl<'a> Generator<'a> {
    pub(super) fn new(
        outlets: &'a mut [Outlet],
        load: &'a mut Load,
        target: SocketAddr,
    ) -> Generator<'a> {
        Generator {
            outlets,
            load,
            target,
            taken: 0,
            said: Instant::now(),
            taken_when_said: 0,
        }
    }

    /// Sends `count` at this rate, and listens for what is under way for `tail` at most.
    ///
    /// # Errors
    /// A session is spent, or a port fails.
    pub(super) fn run(
        mut self,
        pps: f64,
        count: u64,
        tail: Duration,
        stop: &Stop,
    ) -> io::Result<Outcome> {
        let mut pacer = Pacer::new(pps, count);
        self.outlets.iter_mut().for_each(Outlet::begin);
        let start = Instant::now();
        (self.said, self.taken_when_said) = (start, 0);
        let (mut number, mut unseen) = (0, 0);
        while !stop.is_asked() {
            let now_ns = start.elapsed().as_nanos() as u64;
            match pacer.step(now_ns) {
                Step::Send => {
                    self.send(number)?;
                    number += 1;
                    unseen += 1;
                    if unseen < SENDS_UNSEEN {
                        continue;
                    }
                }
                Step::Wait => {
                    let ahead_ns = pacer.due_ns().saturating_sub(now_ns);
                    if ahead_ns > NAP_NS {
                        self.outlets[0].wait(monotonic_ns() + ahead_ns - AWAKE_NS)?;
                    }
                }
                Step::Over => break,
            }
            unseen = 0;
            self.listen(number as usize);
            self.say(start, pacer.behind);
        }
        let seconds = start.elapsed().as_secs_f64();
        self.flush()?;
        let end = Instant::now();
        while self.is_waiting() && end.elapsed() < tail && !stop.is_asked() {
            self.outlets[0].wait(monotonic_ns() + TURN_NS)?;
            self.listen(0);
            self.say(start, pacer.behind);
        }
        let lost_inside: u64 = self.outlets.iter().map(Outlet::lost_inside).sum();
        let no_room: u64 = self.outlets.iter().map(Outlet::no_room).sum();
        Ok(Outcome {
            sent: self.taken.saturating_sub(lost_inside),
            send_errors: no_room + lost_inside,
            behind: pacer.behind,
            seconds,
        })
    }

    fn send(&mut self, number: u64) -> io::Result<()> {
        let flow = number as usize % self.outlets.len();
        let outlet = &mut self.outlets[flow];
        let mut filled = Ok(());
        let taken = match self.load {
            Load::Loops(loops, _) => {
                let taken = outlet.send(self.target, |datagram| {
                    filled = loops.fill(flow, number, datagram);
                });
                if taken {
                    loops.left(number, monotonic_ns());
                }
                taken
            }
            Load::Junk(junk) => outlet.send(self.target, |datagram| {
                filled = junk.fill(flow, number, datagram);
            }),
            Load::Short(junk) => {
                let mut datagram = [0; DATAGRAM_BYTES];
                filled = junk.fill(flow, number, &mut datagram);
                outlet.send_bare(self.target, &datagram[..WRONG_BYTES])
            }
        };
        self.taken += u64::from(taken);
        filled
    }

    /// Looks at what came: at the first flow, where packets come home, and at another one, whose answers are of no use
    /// but take room.
    fn listen(&mut self, turn: usize) {
        let count = self.outlets.len();
        let load = &mut *self.load;
        let mut listener = |datagram: &mut [u8; DATAGRAM_BYTES], source| {
            let Load::Loops(loops, seat) = &mut *load else {
                return None;
            };
            match seat.arrived(datagram, source) {
                Arrived::Packet(mark) => loops.came(&mark, monotonic_ns()),
                Arrived::Answer(answer) => return Some(answer),
                Arrived::Other => {}
            }
            None
        };
        self.outlets[0].listen(&mut listener);
        if count > 1 {
            self.outlets[1 + turn % (count - 1)].listen(&mut listener);
        }
    }

    fn is_waiting(&self) -> bool {
        match &self.load {
            Load::Loops(loops, _) => loops.is_waiting(),
            Load::Junk(_) | Load::Short(_) => false,
        }
    }

    /// Waits until the ports have sent what they took.
    fn flush(&mut self) -> io::Result<()> {
        let end = Instant::now();
        while end.elapsed() < FLUSH && !self.outlets.iter_mut().all(|outlet| outlet.is_empty()) {
            for outlet in &mut *self.outlets {
                outlet.wait(monotonic_ns() + TURN_NS / 10)?;
            }
            self.listen(0);
        }
        Ok(())
    }

    /// The live line.
    fn say(&mut self, start: Instant, behind: u64) {
        let since = self.said.elapsed();
        if since < LINE {
            return;
        }
        let pps = (self.taken - self.taken_when_said) as f64 / since.as_secs_f64();
        (self.said, self.taken_when_said) = (Instant::now(), self.taken);
        let no_room: u64 = self.outlets.iter().map(Outlet::no_room).sum();
        let lost_inside: u64 = self.outlets.iter().map(Outlet::lost_inside).sum();
        let returned = match &self.load {
            Load::Loops(loops, _) => format!(", {} came back", thousands(loops.returned as f64)),
            Load::Junk(_) | Load::Short(_) => String::new(),
        };
        program::complain!(
            "{:>5.0} s: {} sent, {} a second{returned}, {} behind, {} send errors",
            start.elapsed().as_secs_f64(),
            thousands(self.taken as f64),
            thousands(pps),
            thousands(behind as f64),
            thousands((no_room + lost_inside) as f64),
        );
    }
}
