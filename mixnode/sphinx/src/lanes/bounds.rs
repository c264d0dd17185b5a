//! The limb bounds, checked by machine: the ladder runs once over intervals instead of numbers.
//!
//! Both machines stand in for a vector. They refuse every operation that could overflow for some member of its
//! operands' intervals, and what a limb loses when it is read. A step that takes the bounds of an element to the same
//! bounds may be repeated any number of times.

use core::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::base::{Point, add, finish};
use super::field::{Columns, Field, modulus};
use super::ladder::{State, double, product, step};
use super::radix51::{Doubles, Radix51};
use super::radix52::{Radix52, Words};

std::thread_local! {
    /// Words whose bits from 52 on were added to the next limb: these alone may be read modulo 2^52.
    static CARRIED: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
    static NEXT: RefCell<u64> = const { RefCell::new(0) };
    /// Factors of products that have a high half, and how many low halves were taken more than high ones.
    static HALVES: RefCell<BTreeMap<(u64, u64), i64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Notes that half of a product was taken.
fn take_half(a: U, b: U, low: i64) {
    if a.product(b).1 >= 1 << 52 {
        HALVES.with_borrow_mut(|halves| *halves.entry((a.id, b.id)).or_default() += low);
    }
}

/// Every product that was begun is whole: none has lost a half.
fn products_are_whole() {
    HALVES.with_borrow(|halves| {
        assert!(!halves.is_empty(), "no product was watched");
        for (factors, missing) in halves {
            assert_eq!(*missing, 0, "a product of {factors:?} is a half");
        }
    });
}

fn mark(word: U) {
    CARRIED.with_borrow_mut(|carried| carried.insert(word.id));
}

/// All numbers from `min` to `max`; `id` follows copies.
#[derive(Clone, Copy, Debug)]
struct U {
    min: u64,
    max: u64,
    id: u64,
}

impl U {
    fn new(min: u64, max: u64) -> Self {
        assert!(min <= max);
        let id = NEXT.with_borrow_mut(|next| {
            *next += 1;
            *next
        });
        Self { min, max, id }
    }

    /// What the multiplier reads.
    fn operand(self) -> (u128, u128) {
        if self.max < 1 << 52 {
            return (self.min.into(), self.max.into());
        }
        assert!(
            CARRIED.with_borrow(|carried| carried.contains(&self.id)),
            "{self:?} loses bits that nobody took"
        );
        (0, (1 << 52) - 1)
    }

    fn product(self, other: Self) -> (u128, u128) {
        let ((a, b), (c, d)) = (self.operand(), other.operand());
        (a * c, b * d)
    }
}

/// Unsigned words of 64 bits with the multiplier of AVX-512 IFMA.
#[derive(Clone, Copy)]
struct UnsignedIntervals;

impl Words for UnsignedIntervals {
    type Word = U;
    type Mask = ();

    fn splat(self, value: u64) -> U {
        U::new(value, value)
    }
    fn load(self, lanes: &[u64; 8]) -> U {
        U::new(*lanes.iter().min().unwrap(), *lanes.iter().max().unwrap())
    }
    fn store(self, _: U) -> [u64; 8] {
        unreachable!("nothing measured here is stored")
    }
    fn mask(self, _: u8) {}
    fn add(self, a: U, b: U) -> U {
        U::new(
            a.min + b.min,
            a.max.checked_add(b.max).expect("a sum overflows"),
        )
    }
    fn subtract(self, a: U, b: U) -> U {
        U::new(
            a.min
                .checked_sub(b.max)
                .expect("a difference turns negative"),
            a.max - b.min,
        )
    }
    fn and(self, a: U, b: U) -> U {
        U::new(0, a.max.min(b.max))
    }
    fn shift_right<const BITS: u32>(self, a: U) -> U {
        if BITS == 52 {
            mark(a);
        }
        U::new(a.min >> BITS, a.max >> BITS)
    }
    fn product_low(self, sum: U, a: U, b: U) -> U {
        take_half(a, b, 1);
        let (min, max) = a.product(b);
        let low = if max < 1 << 52 {
            U::new(min as u64, max as u64)
        } else {
            U::new(0, (1 << 52) - 1)
        };
        self.add(sum, low)
    }
    fn product_high(self, sum: U, a: U, b: U) -> U {
        take_half(a, b, -1);
        let (min, max) = a.product(b);
        self.add(sum, U::new((min >> 52) as u64, (max >> 52) as u64))
    }
    fn select(self, (): (), a: U, b: U) -> U {
        let both = U::new(a.min.min(b.min), a.max.max(b.max));
        if CARRIED.with_borrow(|carried| carried.contains(&a.id) && carried.contains(&b.id)) {
            mark(both);
        }
        both
    }
}

/// All integers from `min` to `max`, beside `lows` and `highs` exponents that a start value owes to products to come.
#[derive(Clone, Copy, Debug)]
struct I {
    min: i128,
    max: i128,
    lows: i64,
    highs: i64,
}

impl I {
    fn new(min: i128, max: i128) -> Self {
        assert!(min <= max);
        assert!(
            min >= -(1 << 63) && max < 1 << 63,
            "a column overflows: {min} to {max}"
        );
        Self {
            min,
            max,
            lows: 0,
            highs: 0,
        }
    }

    /// The interval, once all products that were announced have come.
    fn settled(self) -> Self {
        assert!(
            self.lows == 0 && self.highs == 0,
            "{self:?} holds exponents"
        );
        self
    }
}

/// Integers in doubles.
#[derive(Clone, Copy, Debug)]
struct R {
    min: i128,
    max: i128,
}

impl R {
    fn new(min: i128, max: i128) -> Self {
        assert!(
            min <= max && min >= -(1 << 53) && max <= 1 << 53,
            "a double is not exact: {min} to {max}"
        );
        Self { min, max }
    }
}

/// Doubles and integers with fused multiply-add.
#[derive(Clone, Copy)]
struct DoubleIntervals;

impl Doubles for DoubleIntervals {
    type Real = R;
    type Integer = I;
    type Mask = ();

    fn splat(self, value: u64) -> I {
        I::new(value.into(), value.into())
    }
    fn start(self, value: u64, lows: u32, highs: u32) -> I {
        I {
            lows: -i64::from(lows),
            highs: -i64::from(highs),
            ..self.splat(value)
        }
    }
    fn load(self, lanes: &[u64; 8]) -> I {
        I::new(
            (*lanes.iter().min().unwrap()).into(),
            (*lanes.iter().max().unwrap()).into(),
        )
    }
    fn store(self, _: I) -> [u64; 8] {
        unreachable!("nothing measured here is stored")
    }
    fn mask(self, _: u8) {}
    fn add(self, a: I, b: I) -> I {
        let sum = I::new(a.min + b.min, a.max + b.max);
        I {
            lows: a.lows + b.lows,
            highs: a.highs + b.highs,
            ..sum
        }
    }
    fn subtract(self, a: I, b: I) -> I {
        let (a, b) = (a.settled(), b.settled());
        I::new(a.min - b.max, a.max - b.min)
    }
    fn and(self, a: I, b: I) -> I {
        assert!(a.settled().min >= 0 && b.min == b.max);
        I::new(0, a.max.min(b.max))
    }
    fn shift_left<const BITS: i32>(self, a: I) -> I {
        I::new(a.settled().min << BITS, a.max << BITS)
    }
    fn shift_right<const BITS: i32>(self, a: I) -> I {
        assert!(a.settled().min >= 0, "{a:?} is shifted as if positive");
        I::new(a.min >> BITS, a.max >> BITS)
    }
    fn times_19(self, a: I) -> I {
        assert!(a.settled().min >= 0 && a.max < 1 << 32);
        I::new(19 * a.min, 19 * a.max)
    }
    fn product(self, low: I, high: I, a: R, b: R) -> (I, I) {
        let corners = [a.min * b.min, a.min * b.max, a.max * b.min, a.max * b.max];
        let (min, max) = (
            *corners.iter().min().unwrap(),
            *corners.iter().max().unwrap(),
        );
        // 1.5·2^103 plus the product stays where the unit in the last place is 2^51.
        let limit = (1 << 102) - (1 << 50);
        assert!(
            min > -limit && max < limit,
            "a product leaves its binade: {min} to {max}"
        );
        let half = |value: i128| (value + (1 << 50)) >> 51;
        let (l, h) = (
            I::new(-(1 << 50), 1 << 50),
            I::new(half(min - 1), half(max)),
        );
        (
            self.add(low, I { lows: 1, ..l }),
            self.add(high, I { highs: 1, ..h }),
        )
    }
    fn to_real(self, a: I, offset: u64) -> R {
        assert!(a.settled().min >= 0 && a.max < 1 << 52);
        R::new(a.min - i128::from(offset), a.max - i128::from(offset))
    }
    fn to_integer(self, a: R, offset: u64) -> I {
        assert!(a.min > -(1 << 51) && a.max < 1 << 51);
        I::new(a.min + i128::from(offset), a.max + i128::from(offset))
    }
    fn constant(self, value: f64) -> R {
        R::new(value as i128, value as i128)
    }
    fn real(self, value: u32) -> R {
        R::new(value.into(), value.into())
    }
    fn add_real(self, a: R, b: R) -> R {
        R::new(a.min + b.min, a.max + b.max)
    }
    fn subtract_real(self, a: R, b: R) -> R {
        R::new(a.min - b.max, a.max - b.min)
    }
    fn select(self, (): (), a: R, b: R) -> R {
        R::new(a.min.min(b.min), a.max.max(b.max))
    }
}

/// All that a ladder ever does to elements: `any` is an element of the claimed bounds, `check` asserts them.
fn closed<F: Field>(f: F, any: F::Element, base: &F::Fixed, check: impl Fn(&F::Element)) {
    // The first columns: zero, one, u + 1, u − 1 + p. Limbs of u are reduced and no more: u itself may reach 2^255 − 1.
    let widest: Columns = core::array::from_fn(|i| {
        let p = modulus(F::RADIX)[i];
        let limb = if i == 0 { p + 18 } else { p };
        [0, 0, 0, 0, 0, 0, 0, limb + p + 1]
    });
    check(&f.load(&widest));
    let state = State::<F> {
        a: any,
        b: any,
        c: any,
        d: any,
    };
    let State { a, b, c, d } = step(f, &state, base, f.mask(0));
    let (x, z) = double::<F, false>(f, &any, &any);
    let (end_x, end_z) = double::<F, true>(f, &any, &any);
    let doubled = [
        f.carry(&f.add(&x, &z)),
        f.carry(&f.subtract(&x, &z)),
        f.carry(&end_x),
        f.carry(&end_z),
    ];
    for element in [a, b, c, d, product(f, &any, &any)].iter().chain(&doubled) {
        check(element);
    }
}

/// The same for multiples of the base point; `constant` is any element of their table.
fn closed_base<F: Field>(f: F, any: F::Element, constant: F::Element, check: impl Fn(&F::Element)) {
    let point = Point::<F> {
        sum: any,
        difference: any,
        z: f.multiply::<true>(&any, &any),
        t: any,
    };
    let entry = [0; 3].map(|_| f.select(f.mask(0), &constant, &constant));
    // Within the addition: the factors of the next Z, which is then again a product of such elements.
    let c = f.multiply::<false>(&any, &entry[2]);
    check(&f.carry(&f.add(&point.z, &c)));
    check(&f.carry(&f.subtract(&point.z, &c)));
    let next = add(f, &point, &entry, f.mask(0));
    for element in [next.sum, next.difference, next.t] {
        check(&element);
    }
    let end = finish(f, &point, &constant, &any);
    check(&end.x);
    check(&end.z);
}

#[test]
fn no_word_overflows_and_the_bounds_of_radix_52_hold_after_every_step() {
    let word = |max| U::new(0, max);
    let limb = || {
        let limb = word((1 << 62) - 1);
        mark(limb);
        limb
    };
    let any = [limb(), limb(), limb(), limb(), word((1 << 47) + (1 << 13))];
    let base = core::array::from_fn(|_| modulus(52).map(|limb| word(limb | 31)));
    let constants = modulus(52).map(word);
    let check = |element: &[U; 5]| {
        for (limb, any) in element.iter().zip(&any) {
            assert!(limb.max <= any.max, "{limb:?} exceeds {any:?}");
        }
        for limb in &element[..4] {
            limb.operand();
        }
    };
    let f = Radix52(UnsignedIntervals);
    closed(f, any, &base, check);
    closed_base(f, any, constants, check);
    products_are_whole();
}

#[test]
fn no_product_is_inexact_and_the_bounds_of_radix_51_hold_after_every_step() {
    let bound = (1 << 50) + (1 << 15);
    let any = [R::new(-bound, bound); 5];
    let base = [[R::new(0, (1 << 51) - 1); 5]; 5];
    let f = Radix51(DoubleIntervals);
    let constants = [R::new(-(1 << 50) - 19, (1 << 50) + 19); 5];
    let check = |element: &[R; 5]| {
        for limb in element {
            assert!(limb.min >= -bound && limb.max <= bound, "{limb:?}");
        }
    };
    closed(f, any, &base, check);
    closed_base(f, any, constants, check);
    // What leaves is positive and within what the scalar code takes.
    for offset in modulus(51).map(|limb| 4 * limb) {
        let limb = f.0.to_integer(any[0], offset);
        assert!(limb.min >= 0 && limb.max < 1 << 54);
    }
}

#[test]
#[should_panic(expected = "loses bits that nobody took")]
fn a_limb_that_is_read_before_it_was_carried_is_caught() {
    let limb = U::new(0, 1 << 52);
    UnsignedIntervals.product_low(U::new(0, 0), limb, limb);
}

#[test]
#[should_panic(expected = "is a half")]
fn a_low_half_without_its_high_half_is_caught() {
    let (w, limb) = (UnsignedIntervals, U::new(0, (1 << 52) - 1));
    let zero = U::new(0, 0);
    // Whole, and without a high half at all.
    w.product_high(w.product_low(zero, limb, limb), limb, limb);
    w.product_low(zero, limb, U::new(0, 1));
    products_are_whole();
    w.product_low(zero, limb, U::new(0, 19));
    products_are_whole();
}

#[test]
#[should_panic(expected = "a difference turns negative")]
fn a_difference_without_its_bias_is_caught() {
    let f = Radix52(UnsignedIntervals);
    let any = [
        U::new(0, (1 << 52) - 1),
        U::new(0, 9),
        U::new(0, 9),
        U::new(0, 9),
        U::new(0, 9),
    ];
    f.subtract(&f.multiply::<false>(&any, &any), &f.square::<false>(&any));
}

#[test]
#[should_panic(expected = "a product leaves its binade")]
fn a_product_of_uncarried_sums_is_caught() {
    let f = Radix51(DoubleIntervals);
    let sum = [R::new(-(1 << 51), 1 << 51); 5];
    f.square::<true>(&sum);
}
