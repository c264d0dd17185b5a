//! Arithmetic modulo p = 2^255 − 19 for a multiplier of 52 bits: radix 2^52, limbs of 52, 52, 52, 52 and 47 bits.
//!
//! * The multiplier reads the low 52 bits of an operand and ignores the rest (Gueron and Krasnov, "Accelerating big
//!   integer arithmetic using Intel IFMA extensions", ARITH 2016). In radix 2^52 this masks for free: a carry adds
//!   the upper bits of a limb to the next one and leaves them where they are. High halves have exactly the weight of
//!   the next column, so nothing is doubled, as it would be in radix 2^51.
//! * Masking needs limbs that are right modulo 2^52, so the carry is sequential (4 limbs deep). It starts with the
//!   fifth limb, whose five spare bits take the last carry: one round is enough.
//! * Columns 5 to 9 wrap by 2^260 ≡ 608 (mod p), with the multiplier again.
//!
//! An operand ("element") is five words: l₀…l₃ read modulo 2^52, l₄ < 2^47 + 2^13. Wide columns stay below 2^62.
//! `bounds.rs` proves the bounds named here over the same code.

use super::base_table::{RADIX_52, Table};
use super::field::{Columns, Doubling, Field, limbs, modulus};

/// Words of 64 bits, one a lane, and the operations that the formulas need.
pub(super) trait Words: Copy {
    /// The vector.
    type Word: Copy;
    /// One truth value a lane.
    type Mask: Copy;
    /// Every lane the same.
    fn splat(self, value: u64) -> Self::Word;
    /// One value a lane.
    fn load(self, lanes: &[u64; 8]) -> Self::Word;
    /// The lanes.
    fn store(self, word: Self::Word) -> [u64; 8];
    /// A mask from bits.
    fn mask(self, bits: u8) -> Self::Mask;
    /// a + b.
    fn add(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// a − b.
    fn subtract(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// a AND b.
    fn and(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// ⌊a / 2^BITS⌋.
    fn shift_right<const BITS: u32>(self, a: Self::Word) -> Self::Word;
    /// sum + (a·b mod 2^52), where a and b are read modulo 2^52.
    fn product_low(self, sum: Self::Word, a: Self::Word, b: Self::Word) -> Self::Word;
    /// sum + ⌊a·b / 2^52⌋, where a and b are read modulo 2^52.
    fn product_high(self, sum: Self::Word, a: Self::Word, b: Self::Word) -> Self::Word;
    /// b where the mask is set, else a.
    fn select(self, mask: Self::Mask, a: Self::Word, b: Self::Word) -> Self::Word;
}

/// The field over some words.
#[derive(Clone, Copy)]
pub(super) struct Radix52<W: Words>(pub W);

/// 2^260 mod p.
const WRAP: u64 = 608;
const MASK_52: u64 = (1 << 52) - 1;
const MASK_47: u64 = (1 << 47) - 1;
/// 512·p, limb by limb: above every column of a product (2^55.5), so that differences stay positive.
const BIAS: [u64; 5] = {
    let mut bias = modulus(52);
    let mut i = 0;
    while i < 5 {
        bias[i] <<= 9;
        i += 1;
    }
    bias
};

impl<W: Words> Radix52<W> {
    /// Columns to start from: the bias divided by 2^`halvings`, or zero.
    #[inline(always)]
    fn start<const BIASED: bool>(self, halvings: [u32; 5]) -> [W::Word; 10] {
        let zero = self.0.splat(0);
        let mut z = [zero; 10];
        if BIASED {
            for i in 0..5 {
                z[i] = self.0.splat(BIAS[i] >> halvings[i]);
            }
        }
        z
    }

    /// z += a·b·2^(52·(i + j)).
    #[inline(always)]
    fn accumulate(self, z: &mut [W::Word; 10], i: usize, j: usize, a: W::Word, b: W::Word) {
        z[i + j] = self.0.product_low(z[i + j], a, b);
        z[i + j + 1] = self.0.product_high(z[i + j + 1], a, b);
    }

    /// Wraps columns 5 to 9, each below 2^56, into 0 to 4. z₉ is a high half of two 47-bit limbs, hence below 2^43
    /// with its carry, and 608·z₉ has no high half.
    #[inline(always)]
    fn fold(self, mut z: [W::Word; 10]) -> [W::Word; 5] {
        let w = self.0;
        let wrap = w.splat(WRAP);
        for k in 5..9 {
            z[k + 1] = w.add(z[k + 1], w.shift_right::<52>(z[k]));
        }
        for k in 5..10 {
            z[k - 5] = w.product_low(z[k - 5], z[k], wrap);
        }
        for k in 5..9 {
            z[k - 4] = w.product_high(z[k - 4], z[k], wrap);
        }
        [z[0], z[1], z[2], z[3], z[4]]
    }
}

impl<W: Words> Field for Radix52<W> {
    const LANES: usize = 8;
    const RADIX: u32 = 52;
    const STATE_IN_MEMORY: bool = true;
    type Element = [W::Word; 5];
    type Wide = [W::Word; 5];
    /// 2^(52·i)·b for i = 0…4, canonical: a product with it never leaves columns 0 to 5.
    type Fixed = [[W::Word; 5]; 5];
    type Mask = W::Mask;
    type Constant = u64;
    const BASE: &'static Table<u64> = &RADIX_52;

    #[inline(always)]
    fn mask(self, bits: u8) -> W::Mask {
        self.0.mask(bits)
    }

    #[inline(always)]
    fn load(self, columns: &Columns) -> Self::Element {
        self.carry(&limbs!(|i| self.0.load(&columns[i])))
    }

    #[inline(always)]
    fn constant(self, values: &[u64; 5]) -> Self::Element {
        limbs!(|i| self.0.splat(values[i]))
    }

    #[inline(always)]
    fn load_fixed(self, rows: &[Columns; 5]) -> Self::Fixed {
        limbs!(|i| limbs!(|j| self.0.load(&rows[i][j])))
    }

    #[inline(always)]
    fn store(self, a: &Self::Element) -> Columns {
        let mask = self.0.splat(MASK_52);
        limbs!(|i| self.0.store(self.0.and(a[i], mask)))
    }

    /// 25 low and 25 high halves: z₄ sums 5 + 4 of them, and three small ones of the fold.
    #[inline(always)]
    fn multiply<const BIASED: bool>(self, a: &Self::Element, b: &Self::Element) -> Self::Wide {
        let mut z = self.start::<BIASED>([0; 5]);
        for i in 0..5 {
            for j in 0..5 {
                self.accumulate(&mut z, i, j, a[i], b[j]);
            }
        }
        self.fold(z)
    }

    /// 15 products instead of 25. Cross products are summed first and doubled in their columns; those of the fifth
    /// limb take 2·l₄ < 2^49 instead, which saves two of the doublings.
    #[inline(always)]
    fn square<const BIASED: bool>(self, a: &Self::Element) -> Self::Wide {
        let w = self.0;
        let mut z = self.start::<BIASED>([0, 1, 1, 1, 1]);
        let twice_a4 = w.add(a[4], a[4]);
        for (i, j) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            self.accumulate(&mut z, i, j, a[i], a[j]);
        }
        for column in &mut z[1..7] {
            *column = w.add(*column, *column);
        }
        for i in 0..4 {
            self.accumulate(&mut z, i, i, a[i], a[i]);
            self.accumulate(&mut z, i, 4, a[i], twice_a4);
        }
        self.accumulate(&mut z, 4, 4, a[4], a[4]);
        self.fold(z)
    }

    /// Row i of the product is aᵢ·(2^(52·i)·b mod p), so only high halves with fifth limbs (47 bits) reach column 5:
    /// below 2^50 it needs no carry before it wraps.
    #[inline(always)]
    fn multiply_fixed(self, a: &Self::Element, b: &Self::Fixed) -> Self::Wide {
        let w = self.0;
        let mut z = self.start::<false>([0; 5]);
        for i in 0..5 {
            for j in 0..5 {
                self.accumulate(&mut z, 0, j, a[i], b[i][j]);
            }
        }
        let wrap = w.splat(WRAP);
        [
            w.product_low(z[0], z[5], wrap),
            w.product_high(z[1], z[5], wrap),
            z[2],
            z[3],
            z[4],
        ]
    }

    #[inline(always)]
    fn add(self, a: &Self::Wide, b: &Self::Wide) -> Self::Wide {
        limbs!(|i| self.0.add(a[i], b[i]))
    }

    #[inline(always)]
    fn subtract(self, a: &Self::Wide, b: &Self::Wide) -> Self::Wide {
        limbs!(|i| self.0.subtract(a[i], b[i]))
    }

    /// l₄ first, as 2^255 ≡ 19: 19·⌊z₄/2^47⌋ < 2^20; then limb by limb up to l₄ < 2^47 + 2^13.
    #[inline(always)]
    fn carry(self, a: &Self::Wide) -> Self::Element {
        let w = self.0;
        let mut l = *a;
        l[0] = w.product_low(l[0], w.shift_right::<47>(l[4]), w.splat(19));
        l[4] = w.and(l[4], w.splat(MASK_47));
        for i in 0..4 {
            l[i + 1] = w.add(l[i + 1], w.shift_right::<52>(l[i]));
        }
        l
    }

    /// T takes the wide A² as its accumulator: E's products with 121665 < 2^17 have high halves below 2^17.
    #[inline(always)]
    fn doubling(self, a: &Self::Element, b: &Self::Element) -> Doubling<Self::Element> {
        let w = self.0;
        let aa = self.square::<true>(a);
        let bb = self.square::<false>(b);
        let e = self.carry(&self.subtract(&aa, &bb));
        let a24 = w.splat(121_665);
        let mut t = aa;
        for i in 0..5 {
            t[i] = w.product_low(t[i], e[i], a24);
        }
        for i in 0..4 {
            t[i + 1] = w.product_high(t[i + 1], e[i], a24);
        }
        let high = w.product_high(w.splat(0), e[4], a24);
        t[0] = w.product_low(t[0], high, w.splat(WRAP));
        Doubling {
            aa: self.carry(&aa),
            bb: self.carry(&bb),
            e,
            t: self.carry(&t),
        }
    }

    #[inline(always)]
    fn select(self, mask: W::Mask, a: &Self::Element, b: &Self::Element) -> Self::Element {
        limbs!(|i| self.0.select(mask, a[i], b[i]))
    }
}
