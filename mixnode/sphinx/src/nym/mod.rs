//! The packet of Nym's mixnet, byte for byte that of the crate `sphinx-packet` 0.6 and 0.8 (wire versions 258 to
//! 260): classic Sphinx, one group element that every hop blinds, HMAC-SHA256, AES-128-CTR and a LIONESS payload.
//!
//! It is opened by the same batches as the native suite, with two scalar multiplications a hop: the shared secret,
//! and, for packets that go on, the blinded element, whose factor comes out of the first.
//!
//! Packet: α 32 | MAC 16 | β 300 (five blocks of 60) | payload. A hop's block: 1 | version 3 | next address 32 |
//! delay 8 (nanoseconds, big endian) | next MAC 16. The final block: 2 | version 3 | destination 32 | identifier 16 |
//! random padding. Payload before its layers: 16 zeros | message | 1 | zeros.
//!
//! Two things differ from that crate, on purpose: a point of low order is refused, and so are versions that it does
//! not define or treats otherwise in its two releases (1 and 257).

mod header;
mod keys;
mod lioness;
mod surb;
mod unwrap;
mod wrap;

pub use surb::{Surb, SurbSecret, surb_create, surb_open, surb_use};
pub use unwrap::{Command, Engine, Job, Unwrapped};
pub use wrap::{PathHop, WrapError, wrap};

/// Names a packet at a hop.
pub type ReplayTag = [u8; 32];

/// α, MAC and β.
pub const HEADER_BYTES: usize = ROUTING_OFFSET + ROUTING_BYTES;
/// The payload that crate uses when told nothing else.
pub const PAYLOAD_BYTES: usize = 1024;
/// A packet with that payload.
pub const PACKET_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES;
/// What a payload spends on leading zeros and the byte after the message.
pub const PAYLOAD_OVERHEAD_BYTES: usize = CHECK_BYTES + 1;
/// The shortest packet: LIONESS needs more than its left half.
pub const PACKET_BYTES_MIN: usize = HEADER_BYTES + lioness::LEFT_BYTES + 1;
/// Most bytes of a reply block: header, first hop, a seed a hop.
pub const SURB_BYTES_MAX: usize = HEADER_BYTES + 32 + crate::HOPS_MAX * keys::SEED_BYTES;

const ELEMENT_BYTES: usize = 32;
const MAC_BYTES: usize = 16;
const ROUTING_OFFSET: usize = ELEMENT_BYTES + MAC_BYTES;
const BLOCK_BYTES: usize = 1 + 3 + 32 + 8 + MAC_BYTES;
const ROUTING_BYTES: usize = crate::HOPS_MAX * BLOCK_BYTES;
const FINAL_BLOCK_BYTES: usize = 1 + 3 + 32 + 16;
const STREAM_BYTES: usize = ROUTING_BYTES + BLOCK_BYTES;
const CHECK_BYTES: usize = 16;

const _: () = assert!(HEADER_BYTES == 348 && BLOCK_BYTES == 60 && STREAM_BYTES == 360);

/// Wire version: how payload keys are derived, and what a reply block carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 258: the payload key is part of the first key derivation.
    ExplicitPayloadKeys,
    /// 259: the payload key comes from a seed; reply blocks carry every hop's seed.
    PayloadKeySeeds,
    /// 260: as 259, but reply blocks carry the last hop's seed alone and their creator undoes the layers.
    SingleSeedSurb,
}

impl Version {
    fn from_bytes(bytes: [u8; 3]) -> Option<Self> {
        match bytes {
            [0, 1, 2] => Some(Self::ExplicitPayloadKeys),
            [0, 1, 3] => Some(Self::PayloadKeySeeds),
            [0, 1, 4] => Some(Self::SingleSeedSurb),
            _ => None,
        }
    }

    fn to_bytes(self) -> [u8; 3] {
        match self {
            Self::ExplicitPayloadKeys => [0, 1, 2],
            Self::PayloadKeySeeds => [0, 1, 3],
            Self::SingleSeedSurb => [0, 1, 4],
        }
    }
}

/// Whom the last hop is to give the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The recipient's address at the last hop.
    pub address: [u8; 32],
    /// Which reply block this answers; any value in a forward packet.
    pub identifier: [u8; 16],
}

/// The message inside a payload whose layers are all removed.
///
/// # Errors
/// [`Reject::Body`](crate::Reject::Body) if the leading zeros or the byte after the message are missing.
pub fn message(payload: &[u8]) -> Result<&[u8], crate::Reject> {
    let (check, padded) = payload
        .split_first_chunk::<CHECK_BYTES>()
        .ok_or(crate::Reject::Body)?;
    if !crate::header::is_zero(check) {
        return Err(crate::Reject::Body);
    }
    // The peer takes the last 1 in the payload for the end, and so does this.
    let end = padded.iter().rposition(|byte| *byte == 1);
    end.and_then(|end| padded.get(..end))
        .ok_or(crate::Reject::Body)
}
