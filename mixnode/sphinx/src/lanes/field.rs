//! What the Montgomery ladder asks of arithmetic modulo p = 2^255 − 19, one element a lane.
//!
//! A product leaves its columns *wide*: five sums that exceed a limb. Sums and differences of wide values are
//! taken before the one carry that makes them an operand again ("lazy reduction"), which saves half the carries.

use super::base_table::Table;

/// Five columns (limb position first) of eight lanes, as plain integers; backends with four lanes use the first four.
pub(super) type Columns = [[u64; 8]; 5];

/// What one doubling needs of A = x + z and B = x − z: A², B², E = A² − B² and T = A² + 121665·E,
/// so that 2·(x : z) = (A²·B² : E·T) (RFC 7748 §5, whose a24 is 121665).
pub(super) struct Doubling<E> {
    pub aa: E,
    pub bb: E,
    pub e: E,
    pub t: E,
}

/// An expression for each of five limbs. `core::array::from_fn` would do, were its closure always inlined: outside of
/// the function that enables the CPU feature every intrinsic is a call.
macro_rules! limbs {
    (|$i:ident| $limb:expr) => {
        [
            {
                let $i = 0;
                $limb
            },
            {
                let $i = 1;
                $limb
            },
            {
                let $i = 2;
                $limb
            },
            {
                let $i = 3;
                $limb
            },
            {
                let $i = 4;
                $limb
            },
        ]
    };
}
pub(super) use limbs;

/// Arithmetic modulo 2^255 − 19 in every lane of a vector.
///
/// The functions are generic so that the interval machines of the tests run the very formulas that the CPU runs.
pub(super) trait Field: Copy {
    /// Independent elements a value holds: 4 or 8.
    const LANES: usize;
    /// Bits of a limb; the fifth limb takes what is left of 255.
    const RADIX: u32;
    /// Whether the ladder's state stays in one structure in memory between steps (8 % faster where operands then come
    /// with the multiplications) or in variables (10 % faster where the compiler would store and load them in vain).
    const STATE_IN_MEMORY: bool;
    /// An operand of a multiplication: carried limbs.
    type Element: Copy;
    /// Columns of a product, or of sums of products.
    type Wide: Copy;
    /// An operand prepared for many multiplications.
    type Fixed;
    /// One truth value a lane.
    type Mask: Copy;
    /// A limb of a constant.
    type Constant: Copy + 'static;
    /// Multiples of the base point.
    const BASE: &'static Table<Self::Constant>;

    /// The mask whose lane l is bit l of `bits`.
    fn mask(self, bits: u8) -> Self::Mask;
    /// Columns of less than 2^54 each, as an element.
    fn load(self, columns: &Columns) -> Self::Element;
    /// The same element in every lane.
    fn constant(self, limbs: &[Self::Constant; 5]) -> Self::Element;
    /// `rows[i]` holds the canonical limbs of 2^(RADIX·i)·x.
    fn load_fixed(self, rows: &[Columns; 5]) -> Self::Fixed;
    /// Limbs below 2^54 whose value is that of `a` modulo p.
    fn store(self, a: &Self::Element) -> Columns;

    /// a·b. With `BIASED` a multiple of p is added that makes `subtract` from it and `carry` of it valid.
    fn multiply<const BIASED: bool>(self, a: &Self::Element, b: &Self::Element) -> Self::Wide;
    /// a², `BIASED` as in [`Field::multiply`].
    fn square<const BIASED: bool>(self, a: &Self::Element) -> Self::Wide;
    /// a·b, not biased.
    fn multiply_fixed(self, a: &Self::Element, b: &Self::Fixed) -> Self::Wide;
    /// a + b.
    fn add(self, a: &Self::Wide, b: &Self::Wide) -> Self::Wide;
    /// a − b for a biased a and a b that is not.
    fn subtract(self, a: &Self::Wide, b: &Self::Wide) -> Self::Wide;
    /// The element of a wide value that holds exactly one bias.
    fn carry(self, a: &Self::Wide) -> Self::Element;
    /// The squares of a doubling and what is linear in them.
    fn doubling(self, a: &Self::Element, b: &Self::Element) -> Doubling<Self::Element>;
    /// Lane by lane b where the mask is set, else a; without a branch.
    fn select(self, mask: Self::Mask, a: &Self::Element, b: &Self::Element) -> Self::Element;
}

/// The limbs of p in radix 2^`radix`.
pub(super) const fn modulus(radix: u32) -> [u64; 5] {
    let full = (1 << radix) - 1;
    [full - 18, full, full, full, (1 << (255 - 4 * radix)) - 1]
}

/// Carries limbs below 2^57 to limbs below 2^radix and a fifth below 2^(255 − 4·radix).
///
/// Three rounds: the first leaves at most 2^13 above the fifth limb's size, the second a carry of one, and only when
/// the limbs below became small, so the third ends the ripple.
pub(super) const fn reduce(mut limbs: [u64; 5], radix: u32) -> [u64; 5] {
    let top = 255 - 4 * radix;
    let mut round = 0;
    while round < 3 {
        limbs[0] += 19 * (limbs[4] >> top);
        limbs[4] &= (1 << top) - 1;
        let mut i = 0;
        while i < 4 {
            limbs[i + 1] += limbs[i] >> radix;
            limbs[i] &= (1 << radix) - 1;
            i += 1;
        }
        round += 1;
    }
    limbs
}

/// The limbs of a little-endian number; bit 255 is ignored (RFC 7748 §5).
pub(super) fn decode(bytes: &[u8; 32], radix: u32) -> [u64; 5] {
    let mut words = [0u64; 5];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words[3] &= u64::MAX >> 1;
    core::array::from_fn(|i| {
        let (word, bit) = ((i as u32 * radix / 64) as usize, i as u32 * radix % 64);
        let pair = u128::from(words[word]) | u128::from(words[word + 1]) << 64;
        (pair >> bit) as u64 & ((1 << radix) - 1)
    })
}

/// The one representative below p of limbs below 2^57.
pub(super) const fn canonical(limbs: [u64; 5], radix: u32) -> [u64; 5] {
    let mut limbs = reduce(limbs, radix);
    // The value is below 2^255: it reaches p exactly when value + 19 reaches 2^255.
    let mut carry = 19;
    let mut i = 0;
    while i < 5 {
        carry = (limbs[i] + carry) >> if i < 4 { radix } else { 255 - 4 * radix };
        i += 1;
    }
    limbs[0] += 19 * carry;
    i = 0;
    while i < 4 {
        limbs[i + 1] += limbs[i] >> radix;
        limbs[i] &= (1 << radix) - 1;
        i += 1;
    }
    limbs[4] &= (1 << (255 - 4 * radix)) - 1;
    limbs
}

/// Canonical limbs as 32 little-endian bytes.
pub(super) fn encode(limbs: [u64; 5], radix: u32) -> [u8; 32] {
    let mut words = [0; 5];
    for (i, limb) in limbs.iter().enumerate() {
        let (word, bit) = ((i as u32 * radix / 64) as usize, i as u32 * radix % 64);
        let pair = u128::from(*limb) << bit;
        words[word] |= pair as u64;
        words[word + 1] |= (pair >> 64) as u64;
    }
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    bytes
}

/// 2^radix·x for reduced limbs: each moves up one place, the fifth wraps as 19·2^(5·radix − 255).
pub(super) const fn rotate(x: [u64; 5], radix: u32) -> [u64; 5] {
    let wrapped = x[4] as u128 * (19 << (5 * radix - 255));
    let low = wrapped as u64 & ((1 << radix) - 1);
    let high = (wrapped >> radix) as u64;
    reduce([low, x[0] + high, x[1], x[2], x[3]], radix)
}
