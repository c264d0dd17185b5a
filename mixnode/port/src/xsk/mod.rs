//! The AF_XDP port: packets come and go through rings shared with the kernel, in the frames they stay in.
//!
//! The XDP program steers what is ours into the sockets of this port, one a queue of the interface; the loader has made
//! them. The port writes the headers of what it sends itself. Whatever does not go that way goes through the node's
//! ordinary UDP socket: datagrams that came before the sockets were steered to, and those for next hops that are not
//! resolved yet (which makes the kernel resolve them) or lie behind another interface.
//!
//! Unsafe code is in the two rooms [`rings`] and [`map`] only.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::wake::monotonic_ns;
use super::{
    BATCH_MAX, Departing, DepartingBatch, PlainPort, Port, PortCounters, PortParts, Received,
    ReceivedBatch,
};
use crate::pool::{DATAGRAM_BYTES, FramePool, HEADROOM_BYTES, Memory};

mod chunks;
mod claim;
mod detour;
pub mod headers;
mod map;
mod queue;
pub mod rings;
#[cfg(test)]
mod rings_tests;
pub mod routes;
mod waiter;

use chunks::Chunks;
use detour::Detour;
pub use headers::Mac;
use headers::Sender;
use queue::Queue;
pub use queue::{QueueSocket, is_zero_copy, lend_limit};
use routes::Lookup;
pub use routes::Routes;
use waiter::Waiter;

/// The kernel's socket among the waiter's descriptors; queues follow.
const KERNEL: usize = 0;
/// While frames are under way the port looks after them this often: completions wake nobody.
const COMPLETIONS_NS: u64 = 1_000_000;

/// What a port over AF_XDP is made of.
pub struct XskParts {
    /// The sockets of the worker's queues. All of them have the pool's memory as theirs.
    pub sockets: Vec<QueueSocket>,
    /// The interface's number.
    pub interface_index: u32,
    /// The interface's link-layer address.
    pub mac: Mac,
    /// The node's UDP socket, bound to its address, and the worker's event.
    pub kernel: PortParts,
    /// Next hops.
    pub routes: Arc<Routes>,
}

/// A port over AF_XDP sockets. Belongs to the thread that first uses it (but for [`XskPort::fill`]).
pub struct XskPort {
    // Dropped in this order: polls before the sockets they hold, sockets before the memory the kernel has from them.
    waiter: Waiter,
    queues: Vec<Queue>,
    chunks: Chunks,
    memory: Arc<Memory>,
    sender: Sender,
    interface_index: u32,
    routes: Lookup,
    kernel: PlainPort,
    /// Taken, and not yet taken by the kernel's socket.
    through_kernel: DepartingBatch,
    counters: PortCounters,
    /// What may come through the kernel's socket while packets come through the rings.
    detour: Detour,
    next_receive: usize,
    next_transmit: usize,
    closed: bool,
}

impl XskPort {
    /// A port over `parts` that fills frames of `pool`, which is [`FramePool::shared`] over the sockets' memory. Call
    /// [`XskPort::fill`] before packets are steered to it.
    ///
    /// # Errors
    /// A socket is not what the loader makes, there is none, or io_uring is not to be had (kind `Unsupported`).
    pub fn new(parts: XskParts, pool: &FramePool) -> io::Result<XskPort> {
        let XskParts {
            sockets,
            interface_index,
            mac,
            kernel,
            routes,
        } = parts;
        let count = u16::try_from(sockets.len()).unwrap_or(0);
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a port over AF_XDP needs 1 to 65,535 sockets: give the worker a queue",
            ));
        }
        let limit = lend_limit(pool.capacity(), sockets.len());
        let queues = sockets
            .into_iter()
            .zip(0..count)
            .map(|(socket, place)| Queue::new(socket.socket, place, limit))
            .collect::<io::Result<Vec<_>>>()?;
        let event = Arc::clone(&kernel.event);
        let kernel_fd = kernel.socket.as_raw_fd();
        let kernel = PlainPort::new(kernel, pool)?;
        let polled = std::iter::once(kernel_fd).chain(queues.iter().map(Queue::as_raw_fd));
        Ok(XskPort {
            waiter: Waiter::new(event, polled)?,
            queues,
            chunks: Chunks::new(pool),
            memory: pool.memory(),
            sender: Sender::new(mac, kernel.local_address()),
            interface_index,
            routes: routes.lookup(),
            kernel,
            through_kernel: DepartingBatch::new(),
            counters: PortCounters::default(),
            detour: Detour::default(),
            next_receive: 0,
            next_transmit: 0,
            closed: false,
        })
    }

    /// Lends the kernel frames to receive into. [`Port::receive`] keeps that up; this is for the moment before packets
    /// are steered here, on any thread.
    pub fn fill(&mut self, pool: &mut FramePool) {
        for queue in &mut self.queues {
            queue.refill(pool, &mut self.chunks);
        }
    }

    /// Takes packets of one queue.
    fn receive_from(&mut self, number: usize, pool: &mut FramePool, into: &mut ReceivedBatch) {
        let Some(queue) = self.queues.get_mut(number) else {
            return;
        };
        while !into.is_full()
            && let Some(packet) = queue.receive(&mut self.chunks)
        {
            let Some((mut frame, place)) = packet else {
                self.counters.corrupt += 1;
                continue;
            };
            let chunk = self.memory.chunk_mut(&mut frame);
            let arrived = chunk.get(place.clone()).and_then(|packet| {
                headers::read(packet, self.sender.address(), self.interface_index)
            });
            let Some(arrived) = arrived else {
                self.counters.foreign += 1;
                pool.release(frame);
                continue;
            };
            let datagram = place.start + arrived.datagram;
            if datagram != HEADROOM_BYTES {
                // A tag before it, or headroom for the other family. What was read lies in the chunk.
                chunk.copy_within(datagram..datagram + DATAGRAM_BYTES, HEADROOM_BYTES);
            }
            self.counters.received += 1;
            into.push(Received {
                frame,
                source: arrived.source,
                length: DATAGRAM_BYTES,
            });
        }
        self.counters.corrupt += queue.received();
    }

    /// Takes datagrams from the kernel's socket, or discards them when no frame is free.
    fn receive_through_kernel(&mut self, pool: &mut FramePool, into: &mut ReceivedBatch) {
        let offered = into.remaining_capacity().min(pool.available() as usize);
        let shed = self.kernel.counters().pool_full;
        let before = into.len();
        let came = self.kernel.receive(pool, into);
        let admitted = self.detour.admit(monotonic_ns(), came);
        for limited in into.drain(before + admitted..) {
            self.counters.kernel_limited += 1;
            pool.release(limited.frame);
        }
        let shed = self.kernel.counters().pool_full - shed;
        if offered > 0 && came == offered || shed >= BATCH_MAX as u64 {
            // There may be more, and nothing will say so again.
            self.waiter.still_ready(KERNEL);
        }
    }

    /// Puts one datagram on its way; gives it back if there is no room on that way.
    fn send(&mut self, departing: Departing) -> Result<(), Departing> {
        let next_hop = self
            .routes
            .find(&departing.destination, self.interface_index);
        let Some(next_hop) = next_hop else {
            return self.send_through_kernel(departing);
        };
        let count = self.queues.len();
        let first = self.next_transmit;
        let mut turns = (0..count).map(|step| (first + step) % count);
        let Some(number) = turns.find(|&number| self.queues[number].has_room()) else {
            if self.queues.iter().all(Queue::has_failed) {
                return self.push_through_kernel(departing);
            }
            return Err(departing);
        };
        self.next_transmit = number;
        let queue = &mut self.queues[number];
        let Departing {
            mut frame,
            destination,
            delivery,
            proven,
        } = departing;
        let chunk = self.memory.chunk_mut(&mut frame);
        let Some(place) = self.sender.write(chunk, destination, next_hop) else {
            // Another family than ours: the kernel's socket refuses it, and counts it.
            return self.send_through_kernel(Departing {
                frame,
                destination,
                delivery,
                proven,
            });
        };
        queue
            .transmit(frame, place, &mut self.chunks)
            .map_err(|frame| Departing {
                frame,
                destination,
                delivery,
                proven,
            })
    }

    /// Has the kernel's socket send a datagram whose next hop is not known, or drops it: the kernel may hold what is sent
    /// to a neighbour that does not exist for seconds, and nothing behind it waits for that.
    fn send_through_kernel(&mut self, departing: Departing) -> Result<(), Departing> {
        if self.through_kernel.is_full() {
            self.flush_kernel();
        }
        match self.push_through_kernel(departing) {
            Ok(()) => Ok(()),
            Err(departing) => self.kernel.discard(departing),
        }
    }

    fn push_through_kernel(&mut self, departing: Departing) -> Result<(), Departing> {
        self.through_kernel
            .try_push(departing)
            .map_err(arrayvec::CapacityError::element)
    }

    /// Notes which sockets are of no more use.
    fn look_for_failures(&mut self) {
        for (queue, number) in self.queues.iter_mut().zip(KERNEL + 1..) {
            if self.waiter.has_failed(number) && queue.fail() {
                tracing::error!(
                    interface = self.interface_index,
                    "an AF_XDP socket has failed, as it does when its interface is removed: \
                     what it would carry goes through the kernel's socket; restart the node when the interface is back"
                );
            }
        }
    }

    /// Offers the kernel's socket what is to go through it.
    fn flush_kernel(&mut self) {
        if !self.through_kernel.is_empty() {
            self.kernel.transmit(&mut self.through_kernel);
        }
    }

    /// Makes the kernel send what waits in the transmit rings.
    fn kick(&mut self) {
        for queue in &mut self.queues {
            queue.kick();
        }
    }

    /// Takes the frames of finished transmissions out of the completion rings.
    fn reclaim_rings(&mut self, pool: &mut FramePool) -> usize {
        let mut count = 0;
        for queue in &mut self.queues {
            while let Some(completed) = queue.completed(&mut self.chunks) {
                match completed {
                    Some(frame) => {
                        pool.release(frame);
                        count += 1;
                    }
                    None => self.counters.corrupt += 1,
                }
            }
        }
        self.counters.transmitted += count as u64;
        count
    }
}

impl Port for XskPort {
    fn receive(&mut self, pool: &mut FramePool, into: &mut ReceivedBatch) -> usize {
        if self.closed || into.is_full() {
            return 0;
        }
        self.fill(pool);
        for queue in &mut self.queues {
            queue.look();
        }
        self.waiter.poll();
        self.look_for_failures();
        let before = into.len();
        let count = self.queues.len();
        for step in 0..count {
            self.receive_from((self.next_receive + step) % count, pool, into);
        }
        self.next_receive = (self.next_receive + 1) % count;
        // Before the worker goes on with these: what comes meanwhile needs chunks.
        self.fill(pool);
        if !into.is_full() && self.waiter.take_ready(KERNEL) {
            self.receive_through_kernel(pool, into);
        }
        into.len() - before
    }

    fn transmit(&mut self, departing: &mut DepartingBatch) -> usize {
        if self.closed || departing.is_empty() {
            return 0;
        }
        let offered = departing.len();
        let mut batch = departing.take().into_iter();
        while let Some(one) = batch.next() {
            if let Some(next) = batch.as_slice().first() {
                // The checksum reads all of it, and the lines are not in the nearest cache after a batch was sealed.
                self.memory.prefetch(&next.frame, DATAGRAM_BYTES);
            }
            // Once one did not fit, those behind it stay behind it.
            let back = match departing.is_empty() {
                true => self.send(one).err(),
                false => Some(one),
            };
            departing.extend(back);
        }
        // The next batch begins with another queue.
        self.next_transmit = (self.next_transmit + 1) % self.queues.len();
        self.kick();
        self.flush_kernel();
        offered - departing.len()
    }

    fn reclaim(&mut self, pool: &mut FramePool) -> usize {
        if self.queues.iter().any(|queue| queue.sending() > 0) {
            self.kick();
        }
        self.flush_kernel();
        self.reclaim_rings(pool) + self.kernel.reclaim(pool)
    }

    fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        self.kick();
        self.flush_kernel();
        let rung = self.waiter.take_rung();
        for queue in &mut self.queues {
            queue.wake_driver();
        }
        if rung || self.waiter.is_ready(KERNEL) || self.queues.iter_mut().any(Queue::has_packets) {
            return Ok(());
        }
        let mut live = self.queues.iter().filter(|queue| !queue.has_failed());
        let deadline_ns =
            if live.any(|queue| queue.sending() > 0) || !self.through_kernel.is_empty() {
                let soon = monotonic_ns() + COMPLETIONS_NS;
                Some(deadline_ns.map_or(soon, |deadline_ns| deadline_ns.min(soon)))
            } else {
                deadline_ns
            };
        self.waiter.wait(deadline_ns)?;
        self.look_for_failures();
        Ok(())
    }

    fn close(&mut self, pool: &mut FramePool) {
        if self.closed {
            return;
        }
        self.housekeeping();
        self.reclaim(pool);
        self.closed = true;
        let quiet = self.waiter.close();
        // Unmapped and closed, and polled by nobody: the kernel has detached them when this returns.
        self.queues.clear();
        if quiet {
            self.counters.transmit_failed += self.chunks.drain(pool);
        } else {
            tracing::error!("io_uring did not let go of the sockets: their frames are left behind");
        }
        for departing in self.through_kernel.drain(..) {
            self.counters.transmit_failed += 1;
            pool.release(departing.frame);
        }
        self.kernel.close(pool);
    }

    fn name(&self) -> &'static str {
        "xsk"
    }

    fn in_flight(&self) -> usize {
        let sending: usize = self.queues.iter().map(Queue::sending).sum();
        sending + self.through_kernel.len() + self.kernel.in_flight()
    }

    fn holds(&self) -> usize {
        self.chunks.held() + self.through_kernel.len() + self.kernel.holds()
    }

    fn local_address(&self) -> SocketAddr {
        self.sender.address()
    }

    fn counters(&self) -> PortCounters {
        let (own, kernel) = (self.counters, self.kernel.counters());
        PortCounters {
            received: own.received + kernel.received - own.kernel_limited,
            pool_full: own.pool_full + kernel.pool_full,
            transmitted: own.transmitted + kernel.transmitted,
            transmit_failed: own.transmit_failed + kernel.transmit_failed,
            transmit_dropped: own.transmit_dropped + kernel.transmit_dropped,
            kernel_dropped: kernel.kernel_dropped,
            received_through_kernel: kernel.received - own.kernel_limited,
            transmitted_through_kernel: kernel.transmitted,
            ..own
        }
    }

    fn housekeeping(&mut self) {
        if self.closed {
            return;
        }
        self.kernel.housekeeping();
        self.detour.note(self.counters.received);
        let (mut dropped, mut ring_full, mut fill_empty) = (0, 0, 0);
        for statistics in self
            .queues
            .iter()
            .filter_map(|queue| queue.statistics().ok())
        {
            dropped += statistics.rx_dropped;
            ring_full += statistics.rx_ring_full.unwrap_or(0);
            fill_empty += statistics.rx_fill_ring_empty_descs.unwrap_or(0);
        }
        // Never backwards, should a socket not answer this time.
        let counters = &mut self.counters;
        counters.pool_full = counters.pool_full.max(dropped);
        counters.ring_full = counters.ring_full.max(ring_full);
        counters.fill_empty = counters.fill_empty.max(fill_empty);
    }
}

impl Drop for XskPort {
    fn drop(&mut self) {
        self.waiter.close();
    }
}
