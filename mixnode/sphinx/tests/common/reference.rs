//! The suite a second time, from `SPEC.md` alone: slow, with the plainest code, and other primitives where there are
//! any (HCTR2 from hctr2-rs, CTR mode by hand, the filler by letting zeros travel the path). It takes the blocks as
//! raw bytes, so that it also builds what no honest sender would.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// What a hop derives from the shared secret (SPEC, "Keys").
#[derive(Clone)]
pub struct Keys {
    pub shared_secret: [u8; 32],
    pub mac_key: [u8; 32],
    pub stream_key: [u8; 16],
    pub body_key: [u8; 16],
    pub replay_tag: [u8; 16],
}

pub fn keys(shared_secret: [u8; 32], ciphertext: &[u8], public_key: &[u8]) -> Keys {
    let mut hasher = blake3::Hasher::new_derive_key("fogmix sphinx v1: hop keys");
    hasher.update(&[&shared_secret[..], ciphertext, public_key].concat());
    let mut okm = [0; 80];
    hasher.finalize_xof().fill(&mut okm);
    Keys {
        shared_secret,
        mac_key: okm[0..32].try_into().unwrap(),
        stream_key: okm[32..48].try_into().unwrap(),
        body_key: okm[48..64].try_into().unwrap(),
        replay_tag: okm[64..80].try_into().unwrap(),
    }
}

pub fn base_multiple(secret: &[u8; 32]) -> [u8; 32] {
    x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES)
}

pub fn stream(key: &[u8; 16]) -> Vec<u8> {
    let aes = Aes128::new(key.into());
    let mut out = Vec::new();
    for counter in 0u128..20 {
        let mut block = counter.to_be_bytes().into();
        aes.encrypt_block(&mut block);
        out.extend_from_slice(&block);
    }
    out.truncate(312);
    out
}

pub fn mac(key: &[u8; 32], ciphertext: &[u8], routing: &[u8]) -> Vec<u8> {
    blake3::keyed_hash(key, &[ciphertext, routing].concat()).as_bytes()[..16].to_vec()
}

pub fn encrypt_body(key: &[u8; 16], body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; body.len()];
    hctr2_rs::Hctr2_128::new(key)
        .encrypt(body, b"", &mut out)
        .unwrap();
    out
}

pub fn decrypt_body(key: &[u8; 16], body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; body.len()];
    hctr2_rs::Hctr2_128::new(key)
        .decrypt(body, b"", &mut out)
        .unwrap();
    out
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// A hop as a raw sender sees it: the eight bytes its block starts with are free.
#[derive(Clone)]
pub struct RawHop {
    pub public_key: [u8; 32],
    pub ephemeral: [u8; 32],
    pub front: [u8; 8],
}

/// `command | flags | delay | field` as they stand in a block.
pub fn front(command: u8, flags: u8, delay_us: u32, field: u16) -> [u8; 8] {
    let mut out = [command, flags, 0, 0, 0, 0, 0, 0];
    out[2..6].copy_from_slice(&delay_us.to_le_bytes());
    out[6..8].copy_from_slice(&field.to_le_bytes());
    out
}

/// The keys of every hop, first hop first.
pub fn path_keys(hops: &[RawHop]) -> Vec<(Vec<u8>, Keys)> {
    hops.iter()
        .map(|hop| {
            let ciphertext = base_multiple(&hop.ephemeral);
            let shared = x25519_dalek::x25519(hop.ephemeral, hop.public_key);
            (
                ciphertext.to_vec(),
                keys(shared, &ciphertext, &hop.public_key),
            )
        })
        .collect()
}

/// A header whose final block ends in `rest` (destination tag and id).
pub fn header(hops: &[RawHop], rest: &[u8; 24], padding: &[u8]) -> Vec<u8> {
    let keys = path_keys(hops);
    let last = hops.len() - 1;
    // Let as many zeros as there are forwarding hops travel the path: what arrives is the filler.
    let mut filler = Vec::new();
    for (_, keys) in &keys[..last] {
        filler.extend_from_slice(&[0; 56]);
        let stream = stream(&keys.stream_key);
        filler = xor(&filler, &stream[312 - filler.len()..]);
    }
    let plain = [&hops[last].front[..], rest, padding].concat();
    assert_eq!(
        plain.len() + filler.len(),
        256,
        "padding fills what the path leaves"
    );
    let mut routing = [xor(&plain, &stream(&keys[last].1.stream_key)), filler].concat();
    let mut tag = mac(&keys[last].1.mac_key, &keys[last].0, &routing);
    for index in (0..last).rev() {
        let plain = [
            &hops[index].front[..],
            &tag,
            &keys[index + 1].0,
            &routing[..200],
        ]
        .concat();
        routing = xor(&plain, &stream(&keys[index].1.stream_key));
        tag = mac(&keys[index].1.mac_key, &keys[index].0, &routing);
    }
    [&keys[0].0[..], &tag, &routing].concat()
}

/// A whole packet.
pub fn wrap(hops: &[RawHop], rest: &[u8; 24], padding: &[u8], body: &[u8]) -> [u8; 1200] {
    let mut body = body.to_vec();
    for (_, keys) in path_keys(hops).iter().rev() {
        body = encrypt_body(&keys.body_key, &body);
    }
    [header(hops, rest, padding), body]
        .concat()
        .try_into()
        .unwrap()
}

/// What a hop makes of a packet.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Forward {
        next: u16,
        delay_us: u32,
        packet: Vec<u8>,
    },
    Deliver {
        destination: Vec<u8>,
        id: Vec<u8>,
        delay_us: u32,
        body: Vec<u8>,
    },
    Loop {
        id: Vec<u8>,
        delay_us: u32,
        body: Vec<u8>,
    },
    Drop {
        delay_us: u32,
        body: Vec<u8>,
    },
    Rejected(&'static str),
}

/// The hop's keys and its routing block with 56 zeros behind it, decrypted: all that a hop can look at.
pub fn view(secret: &[u8; 32], packet: &[u8]) -> (Keys, Vec<u8>) {
    let shared = x25519_dalek::x25519(*secret, packet[..32].try_into().unwrap());
    let keys = keys(shared, &packet[..32], &base_multiple(secret));
    let plain = xor(
        &[&packet[48..304], &[0; 56]].concat(),
        &stream(&keys.stream_key),
    );
    (keys, plain)
}

/// One hop, without a replay filter.
pub fn unwrap(secret: &[u8; 32], packet: &[u8], delay_max_us: u32) -> Outcome {
    let (keys, plain) = view(secret, packet);
    if keys.shared_secret == [0; 32] {
        return Outcome::Rejected("LowOrder");
    }
    if mac(&keys.mac_key, &packet[..32], &packet[48..304]) != packet[32..48] {
        return Outcome::Rejected("Mac");
    }
    let reserved: &[u8] = match plain[0] {
        1 => &[],
        2 => &plain[6..8],
        3 => &plain[6..24],
        4 => &plain[6..32],
        _ => return Outcome::Rejected("Command"),
    };
    if plain[1] != 0 || reserved.iter().any(|byte| *byte != 0) {
        return Outcome::Rejected("Reserved");
    }
    let delay_us = u32::from_le_bytes(plain[2..6].try_into().unwrap());
    if delay_us > delay_max_us {
        return Outcome::Rejected("Delay");
    }
    let body = decrypt_body(&keys.body_key, &packet[304..]);
    let checked = body[..16].iter().all(|byte| *byte == 0);
    let id = plain[24..32].to_vec();
    match plain[0] {
        1 => Outcome::Forward {
            next: u16::from_le_bytes(plain[6..8].try_into().unwrap()),
            delay_us,
            packet: [&plain[24..56], &plain[8..24], &plain[56..312], &body].concat(),
        },
        2 => Outcome::Deliver {
            destination: plain[8..24].to_vec(),
            id,
            delay_us,
            body,
        },
        3 if checked => Outcome::Loop { id, delay_us, body },
        4 if checked => Outcome::Drop { delay_us, body },
        _ => Outcome::Rejected("Body"),
    }
}
