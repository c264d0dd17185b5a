//! The field 2^255 − 19, over fiat-crypto's arithmetic, which is proved correct.

use core::ops::{Add, Mul, Neg, Sub};

use fiat::{fiat_25519_loose_field_element as Loose, fiat_25519_tight_field_element as Tight};
use fiat_crypto::curve25519_64 as fiat;

/// A number of the field.
#[derive(Clone, Copy)]
pub(super) struct Field(Tight);

pub(super) const ONE: Field = Field::small(1);

/// A root of −1.
const ROOT_OF_MINUS_ONE: [u8; 32] = [
    0xb0, 0xa0, 0x0e, 0x4a, 0x27, 0x1b, 0xee, 0xc4, 0x78, 0xe4, 0x2f, 0xad, 0x06, 0x18, 0x43, 0x2f,
    0xa7, 0xd7, 0xfb, 0x3d, 0x99, 0x00, 0x4d, 0x2b, 0x0b, 0xdf, 0xc1, 0x4f, 0x80, 0x24, 0x83, 0x2b,
];

impl Field {
    /// A small number.
    pub(super) const fn small(number: u32) -> Self {
        Self(Tight([number as u64, 0, 0, 0, 0]))
    }

    /// The number with these bytes, little-endian; the highest bit is passed over.
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut bytes = *bytes;
        bytes[31] &= 0x7f;
        let mut number = Tight([0; 5]);
        fiat::fiat_25519_from_bytes(&mut number, &bytes);
        Self(number)
    }

    /// The least bytes for it, little-endian.
    pub(super) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        fiat::fiat_25519_to_bytes(&mut bytes, &self.0);
        bytes
    }

    pub(super) fn double(self) -> Self {
        self + self
    }

    /// Whether the least number for it is odd.
    pub(super) fn is_odd(self) -> bool {
        self.to_bytes()[0] & 1 == 1
    }

    fn is(self, other: Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }

    /// The inverse; zero of zero. x^(p − 2), and p − 2 = (2^250 − 1) 2^5 + 11.
    pub(super) fn invert(self) -> Self {
        let cubed = self * self * self;
        self.ones().shifted(5) * cubed.shifted(1) * cubed * self.shifted(1)
    }

    /// Whether it is a square, zero included. x^((p − 1) / 2), and (p − 1) / 2 = (2^250 − 1) 2^4 + 6.
    pub(super) fn is_square(self) -> bool {
        let cubed = self * self * self;
        let symbol = self.ones().shifted(4) * cubed.shifted(1);
        symbol.is(ONE) || self.is(Self::small(0))
    }

    /// The inverse of a root; zero of zero, nothing of what is no square.
    ///
    /// With y = x^((p − 5) / 8), xy² is a fourth root of one: 1 or −1 for a square. (p − 5) / 8 = (2^250 − 1) 2^2 + 1.
    pub(super) fn inverse_root(self) -> Option<Self> {
        let root = self.ones().shifted(2) * self;
        let check = self * root * root;
        if check.is(ONE) || check.is(Self::small(0)) {
            Some(root)
        } else if check.is(-ONE) {
            Some(root * Self::from_bytes(&ROOT_OF_MINUS_ONE))
        } else {
            None
        }
    }

    /// Squared so many times: the exponent moved by so many bits.
    fn shifted(self, times: u32) -> Self {
        (0..times).fold(self, |number, _| number * number)
    }

    /// x^(2^250 − 1): the exponent is 250 ones.
    fn ones(self) -> Self {
        let join = |high: Self, low: Self, bits| high.shifted(bits) * low;
        let two = join(self, self, 1);
        let four = join(two, two, 2);
        let five = join(four, self, 1);
        let ten = join(five, five, 5);
        let twenty = join(ten, ten, 10);
        let forty = join(twenty, twenty, 20);
        let fifty = join(forty, ten, 10);
        let hundred = join(fifty, fifty, 50);
        let two_hundred = join(hundred, hundred, 100);
        join(two_hundred, fifty, 50)
    }

    fn loose(self) -> Loose {
        let mut loose = Loose([0; 5]);
        fiat::fiat_25519_relax(&mut loose, &self.0);
        loose
    }

    fn carried(loose: &Loose) -> Self {
        let mut number = Tight([0; 5]);
        fiat::fiat_25519_carry(&mut number, loose);
        Self(number)
    }
}

impl Add for Field {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let mut sum = Loose([0; 5]);
        fiat::fiat_25519_add(&mut sum, &self.0, &other.0);
        Self::carried(&sum)
    }
}

impl Sub for Field {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let mut difference = Loose([0; 5]);
        fiat::fiat_25519_sub(&mut difference, &self.0, &other.0);
        Self::carried(&difference)
    }
}

impl Neg for Field {
    type Output = Self;

    fn neg(self) -> Self {
        let mut opposite = Loose([0; 5]);
        fiat::fiat_25519_opp(&mut opposite, &self.0);
        Self::carried(&opposite)
    }
}

impl Mul for Field {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let mut product = Tight([0; 5]);
        fiat::fiat_25519_carry_mul(&mut product, &self.loose(), &other.loose());
        Self(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_what_their_exponents_say() {
        let minus_one = Field::from_bytes(&ROOT_OF_MINUS_ONE).shifted(1);
        assert!(minus_one.is(-ONE));
        for number in 1..200 {
            let x = Field::small(number);
            assert!((x * x.invert()).is(ONE), "{number}");
            assert!((x * x).is_square(), "{number}");
            assert!(!(x * x).double().is_square(), "2 is no square");
            let root = (x * x).inverse_root().map(|root| root * x);
            assert!(root.is_some_and(|root| root.is(ONE) || root.is(-ONE)));
            assert!((x * x).double().inverse_root().is_none(), "{number}");
        }
        let zero = Field::small(0);
        assert!(zero.invert().is(zero) && zero.is_square());
        assert!(zero.inverse_root().is_some_and(|root| root.is(zero)));
    }
}
