//! Multiples of the base point, computed by the compiler: of 16^i·B, i = 0…63, the first eight.
//!
//! B is the base point of edwards25519 (RFC 7748 §4.1), −x² + y² = 1 + d·x²·y². A multiple stands as
//! ((y + x)/2, (y − x)/2, d·x·y), what an addition in extended coordinates wants of an affine point (Hisil, Wong,
//! Carter and Dawson, "Twisted Edwards curves revisited", ASIACRYPT 2008, §3.1), all of it halved, so that the other
//! point's Z needs no doubling.

use super::field::{canonical, modulus, reduce};
use super::inverse::{Element, invert, multiply};

/// Four bits of a scalar each.
pub(super) const WINDOWS: usize = 64;
/// Digits go from −7 to 8.
pub(super) const MULTIPLES: usize = 8;

/// (y + x)/2, (y − x)/2 and d·x·y of a point, in limbs.
pub(super) type Entry<Limb> = [[Limb; 5]; 3];

/// The multiples, as limbs of one radix.
pub(super) struct Table<Limb> {
    /// Of the neutral element (0, 1).
    pub(super) neutral: Entry<Limb>,
    /// `multiples[i][j]` is of (j + 1)·16^i·B.
    pub(super) multiples: [[Entry<Limb>; MULTIPLES]; WINDOWS],
}

/// For [`radix51`](super::radix51): balanced limbs, |l| ≤ 2^50 + 19.
pub(super) static RADIX_51: Table<f64> = {
    let mut table = Table {
        neutral: balanced(&NEUTRAL),
        multiples: [[[[0.0; 5]; 3]; MULTIPLES]; WINDOWS],
    };
    let mut at = 0;
    while at < POINTS {
        let (i, j) = (at / MULTIPLES, at % MULTIPLES);
        table.multiples[i][j] = balanced(&ENTRIES[at]);
        at += 1;
    }
    table
};

/// For [`radix52`](super::radix52): canonical limbs.
pub(super) static RADIX_52: Table<u64> = {
    let mut table = Table {
        neutral: repacked(&NEUTRAL),
        multiples: [[[[0; 5]; 3]; MULTIPLES]; WINDOWS],
    };
    let mut at = 0;
    while at < POINTS {
        let (i, j) = (at / MULTIPLES, at % MULTIPLES);
        table.multiples[i][j] = repacked(&ENTRIES[at]);
        at += 1;
    }
    table
};

const POINTS: usize = WINDOWS * MULTIPLES;
const ZERO: Element = [0; 5];
const ONE: Element = [1, 0, 0, 0, 0];
const HALF: Element = canonical(invert(&[2, 0, 0, 0, 0]), 51);
const NEUTRAL: Entry<u64> = [HALF, HALF, ZERO];

/// −121665/121666.
const D: Element = multiply(
    &subtract(&ZERO, &[121_665, 0, 0, 0, 0]),
    &invert(&[121_666, 0, 0, 0, 0]),
);

/// y = 4/5; of the two x the one that RFC 8032 §5.1 names. u has no sign.
const BASE: Extended = {
    let x = [
        0x0006_2d60_8f25_d51a,
        0x0004_12a4_b4f6_592a,
        0x0007_5b71_71a4_b31d,
        0x0001_ff60_5271_18fe,
        0x0002_1693_6d3c_d6e5,
    ];
    let y = multiply(&[4, 0, 0, 0, 0], &invert(&[5, 0, 0, 0, 0]));
    Extended {
        x,
        y,
        z: ONE,
        t: multiply(&x, &y),
    }
};

/// All entries in canonical limbs of 51 bits.
// The compiler's time, once a build, instead of 60 KiB of numbers in the repository.
#[allow(long_running_const_eval)]
static ENTRIES: [Entry<u64>; POINTS] = entries();

/// x = X/Z, y = Y/Z, x·y = T/Z.
#[derive(Clone, Copy)]
struct Extended {
    x: Element,
    y: Element,
    z: Element,
    t: Element,
}

/// Limbs of sums stay below 2^53, which `reduce` takes.
const fn add(a: &Element, b: &Element) -> Element {
    let mut sum = *a;
    let mut i = 0;
    while i < 5 {
        sum[i] += b[i];
        i += 1;
    }
    reduce(sum, 51)
}

/// a − b + 2p: no limb of b exceeds those of 2p.
const fn subtract(a: &Element, b: &Element) -> Element {
    let p = modulus(51);
    let mut difference = *a;
    let mut i = 0;
    while i < 5 {
        difference[i] += 2 * p[i] - b[i];
        i += 1;
    }
    reduce(difference, 51)
}

/// The complete addition law of that paper (§3.1), also for equal points.
const fn sum(p: &Extended, q: &Extended) -> Extended {
    let a = multiply(&subtract(&p.y, &p.x), &subtract(&q.y, &q.x));
    let b = multiply(&add(&p.y, &p.x), &add(&q.y, &q.x));
    let c = multiply(&multiply(&p.t, &q.t), &add(&D, &D));
    let d = multiply(&p.z, &add(&q.z, &q.z));
    let (e, h) = (subtract(&b, &a), add(&b, &a));
    let (f, g) = (subtract(&d, &c), add(&d, &c));
    Extended {
        x: multiply(&e, &f),
        y: multiply(&g, &h),
        z: multiply(&f, &g),
        t: multiply(&e, &h),
    }
}

/// The points one after the other, then all of them affine with one inversion (Montgomery's trick).
const fn entries() -> [Entry<u64>; POINTS] {
    let mut points = [BASE; POINTS];
    let mut prefix = [ONE; POINTS];
    let (mut unit, mut total) = (BASE, ONE);
    let mut at = 0;
    while at < POINTS {
        if at % MULTIPLES > 0 {
            points[at] = sum(&points[at - 1], &unit);
        } else if at > 0 {
            unit = sum(&points[at - 1], &points[at - 1]);
            points[at] = unit;
        }
        prefix[at] = total;
        total = multiply(&total, &points[at].z);
        at += 1;
    }
    let mut entries = [NEUTRAL; POINTS];
    let mut inverse = invert(&total);
    while at > 0 {
        at -= 1;
        let Extended { x, y, z, .. } = points[at];
        let over_z = multiply(&inverse, &prefix[at]);
        inverse = multiply(&inverse, &z);
        let (x, y) = (multiply(&x, &over_z), multiply(&y, &over_z));
        entries[at] = [
            canonical(multiply(&add(&y, &x), &HALF), 51),
            canonical(multiply(&subtract(&y, &x), &HALF), 51),
            canonical(multiply(&multiply(&x, &y), &D), 51),
        ];
    }
    entries
}

/// Limbs around zero: what exceeds half a limb's range is taken off and carried.
const fn balanced(entry: &Entry<u64>) -> Entry<f64> {
    let mut out = [[0.0; 5]; 3];
    let mut n = 0;
    while n < 3 {
        let mut carry = 0;
        let mut i = 0;
        while i < 5 {
            let limb = entry[n][i] as i64 + carry;
            carry = (limb + (1 << 50)) >> 51;
            out[n][i] = (limb - (carry << 51)) as f64;
            i += 1;
        }
        // 2^255 ≡ 19.
        out[n][0] += (19 * carry) as f64;
        n += 1;
    }
    out
}

/// Canonical limbs of 51 bits as ones of 52.
const fn repacked(entry: &Entry<u64>) -> Entry<u64> {
    let mut out = [[0; 5]; 3];
    let mut n = 0;
    while n < 3 {
        let mut i = 0;
        while i < 5 {
            // Bit 52·i is bit i of limb i.
            let next = if i < 4 { entry[n][i + 1] } else { 0 };
            out[n][i] = (entry[n][i] >> i | next << (51 - i)) & ((1 << 52) - 1);
            i += 1;
        }
        n += 1;
    }
    out
}
