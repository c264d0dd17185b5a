//! X25519 in lanes against x25519-dalek on random and edge inputs. The long run:
//! `cargo test --release -p sphinx --test lanes_agreement -- --ignored`.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::BATCH_MAX;
use sphinx::lanes::{ENCAPSULATE_MAX, Lanes};

type Bytes = [u8; 32];

/// p + `offset`, p = 2^255 − 19.
fn near_p(offset: i8) -> Bytes {
    let mut bytes = [0xff; 32];
    bytes[0] = (0xed_i16 + i16::from(offset)) as u8;
    bytes[31] = 0x7f;
    bytes
}

/// Mostly random; one in four has the patterns that carries and masks get wrong: zeros and ones in runs that end at
/// limb boundaries, values around p and 2^255, single bits.
fn input(rng: &mut ChaCha20Rng) -> Bytes {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    match rng.next_u32() % 32 {
        0 => [0; 32],
        1 => [0xff; 32],
        2 => near_p((rng.next_u32() % 38) as i8 - 19),
        3 => core::array::from_fn(|i| if i == 0 { bytes[0] } else { 0 }),
        kind @ 4..8 => {
            // Runs of equal bits whose lengths are around those of limbs.
            let (mut bit, mut value) = (0, kind & 1 == 0);
            bytes = [0; 32];
            while bit < 256 {
                let run = [25, 26, 51, 52, 1][(rng.next_u32() % 5) as usize];
                for b in bit..(bit + run).min(256) {
                    bytes[b / 8] |= u8::from(value) << (b % 8);
                }
                (bit, value) = (bit + run, !value);
            }
            bytes
        }
        _ => bytes,
    }
}

/// Both results of a pair, for as many of the pairs as one call takes.
fn encapsulations_agree(k: &[Bytes], u: &[Bytes], expected: &[Bytes]) {
    let length = k.len().min(ENCAPSULATE_MAX);
    let base = x25519_dalek::X25519_BASEPOINT_BYTES;
    for lanes in Lanes::available() {
        let (mut shared, mut public_keys) = (vec![[0; 32]; length], vec![[0; 32]; length]);
        lanes.encapsulate(&k[..length], &u[..length], &mut shared, &mut public_keys);
        assert_eq!(shared, expected[..length], "{}", lanes.name());
        for (public_key, k) in public_keys.iter().zip(k) {
            let expected = x25519_dalek::x25519(*k, base);
            assert_eq!(*public_key, expected, "{}: scalar {k:02x?}", lanes.name());
        }
    }
}

fn agree(count: usize, seed: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut done = 0;
    while done < count {
        let length = 2 + (rng.next_u32() as usize % (2 * BATCH_MAX)).min(BATCH_MAX - 2);
        let k: Vec<Bytes> = (0..length).map(|_| input(&mut rng)).collect();
        let u: Vec<Bytes> = (0..length).map(|_| input(&mut rng)).collect();
        let expected: Vec<Bytes> = k
            .iter()
            .zip(&u)
            .map(|(k, u)| x25519_dalek::x25519(*k, *u))
            .collect();
        for lanes in Lanes::available().filter(|lanes| *lanes != Lanes::Portable) {
            let mut out = vec![[0; 32]; length];
            lanes.x25519(&k, &u, &mut out);
            for i in 0..length {
                assert_eq!(
                    out[i],
                    expected[i],
                    "{}: scalar {:02x?}, point {:02x?}",
                    lanes.name(),
                    k[i],
                    u[i]
                );
            }
        }
        encapsulations_agree(&k, &u, &expected);
        done += length;
    }
}

#[test]
fn a_thousand_random_and_edge_inputs_agree_with_x25519_dalek() {
    agree(1_000, 3);
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn twenty_thousand_random_and_edge_inputs_agree_with_x25519_dalek() {
    agree(20_000, 1);
}

#[test]
#[ignore = "a minute, in a release build"]
fn a_million_random_and_edge_inputs_agree_with_x25519_dalek() {
    agree(1_000_000, 2);
}
