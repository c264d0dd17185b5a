//! The io_uring port: multishot receive straight into frames, sends in batches, and one wait for everything.
//!
//! A worker's ring is the only thing it sleeps in: datagrams, its mailbox's event and the next timer (as the
//! wait's timeout) wake it. Facts of the kernel that shape this file:
//! - a multishot receive ends whenever its completion lacks `F_MORE` (an empty datagram, errors, a full completion
//!   queue, no buffer left: ENOBUFS), so it is armed again after each of those, within the same call;
//! - under DEFER_TASKRUN completions are made only inside `io_uring_enter`, by the thread that submits;
//! - a ring closed with operations under way may keep the socket for a while: so [`Port::close`], and drop,
//!   cancel everything and wait for the last completion.
#![allow(
    unsafe_code,
    reason = "pushes entries whose frames the kernel reads and writes"
)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use arrayvec::ArrayVec;
use io_uring::{cqueue, opcode, squeue, types};

use super::available::{builder, explain, restrict, sleep};
use super::batch::MessageBatch;
use super::door::Door;
use super::socket::KERNEL_ADDRESS_BYTES;
use super::wake::{EventFd, monotonic_ns};
use super::{
    BATCH_MAX, DepartingBatch, Port, PortCounters, PortParts, Received, ReceivedBatch, unproven,
};
use crate::pool::{Frame, FramePool};

pub use super::available::{UringUnavailable, uring_available};

mod buffers;
mod sends;
mod shared;

use sends::Ended;
use shared::{Shared, unavailable};

/// Sends under way at most.
const SENDS: u16 = 4 * BATCH_MAX as u16;
/// Frames lent to the kernel at most; small pools lend a quarter of theirs.
const BUFFERS_MAX: u32 = 1024;
/// Submissions between two entries into the kernel: a full batch of sends and what else there is.
const SUBMISSIONS: u32 = 2 * SENDS as u32;
/// Start a receive by polling: with no buffer left an immediate attempt would only fail again.
const POLL_FIRST: u16 = 1;
/// Entries into the kernel that a shutdown may take, each with a timeout.
const CANCEL_ROUNDS: u32 = 64;
const CANCEL_ROUND_NS: u32 = 20_000_000;

/// Time after which a send that the kernel was too full for is tried again.
const RESEND_NS: u64 = 1_000_000;
/// Entries into the kernel of one receive: each datagram of a full batch may have ended one.
const ROUNDS_MAX: usize = BATCH_MAX;

/// What a completion belongs to; a send's slot is in the low bits.
const RECEIVE: u64 = 1 << 32;
const EVENT: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const CANCEL: u64 = 4 << 32;

/// The operations a port submits, and no others.
const OPERATIONS: [u8; 4] = [
    opcode::RecvMsgMulti::CODE,
    opcode::SendMsg::CODE,
    opcode::PollAdd::CODE,
    opcode::AsyncCancel2::CODE,
];

/// Frames a pool of `frames` lends to the kernel for receiving.
pub fn buffer_count(frames: u32) -> u32 {
    let quarter = (frames / 4).clamp(1, BUFFERS_MAX);
    1 << quarter.ilog2()
}

/// A port over one UDP socket and one io_uring. Belongs to the thread that first uses it.
pub struct UringPort {
    shared: Shared,
    socket: UdpSocket,
    event: Arc<EventFd>,
    address: SocketAddr,
    /// Filled buffers not handed out yet.
    arrived: std::collections::VecDeque<u16>,
    sent: Vec<Frame>,
    /// For discarding when no frame is free.
    messages: Box<MessageBatch>,
    counters: PortCounters,
    door: Door,
    enabled: bool,
    receiving: bool,
    watching: bool,
    starved: bool,
    /// The event was signalled, and no wait has returned since: also when that showed outside of a wait.
    rung: bool,
    cancelled: bool,
    closed: bool,
}

impl UringPort {
    /// A port over `parts` that fills frames of `pool`. The socket must be in blocking mode (io_uring would
    /// answer EAGAIN on it instead of waiting), as [`super::socket::open`] leaves it.
    ///
    /// # Errors
    /// [`UringUnavailable`] inside an error of kind `Unsupported`, or what the kernel said about the socket.
    pub fn new(parts: PortParts, pool: &FramePool) -> io::Result<UringPort> {
        let PortParts { socket, event } = parts;
        let address = socket.local_addr()?;
        socket.set_nonblocking(false)?;
        let count = buffer_count(pool.capacity());
        // Every operation that can complete has its place, so the completion queue can't overflow.
        let completions = (count + u32::from(SENDS) + 64).next_power_of_two();
        let ring = builder()
            .setup_cqsize(completions.max(SUBMISSIONS))
            .build(SUBMISSIONS)
            .map_err(unavailable)?;
        let shared = Shared::new(ring, count as u16, &pool.memory())?;
        restrict(&shared.ring.submitter(), &OPERATIONS).map_err(unavailable)?;
        Ok(UringPort {
            shared,
            socket,
            event,
            address,
            arrived: std::collections::VecDeque::with_capacity(count as usize),
            sent: Vec::with_capacity(usize::from(SENDS)),
            messages: MessageBatch::new(),
            counters: PortCounters::default(),
            door: Door::default(),
            enabled: false,
            receiving: false,
            watching: false,
            starved: false,
            rung: false,
            cancelled: false,
            closed: false,
        })
    }

    fn socket_fd(&self) -> types::Fd {
        types::Fd(self.socket.as_raw_fd())
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry pushed points at what `shared` owns until its completion: the receive header, a send
        // slot (not reused before), frames whose tokens are lent.
        unsafe { self.shared.push(entry) }
    }

    /// Makes the calling thread the ring's, and starts what is not running.
    fn arm(&mut self) {
        if !self.enabled {
            self.enabled = self.shared.ring.submitter().register_enable_rings().is_ok();
        }
        if !self.watching {
            let event = types::Fd(self.event.as_raw_fd());
            let poll = opcode::PollAdd::new(event, libc::POLLIN as u32)
                .multi(true)
                .build()
                .user_data(EVENT);
            self.watching = self.push(&poll);
        }
        if !self.receiving {
            let first = if self.shared.buffers.lent() == 0 {
                POLL_FIRST
            } else {
                0
            };
            let header = self.shared.receive_header();
            let receive = opcode::RecvMsgMulti::new(self.socket_fd(), header, buffers::GROUP)
                .ioprio(first)
                .build();
            self.receiving = self.push(&receive.user_data(RECEIVE));
        }
    }

    /// Enters the kernel if there is anything to submit or any completion to make; whether there was.
    fn enter(&mut self) -> bool {
        let submission = self.shared.ring.submission();
        let asked = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if asked {
            // What could not be submitted stays queued for the next entry.
            let _ = self.shared.ring.submit();
        }
        asked
    }

    /// Arms the receive and takes what it brings, again and again until the batch is full or nothing is left: whatever
    /// ends a receive (an empty datagram does) would otherwise end the batch with it.
    fn collect(&mut self, wanted: usize) {
        for _ in 0..ROUNDS_MAX {
            self.arm();
            if !self.enter() {
                return;
            }
            self.settle();
            if self.starved || self.arrived.len() >= wanted {
                return;
            }
        }
    }

    /// Takes all completions there are.
    fn settle(&mut self) {
        for completion in self.shared.ring.completion() {
            let (data, result, flags) = (
                completion.user_data(),
                completion.result(),
                completion.flags(),
            );
            match data & !0xffff_ffff {
                RECEIVE => {
                    self.receiving &= cqueue::more(flags);
                    self.starved |= result == -libc::ENOBUFS;
                    if let Some(number) = cqueue::buffer_select(flags) {
                        self.arrived.push_back(number);
                    }
                }
                EVENT => {
                    self.watching &= cqueue::more(flags);
                    self.rung |= self.event.clear();
                }
                SEND => {
                    let (frame, counter) = match self.shared.sends.finish(data as u16, result) {
                        Ended::Sent(frame) => (frame, &mut self.counters.transmitted),
                        Ended::Failed(frame) => (frame, &mut self.counters.transmit_failed),
                        Ended::Dropped(frame) => (frame, &mut self.counters.transmit_dropped),
                        Ended::Again | Ended::Unknown => continue,
                    };
                    *counter += 1;
                    self.sent.push(frame);
                }
                _ => self.cancelled = true,
            }
        }
    }

    /// Starts the sends again that the kernel was too full for.
    fn resend(&mut self) {
        let socket = self.socket_fd();
        while !self.shared.ring.submission().is_full()
            && let Some((slot, entry)) = self.shared.sends.restart(socket)
        {
            let pushed = self.push(&entry.user_data(SEND | u64::from(slot)));
            debug_assert!(pushed, "room was checked");
        }
    }

    /// Whether the kernel holds no operation of ours.
    fn is_quiet(&self) -> bool {
        !self.receiving && !self.watching && self.shared.sends.under_way() == 0
    }

    /// Cancels everything and waits for the last completion; whether that came.
    fn cancel(&mut self) -> bool {
        if !self.enabled {
            // Nothing was ever submitted: pushes before enabling don't exist for the kernel.
            return self.shared.sends.under_way() == 0;
        }
        self.enter();
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any().all())
            .build()
            .user_data(CANCEL);
        let mut asked = false;
        for _ in 0..CANCEL_ROUNDS {
            self.settle();
            while let Some(frame) = self.shared.sends.give_up() {
                self.counters.transmit_failed += 1;
                self.sent.push(frame);
            }
            if self.is_quiet() {
                return self
                    .shared
                    .ring
                    .submitter()
                    .unregister_buf_ring(buffers::GROUP)
                    .is_ok();
            }
            asked = asked && !std::mem::take(&mut self.cancelled) || self.push(&cancel);
            let timeout = types::Timespec::new().nsec(CANCEL_ROUND_NS);
            let args = types::SubmitArgs::new().timespec(&timeout);
            if let Err(error) = self.shared.ring.submitter().submit_with_args(1, &args)
                && error.raw_os_error() == Some(libc::EEXIST)
            {
                // Another thread's ring: only closing it is left.
                return false;
            }
        }
        false
    }
}

impl Port for UringPort {
    fn receive(&mut self, pool: &mut FramePool, into: &mut ReceivedBatch) -> usize {
        if self.closed {
            return 0;
        }
        self.settle();
        self.shared.buffers.refill(pool);
        if std::mem::take(&mut self.starved)
            && self.shared.buffers.lent() == 0
            && self.arrived.is_empty()
        {
            self.counters.pool_full += self.messages.discard(&self.socket).unwrap_or(0) as u64;
        }
        self.collect(into.remaining_capacity());
        let before = into.len();
        while !into.is_full()
            && let Some(number) = self.arrived.pop_front()
        {
            if let Some((frame, source, length)) = self.shared.buffers.filled(number) {
                into.push(Received {
                    frame,
                    source,
                    length,
                });
            }
        }
        let came = into.len() - before;
        self.counters.received += came as u64;
        came
    }

    fn transmit(&mut self, departing: &mut DepartingBatch) -> usize {
        if self.closed || departing.is_empty() {
            return 0;
        }
        self.arm();
        let submission = self.shared.ring.submission();
        let queue_room = submission.capacity() - submission.len();
        drop(submission);
        let room = self
            .shared
            .sends
            .room()
            .min(self.sent.capacity() - self.sent.len() - self.shared.sends.under_way());
        let offered = departing.len().min(room).min(queue_room);
        let sent = &mut self.sent;
        let shed = unproven::shed(&self.socket, departing, offered, |frame| sent.push(frame));
        self.counters.transmit_dropped += shed as u64;
        let taken = offered - shed;
        let socket = self.socket_fd();
        let batch: ArrayVec<_, BATCH_MAX> = departing.drain(..taken).collect();
        for one in batch {
            if let Some((slot, entry)) = self.shared.sends.start(socket, one) {
                let pushed = self.push(&entry.user_data(SEND | u64::from(slot)));
                debug_assert!(pushed, "room was checked");
            }
        }
        self.enter();
        offered
    }

    fn reclaim(&mut self, pool: &mut FramePool) -> usize {
        self.settle();
        if self.shared.sends.waiting() > 0 && !self.closed {
            self.resend();
            self.enter();
            self.settle();
        }
        let count = self.sent.len();
        for frame in self.sent.drain(..) {
            pool.release(frame);
        }
        count
    }

    fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        self.arm();
        self.settle();
        if std::mem::take(&mut self.rung) || !self.arrived.is_empty() || self.starved {
            return Ok(());
        }
        let deadline_ns = match self.shared.sends.waiting() {
            0 => deadline_ns,
            // Nothing tells when the kernel has room again.
            _ => {
                let soon = monotonic_ns() + RESEND_NS;
                Some(deadline_ns.map_or(soon, |deadline_ns| deadline_ns.min(soon)))
            }
        };
        let outcome = sleep(&self.shared.ring.submitter(), deadline_ns);
        self.settle();
        self.rung = false;
        outcome
    }

    fn close(&mut self, pool: &mut FramePool) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.cancelled = false;
        if self.cancel() {
            self.arrived.clear();
            self.shared.buffers.drain(pool);
            self.reclaim(pool);
        } else {
            tracing::error!("io_uring did not give back all frames: their memory is left behind");
        }
    }

    fn name(&self) -> &'static str {
        "uring"
    }

    fn in_flight(&self) -> usize {
        self.shared.sends.under_way() + self.sent.len()
    }

    fn holds(&self) -> usize {
        self.in_flight() + self.shared.buffers.lent()
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

impl Drop for UringPort {
    fn drop(&mut self) {
        let quiet = if self.closed {
            self.is_quiet()
        } else {
            self.cancel()
        };
        if !quiet {
            self.shared.leave_behind();
        }
    }
}
