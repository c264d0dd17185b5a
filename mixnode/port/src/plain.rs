//! The plain port: recvmmsg, sendmmsg and ppoll. Runs wherever UDP does.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::batch::{MessageBatch, is_transient};
use super::door::Door;
use super::wake::{EventFd, remaining};
use super::{
    BATCH_MAX, Departing, DepartingBatch, Port, PortCounters, PortParts, Received, ReceivedBatch,
    unproven,
};
use crate::pool::{Frame, FramePool, Memory};

/// Sent frames waiting for [`Port::reclaim`]; transmit takes no more than this leaves room for.
const SENT_MAX: usize = 4 * BATCH_MAX;

/// A port over one UDP socket and the oldest batch system calls.
pub struct PlainPort {
    socket: UdpSocket,
    event: Arc<EventFd>,
    address: SocketAddr,
    memory: Arc<Memory>,
    messages: Box<MessageBatch>,
    /// Frames taken from the pool and not filled yet: kept from call to call.
    spare: ArrayVec<Frame, BATCH_MAX>,
    sent: ArrayVec<Frame, SENT_MAX>,
    counters: PortCounters,
    door: Door,
    /// The kernel would not take more: wait for room too.
    blocked: bool,
    closed: bool,
}

impl PlainPort {
    /// A port over `parts` that fills frames of `pool`.
    ///
    /// # Errors
    /// If the socket is not bound.
    pub fn new(parts: PortParts, pool: &FramePool) -> io::Result<PlainPort> {
        let PortParts { socket, event } = parts;
        let address = socket.local_addr()?;
        Ok(PlainPort {
            socket,
            event,
            address,
            memory: pool.memory(),
            messages: MessageBatch::new(),
            spare: ArrayVec::new(),
            sent: ArrayVec::new(),
            counters: PortCounters::default(),
            door: Door::default(),
            blocked: false,
            closed: false,
        })
    }

    /// Takes a datagram and does not send it.
    ///
    /// # Errors
    /// Gives it back when too many frames wait to be reclaimed.
    pub(crate) fn discard(&mut self, departing: Departing) -> Result<(), Departing> {
        if self.sent.is_full() {
            return Err(departing);
        }
        self.counters.transmit_dropped += 1;
        self.sent.push(departing.frame);
        Ok(())
    }
}

impl Port for PlainPort {
    fn receive(&mut self, pool: &mut FramePool, into: &mut ReceivedBatch) -> usize {
        let wanted = into.remaining_capacity();
        if wanted == 0 || self.closed {
            return 0;
        }
        while self.spare.len() < wanted
            && let Some(frame) = pool.take()
        {
            self.spare.push(frame);
        }
        if self.spare.is_empty() {
            self.counters.pool_full += self.messages.discard(&self.socket).unwrap_or(0) as u64;
            return 0;
        }
        let offered = self.spare.len().min(wanted);
        // An error (nothing there, or an asynchronous one that this call took off the socket) is no datagram.
        let came = self
            .messages
            .receive(&self.socket, &self.memory, &mut self.spare[..offered])
            .unwrap_or(0);
        for (n, frame) in self.spare.drain(..came).enumerate() {
            let (source, length) = self.messages.received(n);
            into.push(Received {
                frame,
                source,
                length,
            });
        }
        // An idle port holds nothing: what came last returns the rest.
        for frame in self.spare.drain(..) {
            pool.release(frame);
        }
        self.counters.received += came as u64;
        came
    }

    fn transmit(&mut self, departing: &mut DepartingBatch) -> usize {
        let offered = departing.len().min(self.sent.remaining_capacity());
        if offered == 0 || self.closed {
            return 0;
        }
        let sent = &mut self.sent;
        let shed = unproven::shed(&self.socket, departing, offered, |frame| sent.push(frame));
        self.counters.transmit_dropped += shed as u64;
        let offered = offered - shed;
        let mut taken = 0;
        self.blocked = false;
        while taken < offered {
            let rest = departing[taken..offered]
                .iter()
                .map(|one| (&one.frame, one.destination));
            match self.messages.transmit(&self.socket, &self.memory, rest) {
                Ok(0) => break,
                Ok(count) => {
                    self.counters.transmitted += count as u64;
                    taken += count;
                }
                Err(error) if error.raw_os_error().is_some_and(is_transient) => {
                    if departing[taken].proven {
                        self.blocked = true;
                        break;
                    }
                    self.counters.transmit_dropped += 1;
                    taken += 1;
                }
                // The kernel refused the first of them: it is spent, the others are not.
                Err(_) => {
                    self.counters.transmit_failed += 1;
                    taken += 1;
                }
            }
        }
        self.sent
            .extend(departing.drain(..taken).map(|one| one.frame));
        shed + taken
    }

    fn reclaim(&mut self, pool: &mut FramePool) -> usize {
        let count = self.sent.len();
        for frame in self.sent.drain(..) {
            pool.release(frame);
        }
        count
    }

    fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<()> {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, !self.closed);
        events.set(PollFlags::OUT, self.blocked);
        let mut ready = [
            PollFd::new(&self.socket, events),
            PollFd::new(&*self.event, PollFlags::IN),
        ];
        let timeout = deadline_ns.map(|deadline_ns| {
            let (tv_sec, tv_nsec) = remaining(deadline_ns);
            Timespec { tv_sec, tv_nsec }
        });
        let outcome = poll(&mut ready, timeout.as_ref());
        if !ready[1].revents().is_empty() {
            self.event.clear();
        }
        match outcome {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn close(&mut self, pool: &mut FramePool) {
        self.closed = true;
        self.reclaim(pool);
    }

    fn name(&self) -> &'static str {
        "plain"
    }

    fn in_flight(&self) -> usize {
        self.sent.len()
    }

    fn holds(&self) -> usize {
        self.in_flight()
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn housekeeping(&mut self) {
        self.counters.kernel_dropped += self.door.dropped(&self.socket);
    }
}
