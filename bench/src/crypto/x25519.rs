//! X25519 with a variable point: ours in every backend this CPU has, and four libraries.

use super::measure::repeating;
use crate::cases::Case;
use aws_lc_rs::agreement as aws;
use curve25519_dalek::{EdwardsPoint, Scalar};
use graviola::key_agreement::x25519 as graviola;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use std::hint::black_box;

/// Operations of a measurement of the slow, single ones.
const SINGLE: usize = 8;

pub(super) fn name(lanes: Lanes) -> String {
    format!("x25519 ours, {}", lanes.name())
}

pub(super) const DALEK: &str = "x25519 x25519-dalek";
pub(super) const AWS_LC: &str = "x25519 aws-lc-rs";

fn keys<const N: usize>(seed: u64) -> [[u8; 32]; N] {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut keys = [[0; 32]; N];
    rng.fill_bytes(keys.as_flattened_mut());
    keys
}

/// Points on the curve, not on its twist: what honest packets carry.
fn points<const N: usize>(seed: u64) -> [[u8; 32]; N] {
    keys::<N>(seed).map(|secret| x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for lanes in Lanes::available() {
        for batch in [1, 8, 64] {
            cases.push(ours(lanes, batch));
        }
    }
    cases.extend([dalek(), edwards(), aws_lc(), graviola()]);
    cases
}

fn ours(lanes: Lanes, batch: usize) -> Case {
    let (scalars, points) = (keys::<64>(1), points::<64>(2));
    let mut out = [[0; 32]; 64];
    let calls = (SINGLE / batch).max(1);
    repeating(name(lanes), batch, calls * batch, move || {
        for _ in 0..calls {
            let (scalars, points) = (&scalars[..batch], &points[..batch]);
            lanes.x25519(black_box(scalars), black_box(points), &mut out[..batch]);
            black_box(&mut out);
        }
    })
}

fn dalek() -> Case {
    let (scalars, points) = (keys::<SINGLE>(1), points::<SINGLE>(2));
    repeating(DALEK, 1, SINGLE, move || {
        for (scalar, point) in scalars.iter().zip(&points) {
            black_box(x25519_dalek::x25519(*black_box(scalar), *black_box(point)));
        }
    })
}

/// The vectorised multiplication of curve25519-dalek, which X25519 in that library does not use.
fn edwards() -> Case {
    let scalars = keys::<SINGLE>(1).map(Scalar::from_bytes_mod_order);
    let points = keys::<SINGLE>(2).map(EdwardsPoint::mul_base_clamped);
    repeating(
        "x25519 curve25519-dalek EdwardsPoint",
        1,
        SINGLE,
        move || {
            for (scalar, point) in scalars.iter().zip(&points) {
                black_box(black_box(point) * black_box(scalar));
            }
        },
    )
}

fn aws_lc() -> Case {
    let points = points::<SINGLE>(2);
    let secrets: Vec<aws::PrivateKey> = keys::<SINGLE>(1)
        .iter()
        .map(|secret| aws::PrivateKey::from_private_key(&aws::X25519, secret).unwrap())
        .collect();
    repeating(AWS_LC, 1, SINGLE, move || {
        for (secret, point) in secrets.iter().zip(&points) {
            let point = aws::UnparsedPublicKey::new(&aws::X25519, black_box(point));
            let _ = black_box(aws::agree(secret, point, (), |shared| {
                black_box(shared);
                Ok(())
            }));
        }
    })
}

fn graviola() -> Case {
    let points = points::<SINGLE>(2).map(|point| graviola::PublicKey::from_array(&point));
    let secrets = keys::<SINGLE>(1).map(|secret| graviola::StaticPrivateKey::from_array(&secret));
    repeating("x25519 graviola", 1, SINGLE, move || {
        for (secret, point) in secrets.iter().zip(&points) {
            let _ = black_box(black_box(secret).diffie_hellman(black_box(point)));
        }
    })
}
