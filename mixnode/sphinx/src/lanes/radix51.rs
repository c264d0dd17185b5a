//! Arithmetic modulo p = 2^255 − 19 with fused multiply-add on doubles: radix 2^51, balanced limbs.
//!
//! AVX2 multiplies 32 × 32 bits, which takes 100 products and as many additions. A fused multiply-add rounds a
//! product of 106 bits once, where the addend says: with a large addend it yields the high half, and a second one,
//! with the high half taken away, exactly the low half (Emmart, Zheng and Weems, "Faster modular exponentiation using
//! double precision floating point arithmetic on the GPU", ARITH 2018). 25 products of five instructions each remain:
//!
//! ```text
//! high = fma(a, b, 1.5·2^103)              ulp 2^51: the mantissa is 2^51 + ⌊ab / 2^51⌉
//! low  = fma(a, b, 1.5·2^103 + 1.5·2^52 − high)     |ab − 2^51·⌊ab / 2^51⌉| ≤ 2^50, on top of 1.5·2^52
//! z[k + 1] += bits(high);  z[k] += bits(low)        integers; the columns start at minus all those exponents
//! ```
//!
//! Limbs are integers in doubles, |l| ≤ 2^50 + 2^15. Every operand is zero or at least one in size, so nothing is
//! ever subnormal, the one case in which the time of these instructions depends on data.
//! Wide columns are integers: signed modulo 2^64, and positive once they hold the bias.
//! `bounds.rs` proves the bounds named here over the same code.

use super::base_table::{RADIX_51, Table};
use super::field::{Columns, Doubling, Field, limbs, modulus};

/// Vectors of doubles and of 64-bit integers, one a lane, and the operations that the formulas need.
pub(super) trait Doubles: Copy {
    /// Doubles that hold integers.
    type Real: Copy;
    /// Integers modulo 2^64.
    type Integer: Copy;
    /// One truth value a lane.
    type Mask: Copy;
    /// Every lane the same.
    fn splat(self, value: u64) -> Self::Integer;
    /// `value`, less what `lows` low halves and `highs` high halves of [`Doubles::product`] add beside their value.
    fn start(self, value: u64, lows: u32, highs: u32) -> Self::Integer;
    /// The first four values.
    fn load(self, lanes: &[u64; 8]) -> Self::Integer;
    /// The lanes, then zeros.
    fn store(self, a: Self::Integer) -> [u64; 8];
    /// A mask from bits.
    fn mask(self, bits: u8) -> Self::Mask;
    /// a + b.
    fn add(self, a: Self::Integer, b: Self::Integer) -> Self::Integer;
    /// a − b.
    fn subtract(self, a: Self::Integer, b: Self::Integer) -> Self::Integer;
    /// a AND b.
    fn and(self, a: Self::Integer, b: Self::Integer) -> Self::Integer;
    /// a·2^BITS.
    fn shift_left<const BITS: i32>(self, a: Self::Integer) -> Self::Integer;
    /// ⌊a / 2^BITS⌋ of an unsigned a.
    fn shift_right<const BITS: i32>(self, a: Self::Integer) -> Self::Integer;
    /// 19·a for a < 2^32.
    fn times_19(self, a: Self::Integer) -> Self::Integer;
    /// Adds the halves of a·b, |a·b| < 2^102, to `low` and (weight 2^51) `high`.
    fn product(
        self,
        low: Self::Integer,
        high: Self::Integer,
        a: Self::Real,
        b: Self::Real,
    ) -> (Self::Integer, Self::Integer);
    /// a − `offset` for 0 ≤ a < 2^52.
    fn to_real(self, a: Self::Integer, offset: u64) -> Self::Real;
    /// a + `offset` for |a| < 2^51, where the sum is positive.
    fn to_integer(self, a: Self::Real, offset: u64) -> Self::Integer;
    /// Every lane the same integer.
    fn constant(self, value: f64) -> Self::Real;
    /// A small constant.
    fn real(self, value: u32) -> Self::Real;
    /// a + b, exact.
    fn add_real(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// a − b, exact.
    fn subtract_real(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// b where the mask is set, else a.
    fn select(self, mask: Self::Mask, a: Self::Real, b: Self::Real) -> Self::Real;
}

/// The field over some doubles.
#[derive(Clone, Copy)]
pub(super) struct Radix51<D: Doubles>(pub D);

const MASK_51: u64 = (1 << 51) - 1;
/// Half of a limb's range: with it the carry rounds, and limbs come out balanced.
const HALF: u64 = 1 << 50;
/// 512·p limb by limb, above every column of a product (2^58), and what makes the carry round.
const BIAS: [u64; 5] = {
    let mut bias = modulus(51);
    let mut i = 0;
    while i < 5 {
        bias[i] = (bias[i] << 9) + HALF;
        i += 1;
    }
    bias
};
/// 4·p limb by limb: makes balanced limbs positive.
const POSITIVE: [u64; 5] = {
    let mut limbs = modulus(51);
    let mut i = 0;
    while i < 5 {
        limbs[i] <<= 2;
        i += 1;
    }
    limbs
};

/// One statement for each pair (i, j): a loop over a table is left rolled by the compiler, and its operands in memory.
macro_rules! for_pairs {
    ($i:ident, $j:ident in $(($left:literal, $right:literal)),+ => $body:expr) => {
        $({
            let ($i, $j) = ($left, $right);
            $body
        })+
    };
}

impl<D: Doubles> Radix51<D> {
    /// Columns to start from when column k takes `lows[k]` low halves, and `lows[k − 1]` high ones.
    #[inline(always)]
    fn start<const BIASED: bool>(self, lows: [u32; 9]) -> [D::Integer; 10] {
        let mut z = [self.0.splat(0); 10];
        for k in 0..10 {
            let bias = if BIASED && k < 5 { BIAS[k] } else { 0 };
            let highs = if k > 0 { lows[k - 1] } else { 0 };
            z[k] = self.0.start(bias, if k < 9 { lows[k] } else { 0 }, highs);
        }
        z
    }

    /// z += a·b·2^(51·k).
    #[inline(always)]
    fn accumulate(self, z: &mut [D::Integer; 10], k: usize, a: D::Real, b: D::Real) {
        (z[k], z[k + 1]) = self.0.product(z[k], z[k + 1], a, b);
    }

    /// a + 19·b, b < 2^54 in size: 2^255 ≡ 19.
    #[inline(always)]
    fn wrap(self, a: D::Integer, b: D::Integer) -> D::Integer {
        let d = self.0;
        let three = d.add(d.add(b, b), b);
        d.add(d.add(a, three), d.shift_left::<4>(b))
    }

    #[inline(always)]
    fn fold(self, z: [D::Integer; 10]) -> [D::Integer; 5] {
        limbs!(|k| self.wrap(z[k], z[k + 5]))
    }
}

impl<D: Doubles> Field for Radix51<D> {
    const LANES: usize = 4;
    const RADIX: u32 = 51;
    const STATE_IN_MEMORY: bool = false;
    type Element = [D::Real; 5];
    type Wide = [D::Integer; 5];
    /// 2^(51·i)·b for i = 0…4, canonical: a product with it never leaves columns 0 to 5.
    type Fixed = [[D::Real; 5]; 5];
    type Mask = D::Mask;
    /// Balanced limbs.
    type Constant = f64;
    const BASE: &'static Table<f64> = &RADIX_51;

    #[inline(always)]
    fn mask(self, bits: u8) -> D::Mask {
        self.0.mask(bits)
    }

    #[inline(always)]
    fn load(self, columns: &Columns) -> Self::Element {
        let d = self.0;
        self.carry(&limbs!(|i| {
            d.add(d.load(&columns[i]), d.splat(BIAS[i]))
        }))
    }

    #[inline(always)]
    fn constant(self, values: &[f64; 5]) -> Self::Element {
        limbs!(|i| self.0.constant(values[i]))
    }

    #[inline(always)]
    fn load_fixed(self, rows: &[Columns; 5]) -> Self::Fixed {
        let d = self.0;
        limbs!(|i| limbs!(|j| d.to_real(d.load(&rows[i][j]), 0)))
    }

    #[inline(always)]
    fn store(self, a: &Self::Element) -> Columns {
        limbs!(|i| self.0.store(self.0.to_integer(a[i], POSITIVE[i])))
    }

    /// 25 products, column by column, so that only two sums are alive at a time: AVX2 has 16 registers.
    #[inline(always)]
    fn multiply<const BIASED: bool>(self, a: &Self::Element, b: &Self::Element) -> Self::Wide {
        let mut z = self.start::<BIASED>([1, 2, 3, 4, 5, 4, 3, 2, 1]);
        for_pairs!(i, j in
            (0, 0),
            (0, 1), (1, 0),
            (0, 2), (1, 1), (2, 0),
            (0, 3), (1, 2), (2, 1), (3, 0),
            (0, 4), (1, 3), (2, 2), (3, 1), (4, 0),
            (1, 4), (2, 3), (3, 2), (4, 1),
            (2, 4), (3, 3), (4, 2),
            (3, 4), (4, 3),
            (4, 4)
            => self.accumulate(&mut z, i + j, a[i], b[j])
        );
        self.fold(z)
    }

    /// 15 products instead of 25: cross products take a doubled limb, |2·aᵢ·aⱼ| < 2^102.
    #[inline(always)]
    fn square<const BIASED: bool>(self, a: &Self::Element) -> Self::Wide {
        let mut z = self.start::<BIASED>([1, 1, 2, 2, 3, 2, 2, 1, 1]);
        let twice: Self::Element = limbs!(|i| self.0.add_real(a[i], a[i]));
        for_pairs!(i, j in
            (0, 0),
            (0, 1),
            (0, 2), (1, 1),
            (0, 3), (1, 2),
            (0, 4), (1, 3), (2, 2),
            (1, 4), (2, 3),
            (2, 4), (3, 3),
            (3, 4),
            (4, 4)
            => self.accumulate(&mut z, i + j, if i < j { twice[i] } else { a[i] }, a[j])
        );
        self.fold(z)
    }

    /// Row i of the product is aᵢ·(2^(51·i)·b mod p): only high halves with fifth limbs reach column 5.
    #[inline(always)]
    fn multiply_fixed(self, a: &Self::Element, b: &Self::Fixed) -> Self::Wide {
        let mut z = self.start::<false>([5, 5, 5, 5, 5, 0, 0, 0, 0]);
        for_pairs!(i, k in
            (0, 0), (1, 0), (2, 0), (3, 0), (4, 0),
            (0, 1), (1, 1), (2, 1), (3, 1), (4, 1),
            (0, 2), (1, 2), (2, 2), (3, 2), (4, 2),
            (0, 3), (1, 3), (2, 3), (3, 3), (4, 3),
            (0, 4), (1, 4), (2, 4), (3, 4), (4, 4)
            => self.accumulate(&mut z, k, a[i], b[i][k])
        );
        [self.wrap(z[0], z[5]), z[1], z[2], z[3], z[4]]
    }

    #[inline(always)]
    fn add(self, a: &Self::Wide, b: &Self::Wide) -> Self::Wide {
        limbs!(|i| self.0.add(a[i], b[i]))
    }

    #[inline(always)]
    fn subtract(self, a: &Self::Wide, b: &Self::Wide) -> Self::Wide {
        limbs!(|i| self.0.subtract(a[i], b[i]))
    }

    /// All limbs at once: wide columns are below 2^61, so a limb receives less than 2^10, the first 19 times that.
    #[inline(always)]
    fn carry(self, a: &Self::Wide) -> Self::Element {
        let d = self.0;
        let mask = d.splat(MASK_51);
        let first = d.times_19(d.shift_right::<51>(a[4]));
        limbs!(|i| {
            let carry = if i == 0 {
                first
            } else {
                d.shift_right::<51>(a[i - 1])
            };
            d.to_real(d.add(d.and(a[i], mask), carry), HALF)
        })
    }

    /// E needs no carry: the difference of balanced limbs is below 2^51 + 2^16, and T's limbs below 2^50 + 2^15.
    #[inline(always)]
    fn doubling(self, a: &Self::Element, b: &Self::Element) -> Doubling<Self::Element> {
        let d = self.0;
        let wide = self.square::<true>(a);
        let aa = self.carry(&wide);
        let bb = self.carry(&self.square::<true>(b));
        let e: Self::Element = limbs!(|i| d.subtract_real(aa[i], bb[i]));
        let a24 = d.real(121_665);
        let mut t = self.start::<false>([1, 1, 1, 1, 1, 0, 0, 0, 0]);
        for i in 0..5 {
            t[i] = d.add(t[i], wide[i]);
            self.accumulate(&mut t, i, e[i], a24);
        }
        let t = self.carry(&[self.wrap(t[0], t[5]), t[1], t[2], t[3], t[4]]);
        Doubling { aa, bb, e, t }
    }

    #[inline(always)]
    fn select(self, mask: D::Mask, a: &Self::Element, b: &Self::Element) -> Self::Element {
        limbs!(|i| self.0.select(mask, a[i], b[i]))
    }
}
