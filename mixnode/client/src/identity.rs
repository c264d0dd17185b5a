//! A user's end-to-end keys and mailbox key.

use link::ClientKeys;
use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::ml_kem_768::DecapsulationKey;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::crypto::{agree, public_of};

/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203).
pub const KEM_KEY_BYTES: usize = 1_184;
/// Bytes of an ML-KEM-768 ciphertext.
pub const KEM_CIPHERTEXT_BYTES: usize = 1_088;
/// Bytes of the stored form: X25519 scalar 32 | ML-KEM seed 64 (d ‖ z of FIPS 203).
pub const IDENTITY_BYTES: usize = 96;

/// The long-lived keys that content is encrypted to. Zeroized on drop.
pub struct Identity {
    secret: Zeroizing<[u8; IDENTITY_BYTES]>,
    x25519: [u8; 32],
    kem: Box<DecapsulationKey>,
    kem_public: Box<[u8; KEM_KEY_BYTES]>,
}

impl Identity {
    /// Draws new keys.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; IDENTITY_BYTES]);
        rng.fill_bytes(&mut *bytes);
        Self::from_bytes(&bytes)
    }

    /// The keys with this stored form.
    pub fn from_bytes(bytes: &[u8; IDENTITY_BYTES]) -> Self {
        let secret = Zeroizing::new(*bytes);
        let mut scalar = Zeroizing::new([0; 32]);
        let mut seed = Zeroizing::new([0; 64]);
        scalar.copy_from_slice(&secret[..32]);
        seed.copy_from_slice(&secret[32..]);
        let kem = Box::new(DecapsulationKey::from_seed((*seed).into()));
        let mut kem_public = Box::new([0; KEM_KEY_BYTES]);
        kem_public.copy_from_slice(&kem.encapsulation_key().to_bytes());
        Self {
            x25519: public_of(&scalar),
            secret,
            kem,
            kem_public,
        }
    }

    /// The stored form.
    pub fn to_bytes(&self) -> &[u8; IDENTITY_BYTES] {
        &self.secret
    }

    /// The X25519 public key.
    pub fn x25519(&self) -> &[u8; 32] {
        &self.x25519
    }

    /// The ML-KEM-768 encapsulation key.
    pub fn kem_public(&self) -> &[u8; KEM_KEY_BYTES] {
        &self.kem_public
    }

    /// Where a user with these keys is reached, through `gateway` with this mailbox.
    pub fn address(&self, gateway: [u8; 32], mailbox: &ClientKeys) -> Address {
        Address {
            gateway,
            destination: link::destination_tag(mailbox.public_key()),
            x25519: self.x25519,
            kem_hash: *blake3::hash(&self.kem_public[..]).as_bytes(),
        }
    }

    pub(crate) fn agree(&self, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(&self.secret[..32]);
        agree(&scalar, public)
    }

    pub(crate) fn decapsulate(
        &self,
        ciphertext: &[u8; KEM_CIPHERTEXT_BYTES],
    ) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.kem.decapsulate(&(*ciphertext).into()).into())
    }
}
