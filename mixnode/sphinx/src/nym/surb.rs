//! Single-use reply blocks: header | first hop's address 32 | payload key seeds, in the order of travel.

use super::keys::{SEED_BYTES, payload_key};
use super::wrap::{build_header, fill};
use super::{
    Destination, HEADER_BYTES, PathHop, SURB_BYTES_MAX, Version, WrapError, lioness, message,
};
use crate::geometry::read;
use crate::lanes::Lanes;
use crate::{HOPS_MAX, Reject};
use arrayvec::ArrayVec;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

const SEEDS_OFFSET: usize = HEADER_BYTES + 32;

type Seeds = Zeroizing<ArrayVec<[u8; SEED_BYTES], HOPS_MAX>>;

/// What is given to the one who is to answer.
pub struct Surb(Zeroizing<ArrayVec<u8, SURB_BYTES_MAX>>);

impl Surb {
    /// Parses a reply block.
    ///
    /// # Errors
    /// [`WrapError::Surb`] unless it holds one to five seeds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrapError> {
        let seeds = bytes.get(SEEDS_OFFSET..).unwrap_or_default();
        if seeds.is_empty() || !seeds.len().is_multiple_of(SEED_BYTES) {
            return Err(WrapError::Surb);
        }
        let mut surb = Self(Zeroizing::new(ArrayVec::new()));
        let copied = surb.0.try_extend_from_slice(bytes);
        copied.map_err(|_| WrapError::Surb).map(|()| surb)
    }

    /// The bytes to give away.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where the reply has to be sent.
    pub fn first_hop(&self) -> [u8; 32] {
        read(&self.0, HEADER_BYTES)
    }
}

/// What the creator of a version 260 reply block keeps to read the answer.
pub struct SurbSecret(Seeds);

/// Makes a reply block over `path`, which ends at the creator's gateway or at the creator.
///
/// Version 259 gives the replier every hop's seed, and the answer arrives in the clear at the last hop; it comes
/// with no secret. Version 260 gives the last hop's alone, and only [`surb_open`] reads the answer.
///
/// # Errors
/// See [`WrapError`]; version 258 has no reply blocks here.
pub fn surb_create<R: CryptoRng + ?Sized>(
    lanes: Lanes,
    rng: &mut R,
    version: Version,
    path: &[PathHop],
    destination: &Destination,
) -> Result<(Surb, Option<SurbSecret>), WrapError> {
    let first = path.first().ok_or(WrapError::PathEmpty)?;
    let single = match version {
        Version::ExplicitPayloadKeys => return Err(WrapError::Surb),
        Version::PayloadKeySeeds => false,
        Version::SingleSeedSurb if destination.identifier == [0; 16] => {
            return Err(WrapError::IdentifierZero);
        }
        Version::SingleSeedSurb => true,
    };
    let (header, keys) = build_header(lanes, rng, version, path, destination)?;
    let seeds: Seeds = Zeroizing::new(keys.iter().map(|keys| keys.seed()).collect());
    let mut bytes = Zeroizing::new(ArrayVec::new());
    bytes.extend(header);
    bytes.extend(first.address);
    let given = if single { seeds.len() - 1 } else { 0 };
    bytes.extend(seeds[given..].iter().flatten().copied());
    Ok((Surb(bytes), single.then_some(SurbSecret(seeds))))
}

/// Makes the packet that carries `message` back.
///
/// # Errors
/// [`WrapError::PacketTooShort`], [`WrapError::MessageTooLong`].
pub fn surb_use(surb: &Surb, message: &[u8], packet: &mut [u8]) -> Result<(), WrapError> {
    let (seeds, _) = surb.0[SEEDS_OFFSET..].as_chunks();
    fill(
        packet,
        &read(&surb.0, 0),
        message,
        seeds.iter().map(payload_key),
    )
}

/// Undoes what the hops of a version 260 reply did to its payload, in place, and returns the message.
///
/// # Errors
/// [`Reject::Body`] if the payload was altered, or belongs to another reply block.
pub fn surb_open<'a>(secret: &SurbSecret, payload: &'a mut [u8]) -> Result<&'a [u8], Reject> {
    for seed in secret.0.iter().rev() {
        lioness::encrypt(&payload_key(seed), payload);
    }
    let last = secret.0.last().ok_or(Reject::Body)?;
    lioness::decrypt(&payload_key(last), payload);
    message(payload)
}
