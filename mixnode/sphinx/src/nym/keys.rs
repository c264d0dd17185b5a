//! HKDF-SHA256 (RFC 5869) of a hop's shared secret, and the MAC made with it.

use super::{MAC_BYTES, ROUTING_BYTES, ReplayTag, Version};
use crate::Reject;
use crate::geometry::read;
use crate::wipe::Wiping;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const STREAM_KEY_BYTES: usize = 16;
const MAC_KEY_BYTES: usize = 16;
pub(super) const SEED_BYTES: usize = 16;
pub(super) const PAYLOAD_KEY_BYTES: usize = 192;
const PAYLOAD_KEY_OFFSET: usize = STREAM_KEY_BYTES + MAC_KEY_BYTES;
const BLINDING_OFFSET: usize = PAYLOAD_KEY_OFFSET + PAYLOAD_KEY_BYTES;
const REPLAY_OFFSET: usize = BLINDING_OFFSET + 32;
const MATERIAL_BYTES: usize = REPLAY_OFFSET + 32;

const HOP_INFO: &[u8] =
    b"Dwste mou enan moxlo arketa makru kai ena upomoxlio gia na ton topothetisw kai tha kinisw thn gh.";
const PAYLOAD_INFO: &[u8] = b"sphinx-payload-key-V01-CS01-HKDF:SHA256-INFO";
const PAYLOAD_SALT: &[u8] = b"sphinx-payload-key-V01-CS01-HKDF:SHA256-SALT";

/// LIONESS's four keys.
pub(super) type PayloadKey = Wiping<PAYLOAD_KEY_BYTES>;

/// Stream key 16 | MAC key 16 | payload key 192, whose first 16 are the seed | blinding factor 32 | replay tag 32.
pub(super) struct HopKeys(Wiping<MATERIAL_BYTES>);

impl HopKeys {
    pub(super) fn derive(shared: &[u8; 32]) -> Self {
        let mut keys = Self(Wiping::new([0; MATERIAL_BYTES]));
        // HKDF refuses only outputs over 255 · 32 bytes; were it to, the keys would stay unusable, not weak: the
        // caller's MAC check comes first and is made with them.
        let expanded = Hkdf::<Sha256>::new(Some(&[]), shared).expand(HOP_INFO, &mut *keys.0);
        debug_assert!(expanded.is_ok());
        keys
    }

    pub(super) fn stream(&self) -> [u8; STREAM_KEY_BYTES] {
        read(&*self.0, 0)
    }

    pub(super) fn seed(&self) -> [u8; SEED_BYTES] {
        read(&*self.0, PAYLOAD_KEY_OFFSET)
    }

    pub(super) fn blinding(&self) -> [u8; 32] {
        read(&*self.0, BLINDING_OFFSET)
    }

    pub(super) fn replay_tag(&self) -> ReplayTag {
        read(&*self.0, REPLAY_OFFSET)
    }

    pub(super) fn payload(&self, version: Version) -> PayloadKey {
        match version {
            Version::ExplicitPayloadKeys => Wiping::new(read(&*self.0, PAYLOAD_KEY_OFFSET)),
            Version::PayloadKeySeeds | Version::SingleSeedSurb => payload_key(&self.seed()),
        }
    }

    /// HMAC-SHA256 of the routing block, cut to 16 bytes.
    pub(super) fn mac(&self, routing: &[u8; ROUTING_BYTES]) -> [u8; MAC_BYTES] {
        read(&self.hmac(routing).finalize().into_bytes(), 0)
    }

    /// Compares in constant time.
    pub(super) fn verify(
        &self,
        routing: &[u8; ROUTING_BYTES],
        mac: &[u8; MAC_BYTES],
    ) -> Result<(), Reject> {
        self.hmac(routing)
            .verify_truncated_left(mac)
            .map_err(|_| Reject::Mac)
    }

    fn hmac(&self, routing: &[u8; ROUTING_BYTES]) -> Hmac<Sha256> {
        let mut block = Wiping::new([0; 64]);
        block[..MAC_KEY_BYTES].copy_from_slice(&self.0[STREAM_KEY_BYTES..PAYLOAD_KEY_OFFSET]);
        // A key shorter than SHA-256's block is padded with zeros (RFC 2104), so the padded one has a fixed type.
        let mut hmac = Hmac::<Sha256>::new((&*block).into());
        hmac.update(routing);
        hmac
    }
}

/// The payload key of a seed.
pub(super) fn payload_key(seed: &[u8; SEED_BYTES]) -> PayloadKey {
    let mut key = Wiping::new([0; PAYLOAD_KEY_BYTES]);
    let expanded = Hkdf::<Sha256>::new(Some(PAYLOAD_SALT), seed).expand(PAYLOAD_INFO, &mut *key);
    debug_assert!(expanded.is_ok());
    key
}
