//! Elligator 2: ephemeral keys of X25519 as bytes that nobody can tell from random ones.
//!
//! A key as X25519 sends it is always the u coordinate of a point of the prime-order group; of random bytes one in
//! sixteen is. So an exit gateway would know every body that has such a key in it. What is sent here instead stands for
//! a point of the whole group, all eight cosets evenly: [clamped e]B + T, with T of low order from random bits of its
//! own. Half of all points have a representative; a key whose point has none is drawn again. X25519 clears T, for its
//! scalars are multiples of eight.
//!
//! Source: Bernstein, Hamburg, Krasnova, Lange, "Elligator: elliptic-curve points indistinguishable from uniform random
//! strings" (2013), with the non-square 2; <https://elligator.org>. The curve is v² = u³ + Au² + u over 2^255 − 19.
//!
//! The scalar alone is secret, and curve25519-dalek alone handles it. Everything else here can be computed from what is
//! sent, so that it may branch.

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use field::{Field, ONE};

mod field;

/// The curve's A.
const A: Field = Field::small(486_662);
/// Bits of the last byte that no representative has: all are below 2^254.
const FREE_BITS: u8 = 0xc0;

/// Draws a key: its scalar, and the public key as it is sent.
pub(crate) fn draw<R: CryptoRng + ?Sized>(rng: &mut R) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
    let mut scalar = Zeroizing::new([0; 32]);
    loop {
        rng.fill_bytes(&mut *scalar);
        let mut bits = [0];
        rng.fill_bytes(&mut bits);
        let [bits] = bits;
        let point = EdwardsPoint::mul_base_clamped(*scalar) + EIGHT_TORSION[usize::from(bits & 7)];
        // u stands for a point and its negative, which are equally likely: a bit decides whose representative it is.
        let sent = representative(&point.to_montgomery().to_bytes(), bits & 8 != 0);
        if let Some(mut sent) = sent {
            sent[31] |= bits & FREE_BITS;
            return (scalar, sent);
        }
    }
}

/// The u coordinate that these bytes stand for, whatever they are: always that of a point of the curve.
pub(crate) fn point_of(sent: &[u8; 32]) -> [u8; 32] {
    let mut bytes = *sent;
    bytes[31] &= !FREE_BITS;
    let r = Field::from_bytes(&bytes);
    // Never zero, for −1/2 is no square.
    let divisor = ONE + (r * r).double();
    let w = -A * divisor.invert();
    let u = match ((w + A) * w * w + w).is_square() {
        true => w,
        false => -w - A,
    };
    u.to_bytes()
}

/// The bytes below 2^254 that stand for this u coordinate of a point of the curve: those of the point with the one v
/// or with the other. Half of all points have none.
fn representative(u: &[u8; 32], other: bool) -> Option<[u8; 32]> {
    let u = Field::from_bytes(u);
    let shifted = u + A;
    // r² is −u / 2(u + A), or that upside down: both are squares where −2u(u + A) is.
    let root = (-(u * shifted).double()).inverse_root()?;
    let r = root * if other { shifted } else { u };
    // Of r and −r the one up to (p − 1) / 2: its double is even.
    let r = if r.double().is_odd() { -r } else { r };
    Some(r.to_bytes())
}

#[cfg(test)]
mod tests;
