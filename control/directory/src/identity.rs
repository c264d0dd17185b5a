//! Long-term Ed25519 signing keys of nodes and authorities.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::wire::{DecodeError, Reader};

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

/// How documents of one kind are signed by the one that they name.
#[derive(Clone, Copy, Debug)]
pub struct Authorship {
    /// What the document begins with.
    pub magic: &'static [u8; 4],
    /// What is signed before it.
    pub context: &'static [u8; 32],
    /// Where the author's key begins.
    pub key_offset: usize,
    /// The largest, signature included.
    pub bytes_max: usize,
}

/// Why a document is not its author's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorError {
    /// Too long, too short, or another document.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// Not signed by the key that it names.
    #[error("not signed by the key that it names")]
    Signature,
}

impl Authorship {
    /// What the author signed, without the signature's 64 bytes at the end: size, then magic, then signature.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], AuthorError> {
        let limit_bytes = self.bytes_max;
        if bytes.len() > limit_bytes {
            return Err(DecodeError::TooLarge { limit_bytes }.into());
        }
        let (message, signature) = bytes
            .split_last_chunk::<64>()
            .ok_or(DecodeError::Truncated)?;
        Reader::new(message).magic(self.magic)?;
        let mut reader = Reader::new(message);
        reader.take(self.key_offset)?;
        match verify(&reader.array()?, self.context, message, signature) {
            true => Ok(message),
            false => Err(AuthorError::Signature),
        }
    }

    /// Appends `author`'s signature.
    pub fn sign(&self, mut bytes: Vec<u8>, author: &Identity) -> Vec<u8> {
        let signature = author.sign(self.context, &bytes);
        bytes.extend_from_slice(&signature);
        bytes
    }
}
