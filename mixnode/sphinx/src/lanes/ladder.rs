//! X25519 (RFC 7748 §5) on all lanes of a [`Field`]: the Montgomery ladder and the way back to affine coordinates.
//!
//! The state is (A, B, C, D) = (x₂ + z₂, x₂ − z₂, x₃ + z₃, x₃ − z₃), since sums and differences are all that a step
//! reads. D·A and C·B only trade places (up to the sign of one difference, which is squared) when the two points
//! are exchanged, so the conditional swap is needed for the two inputs of the doubling alone.

use super::RESULTS_MAX;
use super::field::{Columns, Doubling, Field, canonical, decode, encode, modulus, reduce, rotate};
use super::inverse::invert_all;

/// The projective result of a ladder, x = X/Z.
pub(super) struct Projective<F: Field> {
    pub x: F::Element,
    pub z: F::Element,
}

impl<F: Field> Clone for Projective<F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: Field> Copy for Projective<F> {}

pub(super) struct State<F: Field> {
    pub a: F::Element,
    pub b: F::Element,
    pub c: F::Element,
    pub d: F::Element,
}

/// One step: the doubling of the selected point and the sum of both, whose difference is the base point (x₁ : 1).
///
/// x₃ = (D·A + C·B)², z₃ = x₁·(D·A − C·B)²; x₂ = A²·B², z₂ = E·(A² + a24·E). 5 M + 4 S + 1 small.
#[inline(always)]
pub(super) fn step<F: Field>(f: F, s: &State<F>, base: &F::Fixed, swap: F::Mask) -> State<F> {
    let da = f.multiply::<true>(&s.d, &s.a);
    let cb = f.multiply::<false>(&s.c, &s.b);
    let a = f.select(swap, &s.a, &s.c);
    let b = f.select(swap, &s.b, &s.d);
    let sum = f.carry(&f.add(&da, &cb));
    let difference = f.carry(&f.subtract(&da, &cb));

    let Doubling { aa, bb, e, t } = f.doubling(&a, &b);
    let x3 = f.square::<true>(&sum);
    let difference = f.carry(&f.square::<true>(&difference));
    let z3 = f.multiply_fixed(&difference, base);
    let x2 = f.multiply::<true>(&aa, &bb);
    let z2 = f.multiply::<false>(&e, &t);
    State {
        a: f.carry(&f.add(&x2, &z2)),
        b: f.carry(&f.subtract(&x2, &z2)),
        c: f.carry(&f.add(&x3, &z3)),
        d: f.carry(&f.subtract(&x3, &z3)),
    }
}

/// x₂ (biased) and z₂ (biased or not) of twice the point with A and B.
#[inline(always)]
pub(super) fn double<F: Field, const BIASED: bool>(
    f: F,
    a: &F::Element,
    b: &F::Element,
) -> (F::Wide, F::Wide) {
    let Doubling { aa, bb, e, t } = f.doubling(a, b);
    (f.multiply::<true>(&aa, &bb), f.multiply::<BIASED>(&e, &t))
}

/// Clamps the scalars and transposes their bits: bit l of `swaps[t]` says whether lane l's bits t and t + 1 differ.
fn swaps(scalars: &[[u8; 32]; 8], swaps: &mut [u8; 256]) {
    for byte in 0..32 {
        // Eight bytes, one a lane, as an 8×8 bit matrix; three rounds of block exchange transpose it
        // (Warren, Hacker's Delight, §7-3).
        let mut m = u64::from_le_bytes(core::array::from_fn(|lane| {
            let k = scalars[lane][byte];
            match byte {
                0 => k & 0xf8,
                31 => k & 0x7f | 0x40,
                _ => k,
            }
        }));
        for (shift, mask) in [
            (7, 0x00aa_00aa_00aa_00aa),
            (14, 0x0000_cccc_0000_cccc),
            (28, 0x0000_0000_f0f0_f0f0),
        ] {
            let t = (m ^ (m >> shift)) & mask;
            m ^= t ^ (t << shift);
        }
        swaps[8 * byte..8 * byte + 8].copy_from_slice(&m.to_le_bytes());
    }
    for t in 0..255 {
        swaps[t] ^= swaps[t + 1];
    }
}

/// The base points: u + 1, u − 1 (plus p, so that no limb turns negative) and 2^(RADIX·i)·u.
fn bases<F: Field>(
    points: &[[u8; 32]; 8],
    sum: &mut Columns,
    difference: &mut Columns,
    rows: &mut [Columns; 5],
) {
    let p = modulus(F::RADIX);
    for (lane, point) in points.iter().enumerate().take(F::LANES) {
        let mut u = reduce(decode(point, F::RADIX), F::RADIX);
        for i in 0..5 {
            sum[i][lane] = u[i] + u64::from(i == 0);
            difference[i][lane] = u[i] + p[i] - u64::from(i == 0);
        }
        for (n, row) in rows.iter_mut().enumerate() {
            if n > 0 {
                u = rotate(u, F::RADIX);
            }
            for i in 0..5 {
                row[i][lane] = u[i];
            }
        }
    }
}

/// A group of lanes on its way.
struct Climb<F: Field> {
    swap: [u8; 256],
    base: F::Fixed,
    state: State<F>,
}

/// Bit 254 of a clamped scalar is one: the ladder starts behind it, at (2P, P), doubled point first.
#[inline(always)]
fn start<F: Field>(f: F, (scalars, points): (&[[u8; 32]; 8], &[[u8; 32]; 8])) -> Climb<F> {
    let mut swap = [0; 256];
    swaps(scalars, &mut swap);
    let (mut sum, mut difference, mut rows) = ([[0; 8]; 5], [[0; 8]; 5], [[[0; 8]; 5]; 5]);
    bases::<F>(points, &mut sum, &mut difference, &mut rows);
    let (c, d) = (f.load(&sum), f.load(&difference));
    let (x2, z2) = double::<F, false>(f, &c, &d);
    let (a, b) = (f.carry(&f.add(&x2, &z2)), f.carry(&f.subtract(&x2, &z2)));
    Climb {
        swap,
        base: f.load_fixed(&rows),
        state: State { a, b, c, d },
    }
}

/// Bits 2, 1 and 0 are zero: one last swap, then doublings alone.
#[inline(always)]
fn finish<F: Field>(f: F, climb: &Climb<F>) -> Projective<F> {
    let (mask, s) = (f.mask(climb.swap[2]), &climb.state);
    let (mut a, mut b) = (f.select(mask, &s.a, &s.c), f.select(mask, &s.b, &s.d));
    for _ in 0..2 {
        let (x2, z2) = double::<F, false>(f, &a, &b);
        (a, b) = (f.carry(&f.add(&x2, &z2)), f.carry(&f.subtract(&x2, &z2)));
    }
    let (x, z) = double::<F, true>(f, &a, &b);
    Projective {
        x: f.carry(&x),
        z: f.carry(&z),
    }
}

/// Scalar times point in every lane of one group; the arrays hold [`Field::LANES`] pairs, the rest is not read.
#[inline(always)]
pub(super) fn multiply<F: Field>(f: F, group: (&[[u8; 32]; 8], &[[u8; 32]; 8])) -> Projective<F> {
    let mut climb = start(f, group);
    if F::STATE_IN_MEMORY {
        for t in (3..254).rev() {
            climb.state = step(f, &climb.state, &climb.base, f.mask(climb.swap[t]));
        }
        finish(f, &climb)
    } else {
        let Climb {
            swap,
            base,
            mut state,
        } = climb;
        for t in (3..254).rev() {
            state = step(f, &state, &base, f.mask(swap[t]));
        }
        finish(f, &Climb { swap, base, state })
    }
}

#[inline(always)]
pub(super) fn product<F: Field>(f: F, a: &F::Element, b: &F::Element) -> F::Element {
    f.carry(&f.multiply::<true>(a, b))
}

fn lane_of(columns: &Columns, lane: usize) -> [u64; 5] {
    core::array::from_fn(|i| columns[i][lane])
}

/// 1/a in every lane.
#[inline(always)]
fn inverse_of<F: Field>(f: F, a: &F::Element) -> F::Element {
    let mut columns = f.store(a);
    let mut values = [[0; 5]; 8];
    for lane in 0..F::LANES {
        values[lane] = decode(
            &encode(canonical(lane_of(&columns, lane), F::RADIX), F::RADIX),
            51,
        );
    }
    invert_all(&mut values[..F::LANES]);
    for lane in 0..F::LANES {
        let limbs = decode(&encode(canonical(values[lane], 51), 51), F::RADIX);
        for i in 0..5 {
            columns[i][lane] = limbs[i];
        }
    }
    f.load(&columns)
}

/// x = X/Z of up to [`RESULTS_MAX`] / 4 groups with one inversion (Montgomery's trick, over groups and then over lanes), into `out`, group after group.
///
/// A lane with Z = 0 (the point was of small order) would zero its column of the shared product: its fraction is
/// replaced by 0/1, so that it yields the zero that RFC 7748 asks for and disturbs no other.
#[inline(always)]
pub(super) fn affine<F: Field>(f: F, groups: &mut [Projective<F>], out: &mut [[u8; 32]]) {
    let constant = |value| f.load(&[[value; 8], [0; 8], [0; 8], [0; 8], [0; 8]]);
    let (zero, one) = (constant(0), constant(1));
    let mut prefix = [one; RESULTS_MAX / 4];
    let mut total = one;
    for (group, prefix) in groups.iter_mut().zip(&mut prefix) {
        let z = f.store(&group.z);
        let mut zeros = 0;
        for lane in 0..F::LANES {
            let any = canonical(lane_of(&z, lane), F::RADIX)
                .iter()
                .fold(0, |any, limb| any | limb);
            // A limb is below 2^52: only zero borrows from the top bit.
            zeros |= ((any.wrapping_sub(1) >> 63) as u8) << lane;
        }
        let zeros = f.mask(zeros);
        group.x = f.select(zeros, &group.x, &zero);
        group.z = f.select(zeros, &group.z, &one);
        *prefix = total;
        total = product(f, &total, &group.z);
    }
    let mut inverse = inverse_of(f, &total);
    for ((group, prefix), out) in groups
        .iter()
        .zip(&prefix)
        .zip(out.chunks_mut(F::LANES))
        .rev()
    {
        let x = f.store(&product(f, &group.x, &product(f, &inverse, prefix)));
        inverse = product(f, &inverse, &group.z);
        for (lane, out) in out.iter_mut().enumerate() {
            *out = encode(canonical(lane_of(&x, lane), F::RADIX), F::RADIX);
        }
    }
}
