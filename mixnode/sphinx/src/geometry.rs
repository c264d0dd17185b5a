//! Sizes and offsets of the native packet, derived from one another and checked at compile time.

/// Most hops a path can have: gateway, one mix of each of three layers, gateway.
pub const HOPS_MAX: usize = 5;
/// Most packets one call of the batch engine opens.
pub const BATCH_MAX: usize = 64;

/// An X25519 public key used as a KEM ciphertext.
pub const KEM_BYTES: usize = 32;
/// A truncated keyed BLAKE3.
pub const MAC_BYTES: usize = 16;
/// A forwarding hop's part of the routing block.
pub const HOP_BLOCK_BYTES: usize = 1 + 1 + 4 + 2 + MAC_BYTES + KEM_BYTES;
/// The last hop's part of the routing block.
pub const FINAL_BLOCK_BYTES: usize = 1 + 1 + 4 + 2 + 16 + 8;
/// The encrypted routing block: a block for each forwarding hop and the final block.
pub const ROUTING_BYTES: usize = (HOPS_MAX - 1) * HOP_BLOCK_BYTES + FINAL_BLOCK_BYTES;
/// What travels ahead of the body: KEM ciphertext, MAC, routing block.
pub const HEADER_BYTES: usize = KEM_BYTES + MAC_BYTES + ROUTING_BYTES;
/// The body, one wide block.
pub const BODY_BYTES: usize = PACKET_BYTES - HEADER_BYTES;
/// A whole packet.
pub const PACKET_BYTES: usize = 1200;
/// Zero bytes at the front of a body by which its last reader knows that nobody altered it.
pub const CHECK_BYTES: usize = 16;
/// The plaintext a reply carries.
pub const REPLY_BYTES: usize = BODY_BYTES - CHECK_BYTES;
/// A single-use reply block: epoch, first hop, header, the replier's key.
pub const SURB_BYTES: usize = 4 + 2 + HEADER_BYTES + CIPHER_KEY_BYTES;

pub(crate) const MAC_OFFSET: usize = KEM_BYTES;
pub(crate) const ROUTING_OFFSET: usize = KEM_BYTES + MAC_BYTES;
/// An AES-128 key, for the header's stream and for the body.
pub(crate) const CIPHER_KEY_BYTES: usize = 16;
/// Keystream a hop spends on the header: the routing block and the zeros that take the place of the block it removes.
pub(crate) const STREAM_BYTES: usize = ROUTING_BYTES + HOP_BLOCK_BYTES;

const _: () = {
    assert!(HOP_BLOCK_BYTES == 56);
    assert!(FINAL_BLOCK_BYTES == 32);
    assert!(ROUTING_BYTES == 256);
    assert!(HEADER_BYTES == 304);
    assert!(BODY_BYTES == 896);
    assert!(REPLY_BYTES == 880);
    assert!(SURB_BYTES == 326);
    // The body is a whole number of AES blocks, which is all the wide-block cipher here is built for.
    assert!(BODY_BYTES.is_multiple_of(16));
    // The final block must fit where a hop's block would stand.
    assert!(FINAL_BLOCK_BYTES <= HOP_BLOCK_BYTES);
    // The keyed hash stays within one BLAKE3 chunk.
    assert!(KEM_BYTES + ROUTING_BYTES <= 1024);
};

/// One line of [`geometry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeometryField {
    /// What the bytes are.
    pub name: &'static str,
    /// Where they start, from the start of the unit they belong to.
    pub offset: usize,
    /// How many there are.
    pub bytes: usize,
    /// The unit: `packet`, `hop block`, `final block`, `reply block`.
    pub within: &'static str,
}

const fn field(
    within: &'static str,
    name: &'static str,
    offset: usize,
    bytes: usize,
) -> GeometryField {
    GeometryField {
        name,
        offset,
        bytes,
        within,
    }
}

const GEOMETRY: [GeometryField; 20] = [
    field("packet", "KEM ciphertext", 0, KEM_BYTES),
    field("packet", "MAC", MAC_OFFSET, MAC_BYTES),
    field("packet", "routing block", ROUTING_OFFSET, ROUTING_BYTES),
    field("packet", "body", HEADER_BYTES, BODY_BYTES),
    field("hop block", "command", 0, 1),
    field("hop block", "flags", 1, 1),
    field("hop block", "delay (µs)", 2, 4),
    field("hop block", "next hop", 6, 2),
    field("hop block", "next MAC", 8, MAC_BYTES),
    field("hop block", "next KEM ciphertext", 8 + MAC_BYTES, KEM_BYTES),
    field("final block", "command", 0, 1),
    field("final block", "flags", 1, 1),
    field("final block", "delay (µs)", 2, 4),
    field("final block", "zero", 6, 2),
    field("final block", "destination tag", 8, 16),
    field("final block", "id", 24, 8),
    field("reply block", "epoch", 0, 4),
    field("reply block", "first hop", 4, 2),
    field("reply block", "header", 6, HEADER_BYTES),
    field("reply block", "key", 6 + HEADER_BYTES, CIPHER_KEY_BYTES),
];

/// The layout of the packet, its blocks and the reply block, unit by unit and in order, without gaps.
pub const fn geometry() -> &'static [GeometryField] {
    &GEOMETRY
}

/// Reads `N` bytes at `offset`. Both are constants of the layout at every call.
pub(crate) fn read<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[offset..offset + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_geometry_table_has_no_gap_and_adds_up_to_each_unit() {
        for (unit, size) in [
            ("packet", PACKET_BYTES),
            ("hop block", HOP_BLOCK_BYTES),
            ("final block", FINAL_BLOCK_BYTES),
            ("reply block", SURB_BYTES),
        ] {
            let mut end = 0;
            for line in geometry().iter().filter(|line| line.within == unit) {
                assert_eq!(line.offset, end, "{unit}: {}", line.name);
                end += line.bytes;
            }
            assert_eq!(end, size, "{unit}");
        }
    }
}
