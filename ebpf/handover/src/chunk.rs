//! The packet memory that the loader makes and a worker's port works in: chunks, one datagram each.

/// Bytes of a chunk: a power of two that holds headroom and one datagram, so that no chunk crosses a page.
pub const CHUNK_BYTES: usize = 2048;
/// Bytes before the datagram in a chunk, for what a port puts there (io_uring's receive header; Ethernet, IP and
/// UDP headers in the fast path). A multiple of the cache line.
pub const HEADROOM_BYTES: usize = 320;
/// Most chunks of one worker: 8 GiB of packets.
pub const FRAMES_MAX: u32 = 1 << 22;

const _: () = assert!(CHUNK_BYTES.is_power_of_two() && HEADROOM_BYTES.is_multiple_of(64));
const _: () = assert!(HEADROOM_BYTES + ebpf_abi::DATAGRAM_BYTES < CHUNK_BYTES);
