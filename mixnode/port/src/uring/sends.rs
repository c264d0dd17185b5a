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
use crate::pool::{DATAGRAM_BYTES, Frame, Memory};
use crate::socket::KernelAddress;

struct Slot {
    header: libc::msghdr,
    vector: libc::iovec,
    name: KernelAddress,
    frame: Option<Frame>,
}

/// A fixed number of sends.
pub(super) struct SendSlots {
    slots: Box<[Slot]>,
    free: Vec<u16>,
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
        };
        SendSlots {
            slots: (0..count).map(|_| slot()).collect(),
            free: (0..count).rev().collect(),
            memory,
        }
    }

    /// Number of sends under way.
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
        Some((
            number,
            opcode::SendMsg::new(socket, &raw const slot.header).build(),
        ))
    }

    /// Frees the slot of a send that completed; its frame.
    pub(super) fn finish(&mut self, number: u16) -> Option<Frame> {
        let frame = self.slots.get_mut(usize::from(number))?.frame.take()?;
        self.free.push(number);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::FramePool;

    #[test]
    fn slots_are_used_once_at_a_time_and_refused_when_none_is_left() {
        let mut pool = FramePool::new(4).unwrap();
        let mut sends = SendSlots::new(2, pool.memory());
        let destination = "127.0.0.1:1".parse().unwrap();
        let mut start = |sends: &mut SendSlots| {
            let frame = pool.take().unwrap();
            sends
                .start(
                    types::Fd(-1),
                    Departing {
                        frame,
                        destination,
                        delivery: false,
                    },
                )
                .map(|(number, _)| number)
        };
        let (one, two) = (start(&mut sends).unwrap(), start(&mut sends).unwrap());
        assert_ne!(one, two);
        assert_eq!((sends.room(), sends.under_way()), (0, 2));
        assert!(start(&mut sends).is_none());
        assert!(sends.finish(one).is_some());
        assert!(sends.finish(one).is_none(), "a send completes once");
        assert!(sends.finish(99).is_none());
        assert_eq!(sends.room(), 1);
    }
}
