//! Long-lived keys of a link's ends.

use alloc::boxed::Box;

use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::ml_kem_768::{Ciphertext, DecapsulationKey};
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Length of an ML-KEM-768 encapsulation key (FIPS 203).
pub const KEM_PUBLIC_BYTES: usize = 1184;

/// Length of [`LinkKeys`] in their stored form: X25519 scalar 32 | ML-KEM seed 64 (d ‖ z of FIPS 203).
pub const LINK_KEYS_BYTES: usize = 96;

const SEED_BYTES: usize = 64;
const DESTINATION_TAG_CONTEXT: &str = "fogmix link v1 destination tag";

/// The static X25519 key of an end that only initiates: a client's mailbox key.
#[derive(Clone)]
pub struct ClientKeys {
    secret: StaticSecret,
    public: [u8; 32],
}

impl ClientKeys {
    /// Draws a new key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        Self::from_bytes(&bytes)
    }

    /// The key with this scalar (clamped when used, as in RFC 7748).
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// The scalar, for storing.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn scalar(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }
}

impl AsRef<ClientKeys> for ClientKeys {
    fn as_ref(&self) -> &ClientKeys {
        self
    }
}

/// The static keys of a node: X25519 and ML-KEM-768. Both are zeroized on drop.
#[derive(Clone)]
pub struct LinkKeys {
    x25519: ClientKeys,
    kem: Box<DecapsulationKey>,
    seed: Zeroizing<[u8; SEED_BYTES]>,
}

impl LinkKeys {
    /// Draws new keys.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; LINK_KEYS_BYTES]);
        rng.fill_bytes(&mut *bytes);
        Self::from_bytes(&bytes)
    }

    /// The keys with this stored form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; LINK_KEYS_BYTES]) -> Self {
        let mut scalar = Zeroizing::new([0; 32]);
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        scalar.copy_from_slice(&bytes[..32]);
        seed.copy_from_slice(&bytes[32..]);
        let kem = Box::new(DecapsulationKey::from_seed((*seed).into()));
        Self {
            x25519: ClientKeys::from_bytes(&scalar),
            kem,
            seed,
        }
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; LINK_KEYS_BYTES]> {
        let mut bytes = Zeroizing::new([0; LINK_KEYS_BYTES]);
        bytes[..32].copy_from_slice(self.x25519.scalar());
        bytes[32..].copy_from_slice(&*self.seed);
        bytes
    }

    /// What others need to reach this end.
    #[must_use]
    pub fn public(&self) -> LinkPublic {
        let mut kem = Box::new([0; KEM_PUBLIC_BYTES]);
        kem.copy_from_slice(&self.kem.encapsulation_key().to_bytes());
        LinkPublic {
            x25519: *self.x25519.public_key(),
            kem,
        }
    }

    pub(crate) fn decapsulate(&self, ciphertext: &Ciphertext) -> Zeroizing<[u8; 32]> {
        #[cfg(test)]
        DECAPSULATIONS.set(DECAPSULATIONS.get() + 1);
        Zeroizing::new(self.kem.decapsulate(ciphertext).into())
    }
}

impl AsRef<ClientKeys> for LinkKeys {
    fn as_ref(&self) -> &ClientKeys {
        &self.x25519
    }
}

/// The public keys of a node's link end, as the consensus carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPublic {
    /// X25519.
    pub x25519: [u8; 32],
    /// ML-KEM-768 encapsulation key.
    pub kem: Box<[u8; KEM_PUBLIC_BYTES]>,
}

/// The destination tag of the client whose static key this is: the name under which its gateway delivers to it.
#[must_use]
pub fn destination_tag(static_public: &[u8; 32]) -> [u8; 16] {
    let mut tag = [0; 16];
    tag.copy_from_slice(&blake3::derive_key(DESTINATION_TAG_CONTEXT, static_public)[..16]);
    tag
}

#[cfg(test)]
std::thread_local! {
    /// Decapsulations of this thread: what an initiation costs can't be told from its answer.
    pub(crate) static DECAPSULATIONS: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}
