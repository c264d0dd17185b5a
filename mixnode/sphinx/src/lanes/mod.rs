//! X25519 (RFC 7748) for batches: many scalars times many points, one pair a SIMD lane.
//!
//! ```text
//! Lanes::x25519 ── portable (x25519-dalek), batches of one
//!       ├── avx2    4 lanes │ radix51 formulas │ ladder, one inversion a batch
//!       └── ifma    8 lanes │ radix52 formulas │
//! ```
//!
//! Every backend gives the same bytes. None branches on a secret or takes an address from one.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(test, target_arch = "x86_64"))]
mod bounds;
#[cfg(all(test, target_arch = "x86_64"))]
mod emulated;
#[cfg(target_arch = "x86_64")]
mod field;
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
#[cfg(target_arch = "x86_64")]
mod wipe;

use crate::BATCH_MAX;

/// A backend for batched X25519.
///
/// Any value may be used on any CPU: a backend that is not [available](Lanes::is_available) falls back to the
/// portable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// One pair at a time, with x25519-dalek.
    Portable,
    /// Four pairs at a time, x86-64 with AVX2 and FMA.
    Avx2,
    /// Eight pairs at a time, x86-64 with AVX-512 IFMA.
    Ifma,
}

impl Lanes {
    /// All backends, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Ifma];

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
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => ifma::Ifma::new().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The backend that the environment variable `FOGMIX_LANES` names (`ifma`, `avx2` or `portable`), else the
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

    /// `portable`, `avx2` or `ifma`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Ifma => "ifma",
        }
    }

    /// `out[i] = X25519(scalars[i], points[i])`, with the clamping and masking of RFC 7748 §5.
    ///
    /// A point of small order gives 32 zero bytes, which the caller must refuse. Batches of one take the portable
    /// backend; any other length is faster in the vectors, even half empty.
    ///
    /// # Panics
    /// If the lengths differ or exceed [`BATCH_MAX`]: both are the caller's constants, not its input's.
    pub fn x25519(self, scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
        assert!(
            scalars.len() == points.len() && points.len() == out.len() && out.len() <= BATCH_MAX
        );
        #[cfg(target_arch = "x86_64")]
        if out.len() > 1 {
            match self {
                Self::Portable => {}
                Self::Avx2 => {
                    if let Some(avx2) = avx2::Avx2::new() {
                        avx2.x25519(scalars, points, out);
                        return wipe::after_avx(avx2);
                    }
                }
                Self::Ifma => {
                    if let Some(ifma) = ifma::Ifma::new() {
                        ifma.x25519(scalars, points, out);
                        return wipe::after_avx512(ifma);
                    }
                }
            }
        }
        for ((out, scalar), point) in out.iter_mut().zip(scalars).zip(points) {
            *out = x25519_dalek::x25519(*scalar, *point);
        }
    }
}
