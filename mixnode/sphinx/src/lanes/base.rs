//! Multiples of the base point on all lanes of a [`Field`]: public keys and ephemeral ciphertexts.
//!
//! On edwards25519, whose addition law is complete, with signed digits of four bits and a table of multiples: 64
//! additions of seven multiplications each, a fifth of the ladder's work. u = (1 + y)/(1 − y) (RFC 7748 §4.1) is left
//! as a fraction, so that it shares the batch's one inversion with the ladders.

use super::base_table::{Entry, MULTIPLES, WINDOWS};
use super::field::Field;
use super::ladder::Projective;

/// The digits of eight clamped scalars, −7 to 8.
struct Digits {
    /// Byte l is the size of lane l's digit.
    sizes: [u64; WINDOWS],
    /// Bit l says whether lane l's digit is negative (or zero, whose sign does not matter).
    negative: [u8; WINDOWS],
}

/// Clamped scalars are below 2^255: the last digit takes the carry without one of its own.
fn digits(scalars: &[[u8; 32]; 8]) -> Digits {
    let mut digits = Digits {
        sizes: [0; WINDOWS],
        negative: [0; WINDOWS],
    };
    for (lane, scalar) in scalars.iter().enumerate() {
        let mut carry = 0;
        for (index, (sizes, negative)) in digits
            .sizes
            .iter_mut()
            .zip(&mut digits.negative)
            .enumerate()
        {
            let byte = match index / 2 {
                0 => scalar[0] & 0xf8,
                31 => scalar[31] & 0x7f | 0x40,
                middle => scalar[middle],
            };
            let value = (byte >> (4 * (index % 2)) & 15) + carry;
            carry = (value + 7) >> 4;
            // value − 16·carry, and its size: the two's complement where that is negative.
            let sign = carry.wrapping_neg();
            let size = (value.wrapping_sub(carry << 4) ^ sign).wrapping_add(carry);
            *sizes |= u64::from(size) << (8 * lane);
            *negative |= carry << lane;
        }
    }
    digits
}

/// Bit l says whether byte l of `sizes`, all below 16, is `size`.
fn equal(sizes: u64, size: u64) -> u8 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // 128 − difference keeps its top bit only for zero.
    let zeros = (128 * ONES - (sizes ^ (size * ONES))) >> 7 & ONES;
    // Every byte's bit to its place in the top byte; no two meet elsewhere.
    (zeros.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// A point in extended coordinates, as the next addition reads it.
pub(super) struct Point<F: Field> {
    /// Y + X.
    pub sum: F::Element,
    /// Y − X.
    pub difference: F::Element,
    /// Z, biased.
    pub z: F::Wide,
    /// T = X·Y/Z.
    pub t: F::Element,
}

/// Adds the affine point of an [`Entry`], or where `negative` is set its opposite (−x, y).
#[inline(always)]
pub(super) fn add<F: Field>(
    f: F,
    p: &Point<F>,
    [plus, minus, dxy]: &[F::Element; 3],
    negative: F::Mask,
) -> Point<F> {
    let (left, right) = (
        f.select(negative, minus, plus),
        f.select(negative, plus, minus),
    );
    let a = f.multiply::<false>(&p.difference, &left);
    let b = f.multiply::<true>(&p.sum, &right);
    let c = f.multiply::<false>(&p.t, dxy);
    let (e, h) = (f.carry(&f.subtract(&b, &a)), f.carry(&f.add(&b, &a)));
    let (less, more) = (f.carry(&f.subtract(&p.z, &c)), f.carry(&f.add(&p.z, &c)));
    let g = f.select(negative, &more, &less);
    let less = f.select(negative, &less, &more);
    let x = f.multiply::<false>(&e, &less);
    let y = f.multiply::<true>(&g, &h);
    Point {
        sum: f.carry(&f.add(&y, &x)),
        difference: f.carry(&f.subtract(&y, &x)),
        z: f.multiply::<true>(&less, &g),
        t: f.carry(&f.multiply::<true>(&e, &h)),
    }
}

/// Part `part` of the entry whose mask is set, else `neutral`. All entries are read, whatever the digits are: a part at
/// a time, which stays in registers.
#[inline(always)]
fn choose<F: Field>(
    f: F,
    row: &[Entry<F::Constant>; MULTIPLES],
    part: usize,
    masks: &[F::Mask; MULTIPLES],
    neutral: &F::Element,
) -> F::Element {
    let mut chosen = *neutral;
    for multiple in 0..MULTIPLES {
        let candidate = f.constant(&row[multiple][part]);
        chosen = f.select(masks[multiple], &chosen, &candidate);
    }
    chosen
}

/// u(k·B) in every lane of one group, as Z + Y over Z − Y; of the array [`Field::LANES`] scalars are read.
#[inline(always)]
pub(super) fn multiply<F: Field>(f: F, scalars: &[[u8; 32]; 8]) -> Projective<F> {
    let Digits { sizes, negative } = digits(scalars);
    let one = f.load(&[[1; 8], [0; 8], [0; 8], [0; 8], [0; 8]]);
    let half = f.constant(&F::BASE.neutral[0]);
    let zero = f.constant(&F::BASE.neutral[2]);
    let mut point = Point::<F> {
        sum: one,
        difference: one,
        z: f.multiply::<true>(&one, &one),
        t: zero,
    };
    for window in 0..WINDOWS {
        let row = &F::BASE.multiples[window];
        let mut masks = [f.mask(0); MULTIPLES];
        for multiple in 0..MULTIPLES {
            masks[multiple] = f.mask(equal(sizes[window], multiple as u64 + 1));
        }
        let chosen = [
            choose(f, row, 0, &masks, &half),
            choose(f, row, 1, &masks, &half),
            choose(f, row, 2, &masks, &zero),
        ];
        point = add(f, &point, &chosen, f.mask(negative[window]));
    }
    finish(f, &point, &half, &one)
}

/// Y is half of what the next addition would have read.
#[inline(always)]
pub(super) fn finish<F: Field>(
    f: F,
    point: &Point<F>,
    half: &F::Element,
    one: &F::Element,
) -> Projective<F> {
    let twice = f.add(
        &f.multiply::<true>(&point.sum, half),
        &f.multiply::<false>(&point.difference, half),
    );
    let y = f.multiply::<false>(&f.carry(&twice), one);
    Projective {
        x: f.carry(&f.add(&point.z, &y)),
        z: f.carry(&f.subtract(&point.z, &y)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    #[test]
    fn digits_add_up_to_the_clamped_scalar_in_every_lane() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for round in 0..1000 {
            let mut scalars = [[0; 32]; 8];
            rng.fill_bytes(scalars.as_flattened_mut());
            if round == 0 {
                scalars = core::array::from_fn(|lane| [[0, 0xff, 0x77, 0x88][lane % 4]; 32]);
            }
            let Digits { sizes, negative } = digits(&scalars);
            for (lane, scalar) in scalars.iter().enumerate() {
                // From the top, byte by byte, as a number in base 256 with a borrow going up.
                let mut bytes = [0_i32; 33];
                for window in 0..WINDOWS {
                    let size = (sizes[window] >> (8 * lane) & 0xff) as i32;
                    assert!(size <= 8);
                    let sign = 1 - 2 * i32::from(negative[window] >> lane & 1);
                    bytes[window / 2] += (sign * size) << (4 * (window % 2));
                }
                for i in 0..32 {
                    bytes[i + 1] += bytes[i] >> 8;
                    bytes[i] &= 0xff;
                }
                let mut clamped = scalar.map(i32::from);
                clamped[0] &= 0xf8;
                clamped[31] = clamped[31] & 0x7f | 0x40;
                assert_eq!((&bytes[..32], bytes[32]), (&clamped[..], 0));
            }
        }
    }

    #[test]
    fn lanes_of_a_size_are_found_whatever_their_neighbours() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        for _ in 0..1000 {
            let bytes: [u8; 8] = core::array::from_fn(|_| (rng.next_u32() % 9) as u8);
            for size in 0..9 {
                let expected =
                    (0..8).fold(0, |bits, lane| bits | u8::from(bytes[lane] == size) << lane);
                assert_eq!(equal(u64::from_le_bytes(bytes), size.into()), expected);
            }
        }
    }
}
