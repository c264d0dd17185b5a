//! The kernel's side of the rings: mapped into this process, found through the socket.
//!
//! A room for unsafe code: what the kernel says about offsets and sizes is checked against the mapping before a
//! pointer is made of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
    XdpDesc, XdpMmapOffsets, XdpRingFlags, XdpRingOffset,
};

use super::rings::{Consumer, Producer, RingMemory};
use handover::protocol::{FILL_ENTRIES, RING_ENTRIES};

/// One mapped ring of entries `T`.
pub struct MappedRing<T> {
    base: NonNull<u8>,
    bytes: usize,
    entries: u32,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    /// Absent in kernels before 5.4, which never ask to be woken.
    flags: Option<NonNull<AtomicU32>>,
    first: NonNull<T>,
}

// SAFETY: shared memory without thread affinity; the indices are atomic, and entries are reached through the one
// `Producer` or `Consumer` that owns this value.
unsafe impl<T: Send> Send for MappedRing<T> {}

impl<T: Copy> MappedRing<T> {
    fn map(
        socket: impl AsFd,
        page: u64,
        offsets: &XdpRingOffset,
        entries: u32,
    ) -> io::Result<MappedRing<T>> {
        let entry_bytes = entries as usize * size_of::<T>();
        let bytes = usize::try_from(offsets.desc)
            .ok()
            .and_then(|first| first.checked_add(entry_bytes))
            .ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: a mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_fd().as_raw_fd(),
                page as libc::off_t,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut ring = MappedRing {
            base,
            bytes,
            entries,
            // Dangling until the offsets are known to be good; dropping unmaps in any case.
            producer: NonNull::dangling(),
            consumer: NonNull::dangling(),
            flags: None,
            first: NonNull::dangling(),
        };
        ring.producer = ring.at(offsets.producer, size_of::<AtomicU32>())?;
        ring.consumer = ring.at(offsets.consumer, size_of::<AtomicU32>())?;
        ring.first = ring.at(offsets.desc, entry_bytes)?;
        ring.flags = match offsets.flags {
            Some(flags) => Some(ring.at(flags, size_of::<AtomicU32>())?),
            None => None,
        };
        Ok(ring)
    }

    /// A pointer to `bytes` bytes at `offset`, if they lie in the mapping and are aligned for `U`.
    fn at<U>(&self, offset: u64, bytes: usize) -> io::Result<NonNull<U>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "ring offsets out of bounds");
        let offset = usize::try_from(offset).map_err(|_| invalid())?;
        let end = offset.checked_add(bytes).ok_or_else(invalid)?;
        if end > self.bytes || !offset.is_multiple_of(align_of::<U>()) {
            return Err(invalid());
        }
        // SAFETY: the offset is inside the mapping.
        Ok(unsafe { self.base.add(offset) }.cast())
    }
}

impl<T> Drop for MappedRing<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its only user is gone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: `entries` is a power of two by the constants below; pointers were checked against the mapping.
unsafe impl<T: Copy> RingMemory for MappedRing<T> {
    type Entry = T;

    fn entries(&self) -> u32 {
        self.entries
    }

    fn producer(&self) -> u32 {
        // SAFETY: mapped, aligned, and shared with the kernel only as an atomic; so below.
        unsafe { self.producer.as_ref() }.load(Ordering::Acquire)
    }

    fn set_producer(&self, index: u32) {
        // SAFETY: as above.
        unsafe { self.producer.as_ref() }.store(index, Ordering::Release);
    }

    fn consumer(&self) -> u32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }.load(Ordering::Acquire)
    }

    fn set_consumer(&self, index: u32) {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }.store(index, Ordering::Release);
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as above.
        let flags = self.flags.map(|flags| unsafe { flags.as_ref() });
        flags.is_some_and(|flags| {
            XdpRingFlags::from_bits_retain(flags.load(Ordering::Relaxed))
                .contains(XdpRingFlags::XDP_RING_NEED_WAKEUP)
        })
    }

    unsafe fn read(&self, slot: u32) -> T {
        // SAFETY: the slot is in the mapping, and the kernel does not write it now.
        unsafe { self.first.add(slot as usize).read() }
    }

    unsafe fn write(&self, slot: u32, entry: T) {
        // SAFETY: the slot is in the mapping, and the kernel does not look at it now.
        unsafe { self.first.add(slot as usize).write(entry) };
    }
}

const _: () = assert!(RING_ENTRIES.is_power_of_two() && FILL_ENTRIES.is_power_of_two());

/// The four rings of one socket.
pub struct Rings {
    /// Chunks for the kernel to receive into, by address.
    pub fill: Producer<MappedRing<u64>>,
    /// Chunks the kernel has sent, by address.
    pub completion: Consumer<MappedRing<u64>>,
    /// Packets that came.
    pub receive: Consumer<MappedRing<XdpDesc>>,
    /// Packets to send.
    pub transmit: Producer<MappedRing<XdpDesc>>,
}

impl Rings {
    /// Maps the rings of `socket`, which was set up with the sizes of the loader's protocol.
    ///
    /// # Errors
    /// `InvalidInput` if they have other sizes, or what `mmap` answered.
    pub fn map(socket: impl AsFd) -> io::Result<Rings> {
        let socket = socket.as_fd();
        let XdpMmapOffsets { rx, tx, fr, cr, .. } = rustix::net::sockopt::xdp_mmap_offsets(socket)?;
        // SAFETY: whoever hands a socket to a port gives it up (`QueueSocket` owns the descriptor), so each side
        // that is user space's is this value's alone.
        unsafe {
            Ok(Rings {
                fill: Producer::new(MappedRing::map(
                    socket,
                    XDP_UMEM_PGOFF_FILL_RING,
                    &fr,
                    FILL_ENTRIES,
                )?),
                completion: Consumer::new(MappedRing::map(
                    socket,
                    XDP_UMEM_PGOFF_COMPLETION_RING,
                    &cr,
                    FILL_ENTRIES,
                )?),
                receive: Consumer::new(MappedRing::map(
                    socket,
                    XDP_PGOFF_RX_RING,
                    &rx,
                    RING_ENTRIES,
                )?),
                transmit: Producer::new(MappedRing::map(
                    socket,
                    XDP_PGOFF_TX_RING,
                    &tx,
                    RING_ENTRIES,
                )?),
            })
        }
    }
}

/// Whether a socket was set to prefer busy polling (SO_PREFER_BUSY_POLL, Linux 5.11); older kernels know no such thing.
///
/// # Errors
/// What the kernel answered: the descriptor is no socket.
pub fn prefers_busy_poll(socket: impl AsFd) -> io::Result<bool> {
    // asm-generic/socket.h; the crate libc does not name it.
    const SO_PREFER_BUSY_POLL: libc::c_int = 69;
    let (mut value, mut bytes): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `bytes` bytes to `value`, which is as large and lives past the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PREFER_BUSY_POLL,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    if outcome == 0 {
        return Ok(value != 0);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => Ok(false),
        _ => Err(error),
    }
}
