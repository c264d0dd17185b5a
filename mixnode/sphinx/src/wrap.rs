//! Building packets: the header from its last hop to its first, then the body's layers.

use crate::geometry::{
    CIPHER_KEY_BYTES, FINAL_BLOCK_BYTES, HOP_BLOCK_BYTES, KEM_BYTES, MAC_BYTES, MAC_OFFSET,
    ROUTING_OFFSET, STREAM_BYTES,
};
use crate::header::{final_block, hop_block, keystream, xor};
use crate::keys::KeyDerivation;
use crate::lanes::Lanes;
use crate::pairs::Pairs;
use crate::wipe::Wiping;
use crate::{BODY_BYTES, HEADER_BYTES, HOPS_MAX, PACKET_BYTES, ROUTING_BYTES, Terminal, hctr2};
use arrayvec::ArrayVec;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

/// One node of a path, in the order of travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathHop {
    /// The node's key of the packet's epoch.
    pub public_key: [u8; 32],
    /// The node's index in that epoch's consensus.
    pub node: u16,
    /// How long this node is to hold the packet. Nodes refuse what exceeds their bound: resample below it.
    pub delay_us: u32,
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
}

/// The hops' body keys, first hop first.
pub(crate) type BodyKeys = Zeroizing<ArrayVec<[u8; CIPHER_KEY_BYTES], HOPS_MAX>>;

/// Wraps `body` for `path`: after the last hop's layer is removed, `body` is what is there.
///
/// For [`Terminal::Loop`] and [`Terminal::Drop`] the first [`CHECK_BYTES`](crate::CHECK_BYTES) of the body must be
/// zero, or the last hop rejects it. A body for a client is ciphertext already: nothing on the way checks it.
///
/// From `rng` come, in this order, 32 bytes a hop in the order of travel (the ephemeral secrets) and the padding
/// behind the final block, 224 − 56 × (hops − 1) bytes.
///
/// # Errors
/// See [`WrapError`]; the packet is then unspecified.
pub fn wrap<R: CryptoRng + ?Sized>(
    rng: &mut R,
    path: &[PathHop],
    terminal: &Terminal,
    body: &[u8; BODY_BYTES],
    packet: &mut [u8; PACKET_BYTES],
) -> Result<(), WrapError> {
    let derivation = KeyDerivation::new();
    let mut pairs = Pairs::new();
    let draft = Draft::draw(rng, path, &mut pairs)?;
    pairs.multiply(Lanes::detect());
    draft.packet(path, terminal, body, &pairs, &derivation, packet)
}

/// A header to be: its secrets are among the pairs of a batch, the rest of what was drawn is here.
pub(crate) struct Draft {
    /// Index of the first hop's pair.
    first: usize,
    /// Of the room behind the final block as much as the path leaves.
    padding: [u8; PADDING_BYTES_MAX],
}

impl Draft {
    /// Draws a header's ephemeral secrets, which must find room among the pairs, and then its padding.
    pub(crate) fn draw<R: CryptoRng + ?Sized>(
        rng: &mut R,
        path: &[PathHop],
        pairs: &mut Pairs,
    ) -> Result<Self, WrapError> {
        if path.is_empty() {
            return Err(WrapError::PathEmpty);
        }
        if path.len() > HOPS_MAX {
            return Err(WrapError::PathTooLong);
        }
        let first = pairs.draw(rng, path);
        let mut padding = [0; PADDING_BYTES_MAX];
        rng.fill_bytes(&mut padding[..PADDING_BYTES_MAX - filler_bytes(path)]);
        Ok(Self { first, padding })
    }

    /// The packet, once the pairs are multiplied.
    pub(crate) fn packet(
        &self,
        path: &[PathHop],
        terminal: &Terminal,
        body: &[u8; BODY_BYTES],
        pairs: &Pairs,
        derivation: &KeyDerivation,
        packet: &mut [u8; PACKET_BYTES],
    ) -> Result<(), WrapError> {
        let (header, keys) = self.header(path, terminal, pairs, derivation)?;
        let (packet_header, packet_body) = packet.split_at_mut(HEADER_BYTES);
        packet_header.copy_from_slice(&header);
        packet_body.copy_from_slice(body);
        for key in keys.iter().rev() {
            hctr2::encrypt(key, packet_body);
        }
        Ok(())
    }

    /// The header, once the pairs are multiplied, and the keys that its hops will decrypt the body with.
    pub(crate) fn header(
        &self,
        path: &[PathHop],
        terminal: &Terminal,
        pairs: &Pairs,
        derivation: &KeyDerivation,
    ) -> Result<([u8; HEADER_BYTES], BodyKeys), WrapError> {
        let last = path.last().ok_or(WrapError::PathEmpty)?;
        let hops = pairs.encapsulated(self.first, path, derivation)?;
        let streams: ArrayVec<Wiping<STREAM_BYTES>, HOPS_MAX> = hops
            .iter()
            .map(|hop| keystream(hop.keys.stream()))
            .collect();

        // What the last hop finds behind its block is random bytes and then the filler, which is keystream: the same
        // to everyone who lacks the keys, whatever the length of the path.
        let filler_start = ROUTING_BYTES - filler_bytes(path);
        let mut routing = [0; ROUTING_BYTES];
        routing[..FINAL_BLOCK_BYTES].copy_from_slice(&final_block(last.delay_us, terminal));
        let random = &self.padding[..filler_start - FINAL_BLOCK_BYTES];
        routing[FINAL_BLOCK_BYTES..filler_start].copy_from_slice(random);

        let mut header = [0; HEADER_BYTES];
        for (index, (hop, stream)) in hops.iter().zip(&streams).enumerate().rev() {
            if let Some(next) = path.get(index + 1) {
                let (mac, ciphertext) = mac_and_ciphertext(&header);
                let block = hop_block(path[index].delay_us, next.node, &mac, &ciphertext);
                routing.copy_within(..ROUTING_BYTES - HOP_BLOCK_BYTES, HOP_BLOCK_BYTES);
                routing[..HOP_BLOCK_BYTES].copy_from_slice(&block);
                xor(&mut routing, &stream[..]);
            } else {
                xor(&mut routing[..filler_start], &stream[..]);
                write_filler(&mut routing[filler_start..], &streams);
            }
            header[..KEM_BYTES].copy_from_slice(&hop.ciphertext);
            header[ROUTING_OFFSET..].copy_from_slice(&routing);
            let mac = hop.keys.mac(&header);
            header[MAC_OFFSET..ROUTING_OFFSET].copy_from_slice(&mac);
        }
        let keys = hops.iter().map(|hop| *hop.keys.body()).collect();
        Ok((header, Zeroizing::new(keys)))
    }
}

/// What is left of the routing block beside the final block.
const PADDING_BYTES_MAX: usize = ROUTING_BYTES - FINAL_BLOCK_BYTES;

/// What the hops before the last will have put at the end of the routing block.
const fn filler_bytes(path: &[PathHop]) -> usize {
    (path.len() - 1) * HOP_BLOCK_BYTES
}

/// What the zeros that each forwarding hop appends have become when they reach the last hop: hop i shifts the
/// filler up by one block and masks it, together with its new zeros, with the end of its keystream.
fn write_filler(filler: &mut [u8], streams: &[Wiping<STREAM_BYTES>]) {
    filler.zeroize();
    let steps = filler.len() / HOP_BLOCK_BYTES;
    for (index, stream) in streams.iter().take(steps).enumerate() {
        let end = (index + 1) * HOP_BLOCK_BYTES;
        xor(&mut filler[..end], &stream[STREAM_BYTES - end..]);
    }
}

fn mac_and_ciphertext(header: &[u8; HEADER_BYTES]) -> ([u8; MAC_BYTES], [u8; KEM_BYTES]) {
    (
        crate::geometry::read(header, MAC_OFFSET),
        crate::geometry::read(header, 0),
    )
}
