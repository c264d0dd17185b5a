//! The simulated port: a worker on an in-memory [`Network`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::wake::EventFd;
use super::{BATCH_MAX, Departing, DepartingBatch, Port, PortCounters, Received, ReceivedBatch};
use crate::pool::{Frame, FramePool, Memory};

mod network;

pub use network::{Conditions, Endpoint, Fate, INBOX_DEFAULT, Network, NetworkCounters, Traced};

/// Sent frames waiting for [`Port::reclaim`], as on the other ports.
const SENT_MAX: usize = 4 * BATCH_MAX;

/// A worker's port on the simulated network.
pub struct SimPort {
    endpoint: Endpoint,
    event: Arc<EventFd>,
    memory: Arc<Memory>,
    sent: ArrayVec<Frame, SENT_MAX>,
    counters: PortCounters,
    sends_max: usize,
    closed: bool,
}

impl SimPort {
    /// A port at `endpoint` that fills frames of `pool`.
    pub fn new(endpoint: Endpoint, event: Arc<EventFd>, pool: &FramePool) -> SimPort {
        SimPort {
            endpoint,
            event,
            memory: pool.memory(),
            sent: ArrayVec::new(),
            counters: PortCounters::default(),
            sends_max: SENT_MAX,
            closed: false,
        }
    }

    /// From now on takes at most so many frames a call: a send ring that is slow, or for 0 full.
    pub fn limit_sends(&mut self, sends_max: usize) {
        self.sends_max = sends_max;
    }
}

impl Port for SimPort {
    fn receive(&mut self, pool: &mut FramePool, into: &mut ReceivedBatch) -> usize {
        if self.closed {
            return 0;
        }
        let mut state = self.endpoint.network.state();
        let before = into.len();
        for _ in 0..into
            .remaining_capacity()
            .min(state.waiting(self.endpoint.address()))
        {
            let frame = pool.take();
            let received = state.take(self.endpoint.address(), |datagram| {
                frame.map(|mut frame| {
                    *self.memory.datagram_mut(&mut frame) = datagram.bytes;
                    Received {
                        frame,
                        source: datagram.source,
                        length: datagram.length,
                    }
                })
            });
            match received.flatten() {
                Some(received) => into.push(received),
                None => self.counters.pool_full += 1,
            }
        }
        let came = into.len() - before;
        self.counters.received += came as u64;
        came
    }

    fn transmit(&mut self, departing: &mut DepartingBatch) -> usize {
        let taken = if self.closed {
            0
        } else {
            let room = self.sent.remaining_capacity().min(self.sends_max);
            departing.len().min(room)
        };
        for Departing {
            frame, destination, ..
        } in departing.drain(..taken)
        {
            self.endpoint
                .send(destination, self.memory.datagram(&frame));
            self.sent.push(frame);
        }
        self.counters.transmitted += taken as u64;
        taken
    }

    fn reclaim(&mut self, pool: &mut FramePool) -> usize {
        let count = self.sent.len();
        for frame in self.sent.drain(..) {
            pool.release(frame);
        }
        count
    }

    /// For a network with one driver, such as a test: moves its time to the next arrival or the deadline. A
    /// simulator of many nodes calls [`Network::advance`] itself and never waits.
    fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<()> {
        if self.event.clear() || self.endpoint.waiting() > 0 {
            return Ok(());
        }
        let network = &self.endpoint.network;
        let next = network
            .next_arrival_ns()
            .into_iter()
            .chain(deadline_ns)
            .min();
        if let Some(next_ns) = next {
            network.advance(next_ns, |_| ());
        }
        Ok(())
    }

    fn close(&mut self, pool: &mut FramePool) {
        self.closed = true;
        self.reclaim(pool);
    }

    fn name(&self) -> &'static str {
        "sim"
    }

    fn in_flight(&self) -> usize {
        self.sent.len()
    }

    fn holds(&self) -> usize {
        self.in_flight()
    }

    fn local_address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn now_ns(&self) -> u64 {
        self.endpoint.network.now_ns()
    }
}
