//! Small pieces shared by everything end to end: AEAD with a key used once or a counter, X25519 with its zero check.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of an AES-GCM tag.
pub(crate) const AEAD_TAG_BYTES: usize = 16;

/// Encrypts all but the last 16 bytes of `buffer` in place and writes the tag there.
pub(crate) fn seal(key: &[u8; 32], number: u64, aad: &[u8], buffer: &mut [u8]) {
    let at = buffer.len().saturating_sub(AEAD_TAG_BYTES);
    let (text, tag) = buffer.split_at_mut(at);
    // GCM refuses only messages of 64 GiB and more, so there is always a tag.
    let computed = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&nonce(number).into(), aad, text.into())
        .unwrap_or_default();
    tag.copy_from_slice(&computed);
}

/// Opens what [`seal`] made; `false` if it is not authentic (the buffer is then unspecified).
pub(crate) fn open(key: &[u8; 32], number: u64, aad: &[u8], buffer: &mut [u8]) -> bool {
    let at = buffer.len().saturating_sub(AEAD_TAG_BYTES);
    let (text, tag) = buffer.split_at_mut(at);
    let Ok(tag) = <[u8; AEAD_TAG_BYTES]>::try_from(&*tag) else {
        return false;
    };
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(&nonce(number).into(), aad, text.into(), &tag.into())
        .is_ok()
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// X25519; `None` for a public key of low order, which would make the result known to everybody.
pub(crate) fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(*public));
    shared
        .was_contributory()
        .then(|| Zeroizing::new(shared.to_bytes()))
}

/// The public key of a secret scalar.
pub(crate) fn public_of(secret: &[u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}
