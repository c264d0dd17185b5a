//! The one inversion of a batch, on the scalar unit: a chain of 254 squarings has nothing to fill eight lanes with,
//! and a vector multiplication takes three times as long from operand to result.

/// An element of the field: limbs of 51 bits, each below 2^52.
pub(super) type Element = [u64; 5];

const MASK: u64 = (1 << 51) - 1;

#[inline(always)]
const fn wide(x: u64, y: u64) -> u128 {
    x as u128 * y as u128
}

#[inline(always)]
const fn low(z: u128) -> u64 {
    z as u64 & MASK
}

/// a·b, schoolbook with 2^255 ≡ 19. A column sums at most 77 products below 2^104, the carry out of the fifth (5 of
/// them) is below 2^56, 19 times that below 2^61; the limbs left are below 2^51, the second below 2^51 + 2^10.
#[inline(always)]
pub(super) const fn multiply(a: &Element, b: &Element) -> Element {
    let [b0, b1, b2, b3, b4] = *b;
    let [w1, w2, w3, w4] = [19 * b1, 19 * b2, 19 * b3, 19 * b4];
    let z0 = wide(a[0], b0) + wide(a[1], w4) + wide(a[2], w3) + wide(a[3], w2) + wide(a[4], w1);
    let z1 = wide(a[0], b1) + wide(a[1], b0) + wide(a[2], w4) + wide(a[3], w3) + wide(a[4], w2);
    let z2 = wide(a[0], b2) + wide(a[1], b1) + wide(a[2], b0) + wide(a[3], w4) + wide(a[4], w3);
    let z3 = wide(a[0], b3) + wide(a[1], b2) + wide(a[2], b1) + wide(a[3], b0) + wide(a[4], w4);
    let z4 = wide(a[0], b4) + wide(a[1], b3) + wide(a[2], b2) + wide(a[3], b1) + wide(a[4], b0);
    let z1 = z1 + (z0 >> 51);
    let z2 = z2 + (z1 >> 51);
    let z3 = z3 + (z2 >> 51);
    let z4 = z4 + (z3 >> 51);
    let first = low(z0) + 19 * (z4 >> 51) as u64;
    [
        first & MASK,
        low(z1) + (first >> 51),
        low(z2),
        low(z3),
        low(z4),
    ]
}

/// a^(2^n).
const fn square_times(a: &Element, n: u32) -> Element {
    let mut a = *a;
    let mut done = 0;
    while done < n {
        a = multiply(&a, &a);
        done += 1;
    }
    a
}

/// a^(p − 2) = a^(2^255 − 21), Bernstein's addition chain (Curve25519, PKC 2006): 254 S + 11 M.
pub(super) const fn invert(a: &Element) -> Element {
    let a2 = square_times(a, 1);
    let a9 = multiply(a, &square_times(&a2, 2));
    let a11 = multiply(&a2, &a9);
    // From here on the name says n for the exponent 2^n − 1.
    let n5 = multiply(&a9, &square_times(&a11, 1));
    let n10 = multiply(&square_times(&n5, 5), &n5);
    let n20 = multiply(&square_times(&n10, 10), &n10);
    let n40 = multiply(&square_times(&n20, 20), &n20);
    let n50 = multiply(&square_times(&n40, 10), &n10);
    let n100 = multiply(&square_times(&n50, 50), &n50);
    let n200 = multiply(&square_times(&n100, 100), &n100);
    let n250 = multiply(&square_times(&n200, 50), &n50);
    multiply(&square_times(&n250, 5), &a11)
}

/// Replaces up to eight elements, none of them zero, by their inverses, with one inversion (Montgomery's trick).
pub(super) fn invert_all(values: &mut [Element]) {
    let mut prefix = [[1, 0, 0, 0, 0]; 8];
    let mut total = [1, 0, 0, 0, 0];
    for (prefix, value) in prefix.iter_mut().zip(values.iter()) {
        *prefix = total;
        total = multiply(&total, value);
    }
    let mut inverse = invert(&total);
    for (value, prefix) in values.iter_mut().zip(&prefix).rev() {
        let next = multiply(&inverse, value);
        *value = multiply(&inverse, prefix);
        inverse = next;
    }
}
