//! One pair at a time with graviola: formally verified assembly of s2n-bignum, about twice as fast as portable code.

use super::wipe;
use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey};

// What its two functions use (`mulx`, `adcx`). `is_cpu_supported` does not ask for BMI2.
#[cfg(target_arch = "x86_64")]
cpufeatures::new!(cpu, "adx", "bmi2", "avx2");

/// Proof that graviola runs here; only [`Graviola::new`] makes one. Without it every one of its functions panics.
#[derive(Clone, Copy)]
pub(super) struct Graviola(());

impl Graviola {
    /// The proof, if it holds here.
    pub(super) fn new() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        let has_own_features = cpu::get();
        #[cfg(not(target_arch = "x86_64"))]
        let has_own_features = true;
        (has_own_features && graviola::util::is_cpu_supported()).then_some(Self(()))
    }

    /// X25519, with zeros for a point of small order.
    pub(super) fn x25519(self, scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        let shared = self.product(scalar, point);
        wipe::after_scalar();
        shared
    }

    /// X25519 with the base point.
    pub(super) fn public_key(self, scalar: &[u8; 32]) -> [u8; 32] {
        let public_key = self.base_product(scalar);
        wipe::after_scalar();
        public_key
    }

    // graviola's keys and results wipe themselves, and it clears the vector registers, but not what its assembly
    // spilled. Not inlined, so that all of it lies below the caller who wipes.

    /// graviola refuses points of small order; here they give zeros, as in every backend.
    #[inline(never)]
    pub(super) fn product(self, scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        let secret = StaticPrivateKey::from_array(scalar);
        match secret.diffie_hellman(&PublicKey::from_array(point)) {
            Ok(product) => product.0,
            Err(_) => [0; 32],
        }
    }

    #[inline(never)]
    pub(super) fn base_product(self, scalar: &[u8; 32]) -> [u8; 32] {
        StaticPrivateKey::from_array(scalar).public_key().as_bytes()
    }
}
