//! Long-term Ed25519 signing keys of nodes and authorities.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// An Ed25519 key pair (RFC 8032). The secret is wiped on drop and never printed.
pub struct Identity(SigningKey);

impl Identity {
    /// Makes a new key pair.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_bytes(&seed)
    }

    /// Restores a key pair from its 32-byte seed.
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The 32-byte seed, to be stored where only the owner reads.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key: a node's or authority's name.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `context ‖ message`. Contexts have a fixed length a version, so no two documents of
    /// different kinds can share a signed string.
    pub fn sign(&self, context: &[u8; 32], message: &[u8]) -> [u8; 64] {
        self.0
            .sign(&[context.as_slice(), message].concat())
            .to_bytes()
    }
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Identity").finish_non_exhaustive()
    }
}

/// Whether `signature` over `context ‖ message` is `public`'s. Strict verification: small-order keys
/// and non-canonical encodings are refused, so all verifiers agree.
pub fn verify(public: &[u8; 32], context: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| {
        key.verify_strict(
            &[context.as_slice(), message].concat(),
            &Signature::from_bytes(signature),
        )
        .is_ok()
    })
}
