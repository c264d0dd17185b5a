//! Sends under way: one slot a datagram, with the message header the kernel may read until it is done.
//!
//! A room for unsafe code (memory shared with the kernel). What makes it sound: slots are boxed and never move,
//! and a slot is not touched again, nor its frame given out, before its completion.
#![allow(
    unsafe_code,
    reason = "messages that the kernel reads until their completion"
)]

use std::sync::Arc;

use io_uring::{opcode, squeue, types};

use crate::Departing;
use crate::batch::is_transient;
use crate::pool::{DATAGRAM_BYTES, Frame, Memory};
use crate::socket::KernelAddress;

struct Slot {
    header: libc::msghdr,
    vector: libc::iovec,
    name: KernelAddress,
    frame: Option<Frame>,
    /// What it carries may wait.
    proven: bool,
}

/// What became of a send.
#[derive(Debug)]
pub(super) enum Ended {
    /// The kernel took it.
    Sent(Frame),
    /// The kernel refuses it for good.
    Failed(Frame),
    /// It would have waited, and may not.
    Dropped(Frame),
    /// The kernel was full: it stays, for [`SendSlots::restart`].
    Again,
    /// There is no such send.
    Unknown,
}

/// A fixed number of sends.
pub(super) struct SendSlots {
    slots: Box<[Slot]>,
    free: Vec<u16>,
    /// To be started again.
    again: Vec<u16>,
    memory: Arc<Memory>,
}

// SAFETY: the pointers in a slot point into the slot itself and into frame memory, both owned here.
unsafe impl Send for SendSlots {}

impl SendSlots {
    pub(super) fn new(count: u16, memory: Arc<Memory>) -> SendSlots {
        let slot = || Slot {
            // SAFETY: all-zero is a valid msghdr.
            header: unsafe { std::mem::zeroed() },
            vector: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            name: KernelAddress::empty(),
            frame: None,
            proven: false,
        };
        SendSlots {
            slots: (0..count).map(|_| slot()).collect(),
            free: (0..count).rev().collect(),
            again: Vec::with_capacity(usize::from(count)),
            memory,
        }
    }

    /// Number of sends under way, those that wait to be started again among them.
    pub(super) fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Number of sends that can be started.
    pub(super) fn room(&self) -> usize {
        self.free.len()
    }

    /// Puts a datagram into a slot; its number, and the operation that sends it. `None` gives nothing away only
    /// if there was room: ask [`SendSlots::room`] first.
    pub(super) fn start(
        &mut self,
        socket: types::Fd,
        departing: Departing,
    ) -> Option<(u16, squeue::Entry)> {
        let number = self.free.pop()?;
        let slot = &mut self.slots[usize::from(number)];
        slot.vector = libc::iovec {
            iov_base: self.memory.datagram_address(&departing.frame).cast(),
            iov_len: DATAGRAM_BYTES,
        };
        slot.header.msg_namelen = slot.name.set(departing.destination);
        slot.header.msg_name = (&raw mut slot.name).cast();
        slot.header.msg_iov = &raw mut slot.vector;
        slot.header.msg_iovlen = 1;
        slot.frame = Some(departing.frame);
        slot.proven = departing.proven;
        Some((number, slot.entry(socket)))
    }

    /// Takes a send up that the kernel was too full for: its number, and the operation.
    pub(super) fn restart(&mut self, socket: types::Fd) -> Option<(u16, squeue::Entry)> {
        let number = self.again.pop()?;
        let slot = self.slots.get(usize::from(number))?;
        Some((number, slot.entry(socket)))
    }

    /// Number of sends that wait to be started again.
    pub(super) fn waiting(&self) -> usize {
        self.again.len()
    }

    /// The frame of one of those, which is not sent after all.
    pub(super) fn give_up(&mut self) -> Option<Frame> {
        let number = self.again.pop()?;
        self.take(number)
    }

    /// Notes the completion of a send, and frees its slot unless it is to be started again.
    pub(super) fn finish(&mut self, number: u16, result: i32) -> Ended {
        let full = is_transient(result.saturating_neg());
        let Some(slot) = self.slots.get(usize::from(number)) else {
            return Ended::Unknown;
        };
        if full && slot.proven && slot.frame.is_some() {
            self.again.push(number);
            return Ended::Again;
        }
        match self.take(number) {
            None => Ended::Unknown,
            Some(frame) if result >= 0 => Ended::Sent(frame),
            Some(frame) if full => Ended::Dropped(frame),
            Some(frame) => Ended::Failed(frame),
        }
    }

    fn take(&mut self, number: u16) -> Option<Frame> {
        let frame = self.slots.get_mut(usize::from(number))?.frame.take()?;
        self.free.push(number);
        Some(frame)
    }
}

impl Slot {
    /// What may not wait for room is told so.
    fn entry(&self, socket: types::Fd) -> squeue::Entry {
        let flags = if self.proven { 0 } else { libc::MSG_DONTWAIT };
        opcode::SendMsg::new(socket, &raw const self.header)
            .flags(flags as u32)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::FramePool;

    fn start(pool: &mut FramePool, sends: &mut SendSlots, proven: bool) -> Option<u16> {
        let frame = pool.take().unwrap();
        let departing = Departing {
            frame,
            destination: "127.0.0.1:1".parse().unwrap(),
            delivery: false,
            proven,
        };
        let started = sends.start(types::Fd(-1), departing);
        started.map(|(number, _)| number)
    }

    #[test]
    fn slots_are_used_once_at_a_time_and_refused_when_none_is_left() {
        let mut pool = FramePool::new(4).unwrap();
        let mut sends = SendSlots::new(2, pool.memory());
        let one = start(&mut pool, &mut sends, true).unwrap();
        let two = start(&mut pool, &mut sends, true).unwrap();
        assert_ne!(one, two);
        assert_eq!((sends.room(), sends.under_way()), (0, 2));
        assert!(start(&mut pool, &mut sends, true).is_none());
        assert!(matches!(sends.finish(one, 1), Ended::Sent(_)));
        let twice = sends.finish(one, 1);
        assert!(matches!(twice, Ended::Unknown), "a send completes once");
        assert!(matches!(sends.finish(99, 1), Ended::Unknown));
        assert!(matches!(sends.finish(two, -libc::EPERM), Ended::Failed(_)));
        assert_eq!(sends.room(), 2);
    }

    #[test]
    fn a_kernel_that_is_full_is_tried_again_and_only_what_may_not_wait_is_dropped() {
        let mut pool = FramePool::new(2).unwrap();
        let mut sends = SendSlots::new(2, pool.memory());
        for error in [libc::ENOBUFS, libc::EAGAIN, libc::ENOMEM] {
            let stranger = start(&mut pool, &mut sends, false).unwrap();
            let Ended::Dropped(frame) = sends.finish(stranger, -error) else {
                panic!("{error}: it may not wait")
            };
            pool.release(frame);
            let member = start(&mut pool, &mut sends, true).unwrap();
            for _ in 0..3 {
                assert!(matches!(sends.finish(member, -error), Ended::Again));
                assert_eq!((sends.waiting(), sends.under_way()), (1, 1));
                let (again, _) = sends.restart(types::Fd(-1)).unwrap();
                assert_eq!((again, sends.waiting()), (member, 0));
            }
            let Ended::Sent(frame) = sends.finish(member, 1_232) else {
                panic!("{error}: it was sent")
            };
            pool.release(frame);
            let member = start(&mut pool, &mut sends, true).unwrap();
            assert!(matches!(sends.finish(member, -error), Ended::Again));
            pool.release(sends.give_up().unwrap());
            assert_eq!((sends.waiting(), sends.under_way()), (0, 0));
        }
    }
}
