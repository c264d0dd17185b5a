//! `vectors/sealed.json`: sealed bodies for other implementations of `SPEC.md`, those to refuse too.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::{Value, json};

use super::*;
use crate::crypto::public_of;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/sealed.json");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    let text = vector[name].as_str().expect(name);
    assert_eq!(text.len(), 2 * N, "{name}");
    core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect(name))
}

/// Whose X25519 secret this is.
fn identity(secret: &[u8; 32]) -> Identity {
    let mut stored = [0; crate::identity::IDENTITY_BYTES];
    stored[..32].copy_from_slice(secret);
    Identity::from_bytes(&stored)
}

fn contents() -> [Sealed; 3] {
    let start = |half| Sealed::SessionStart {
        half,
        epoch: 0x0102_0304,
        session: [5; 16],
        ephemeral: public_of(&[6; 32]),
        ciphertext: Box::new([7 + half; CIPHERTEXT_HALF_BYTES]),
    };
    let request = Sealed::KeyRequest {
        wanted: 3,
        epoch: 0x0102_0304,
        surbs: vec![[8; SURB_BYTES], [9; SURB_BYTES]],
    };
    [request, start(0), start(1)]
}

/// A body, with all that it takes to make it.
fn vector(seed: u64, sealed: &Sealed) -> Value {
    let secret = [0x40 + seed as u8; 32];
    let recipient = public_of(&secret);
    let (scalar, sent) = elligator::draw(&mut ChaCha20Rng::seed_from_u64(seed));
    let body = sealed.seal(&recipient, &mut ChaCha20Rng::seed_from_u64(seed));
    let shared = agree(&scalar, &recipient).expect("sound keys");
    json!({
        "recipient_secret": hex(&secret),
        "recipient_public": hex(&recipient),
        "ephemeral_secret": hex(&scalar[..]),
        "ephemeral_as_sent": hex(&sent),
        "ephemeral_u": hex(&elligator::point_of(&sent)),
        "shared": hex(&shared[..]),
        "key": hex(&derive(&shared, &sent, &recipient)[..]),
        "content": hex(&sealed.encode()[..]),
        "body": hex(&body.expect("a sound key")),
    })
}

/// What a recipient must not open, and why.
fn refused() -> [(&'static str, [u8; BODY_BYTES]); 2] {
    let [sealed, ..] = contents();
    let recipient = public_of(&[0x40; 32]);
    let body = sealed.seal(&recipient, &mut ChaCha20Rng::seed_from_u64(0));
    let mut free = body.expect("a sound key");
    free[31] ^= 0x80;
    let mut low = [0; BODY_BYTES];
    low[32..32 + SEALED_BYTES].copy_from_slice(&sealed.encode()[..]);
    let key = derive(&[0; 32], &[0; 32], &recipient);
    seal(&key, 0, &[0; 32], &mut low[32..]);
    [
        ("a bit changed that the point does not hang on", free),
        ("an ephemeral key of low order", low),
    ]
}

fn file() -> Value {
    let contents = contents();
    let vectors = contents.iter().zip(0..);
    let vectors = vectors.map(|(sealed, seed)| vector(seed, sealed));
    let refused = refused().map(
        |(why, body)| json!({"why": why, "recipient_secret": hex(&[0x40; 32]), "body": hex(&body)}),
    );
    json!({"sealed": vectors.collect::<Vec<_>>(), "refused": refused})
}

#[test]
fn sealed_bodies_are_those_of_the_vectors() {
    let text = std::fs::read_to_string(FILE).expect("vectors");
    let read: Value = serde_json::from_str(&text).expect("vectors");
    assert_eq!(read, file());
    for vector in read["sealed"].as_array().expect("vectors") {
        let recipient = identity(&bytes(vector, "recipient_secret"));
        assert_eq!(*recipient.x25519(), bytes(vector, "recipient_public"));
        let u: [u8; 32] = bytes(vector, "ephemeral_u");
        let shared = recipient.agree(&u).expect("a sound key");
        assert_eq!(*shared, bytes(vector, "shared"));
        let opened = Sealed::open(&recipient, &bytes(vector, "body")).expect("it opens");
        assert_eq!(*opened.encode(), bytes::<SEALED_BYTES>(vector, "content"));
    }
    for vector in read["refused"].as_array().expect("vectors") {
        let recipient = identity(&bytes(vector, "recipient_secret"));
        let opened = Sealed::open(&recipient, &bytes(vector, "body"));
        assert!(opened.is_none(), "{}", vector["why"]);
    }
}

#[test]
#[ignore = "writes vectors/sealed.json anew"]
fn write_the_vectors() {
    let text = serde_json::to_string_pretty(&file()).expect("plain values");
    std::fs::write(FILE, text + "\n").expect("it can be written");
}
