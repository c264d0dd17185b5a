//! Known representatives, another implementation, and what an onlooker can count.

use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_elligator2 as other;
use curve25519_elligator2::{MapToPointVariant, Randomized};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::crypto::{agree, public_of};

fn bytes(hex: &str) -> [u8; 32] {
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    core::array::from_fn(byte)
}

fn random(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn representatives_stand_for_the_points_that_elligator_org_says() {
    for (sent, u) in [
        (
            "d3c41ec20dbe9fc33ccc14823d898066f433a892994ffbcc921e9f5ace519d02",
            "170a436471aaa00d817436197fde47fa3320aa040b48d1d2a9f155e15ce3975e",
        ),
        (
            "e03a05ebde6ca000cdc5c539bf48a1d08222483b87693046e00a411a8d93dd34",
            "b8e22e654ae391c44be4760a30d13950651d454c7ec71f0bdf7c5669bb22b564",
        ),
        (
            "e73507d38bae63992b3f57aac48c0abc14509589288457995a2b4ca3490aa207",
            "1e8afffed6bf53fe271ad572473262ded8faec68e5e67ef45ebb82eeba52604f",
        ),
        (
            "95a16019041dbefed9832048ede11928d90365f24a38aa7aef1b97e23954101b",
            "794f05ba3e3a72958022468c88981e0be5782be1e1145ce2c3c6fde16ded5363",
        ),
        // (p − 1) / 2 and the number after it, its opposite.
        (
            "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff3f",
            "9cdb525555555555555555555555555555555555555555555555555555555555",
        ),
        (
            "f7ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff3f",
            "9cdb525555555555555555555555555555555555555555555555555555555555",
        ),
    ] {
        assert_eq!(point_of(&bytes(sent)), bytes(u), "{sent}");
        for free in [0x40, 0x80, 0xc0] {
            let mut sent = bytes(sent);
            sent[31] |= free;
            assert_eq!(point_of(&sent), bytes(u), "bits {free:#x} are passed over");
        }
    }
    let u = bytes("46951964003c940878063ccfd0348af42150ca16d2646f2c5856e8338377d800");
    for (other, sent) in [
        (
            false,
            "2820b6b241e0f68a6c4a7fee3d978228ef3ae45533cd410aa91a415331d8612d",
        ),
        (
            true,
            "3cfb87c46c0b4575ca8175e0ed1c0ae9dae79db78df86997c4847b9f20b27718",
        ),
    ] {
        assert_eq!(representative(&u, other), Some(bytes(sent)));
    }
    let none = bytes("e6f66fdf6e230c603c5e6e59a254ea1476a13eb9511b9549846781e12e52230a");
    assert_eq!(representative(&none, false), None);
    assert_eq!(representative(&[0; 32], false), Some([0; 32]));
}

#[test]
fn another_implementation_maps_both_ways_alike() {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let mut found = 0;
    for _ in 0..500 {
        let sent = random(rng);
        let theirs = other::MontgomeryPoint::map_to_point(&sent);
        assert_eq!(point_of(&sent), theirs.to_bytes());
        // Its low-order part hangs on the scalar, its root on a bit.
        let scalar = random(rng);
        let u = other::EdwardsPoint::mul_base_clamped_dirty(scalar).to_montgomery();
        for bit in [0, 1] {
            let theirs: Option<[u8; 32]> = Randomized::to_representative(&scalar, bit).into();
            let ours = representative(u.as_bytes(), bit == 1);
            assert_eq!(ours, theirs);
            found += usize::from(ours.is_some());
        }
    }
    assert!((400..600).contains(&found), "{found} of 1,000");
}

#[test]
fn a_drawn_key_agrees_on_the_secret_of_its_scalar_whatever_its_low_order_part() {
    let rng = &mut ChaCha20Rng::seed_from_u64(2);
    let (secret, mut orders) = (random(rng), [0; 8]);
    for _ in 0..100 {
        let (scalar, sent) = draw(rng);
        let u = point_of(&sent);
        assert_eq!(agree(&secret, &u), agree(&scalar, &public_of(&secret)));
        orders[low_order_part(&u, false)] += 1;
    }
    assert!(orders.iter().all(|count| *count > 0), "{orders:?}");
}

/// Which of the points of low order is the part of this point that X25519 clears; `negative` decides between the two
/// points with this u.
fn low_order_part(u: &[u8; 32], negative: bool) -> usize {
    let point = MontgomeryPoint(*u).to_edwards(u8::from(negative));
    let point = point.expect("a point of the curve");
    // l times it, as l − 1 times it and once more; l is 5 modulo 8.
    let part = point * -Scalar::ONE + point;
    let place = EIGHT_TORSION.iter().position(|low| *low == part);
    place.expect("a point of low order") * 5 % 8
}

/// How far counts are from being even.
fn chi_square(counts: &[u32]) -> f64 {
    let mean = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let square = |count: &u32| (f64::from(*count) - mean).powi(2) / mean;
    counts.iter().map(square).sum()
}

#[test]
fn what_is_sent_of_keys_is_random_in_bytes_in_bits_and_in_the_low_order_parts() {
    const KEYS: u32 = 4_000;
    let rng = &mut ChaCha20Rng::seed_from_u64(3);
    let (mut values, mut bits, mut parts) = ([0u32; 256], [0u32; 256], [0u32; 8]);
    for _ in 0..KEYS {
        let (_, sent) = draw(rng);
        for (place, byte) in sent.iter().enumerate() {
            values[usize::from(*byte)] += 1;
            for bit in 0..8 {
                bits[place * 8 + bit] += u32::from(byte >> bit & 1);
            }
        }
        parts[low_order_part(&point_of(&sent), rng.next_u32() & 1 == 1)] += 1;
    }
    // Mean and five deviations of a chi-square distribution with 255 and with 7 degrees of freedom.
    let (of_bytes, of_parts) = (chi_square(&values), chi_square(&parts));
    println!("chi-square: bytes {of_bytes:.0}, low-order parts {of_parts:.1} ({parts:?})");
    assert!(of_bytes < 368.0);
    assert!(of_parts < 26.0);
    // Half of the keys, and five deviations.
    for (bit, count) in bits.iter().enumerate() {
        assert!(count.abs_diff(KEYS / 2) < 158, "bit {bit}: {count}");
    }
}
