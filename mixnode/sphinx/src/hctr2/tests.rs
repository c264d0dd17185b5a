use super::*;
use serde::Deserialize;
use std::{string::String, vec, vec::Vec};

type Cipher = fn(&[u8; 16], &mut [[u8; 16]]);

/// Every implementation this CPU can run: name, encrypt, decrypt.
fn implementations() -> Vec<(&'static str, Cipher, Cipher)> {
    let mut all: Vec<(&'static str, Cipher, Cipher)> =
        vec![("portable", portable::encrypt, portable::decrypt)];
    #[cfg(target_arch = "x86_64")]
    if vaes::Vaes::detect().is_some() {
        all.push((
            "vaes",
            |key, data| vaes::Vaes::detect().unwrap().encrypt(key, data),
            |key, data| vaes::Vaes::detect().unwrap().decrypt(key, data),
        ));
    } else {
        std::eprintln!("SKIPPED: no VAES on this CPU, only the portable implementation was tested");
    }
    all
}

#[derive(Deserialize)]
struct Published {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    key: String,
    tweak: String,
    plaintext: String,
    ciphertext: String,
}

fn published() -> Vec<Vector> {
    let text = include_str!("../../vectors/hctr2_aes128.json");
    serde_json::from_str::<Published>(text).unwrap().vectors
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect()
}

fn key(seed: usize) -> [u8; 16] {
    core::array::from_fn(|i| (seed.wrapping_mul(0x9e37_79b9) >> (i % 4 * 8)) as u8 ^ i as u8)
}

fn message(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i * i + 7 * i + length) as u8)
        .collect()
}

#[test]
fn the_published_vectors_with_empty_tweak_and_whole_blocks_hold() {
    let mut checked = 0;
    for vector in published() {
        let (plain, sealed) = (hex(&vector.plaintext), hex(&vector.ciphertext));
        if !vector.tweak.is_empty() || plain.len() % 16 != 0 {
            continue;
        }
        let key = hex(&vector.key).try_into().unwrap();
        for (name, encrypt, decrypt) in implementations() {
            let mut data = plain.clone();
            encrypt(&key, blocks(&mut data));
            assert_eq!(data, sealed, "{name}");
            decrypt(&key, blocks(&mut data));
            assert_eq!(data, plain, "{name}");
        }
        checked += 1;
    }
    assert_eq!(checked, 20);
}

#[test]
fn the_oracle_holds_all_published_vectors() {
    let vectors = published();
    assert_eq!(vectors.len(), 200);
    for vector in vectors {
        let plain = hex(&vector.plaintext);
        let mut sealed = vec![0; plain.len()];
        let key: [u8; 16] = hex(&vector.key).try_into().unwrap();
        hctr2_rs::Hctr2_128::new(&key)
            .encrypt(&plain, &hex(&vector.tweak), &mut sealed)
            .unwrap();
        assert_eq!(sealed, hex(&vector.ciphertext));
    }
}

#[test]
fn every_length_from_16_to_2048_agrees_with_hctr2_rs_in_both_directions() {
    for length in (16..=2048).step_by(16) {
        let (key, plain) = (key(length), message(length));
        let oracle = hctr2_rs::Hctr2_128::new(&key);
        let (mut sealed, mut opened) = (vec![0; length], vec![0; length]);
        oracle.encrypt(&plain, b"", &mut sealed).unwrap();
        oracle.decrypt(&plain, b"", &mut opened).unwrap();
        for (name, encrypt, decrypt) in implementations() {
            let mut data = plain.clone();
            encrypt(&key, blocks(&mut data));
            assert_eq!(data, sealed, "{name} encrypts {length} bytes");
            decrypt(&key, blocks(&mut data));
            assert_eq!(data, plain, "{name} undoes {length} bytes");
            decrypt(&key, blocks(&mut data));
            assert_eq!(data, opened, "{name} decrypts {length} bytes");
        }
    }
}

#[test]
fn bytes_beside_the_message_stay_untouched() {
    for length in (16..=544).step_by(16) {
        for (name, encrypt, decrypt) in implementations() {
            for cipher in [encrypt, decrypt] {
                let mut room = vec![0xa5; length + 512];
                cipher(&key(length), blocks(&mut room[256..256 + length]));
                assert!(
                    room[..256].iter().all(|byte| *byte == 0xa5),
                    "{name} before {length}"
                );
                assert!(
                    room[256 + length..].iter().all(|byte| *byte == 0xa5),
                    "{name} after {length}"
                );
            }
        }
    }
}

#[test]
fn one_changed_bit_changes_every_block_of_the_body() {
    let key = key(1);
    let plain = message(896);
    let mut sealed = plain.clone();
    encrypt(&key, &mut sealed);
    for bit in (0..896 * 8).step_by(97) {
        let mut data = sealed.clone();
        data[bit / 8] ^= 1 << (bit % 8);
        decrypt(&key, &mut data);
        let same = data
            .chunks(16)
            .zip(plain.chunks(16))
            .filter(|(a, b)| a == b);
        assert_eq!(same.count(), 0, "bit {bit}");
    }
}

#[test]
fn the_keystream_is_aes_ctr_in_every_implementation() {
    for seed in 0..50 {
        let mut expected = [0; KEYSTREAM_BYTES];
        portable::keystream(&key(seed), &mut expected);
        assert_eq!(*keystream(&key(seed)), expected);
    }
    // AES-128 of the zero block under the zero key (NIST's known answers).
    let first = hex("66e94bd4ef8a2c3b884cfa59ca342b2e");
    assert_eq!(keystream(&[0; 16])[..16], first);
}
