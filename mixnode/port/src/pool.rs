//! Frames: all packet memory of a worker, allocated once at start.
//!
//! The pool is one mapping of 2 KiB chunks. A [`Frame`] is the right to use one chunk: a token that moves by
//! value, so that safe code can neither release a chunk twice nor reach it after giving it away. A datagram is
//! received, opened, held, sealed and sent in the same chunk and is never copied on the way.
//!
//! A room for unsafe code (chunks of mapped memory). What makes it sound: a token exists at most once per chunk,
//! carries the identity of its pool, and every reference into a chunk borrows its token.
#![allow(
    unsafe_code,
    reason = "frames are slices of one mapping, handed out by index"
)]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mapping::{Backing, Lock, Mapping, Options, prefetch};

pub use ebpf_abi::DATAGRAM_BYTES;
pub use handover::chunk::{CHUNK_BYTES, FRAMES_MAX, HEADROOM_BYTES};

/// Bytes a port may write for one datagram. More than a right-sized one takes, so that a longer datagram shows
/// its wrong length.
pub const ROOM_BYTES: usize = CHUNK_BYTES - HEADROOM_BYTES;
/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

const _: () = assert!(DATAGRAM_BYTES < ROOM_BYTES);

/// Touched now, locked as far as the limit allows, and, as opened packets lie there, kept out of core dumps.
const RESIDENT: Options = Options {
    populate: true,
    lock: Lock::Now,
    secret: true,
    huge: false,
};

/// Identities of pools: 0 is never given out, which makes `Option<Frame>` as small as `Frame`.
static NEXT_POOL: AtomicU32 = AtomicU32::new(1);

/// The right to use one chunk of one pool. Neither `Copy` nor `Clone`; given back with [`FramePool::release`].
#[must_use = "a dropped frame is lost to its pool: release it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pool: std::num::NonZeroU32,
    index: u32,
}

impl Frame {
    /// The chunk's number in its pool, below [`FramePool::capacity`]: the key of tables beside the pool.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// The mapping behind a pool. Shared with ports, which may have the kernel write into chunks whose tokens they
/// hold, so that memory outlives every such operation whatever is dropped first.
pub(crate) struct Memory {
    mapping: Mapping,
    pool: std::num::NonZeroU32,
}

impl Memory {
    fn map(
        frames: u32,
        pool: std::num::NonZeroU32,
        backing: Backing<'_>,
        options: Options,
    ) -> io::Result<Memory> {
        Ok(Memory {
            mapping: Mapping::new(frames as usize * CHUNK_BYTES, backing, options)?,
            pool,
        })
    }

    /// Address of the datagram of `frame`; `ROOM_BYTES` from it and `HEADROOM_BYTES` before it are the chunk's.
    #[inline]
    pub(crate) fn datagram_address(&self, frame: &Frame) -> *mut u8 {
        assert!(frame.pool == self.pool, "a frame of another pool");
        debug_assert!((frame.index as usize) < self.mapping.bytes() / CHUNK_BYTES);
        // SAFETY: tokens of this pool carry an index below its capacity, so the offset stays in the mapping.
        unsafe {
            self.mapping
                .address()
                .as_ptr()
                .add(frame.index as usize * CHUNK_BYTES + HEADROOM_BYTES)
        }
    }

    /// Asks the processor to load the first `bytes` of a datagram that will be read soon.
    #[inline]
    pub(crate) fn prefetch(&self, frame: &Frame, bytes: usize) {
        let address = self.datagram_address(frame);
        for offset in (0..bytes.min(ROOM_BYTES)).step_by(LINE_BYTES) {
            prefetch(address.wrapping_add(offset));
        }
    }

    /// All of a frame's chunk: headers, datagram and what is around them.
    #[inline]
    pub(crate) fn chunk_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8; CHUNK_BYTES] {
        // SAFETY: the datagram lies `HEADROOM_BYTES` into its chunk, all of which is mapped, initialised, and the
        // token's, which is unique and borrowed exclusively.
        unsafe {
            let chunk = self.datagram_address(frame).sub(HEADROOM_BYTES);
            &mut *chunk.cast::<[u8; CHUNK_BYTES]>()
        }
    }

    /// The datagram of a frame held elsewhere than in the pool's owner (a port sending it).
    #[inline]
    pub(crate) fn datagram<'a>(&'a self, frame: &'a Frame) -> &'a [u8; DATAGRAM_BYTES] {
        // SAFETY: the chunk is mapped for `self`'s life, holds initialised bytes (zero pages at first), and the
        // token is borrowed shared, so nobody writes through it meanwhile.
        unsafe { &*self.datagram_address(frame).cast::<[u8; DATAGRAM_BYTES]>() }
    }

    /// As [`Memory::datagram`], for writing.
    #[inline]
    pub(crate) fn datagram_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8; DATAGRAM_BYTES] {
        // SAFETY: as in `datagram`; the token is unique and borrowed exclusively, so is the chunk.
        unsafe { &mut *self.datagram_address(frame).cast::<[u8; DATAGRAM_BYTES]>() }
    }
}

/// A fixed set of frames. One per worker; nothing here allocates after [`FramePool::new`].
pub struct FramePool {
    memory: Arc<Memory>,
    free: Vec<u32>,
    capacity: u32,
}

impl FramePool {
    /// Maps `frames` chunks, untouched until used.
    ///
    /// # Errors
    /// `InvalidInput` unless `1 ≤ frames ≤ FRAMES_MAX`, or what `mmap` answered.
    pub fn new(frames: u32) -> io::Result<FramePool> {
        let options = Options {
            secret: true,
            ..Options::default()
        };
        FramePool::map(frames, Backing::Anonymous, options)
    }

    /// As [`FramePool::new`], touched now (on the calling thread's node) and locked into memory as far as the
    /// limit on locked memory allows; [`FramePool::is_locked`] tells whether it did.
    ///
    /// # Errors
    /// As [`FramePool::new`].
    pub fn locked(frames: u32) -> io::Result<FramePool> {
        FramePool::map(frames, Backing::Anonymous, RESIDENT)
    }

    /// A pool whose chunks lie in `memory`, a memfd that AF_XDP sockets have as their packet memory: chunk n of the
    /// pool is chunk n of theirs.
    ///
    /// # Errors
    /// As [`FramePool::new`]; `InvalidInput` too if the file holds fewer than `frames` chunks or is not sealed against
    /// shrinking (a shorter one would end this process with SIGBUS).
    pub fn shared(memory: BorrowedFd<'_>, frames: u32) -> io::Result<FramePool> {
        let seals = rustix::fs::fcntl_get_seals(memory)?;
        let bytes = rustix::fs::fstat(memory)?.st_size;
        let needed = i64::from(frames) * CHUNK_BYTES as i64;
        if bytes < needed || !seals.contains(rustix::fs::SealFlags::SHRINK) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the packet memory is too short or could become so: seal a memfd of frames × 2,048 bytes \
                 against shrinking",
            ));
        }
        FramePool::map(frames, Backing::File(memory, 0), RESIDENT)
    }

    fn map(frames: u32, backing: Backing<'_>, options: Options) -> io::Result<FramePool> {
        if frames == 0 || frames > FRAMES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a pool has 1 to 4,194,304 frames",
            ));
        }
        let identity = std::num::NonZeroU32::new(NEXT_POOL.fetch_add(1, Ordering::Relaxed))
            .ok_or_else(|| io::Error::other("pool identities exhausted"))?;
        let memory = Memory::map(frames, identity, backing, options)?;
        // Last in, first out: the chunk used last is the one most likely still in the cache.
        Ok(FramePool {
            memory: Arc::new(memory),
            free: (0..frames).rev().collect(),
            capacity: frames,
        })
    }

    /// Takes a frame, or `None` when all are in use. Its bytes are those of its last use.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        let index = self.free.pop()?;
        Some(Frame {
            pool: self.memory.pool,
            index,
        })
    }

    /// Gives a frame back.
    #[inline]
    pub fn release(&mut self, frame: Frame) {
        assert!(frame.pool == self.memory.pool, "a frame of another pool");
        debug_assert!(self.free.len() < self.capacity as usize);
        self.free.push(frame.index);
    }

    /// Number of frames in all.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Number of frames not in use.
    pub fn available(&self) -> u32 {
        self.free.len() as u32
    }

    /// Number of frames in use: by stages, the wheel and the port.
    pub fn in_use(&self) -> u32 {
        self.capacity - self.available()
    }

    /// Bytes of packet memory.
    pub fn bytes(&self) -> usize {
        self.memory.mapping.bytes()
    }

    /// Whether the memory is locked (never swapped).
    pub fn is_locked(&self) -> bool {
        self.memory.mapping.is_locked()
    }

    /// The datagram in `frame`.
    #[inline]
    pub fn datagram<'a>(&'a self, frame: &'a Frame) -> &'a [u8; DATAGRAM_BYTES] {
        self.memory.datagram(frame)
    }

    /// The datagram in `frame`, for writing.
    #[inline]
    pub fn datagram_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8; DATAGRAM_BYTES] {
        self.memory.datagram_mut(frame)
    }

    /// The datagrams of many frames at once, for writing, in the iterator's order: what a batch of
    /// cryptography works on. `pool.datagrams_mut(batch.iter_mut().map(|sealed| &mut sealed.frame))`.
    #[inline]
    pub fn datagrams_mut<'a, I>(
        &'a mut self,
        frames: I,
    ) -> impl Iterator<Item = &'a mut [u8; DATAGRAM_BYTES]> + 'a
    where
        I: IntoIterator<Item = &'a mut Frame>,
        I::IntoIter: 'a,
    {
        // Each token is borrowed exclusively for 'a, hence can't come twice, and one token is one chunk.
        let memory: &'a Memory = &self.memory;
        frames
            .into_iter()
            .map(move |frame| memory.datagram_mut(frame))
    }

    /// Asks the processor to load the head of a datagram that will be read soon.
    #[inline]
    pub fn prefetch(&self, frame: &Frame) {
        // Enough for the hardware's stream prefetcher to take over.
        self.memory.prefetch(frame, 4 * LINE_BYTES);
    }

    /// The mapping, for a port that has the kernel fill or read the frames it holds.
    pub(crate) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_each_frame_once_and_refuses_when_empty() {
        let mut pool = FramePool::new(8).unwrap();
        let mut frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(frames.len(), 8);
        assert_eq!(pool.available(), 0);
        let mut indices: Vec<u32> = frames.iter().map(Frame::index).collect();
        indices.sort_unstable();
        assert_eq!(indices, (0..8).collect::<Vec<_>>());
        for frame in frames.drain(..) {
            pool.release(frame);
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn frames_of_a_batch_are_written_at_once_and_stay_apart() {
        let mut pool = FramePool::locked(64).unwrap();
        let mut frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
        let datagrams: Vec<&mut [u8; DATAGRAM_BYTES]> =
            pool.datagrams_mut(frames.iter_mut()).collect();
        for (n, datagram) in datagrams.into_iter().enumerate() {
            datagram.fill(n as u8);
        }
        for (n, frame) in frames.iter().enumerate() {
            assert!(pool.datagram(frame).iter().all(|&byte| byte == n as u8));
            pool.prefetch(frame);
        }
        frames.into_iter().for_each(|frame| pool.release(frame));
    }

    #[test]
    #[should_panic(expected = "a frame of another pool")]
    fn a_frame_of_another_pool_is_refused() {
        let (mut one, mut two) = (FramePool::new(1).unwrap(), FramePool::new(1).unwrap());
        let frame = one.take().unwrap();
        two.release(frame);
    }

    #[test]
    fn a_pool_of_no_or_too_many_frames_is_refused() {
        assert!(FramePool::new(0).is_err());
        assert!(FramePool::new(FRAMES_MAX + 1).is_err());
    }

    fn memfd(bytes: u64, seals: rustix::fs::SealFlags) -> std::os::fd::OwnedFd {
        use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("frames", flags).unwrap();
        ftruncate(&file, bytes).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn a_shared_pool_lies_in_its_file_chunk_by_chunk() {
        use std::os::fd::AsFd;
        let file = memfd(8 * CHUNK_BYTES as u64, rustix::fs::SealFlags::SHRINK);
        let mut pool = FramePool::shared(file.as_fd(), 8).unwrap();
        let mut frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(frames.len(), 8);
        for frame in &mut frames {
            let index = frame.index() as u8;
            pool.datagram_mut(frame).fill(index);
        }
        for frame in frames {
            let mut datagram = [0; DATAGRAM_BYTES];
            let offset = frame.index() as usize * CHUNK_BYTES + HEADROOM_BYTES;
            rustix::io::pread(&file, &mut datagram, offset as u64).unwrap();
            assert!(
                datagram
                    .iter()
                    .all(|&byte| u32::from(byte) == frame.index())
            );
            pool.release(frame);
        }
    }

    #[test]
    fn a_shared_pool_refuses_memory_that_is_or_may_become_too_short() {
        use rustix::fs::SealFlags;
        use std::os::fd::AsFd;
        let short = memfd(8 * CHUNK_BYTES as u64 - 1, SealFlags::SHRINK);
        assert!(FramePool::shared(short.as_fd(), 8).is_err());
        let open = memfd(8 * CHUNK_BYTES as u64, SealFlags::GROW);
        assert!(FramePool::shared(open.as_fd(), 8).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(FramePool::shared(file.as_fd(), 1).is_err());
    }

    #[test]
    fn memory_outlives_its_pool_while_a_port_holds_it() {
        let mut pool = FramePool::new(2).unwrap();
        let mut frame = pool.take().unwrap();
        pool.datagram_mut(&mut frame).fill(7);
        let memory = pool.memory();
        drop(pool);
        assert_eq!(memory.datagram(&frame)[DATAGRAM_BYTES - 1], 7);
    }
}
