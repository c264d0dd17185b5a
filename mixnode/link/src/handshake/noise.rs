//! The primitives behind snow's state machine: X25519 that refuses low-order points, AES-256-GCM and SHA-256 of this
//! workspace, and an ephemeral key drawn by the caller, so that one seed reproduces a run.

use alloc::boxed::Box;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::HandshakeError;
use crate::keys::ClientKeys;

const PROTOCOL: &str = "Noise_IKpsk2_25519_AESGCM_SHA256";
const TAG_BYTES: usize = 16;

/// A handshake state for the initiator (`remote` is known) or the responder (`remote` is not).
pub(super) fn state<R: CryptoRng + ?Sized>(
    local: &ClientKeys,
    remote: Option<&[u8; 32]>,
    prologue: &[u8],
    rng: &mut R,
) -> Result<HandshakeState, HandshakeError> {
    let mut ephemeral = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *ephemeral);
    let builder = Builder::with_resolver(PROTOCOL.parse()?, Box::new(Primitives { ephemeral }))
        .local_private_key(local.scalar())?
        .prologue(prologue)?;
    Ok(match remote {
        Some(remote) => builder.remote_public_key(remote)?.build_initiator()?,
        None => builder.build_responder()?,
    })
}

/// The two transport keys of a finished handshake: initiator to responder, responder to initiator.
pub(super) fn split(state: &mut HandshakeState) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let (forward, backward) = state.dangerously_get_raw_split();
    (Zeroizing::new(forward), Zeroizing::new(backward))
}

struct Primitives {
    ephemeral: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| Box::<Sha>::default() as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::AESGCM).then(|| Box::<AesGcm>::default() as Box<dyn Cipher>)
    }
}

/// The randomness of one handshake: each side draws one ephemeral key and nothing else.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        match self.0.take() {
            Some(bytes) if dest.len() == bytes.len() => {
                dest.copy_from_slice(&*bytes);
                Ok(())
            }
            _ => Err(snow::Error::Rng),
        }
    }
}

#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        if privkey.len() == self.secret.len() {
            self.secret.copy_from_slice(privkey);
            self.public = PublicKey::from(&StaticSecret::from(*self.secret)).to_bytes();
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *secret)?;
        self.set(&*secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow hands out its key buffer, which is longer than the key.
        let public: [u8; 32] = pubkey
            .get(..32)
            .and_then(|key| key.try_into().ok())
            .ok_or(snow::Error::Input)?;
        let shared = StaticSecret::from(*self.secret).diffie_hellman(&PublicKey::from(public));
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..32)
            .ok_or(snow::Error::Input)?
            .copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

#[derive(Default)]
struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let digest = self.0.finalize_reset();
        // snow's buffers hold the longest hash it knows.
        if let Some(out) = out.get_mut(..digest.len()) {
            out.copy_from_slice(&digest);
        }
    }
}

#[derive(Default)]
struct AesGcm(Option<Aes256Gcm>);

/// Noise's AESGCM nonce: 32 zero bits, then the counter, big-endian (Noise specification, section 12.4).
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

impl Cipher for AesGcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Some(Aes256Gcm::new(key.into()));
    }

    /// snow calls this with a key set and room for the tag; anything else writes nothing.
    fn encrypt(&self, counter: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let Some((cipher, out)) = self
            .0
            .as_ref()
            .zip(out.get_mut(..plaintext.len() + TAG_BYTES))
        else {
            return 0;
        };
        let (text, tag) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        match cipher.encrypt_inout_detached(&nonce(counter).into(), authtext, text.into()) {
            Ok(computed) => tag.copy_from_slice(&computed),
            Err(_) => return 0,
        }
        plaintext.len() + TAG_BYTES
    }

    fn decrypt(
        &self,
        counter: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (text, tag) = ciphertext
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(snow::Error::Decrypt)?;
        let cipher = self.0.as_ref().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        cipher
            .decrypt_inout_detached(&nonce(counter).into(), authtext, out.into(), tag.into())
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(text.len())
    }
}
