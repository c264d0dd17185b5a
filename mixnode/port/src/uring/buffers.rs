//! The buffer ring of multishot receive: frames lent to the kernel, which fills them in place.
//!
//! The kernel writes a header and the sender's address before the payload, hence into the frame's headroom, so
//! that the datagram itself lands where every other port puts it.
//!
//! A room for unsafe code (memory shared with the kernel). What makes it sound: the ring owns the token of every
//! frame it lent, and gives a token out only when the kernel has said that it is done with the buffer.
#![allow(unsafe_code, reason = "a ring of buffers shared with the kernel")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::mapping::{Backing, Mapping, Options};
use crate::pool::{Frame, FramePool, HEADROOM_BYTES, Memory, ROOM_BYTES};
use crate::socket::{KERNEL_ADDRESS_BYTES, KernelAddress};

/// `struct io_uring_recvmsg_out`: name, control and payload lengths and flags, four `u32`.
const RESULT_BYTES: usize = 16;
/// What the kernel puts before the payload: its result header and room for the sender's address.
const PREFIX_BYTES: usize = RESULT_BYTES + KERNEL_ADDRESS_BYTES;
const _: () = assert!(PREFIX_BYTES <= HEADROOM_BYTES && PREFIX_BYTES.is_multiple_of(4));

/// The only buffer group of a port's ring.
pub(super) const GROUP: u16 = 0;

/// Frames lent to the kernel for receiving.
pub(super) struct BufferRing {
    entries: Mapping,
    count: u16,
    tail: u16,
    /// Which frame a buffer number stands for.
    lent: Box<[Option<Frame>]>,
    free: Vec<u16>,
    memory: Arc<Memory>,
}

impl BufferRing {
    /// A ring of `count` buffers, a power of two up to 32,768, none of them filled yet.
    pub(super) fn new(count: u16, memory: Arc<Memory>) -> io::Result<BufferRing> {
        debug_assert!(count.is_power_of_two());
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let options = Options {
            populate: true,
            ..Options::default()
        };
        let entries = Mapping::new(bytes, Backing::Anonymous, options)?;
        Ok(BufferRing {
            entries,
            count,
            tail: 0,
            lent: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
            memory,
        })
    }

    fn entries(&self) -> *mut BufRingEntry {
        self.entries.address().cast().as_ptr()
    }

    /// Tells the kernel about the ring.
    ///
    /// # Safety
    /// This value lives until the kernel's ring is closed or has unregistered the buffers.
    pub(super) unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        // SAFETY: the mapping has `count` entries, and stays as the caller promises.
        unsafe {
            submitter.register_buf_ring_with_flags(self.entries() as u64, self.count, GROUP, 0)
        }
    }

    /// Number of frames lent.
    pub(super) fn lent(&self) -> usize {
        usize::from(self.count) - self.free.len()
    }

    /// Lends frames of `pool` while both have any.
    pub(super) fn refill(&mut self, pool: &mut FramePool) {
        let before = self.tail;
        while let Some(&number) = self.free.last()
            && let Some(frame) = pool.take()
        {
            self.free.pop();
            let address = self.memory.datagram_address(&frame) as u64 - PREFIX_BYTES as u64;
            let slot = usize::from(self.tail & (self.count - 1));
            // SAFETY: `slot` is below `count`, so the entry is in the mapping; the kernel reads it only after the
            // tail below has passed it. The buffer is the chunk's own: prefix in the headroom, payload in the room.
            unsafe {
                let entry = self.entries().add(slot);
                (*entry).set_addr(address);
                (*entry).set_len((PREFIX_BYTES + ROOM_BYTES) as u32);
                (*entry).set_bid(number);
            }
            self.lent[usize::from(number)] = Some(frame);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            // SAFETY: the tail is the reserved field of the first entry, aligned for u16 and in the mapping; it is
            // shared with the kernel, hence atomic. Release: entries are written before it.
            unsafe {
                let tail = BufRingEntry::tail(self.entries());
                AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Ordering::Release);
            }
        }
    }

    /// Takes back a buffer the kernel has filled: its frame, who sent it, and its length.
    pub(super) fn filled(&mut self, number: u16) -> Option<(Frame, SocketAddr, usize)> {
        let frame = self.lent.get_mut(usize::from(number))?.take()?;
        self.free.push(number);
        // SAFETY: the prefix lies in the frame's headroom, whose token is held here; both reads are unaligned-safe
        // and of types without invalid values.
        let (payload_bytes, source) = unsafe {
            let prefix = self.memory.datagram_address(&frame).sub(PREFIX_BYTES);
            (
                prefix.add(8).cast::<u32>().read_unaligned(),
                prefix
                    .add(RESULT_BYTES)
                    .cast::<KernelAddress>()
                    .read_unaligned(),
            )
        };
        Some((
            frame,
            source.get(),
            (payload_bytes as usize).min(ROOM_BYTES),
        ))
    }

    /// Takes back every frame. Only when the kernel can't use the ring any more.
    pub(super) fn drain(&mut self, pool: &mut FramePool) {
        for (number, lent) in self.lent.iter_mut().enumerate() {
            if let Some(frame) = lent.take() {
                self.free.push(number as u16);
                pool.release(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the kernel: writes what a receive completion leaves in a buffer.
    fn fill(memory: &Memory, frame: &Frame, source: SocketAddr, payload: &[u8]) {
        let mut address = KernelAddress::empty();
        address.set(source);
        // SAFETY: test code writing into the chunk whose token the ring under test holds; nobody reads meanwhile.
        unsafe {
            let prefix = memory.datagram_address(frame).sub(PREFIX_BYTES);
            prefix
                .add(8)
                .cast::<u32>()
                .write_unaligned(payload.len() as u32);
            prefix
                .add(RESULT_BYTES)
                .cast::<KernelAddress>()
                .write_unaligned(address);
            std::ptr::copy_nonoverlapping(
                payload.as_ptr(),
                memory.datagram_address(frame),
                payload.len(),
            );
        }
    }

    #[test]
    fn the_ring_wraps_and_every_frame_comes_back_without_the_kernel() {
        let mut pool = FramePool::new(12).unwrap();
        let mut ring = BufferRing::new(8, pool.memory()).unwrap();
        let source: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        // More rounds than the 16-bit tail has values.
        for round in 0..10_000u32 {
            ring.refill(&mut pool);
            assert_eq!((ring.lent(), pool.available()), (8, 4));
            let number = (round * 3 % 8) as u16;
            fill(
                &pool.memory(),
                ring.lent[usize::from(number)].as_ref().unwrap(),
                source,
                &round.to_le_bytes(),
            );
            let (frame, from, length) = ring.filled(number).unwrap();
            assert_eq!((from, length), (source, 4));
            assert_eq!(pool.datagram(&frame)[..4], round.to_le_bytes());
            assert!(ring.filled(number).is_none(), "a buffer comes back once");
            pool.release(frame);
        }
        ring.drain(&mut pool);
        assert_eq!((ring.lent(), pool.available()), (0, 12));
    }

    #[test]
    fn an_unknown_buffer_number_is_nothing() {
        let pool = FramePool::new(1).unwrap();
        let mut ring = BufferRing::new(1, pool.memory()).unwrap();
        assert!(ring.filled(0).is_none());
        assert!(ring.filled(9).is_none());
    }
}
