//! Building packets.

use super::keys::{HopKeys, PayloadKey};
use super::{
    CHECK_BYTES, Destination, ELEMENT_BYTES, HEADER_BYTES, PACKET_BYTES_MIN,
    PAYLOAD_OVERHEAD_BYTES, ROUTING_OFFSET, Version, header, lioness,
};
use crate::HOPS_MAX;
use crate::header::is_zero;
use crate::lanes::Lanes;
use arrayvec::ArrayVec;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

/// One node of a path, in the order of travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathHop {
    /// The node's X25519 key.
    pub public_key: [u8; 32],
    /// What the hop before sends to.
    pub address: [u8; 32],
    /// How long the node is to hold the packet; the last hop is told none.
    pub delay_ns: u64,
}

/// Why no packet was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// A path has at least one hop.
    #[error("the path is empty")]
    PathEmpty,
    /// A path has at most [`HOPS_MAX`] hops.
    #[error("the path has more than {} hops", HOPS_MAX)]
    PathTooLong,
    /// A key that shares no secret: it lies in the small subgroup.
    #[error("the public key of hop {0} has low order")]
    LowOrder(usize),
    /// The packet is shorter than the header and the shortest payload.
    #[error("a packet has at least {} bytes", PACKET_BYTES_MIN)]
    PacketTooShort,
    /// The message and its padding exceed the payload.
    #[error("the message does not fit the payload")]
    MessageTooLong,
    /// A reply block of this version can't be made, or its bytes do not parse.
    #[error("not a reply block of version 259 or 260")]
    Surb,
    /// Reply blocks of version 260 are found again by their identifier, so it can't be zero.
    #[error("the identifier is zero")]
    IdentifierZero,
}

pub(super) type PathKeys = ArrayVec<HopKeys, HOPS_MAX>;

/// Wraps `message` for `path`; the packet's length decides the payload's.
///
/// From `rng` come 32 bytes of ephemeral secret and the padding of the final block.
///
/// # Errors
/// See [`WrapError`]; the packet is then unspecified.
pub fn wrap<R: CryptoRng + ?Sized>(
    lanes: Lanes,
    rng: &mut R,
    version: Version,
    path: &[PathHop],
    destination: &Destination,
    message: &[u8],
    packet: &mut [u8],
) -> Result<(), WrapError> {
    let (header, keys) = build_header(lanes, rng, version, path, destination)?;
    let payload_keys = keys.iter().map(|keys| keys.payload(version));
    fill(packet, &header, message, payload_keys)
}

/// Header, padded message and its layers, from the last key to the first.
pub(super) fn fill(
    packet: &mut [u8],
    header: &[u8; HEADER_BYTES],
    message: &[u8],
    keys: impl DoubleEndedIterator<Item = PayloadKey>,
) -> Result<(), WrapError> {
    if packet.len() < PACKET_BYTES_MIN {
        return Err(WrapError::PacketTooShort);
    }
    let (packet_header, payload) = packet.split_at_mut(HEADER_BYTES);
    if message.len() > payload.len() - PAYLOAD_OVERHEAD_BYTES {
        return Err(WrapError::MessageTooLong);
    }
    packet_header.copy_from_slice(header);
    payload.fill(0);
    payload[CHECK_BYTES..CHECK_BYTES + message.len()].copy_from_slice(message);
    payload[CHECK_BYTES + message.len()] = 1;
    for key in keys.rev() {
        lioness::encrypt(&key, payload);
    }
    Ok(())
}

/// The header of a packet over `path`, and its hops' keys.
pub(super) fn build_header<R: CryptoRng + ?Sized>(
    lanes: Lanes,
    rng: &mut R,
    version: Version,
    path: &[PathHop],
    destination: &Destination,
) -> Result<([u8; HEADER_BYTES], PathKeys), WrapError> {
    if path.is_empty() {
        return Err(WrapError::PathEmpty);
    }
    if path.len() > HOPS_MAX {
        return Err(WrapError::PathTooLong);
    }
    let mut secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *secret);
    let element = crate::lanes::public_key(&secret);
    let keys = derive_keys(lanes, &secret, path)?;
    let (mac, routing) = header::build(rng, version, path, &keys, destination);
    let mut header = [0; HEADER_BYTES];
    header[..ELEMENT_BYTES].copy_from_slice(&element);
    header[ELEMENT_BYTES..ROUTING_OFFSET].copy_from_slice(&mac);
    header[ROUTING_OFFSET..].copy_from_slice(&routing);
    Ok((header, keys))
}

/// Hop i's secret is its key multiplied by the ephemeral secret and by the blinding factors of all hops before. Each
/// factor is applied to all hops that still need it in one batch; when a hop has had all of its own, its secret
/// gives the next factor.
fn derive_keys(lanes: Lanes, secret: &[u8; 32], path: &[PathHop]) -> Result<PathKeys, WrapError> {
    let mut points: Zeroizing<ArrayVec<[u8; 32], HOPS_MAX>> = Zeroizing::new(ArrayVec::new());
    points.extend(path.iter().map(|hop| hop.public_key));
    let mut factor = Zeroizing::new(*secret);
    let mut keys = PathKeys::new();
    for index in 0..path.len() {
        let mut factors = [*factor; HOPS_MAX];
        let mut products = [[0; 32]; HOPS_MAX];
        let count = path.len() - index;
        lanes.x25519(&factors[..count], &points[index..], &mut products[..count]);
        points[index..].copy_from_slice(&products[..count]);
        factors.zeroize();
        products.zeroize();
        if is_zero(&points[index]) {
            return Err(WrapError::LowOrder(index));
        }
        let hop = HopKeys::derive(&points[index]);
        *factor = hop.blinding();
        keys.push(hop);
    }
    Ok(keys)
}
