//! A node's secret of one epoch, and the keys one hop derives for one packet.

use crate::geometry::{CIPHER_KEY_BYTES, KEM_BYTES, MAC_BYTES, MAC_OFFSET, ROUTING_OFFSET, read};
use crate::lanes::public_key;
use crate::wipe::{Wiping, wipe};
use crate::{HEADER_BYTES, ROUTING_BYTES};
use alloc::boxed::Box;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

/// What a hop remembers of a packet it has opened. It depends on the KEM ciphertext and the hop's key alone, so no
/// change elsewhere in the packet gives it a second life.
pub type ReplayTag = [u8; 16];

/// MAC key 32 | stream key 16 | body key 16 | replay tag 16.
const HOP_KEYS_BYTES: usize = 80;

/// Separates these keys from every other use of BLAKE3, and this version of the suite from later ones.
const HOP_KEYS_CONTEXT: &str = "fogmix sphinx v1: hop keys";

/// X25519 secret of one node for one epoch. It lies in one place, so that moves leave no copies; wiped when dropped.
pub struct EpochSecret {
    secret: Box<Zeroizing<[u8; 32]>>,
    public: [u8; 32],
}

impl EpochSecret {
    /// Draws a new secret.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut secret = Box::<Zeroizing<[u8; 32]>>::default();
        rng.fill_bytes(&mut **secret);
        Self::new(secret)
    }

    /// Any 32 bytes are a secret; they are clamped in use (RFC 7748, section 5).
    pub fn new(secret: Box<Zeroizing<[u8; 32]>>) -> Self {
        let public = public_key(&secret);
        Self { secret, public }
    }

    /// The same, of bytes that lie elsewhere too.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::new(Box::new(Zeroizing::new(bytes)))
    }

    /// What senders wrap to.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// What one hop knows of one packet.
pub struct HopKeys {
    mac: [u8; 32],
    stream: [u8; CIPHER_KEY_BYTES],
    body: [u8; CIPHER_KEY_BYTES],
    replay: ReplayTag,
}

impl Drop for HopKeys {
    fn drop(&mut self) {
        wipe(&mut self.mac);
        wipe(&mut self.stream);
        wipe(&mut self.body);
        wipe(&mut self.replay);
    }
}

impl HopKeys {
    /// Over the header without its MAC field.
    pub(crate) fn mac(&self, header: &[u8; HEADER_BYTES]) -> [u8; MAC_BYTES] {
        let mut covered = [0; KEM_BYTES + ROUTING_BYTES];
        covered[..KEM_BYTES].copy_from_slice(&header[..MAC_OFFSET]);
        covered[KEM_BYTES..].copy_from_slice(&header[ROUTING_OFFSET..]);
        read(blake3::keyed_hash(&self.mac, &covered).as_bytes(), 0)
    }

    pub(crate) fn stream(&self) -> &[u8; CIPHER_KEY_BYTES] {
        &self.stream
    }

    pub(crate) fn body(&self) -> &[u8; CIPHER_KEY_BYTES] {
        &self.body
    }

    pub(crate) fn replay_tag(&self) -> &ReplayTag {
        &self.replay
    }
}

/// The key derivation with its context hashed once.
pub struct KeyDerivation(ContextKey);

impl KeyDerivation {
    pub(crate) fn new() -> Self {
        Self(hash_derive_key_context(HOP_KEYS_CONTEXT))
    }

    /// BLAKE3 in its key derivation mode, one XOF call. The ciphertext goes in as received: X25519 ignores its top
    /// bit and reduces it, so two encodings of one point must not open the same packet.
    pub(crate) fn hop_keys(
        &self,
        dh: &[u8; 32],
        ciphertext: &[u8; KEM_BYTES],
        public: &[u8; 32],
    ) -> HopKeys {
        let mut material = Wiping::new([0; 32 + KEM_BYTES + 32]);
        material[..32].copy_from_slice(dh);
        material[32..64].copy_from_slice(ciphertext);
        material[64..].copy_from_slice(public);
        let mut hasher = blake3::Hasher::new_from_context_key(&self.0);
        hasher.update(&*material);
        let mut reader = hasher.finalize_xof();
        // Overwrites the buffered input; wiping all of the hasher's idle tree stack would cost more than the hash.
        hasher.reset();
        // In one piece: every call of `fill` computes anew the block it begins in.
        let mut bytes = Wiping::new([0; HOP_KEYS_BYTES]);
        reader.fill(&mut *bytes);
        reader.zeroize();
        HopKeys {
            mac: read(&*bytes, 0),
            stream: read(&*bytes, 32),
            body: read(&*bytes, 48),
            replay: read(&*bytes, 64),
        }
    }
}
