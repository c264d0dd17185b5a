//! The symmetric steps of a native hop one by one, for `mixbench crypto`, which sets the whole hop against the sum
//! of its parts. Not for use: nothing here checks anything.

use crate::geometry::{CIPHER_KEY_BYTES, MAC_BYTES};
use crate::{BODY_BYTES, HEADER_BYTES, hctr2, header, keys};

pub use crate::keys::{HopKeys, KeyDerivation};

/// The context of the hop's key derivation.
pub fn derivation() -> KeyDerivation {
    KeyDerivation::new()
}

/// A hop's keys from the shared secret, the ciphertext and the hop's public key.
pub fn hop_keys(
    derivation: &KeyDerivation,
    dh: &[u8; 32],
    ciphertext: &[u8; 32],
    public: &[u8; 32],
) -> keys::HopKeys {
    derivation.hop_keys(dh, ciphertext, public)
}

/// The header's MAC.
pub fn mac(keys: &keys::HopKeys, header: &[u8; HEADER_BYTES]) -> [u8; MAC_BYTES] {
    keys.mac(header)
}

/// The header's keystream, applied.
pub fn stream(key: &[u8; CIPHER_KEY_BYTES], routing: &mut [u8]) {
    header::xor(routing, &header::keystream(key)[..]);
}

/// The body's layer.
pub fn body(key: &[u8; CIPHER_KEY_BYTES], body: &mut [u8; BODY_BYTES]) {
    hctr2::decrypt(key, body);
}
