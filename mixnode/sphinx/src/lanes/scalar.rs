//! One pair at a time: what no lanes are filled with.

use super::graviola::Graviola;
use x25519_dalek::{PublicKey, StaticSecret};

/// Code for single pairs.
#[derive(Clone, Copy)]
pub(super) enum Scalar {
    /// x25519-dalek.
    Portable,
    /// About twice as fast.
    Graviola(Graviola),
}

impl Scalar {
    /// The fastest of this CPU.
    pub(super) fn fastest() -> Self {
        Graviola::new().map_or(Self::Portable, Self::Graviola)
    }

    /// Pairs from which on a group of four lanes is faster. Measured on Zen 3: graviola 29 µs a pair, a group 61.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn least_for_avx2(self) -> usize {
        match self {
            Self::Portable => 2,
            Self::Graviola(_) => 3,
        }
    }

    /// The same for eight lanes. Measured on Zen 4: x25519-dalek 52 µs a pair, graviola 25, a group 41.5.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn least_for_ifma(self) -> usize {
        match self {
            Self::Portable => 1,
            Self::Graviola(_) => 2,
        }
    }

    /// X25519; zeros for a point of small order.
    pub(super) fn x25519(self, scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        match self {
            Self::Portable => x25519_dalek::x25519(*scalar, *point),
            Self::Graviola(graviola) => graviola.x25519(scalar, point),
        }
    }

    /// X25519 with the base point.
    pub(super) fn public_key(self, scalar: &[u8; 32]) -> [u8; 32] {
        match self {
            Self::Portable => PublicKey::from(&StaticSecret::from(*scalar)).to_bytes(),
            Self::Graviola(graviola) => graviola.public_key(scalar),
        }
    }
}
