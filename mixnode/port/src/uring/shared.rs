//! The ring, and the memory that the kernel reaches through it: one owner, so that they can't go in the wrong order.
//!
//! A room for unsafe code. What makes it sound: fields are dropped in their order, the ring first; and as long as an
//! operation may still be under way, what it reaches is kept for the rest of the process.
#![allow(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use io_uring::{IoUring, squeue};

use super::buffers::BufferRing;
use super::sends::SendSlots;
use super::{KERNEL_ADDRESS_BYTES, SENDS, UringUnavailable, explain};
use crate::pool::Memory;

/// Dropped with its owner, unless the kernel may still use it.
pub(super) struct Lent<T> {
    value: ManuallyDrop<T>,
    kept: bool,
}

impl<T> Lent<T> {
    fn new(value: T) -> Lent<T> {
        Lent {
            value: ManuallyDrop::new(value),
            kept: false,
        }
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Lent<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if !self.kept {
            // SAFETY: dropped once, here; nothing uses it after.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// A ring with its memory. The order of the fields is the order in which they go.
pub(super) struct Shared {
    pub(super) ring: IoUring,
    pub(super) buffers: Lent<BufferRing>,
    pub(super) sends: Lent<SendSlots>,
    receive_header: Lent<Box<ReceiveHeader>>,
}

/// What a receive tells the kernel about names; read whenever one is armed.
struct ReceiveHeader(libc::msghdr);
// SAFETY: all its pointers are null; only the length of the name is set.
unsafe impl Send for ReceiveHeader {}

impl Shared {
    /// `ring`, which is new, with `count` buffers that lie in `memory`.
    ///
    /// # Errors
    /// [`UringUnavailable`] in an error of kind `Unsupported`, or no memory.
    pub(super) fn new(ring: IoUring, count: u16, memory: &Arc<Memory>) -> io::Result<Shared> {
        // SAFETY: all-zero is a valid msghdr.
        let mut receive_header: libc::msghdr = unsafe { std::mem::zeroed() };
        receive_header.msg_namelen = KERNEL_ADDRESS_BYTES as libc::socklen_t;
        let shared = Shared {
            ring,
            buffers: Lent::new(BufferRing::new(count, Arc::clone(memory))?),
            sends: Lent::new(SendSlots::new(SENDS, Arc::clone(memory))),
            receive_header: Lent::new(Box::new(ReceiveHeader(receive_header))),
        };
        // SAFETY: from here on the buffers go after the ring, or never.
        unsafe { shared.buffers.register(&shared.ring.submitter()) }.map_err(unavailable)?;
        Ok(shared)
    }

    /// Queues an operation; whether there was room.
    ///
    /// # Safety
    /// What `entry` points at is this value's own or `'static`, and stays untouched until its completion.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller's promise; what is this value's own outlives the ring.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// Where a receive finds its message header.
    pub(super) fn receive_header(&self) -> *const libc::msghdr {
        &raw const self.receive_header.0
    }

    /// The kernel may use this memory whatever becomes of the ring: none of it is ever unmapped.
    pub(super) fn leave_behind(&mut self) {
        self.buffers.kept = true;
        self.sends.kept = true;
        self.receive_header.kept = true;
    }
}

/// The kernel's refusal, told for the operator.
pub(super) fn unavailable(error: io::Error) -> io::Error {
    let reason: UringUnavailable = explain(&error);
    io::Error::new(io::ErrorKind::Unsupported, reason)
}
