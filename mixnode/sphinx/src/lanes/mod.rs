//! X25519 (RFC 7748) for batches: many scalars times many points, one pair a SIMD lane.
//!
//! ```text
//! Lanes::x25519, encapsulate
//!       ├── portable (x25519-dalek)   one at a time
//!       ├── graviola                  one at a time, and what fills no lanes
//!       ├── avx2    4 lanes │ radix51 formulas │ ladder, base; one inversion a batch
//!       └── ifma    8 lanes │ radix52 formulas │
//! ```
//!
//! Every backend gives the same bytes. None branches on a secret or takes an address from one.
//!
//! Suite `nym` has its hashes in lanes too: `blake2b`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
// Indices are those of the formulas.
#[allow(clippy::needless_range_loop)]
mod base;
#[cfg(target_arch = "x86_64")]
mod base_table;
#[cfg(all(feature = "nym", target_arch = "x86_64"))]
pub(crate) mod blake2b;
#[cfg(all(test, target_arch = "x86_64"))]
mod bounds;
#[cfg(all(test, target_arch = "x86_64"))]
mod emulated;
#[cfg(target_arch = "x86_64")]
mod field;
#[cfg_attr(
    not(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64"))),
    path = "graviola_absent.rs"
)]
mod graviola;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(target_arch = "x86_64")]
mod inverse;
#[cfg(target_arch = "x86_64")]
// Indices are those of the formulas.
#[allow(clippy::needless_range_loop)]
mod ladder;
#[cfg(target_arch = "x86_64")]
// Indices are those of the formulas.
#[allow(clippy::needless_range_loop)]
mod radix51;
#[cfg(target_arch = "x86_64")]
// Indices are those of the formulas.
#[allow(clippy::needless_range_loop)]
mod radix52;
mod scalar;
pub(crate) mod wipe;
#[cfg(target_arch = "x86_64")]
mod work;

use crate::{BATCH_MAX, HOPS_MAX};
use scalar::Scalar;

/// Most pairs one call of [`Lanes::encapsulate`] takes: those of eight packets.
pub const ENCAPSULATE_MAX: usize = 8 * HOPS_MAX;

/// Most results of one batch: two of every pair to encapsulate.
const RESULTS_MAX: usize = 2 * ENCAPSULATE_MAX;

const _: () = {
    assert!(BATCH_MAX <= RESULTS_MAX);
    // Whole groups, so that products and public keys together fill no more.
    assert!(BATCH_MAX.is_multiple_of(8) && ENCAPSULATE_MAX.is_multiple_of(8));
};

/// The secret's clamped multiple of the base point, by the fastest code for one.
pub(crate) fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    Scalar::fastest().public_key(secret)
}

/// A backend for batched X25519.
///
/// Any value may be used on any CPU: a backend that is not [available](Lanes::is_available) falls back to the
/// portable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// One pair at a time, with x25519-dalek.
    Portable,
    /// One pair at a time, with graviola: x86-64 with ADX, BMI2 and AVX2, or aarch64; needs the feature `std`.
    Graviola,
    /// Four pairs at a time, x86-64 with AVX2 and FMA.
    Avx2,
    /// Eight pairs at a time, x86-64 with AVX-512 IFMA.
    Ifma,
}

impl Lanes {
    /// All backends, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Graviola, Self::Avx2, Self::Ifma];

    /// The fastest backend of this CPU.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// The backends that this CPU can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|lanes| lanes.is_available())
    }

    /// Whether this CPU can run the backend.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Graviola => matches!(Scalar::fastest(), Scalar::Graviola(_)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => ifma::Ifma::new().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The backend that the environment variable `FOGMIX_LANES` names (`ifma`, `avx2`,
    /// `graviola` or `portable`), else the
    /// fastest: also when the name is unknown or not available here, so show [`name`](Lanes::name) to the operator.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn from_env_or_detect() -> Self {
        extern crate std;
        let named = std::env::var("FOGMIX_LANES")
            .ok()
            .and_then(|name| Self::from_name(&name));
        named
            .filter(|lanes| lanes.is_available())
            .unwrap_or_else(Self::detect)
    }

    /// The backend of that name, whether available or not.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lanes| lanes.name() == name)
    }

    /// `portable`, `graviola`, `avx2` or `ifma`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Graviola => "graviola",
            Self::Avx2 => "avx2",
            Self::Ifma => "ifma",
        }
    }

    /// `out[i] = X25519(scalars[i], points[i])`, with the clamping and masking of RFC 7748 §5.
    ///
    /// A point of small order gives 32 zero bytes, which the caller must refuse. Pairs that are too few for a group of
    /// lanes are multiplied one by one, by graviola where it runs and this is not [`Lanes::Portable`].
    ///
    /// # Panics
    /// If the lengths differ or exceed [`BATCH_MAX`]: both are the caller's constants, not its input's.
    pub fn x25519(self, scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
        assert!(
            scalars.len() == points.len() && points.len() == out.len() && out.len() <= BATCH_MAX
        );
        self.multiply(scalars, points, out, &mut []);
    }

    /// What a sender needs of fresh secrets: `shared[i] = X25519(scalars[i], points[i])` and
    /// `public_keys[i] = X25519(scalars[i], 9)`, as [`x25519`](Lanes::x25519) does it.
    ///
    /// # Panics
    /// If the lengths differ or exceed [`ENCAPSULATE_MAX`].
    pub fn encapsulate(
        self,
        scalars: &[[u8; 32]],
        points: &[[u8; 32]],
        shared: &mut [[u8; 32]],
        public_keys: &mut [[u8; 32]],
    ) {
        assert!(scalars.len() == points.len() && points.len() == shared.len());
        assert!(public_keys.len() == shared.len() && shared.len() <= ENCAPSULATE_MAX);
        self.multiply(scalars, points, shared, public_keys);
    }

    /// `public_keys` is as long as the others or empty.
    fn multiply(
        self,
        scalars: &[[u8; 32]],
        points: &[[u8; 32]],
        shared: &mut [[u8; 32]],
        public_keys: &mut [[u8; 32]],
    ) {
        let one_by_one = match self {
            Self::Portable => Scalar::Portable,
            _ => Scalar::fastest(),
        };
        #[cfg(target_arch = "x86_64")]
        let done = self.fill_lanes(one_by_one, scalars, points, shared, public_keys);
        #[cfg(not(target_arch = "x86_64"))]
        let done = 0;
        for ((shared, scalar), point) in shared.iter_mut().zip(scalars).zip(points).skip(done) {
            *shared = one_by_one.x25519(scalar, point);
        }
        for (public_key, scalar) in public_keys.iter_mut().zip(scalars).skip(done) {
            *public_key = one_by_one.public_key(scalar);
        }
    }

    /// Does the first pairs in lanes: all, or as many as fill groups if the rest is faster one by one. Says how many.
    #[cfg(target_arch = "x86_64")]
    fn fill_lanes(
        self,
        one_by_one: Scalar,
        scalars: &[[u8; 32]],
        points: &[[u8; 32]],
        shared: &mut [[u8; 32]],
        public_keys: &mut [[u8; 32]],
    ) -> usize {
        let count = match self {
            Self::Portable | Self::Graviola => 0,
            Self::Avx2 => in_lanes(scalars.len(), 4, one_by_one.least_for_avx2()),
            Self::Ifma => in_lanes(scalars.len(), 8, one_by_one.least_for_ifma()),
        };
        if count == 0 {
            return 0;
        }
        let bases = count.min(public_keys.len());
        let mut work = work::Work {
            scalars: &scalars[..count],
            points: &points[..count],
            shared: &mut shared[..count],
            public_keys: &mut public_keys[..bases],
        };
        if let (Self::Avx2, Some(avx2)) = (self, avx2::Avx2::new()) {
            avx2.multiply(&mut work);
            wipe::after_avx(avx2);
            return count;
        }
        if let (Self::Ifma, Some(ifma)) = (self, ifma::Ifma::new()) {
            ifma.multiply(&mut work);
            wipe::after_avx512(ifma);
            return count;
        }
        0
    }
}

/// Of `count` pairs those that go into groups of `lanes`, if a group is worth it from `least` pairs on.
#[cfg(target_arch = "x86_64")]
const fn in_lanes(count: usize, lanes: usize, least: usize) -> usize {
    let rest = count % lanes;
    if rest < least { count - rest } else { count }
}
