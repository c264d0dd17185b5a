//! A node's end of the sockets it was handed, as little of it as the tests need: fills the fill ring, reads the
//! receive ring. The rings' layout is the kernel's (Documentation/networking/af_xdp.rst).
#![allow(
    unsafe_code,
    reason = "a bare AF_XDP socket, without the code under test"
)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use handover::chunk::CHUNK_BYTES;
use handover::protocol::{FILL_ENTRIES, RING_ENTRIES};
use rustix::net::sockopt;
use rustix::net::xdp::{XDP_PGOFF_RX_RING, XDP_UMEM_PGOFF_FILL_RING, XdpRingOffset};

/// A shared mapping.
struct Mapping {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory without thread affinity.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &OwnedFd, bytes: usize, offset: u64) -> Mapping {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        assert_ne!(
            base,
            libc::MAP_FAILED,
            "{}",
            std::io::Error::last_os_error()
        );
        Mapping {
            base: base.cast(),
            bytes,
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping, which nothing refers to any more.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

/// One ring; entries of `T`.
struct Ring<T> {
    mapping: Mapping,
    offsets: XdpRingOffset,
    entries: u32,
    entry: std::marker::PhantomData<T>,
}

impl<T> Ring<T> {
    fn new(socket: &OwnedFd, offsets: XdpRingOffset, entries: u32, offset: u64) -> Ring<T> {
        let bytes = offsets.desc as usize + entries as usize * size_of::<T>();
        let mapping = Mapping::new(socket, bytes, offset);
        Ring {
            mapping,
            offsets,
            entries,
            entry: std::marker::PhantomData,
        }
    }

    fn counter(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: the kernel says that a counter lies at this offset of the mapping, aligned.
        unsafe { &*self.mapping.base.add(offset as usize).cast::<AtomicU32>() }
    }

    fn entry(&self, position: u32) -> *mut T {
        let index = (position & (self.entries - 1)) as usize;
        // SAFETY: below `entries`, which the mapping has room for.
        unsafe {
            self.mapping
                .base
                .add(self.offsets.desc as usize)
                .cast::<T>()
                .add(index)
        }
    }
}

/// `struct xdp_desc`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    length: u32,
    options: u32,
}

/// One socket with its worker's memory.
pub struct Xsk {
    memory: Mapping,
    fill: Ring<u64>,
    receive: Ring<Descriptor>,
    _socket: OwnedFd,
}

/// A received Ethernet frame and where it lay in its chunk.
pub struct Received {
    pub offset: usize,
    pub frame: Vec<u8>,
}

impl Xsk {
    /// Takes a socket over, with the chunks `chunks` of its memory to receive into.
    pub fn new(socket: OwnedFd, memory: &OwnedFd, chunks: std::ops::Range<u32>) -> Xsk {
        let offsets = sockopt::xdp_mmap_offsets(&socket).unwrap();
        let xsk = Xsk {
            memory: Mapping::new(memory, chunks.end as usize * CHUNK_BYTES, 0),
            fill: Ring::new(&socket, offsets.fr, FILL_ENTRIES, XDP_UMEM_PGOFF_FILL_RING),
            receive: Ring::new(&socket, offsets.rx, RING_ENTRIES, XDP_PGOFF_RX_RING),
            _socket: socket,
        };
        for chunk in chunks.take(FILL_ENTRIES as usize) {
            xsk.give(u64::from(chunk) * CHUNK_BYTES as u64);
        }
        xsk
    }

    fn give(&self, address: u64) {
        let producer = self.fill.counter(self.fill.offsets.producer);
        let position = producer.load(Ordering::Relaxed);
        // SAFETY: an entry that is ours until the counter moves: no more chunks are given than the ring has room for.
        unsafe { *self.fill.entry(position) = address };
        producer.store(position.wrapping_add(1), Ordering::Release);
    }

    /// What has come.
    pub fn receive(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        let consumer = self.receive.counter(self.receive.offsets.consumer);
        let producer = self.receive.counter(self.receive.offsets.producer);
        let mut position = consumer.load(Ordering::Relaxed);
        while position != producer.load(Ordering::Acquire) {
            // SAFETY: the kernel has written this entry, and leaves it alone until the counter moves.
            let descriptor = unsafe { *self.receive.entry(position) };
            let (address, length) = (descriptor.address as usize, descriptor.length as usize);
            assert!(
                address + length <= self.memory.bytes,
                "outside of the memory"
            );
            // SAFETY: within the mapping, and the kernel gave this chunk back.
            let frame =
                unsafe { std::slice::from_raw_parts(self.memory.base.add(address), length) };
            received.push(Received {
                offset: address % CHUNK_BYTES,
                frame: frame.to_vec(),
            });
            self.give((address - address % CHUNK_BYTES) as u64);
            position = position.wrapping_add(1);
            consumer.store(position, Ordering::Release);
        }
        received
    }
}
