//! The kernel's side of the rings: mapped into this process, found through the socket.
//!
//! A room for unsafe code: what the kernel says about offsets and sizes is checked against the mapping before a
//! pointer is made of it.
#![allow(unsafe_code, reason = "rings and packet memory shared with the kernel")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
    XdpDesc, XdpMmapOffsets, XdpRingFlags, XdpRingOffset,
};

use super::claim::Claim;
use super::rings::{Consumer, Producer, RingMemory};
use crate::mapping::{Backing, Mapping, Options};
use handover::protocol::{FILL_ENTRIES, RING_ENTRIES};

/// One mapped ring of entries `T`.
pub struct MappedRing<T> {
    entries: u32,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    /// Absent in kernels before 5.4, which never ask to be woken.
    flags: Option<NonNull<AtomicU32>>,
    first: NonNull<T>,
    /// Where all of these point.
    _mapping: Mapping,
}

// SAFETY: shared memory without thread affinity; the indices are atomic, and entries are reached through the one
// `Producer` or `Consumer` that owns this value.
unsafe impl<T: Send> Send for MappedRing<T> {}

impl<T: Copy> MappedRing<T> {
    fn map(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: &XdpRingOffset,
        entries: u32,
    ) -> io::Result<MappedRing<T>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "ring offsets out of bounds");
        let offset = |offset: u64| usize::try_from(offset).map_err(|_| invalid());
        let first = offset(offsets.desc)?;
        let bytes = (entries as usize * size_of::<T>())
            .checked_add(first)
            .ok_or_else(invalid)?;
        let options = Options {
            populate: true,
            ..Options::default()
        };
        let mapping = Mapping::new(bytes, Backing::File(socket, page), options)?;
        // The kernel does not tell a ring's size, but maps no more than there is. In a larger one each side would look
        // for entries where the other has none.
        let twice = bytes + entries as usize * size_of::<T>();
        if Mapping::new(twice, Backing::File(socket, page), Options::default()).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the rings of an AF_XDP socket are larger than those of this version: use the mixctld of this version",
            ));
        }
        let index = |at: u64| mapping.at(offset(at)?, 1).ok_or_else(invalid);
        Ok(MappedRing {
            entries,
            producer: index(offsets.producer)?,
            consumer: index(offsets.consumer)?,
            flags: offsets.flags.map(index).transpose()?,
            first: mapping.at(first, entries as usize).ok_or_else(invalid)?,
            _mapping: mapping,
        })
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
        // A store of ours and this load would else pass each other: x86 and others keep stores back.
        fence(Ordering::SeqCst);
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

/// A socket and its four rings.
pub struct Rings {
    /// Chunks for the kernel to receive into, by address.
    pub fill: Producer<MappedRing<u64>>,
    /// Chunks the kernel has sent, by address.
    pub completion: Consumer<MappedRing<u64>>,
    /// Packets that came.
    pub receive: Consumer<MappedRing<XdpDesc>>,
    /// Packets to send.
    pub transmit: Producer<MappedRing<XdpDesc>>,
    /// Given up after the rings, and before the socket.
    _claim: Claim,
    socket: OwnedFd,
}

/// Before Linux 6.4 rings can be mapped only as long as their socket is not bound.
fn bound_for_good(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBUSY) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel, older than Linux 6.4, lets nobody map the rings of an AF_XDP socket that is bound, and this \
             mixctld binds before it hands over: use the mixctld of this version, or port = \"uring\"",
        ),
        _ => error,
    }
}

impl Rings {
    /// Maps the rings of `socket`, which was set up with the sizes of the loader's protocol.
    ///
    /// # Errors
    /// `InvalidInput` if they have other sizes, `AlreadyExists` if they are in use already, `Unsupported` if the socket is
    /// bound and the kernel older than Linux 6.4, or what `mmap` answered.
    pub fn map(socket: OwnedFd) -> io::Result<Rings> {
        let claim = Claim::of(&socket)?;
        let XdpMmapOffsets { rx, tx, fr, cr, .. } =
            rustix::net::sockopt::xdp_mmap_offsets(&socket)?;
        let file = socket.as_fd();
        let fill = MappedRing::map(file, XDP_UMEM_PGOFF_FILL_RING, &fr, FILL_ENTRIES)
            .map_err(bound_for_good)?;
        let completion = MappedRing::map(file, XDP_UMEM_PGOFF_COMPLETION_RING, &cr, FILL_ENTRIES)?;
        let receive = MappedRing::map(file, XDP_PGOFF_RX_RING, &rx, RING_ENTRIES)?;
        let transmit = MappedRing::map(file, XDP_PGOFF_TX_RING, &tx, RING_ENTRIES)?;
        // SAFETY: user space's side of each ring is this value's alone: it holds the claim, which nothing else in this
        // process can have at the same time, for as long as it holds the rings.
        unsafe {
            Ok(Rings {
                fill: Producer::new(fill),
                completion: Consumer::new(completion),
                receive: Consumer::new(receive),
                transmit: Producer::new(transmit),
                _claim: claim,
                socket,
            })
        }
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn rings_of_another_size_than_the_protocols_are_refused() {
        let map = |receive: u32, fill: u32| {
            let raw = SocketType::RAW;
            let socket =
                rustix::net::socket_with(AddressFamily::XDP, raw, SocketFlags::CLOEXEC, None);
            let socket = socket.unwrap();
            sockopt::set_xdp_umem_fill_ring_size(&socket, fill).unwrap();
            sockopt::set_xdp_umem_completion_ring_size(&socket, fill).unwrap();
            sockopt::set_xdp_rx_ring_size(&socket, receive).unwrap();
            sockopt::set_xdp_tx_ring_size(&socket, receive).unwrap();
            Rings::map(socket).map(|_| ())
        };
        map(RING_ENTRIES, FILL_ENTRIES).unwrap();
        for (receive, fill) in [
            (2 * RING_ENTRIES, FILL_ENTRIES),
            (RING_ENTRIES, 2 * FILL_ENTRIES),
            (8 * RING_ENTRIES, 8 * FILL_ENTRIES),
            (RING_ENTRIES / 4, FILL_ENTRIES),
            (RING_ENTRIES, FILL_ENTRIES / 4),
        ] {
            assert!(map(receive, fill).is_err(), "{receive}, {fill}");
        }
    }
}
