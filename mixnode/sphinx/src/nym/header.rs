//! The blocks inside β, building and peeling it.

use super::keys::HopKeys;
use super::{
    BLOCK_BYTES, Destination, FINAL_BLOCK_BYTES, HEADER_BYTES, MAC_BYTES, PathHop, ROUTING_BYTES,
    ROUTING_OFFSET, STREAM_BYTES, Version,
};
use crate::geometry::read;
use crate::header::xor;
use crate::wipe::Wiping;
use crate::{HOPS_MAX, Reject};
use aes::Aes128Enc;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rand_core::CryptoRng;

const FORWARD: u8 = 1;
const FINAL: u8 = 2;

/// What a hop finds in its block.
pub(super) enum Block {
    Forward { next: [u8; 32], delay_ns: u64 },
    Final(Destination),
}

fn keystream(keys: &HopKeys) -> Wiping<STREAM_BYTES> {
    let key = Wiping::new(keys.stream());
    let mut stream = Wiping::new([0; STREAM_BYTES]);
    ctr::Ctr64BE::<Aes128Enc>::new((&*key).into(), &[0; 16].into()).apply_keystream(&mut *stream);
    stream
}

/// MAC and β for the first hop, given every hop's keys.
pub(super) fn build<R: CryptoRng + ?Sized>(
    rng: &mut R,
    version: Version,
    path: &[PathHop],
    keys: &[HopKeys],
    destination: &Destination,
) -> ([u8; MAC_BYTES], [u8; ROUTING_BYTES]) {
    debug_assert!(path.len() == keys.len() && (1..=HOPS_MAX).contains(&path.len()));
    let Some((last, before)) = keys.split_last() else {
        return ([0; MAC_BYTES], [0; ROUTING_BYTES]);
    };
    // What the hops before will have put behind the final block when it arrives: the tails of their keystreams.
    let filler_start = ROUTING_BYTES - BLOCK_BYTES * before.len();
    let mut filler = [0; ROUTING_BYTES];
    for (index, hop) in before.iter().enumerate() {
        let grown = BLOCK_BYTES * (index + 1);
        xor(
            &mut filler[..grown],
            &keystream(hop)[STREAM_BYTES - grown..],
        );
    }
    let mut routing = [0; ROUTING_BYTES];
    routing[0] = FINAL;
    routing[1..4].copy_from_slice(&version.to_bytes());
    routing[4..36].copy_from_slice(&destination.address);
    routing[36..FINAL_BLOCK_BYTES].copy_from_slice(&destination.identifier);
    // Random, for zeros would tell the last hop how long the path was.
    rng.fill_bytes(&mut routing[FINAL_BLOCK_BYTES..filler_start]);
    xor(&mut routing[..filler_start], &keystream(last)[..]);
    routing[filler_start..].copy_from_slice(&filler[..BLOCK_BYTES * before.len()]);
    let mut mac = last.mac(&routing);
    for ((hop, keys), next) in path.iter().zip(before).zip(path.iter().skip(1)).rev() {
        routing.copy_within(..ROUTING_BYTES - BLOCK_BYTES, BLOCK_BYTES);
        routing[0] = FORWARD;
        routing[1..4].copy_from_slice(&version.to_bytes());
        routing[4..36].copy_from_slice(&next.address);
        routing[36..44].copy_from_slice(&hop.delay_ns.to_be_bytes());
        routing[44..BLOCK_BYTES].copy_from_slice(&mac);
        xor(&mut routing, &keystream(keys)[..]);
        mac = keys.mac(&routing);
    }
    (mac, routing)
}

/// Takes this hop's block off a header whose MAC held. After [`Block::Forward`] MAC and β are the next hop's.
pub(super) fn peel(
    header: &mut [u8; HEADER_BYTES],
    keys: &HopKeys,
    delay_max_ns: u64,
) -> Result<(Version, Block), Reject> {
    let stream = keystream(keys);
    let mut block: [u8; BLOCK_BYTES] = read(header, ROUTING_OFFSET);
    xor(&mut block, &stream[..]);
    let version = Version::from_bytes(read(&block, 1)).ok_or(Reject::Reserved)?;
    let address = read(&block, 4);
    match block[0] {
        FORWARD => {
            let delay_ns = u64::from_be_bytes(read(&block, 36));
            if delay_ns > delay_max_ns {
                return Err(Reject::Delay);
            }
            let (front, routing) = header.split_at_mut(ROUTING_OFFSET);
            front[ROUTING_OFFSET - MAC_BYTES..].copy_from_slice(&block[44..]);
            routing.copy_within(BLOCK_BYTES.., 0);
            routing[ROUTING_BYTES - BLOCK_BYTES..].fill(0);
            xor(routing, &stream[BLOCK_BYTES..]);
            let next = address;
            Ok((version, Block::Forward { next, delay_ns }))
        }
        FINAL => {
            let identifier = read(&block, 36);
            let destination = Destination {
                address,
                identifier,
            };
            Ok((version, Block::Final(destination)))
        }
        _ => Err(Reject::Command),
    }
}
