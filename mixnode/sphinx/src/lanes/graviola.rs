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

    /// X25519. It refuses a point of small order; here that gives zeros, as in every backend.
    pub(super) fn x25519(self, scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        let secret = StaticPrivateKey::from_array(scalar);
        let mut shared = [0; 32];
        if let Ok(product) = secret.diffie_hellman(&PublicKey::from_array(point)) {
            shared = product.0;
        }
        // Keys and results wipe themselves, and vector registers are cleared, but not what the assembly spilled.
        wipe::after_scalar();
        shared
    }

    /// X25519 with the base point.
    pub(super) fn public_key(self, scalar: &[u8; 32]) -> [u8; 32] {
        let public = StaticPrivateKey::from_array(scalar).public_key().as_bytes();
        wipe::after_scalar();
        public
    }
}
