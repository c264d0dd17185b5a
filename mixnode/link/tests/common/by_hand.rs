//! The protocol once more, from `SPEC.md` alone: Noise spelled out over SHA-256, X25519 and AES-256-GCM, no snow and
//! nothing of the crate. The vectors come from here; the crate must agree with them byte for byte.
#![allow(dead_code, reason = "each user takes a part")]

use std::collections::VecDeque;
use std::convert::Infallible;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use ml_kem::kem::{Decapsulate, Encapsulate, KeyExport};
use ml_kem::ml_kem_768::DecapsulationKey;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};

pub type Packet = [u8; 1232];
pub type Key = [u8; 32];

pub fn public(secret: &Key) -> Key {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

fn dh(secret: &Key, public: &Key) -> Key {
    StaticSecret::from(*secret)
        .diffie_hellman(&PublicKey::from(*public))
        .to_bytes()
}

fn sha256(parts: &[&[u8]]) -> Key {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// HMAC-SHA256 (RFC 2104) under a key of 32 bytes.
fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let ipad = block.map(|byte| byte ^ 0x36);
    let opad = block.map(|byte| byte ^ 0x5c);
    let inner = sha256(&[&[&ipad[..]], parts].concat());
    sha256(&[&opad, &inner])
}

/// Noise's HKDF: three outputs, of which a caller takes two or three.
fn hkdf(chaining: &Key, input: &[u8]) -> [Key; 3] {
    let temp = hmac(chaining, &[input]);
    let first = hmac(&temp, &[&[1]]);
    let second = hmac(&temp, &[&first, &[2]]);
    [first, second, hmac(&temp, &[&second, &[3]])]
}

/// AES-256-GCM: ciphertext ‖ tag.
pub fn seal(key: &Key, nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut text = plaintext.to_vec();
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&nonce.into(), aad, (&mut text[..]).into())
        .unwrap();
    text.extend_from_slice(&tag);
    text
}

/// Noise's SymmetricState. In this pattern every key seals exactly one text, so its counter is always zero.
#[derive(Clone)]
struct Symmetric {
    hash: Key,
    chaining: Key,
    key: Key,
}

impl Symmetric {
    fn new(prologue: &[u8], responder: &Key) -> Self {
        let name = *b"Noise_IKpsk2_25519_AESGCM_SHA256";
        let mut state = Self {
            hash: name,
            chaining: name,
            key: [0; 32],
        };
        state.mix_hash(prologue);
        state.mix_hash(responder);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = sha256(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        [self.chaining, self.key, _] = hkdf(&self.chaining, input);
    }

    fn mix_key_and_hash(&mut self, input: &[u8]) {
        let middle;
        [self.chaining, middle, self.key] = hkdf(&self.chaining, input);
        self.mix_hash(&middle);
    }

    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let sealed = seal(&self.key, [0; 12], &self.hash, plaintext);
        self.mix_hash(&sealed);
        sealed
    }
}

/// Gives out bytes that were written down before, in order.
pub struct Script(VecDeque<u8>);

impl Script {
    pub fn of(parts: &[&[u8]]) -> Self {
        Self(parts.concat().into())
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unimplemented!("only bytes are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unimplemented!("only bytes are drawn")
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        dst.fill_with(|| {
            self.0
                .pop_front()
                .expect("a byte more than was written down")
        });
        Ok(())
    }
}

impl TryCryptoRng for Script {}

/// Everything random or chosen in a handshake.
#[derive(Clone)]
pub struct Inputs {
    pub responder_static: Key,
    /// d ‖ z of FIPS 203.
    pub responder_kem_seed: [u8; 64],
    pub initiator_static: Key,
    pub initiator_ephemeral: Key,
    pub responder_ephemeral: Key,
    /// m of FIPS 203's encapsulation.
    pub kem_randomness: Key,
    pub initiator_index: u32,
    pub responder_index: u32,
}

/// Everything that comes of it.
pub struct Handshake {
    pub kem_public: Vec<u8>,
    pub kem_shared: Key,
    pub kem_key: Key,
    pub psk: Key,
    pub initiation: Packet,
    pub response: Packet,
    pub initiator_to_responder: Key,
    pub responder_to_initiator: Key,
}

/// Writes the first mac for `recipient`.
pub fn write_mac1(packet: &mut Packet, recipient: &Key) {
    let key = blake3::derive_key("fogmix link v1 mac1", recipient);
    let mac = blake3::keyed_hash(&key, &packet[..1200]);
    packet[1200..1216].copy_from_slice(&mac.as_bytes()[..16]);
}

/// Writes the second mac under a cookie.
pub fn write_mac2(packet: &mut Packet, cookie: &[u8; 16]) {
    let key = blake3::derive_key("fogmix link v1 mac2", cookie);
    let mac = blake3::keyed_hash(&key, &packet[..1216]);
    packet[1216..].copy_from_slice(&mac.as_bytes()[..16]);
}

pub fn handshake(inputs: &Inputs) -> Handshake {
    handshake_as(inputs, &public(&inputs.initiator_static), &[0; 8])
}

/// With another static key written than the initiator has, or another payload, for rogues.
pub fn handshake_as(inputs: &Inputs, claimed_static: &Key, payload: &[u8; 8]) -> Handshake {
    let responder = public(&inputs.responder_static);
    let kem = DecapsulationKey::from_seed(inputs.responder_kem_seed.into());
    let kem_public = kem.encapsulation_key().to_bytes().to_vec();
    let (ciphertext, _) = kem
        .encapsulation_key()
        .encapsulate_with_rng(&mut Script::of(&[&inputs.kem_randomness]));
    let kem_shared: Key = kem.decapsulate(&ciphertext).into();

    let mut initiation = [0; 1232];
    initiation[0] = 1;
    initiation[4..8].copy_from_slice(&inputs.initiator_index.to_le_bytes());
    initiation[112..1200].copy_from_slice(&ciphertext);
    let prologue = [
        &b"fogmix link v1"[..],
        &initiation[..8],
        &initiation[112..1200],
    ]
    .concat();

    let mut state = Symmetric::new(&prologue, &responder);
    let ephemeral = public(&inputs.initiator_ephemeral);
    state.mix_hash(&ephemeral);
    state.mix_key(&ephemeral);
    state.mix_key(&dh(&inputs.initiator_ephemeral, &responder));
    let sealed_static = state.seal(claimed_static);
    state.mix_key(&dh(&inputs.initiator_static, &responder));
    let sealed_payload = state.seal(payload);
    initiation[8..112].copy_from_slice(&[&ephemeral[..], &sealed_static, &sealed_payload].concat());
    write_mac1(&mut initiation, &responder);

    let mut response = [0; 1232];
    response[0] = 2;
    response[4..8].copy_from_slice(&inputs.responder_index.to_le_bytes());
    response[8..12].copy_from_slice(&inputs.initiator_index.to_le_bytes());
    let kem_input = [&kem_shared[..], &ciphertext, &kem_public].concat();
    let kem_key = blake3::derive_key("fogmix link v1 psk", &kem_input);
    let psk = *blake3::keyed_hash(&kem_key, &response[..12]).as_bytes();

    let answer = public(&inputs.responder_ephemeral);
    state.mix_hash(&answer);
    state.mix_key(&answer);
    state.mix_key(&dh(&inputs.responder_ephemeral, &ephemeral));
    state.mix_key(&dh(&inputs.responder_ephemeral, claimed_static));
    state.mix_key_and_hash(&psk);
    let sealed_zeros = state.seal(&[0; 1140]);
    response[12..1200].copy_from_slice(&[&answer[..], &sealed_zeros].concat());
    write_mac1(&mut response, claimed_static);

    let [initiator_to_responder, responder_to_initiator, _] = hkdf(&state.chaining, &[]);
    Handshake {
        kem_public,
        kem_shared,
        kem_key,
        psk,
        initiation,
        response,
        initiator_to_responder,
        responder_to_initiator,
    }
}

/// A cookie reply to the initiation with this first mac.
pub fn cookie_reply(
    responder: &Key,
    initiation: &Packet,
    nonce: [u8; 12],
    cookie: &[u8; 16],
) -> Packet {
    let key = blake3::derive_key("fogmix link v1 cookie", responder);
    let mut plaintext = [0; 1196];
    plaintext[..16].copy_from_slice(cookie);
    let sealed = seal(&key, nonce, &initiation[1200..1216], &plaintext);
    let mut reply = [0; 1232];
    reply[0] = 3;
    reply[4..8].copy_from_slice(&initiation[4..8]);
    reply[8..20].copy_from_slice(&nonce);
    reply[20..].copy_from_slice(&sealed);
    reply
}

/// A data frame.
pub fn frame(
    key: &Key,
    receiver_index: u32,
    counter: u64,
    head: [u8; 4],
    content: &[u8; 1200],
) -> Packet {
    let mut clear = [0; 12];
    clear[0] = 4;
    clear[1..8].copy_from_slice(&counter.to_le_bytes()[..7]);
    clear[8..].copy_from_slice(&receiver_index.to_le_bytes());
    let sealed = seal(key, clear, &clear, &[&head[..], content].concat());
    let mut frame = [0; 1232];
    frame[..12].copy_from_slice(&clear);
    frame[12..].copy_from_slice(&sealed);
    frame
}

/// The content of a control frame.
pub fn control(kind: u8, chunk: u16, epoch: u32, number: u32, data: &[u8]) -> [u8; 1200] {
    let mut content = [0; 1200];
    content[0] = kind;
    content[2..4].copy_from_slice(&chunk.to_le_bytes());
    content[4..8].copy_from_slice(&epoch.to_le_bytes());
    content[8..12].copy_from_slice(&number.to_le_bytes());
    content[12..14].copy_from_slice(&u16::try_from(data.len()).unwrap().to_le_bytes());
    content[16..16 + data.len()].copy_from_slice(data);
    content
}
