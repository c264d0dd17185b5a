//! Four lanes with AVX2 and FMA: the doubles of [`radix51`](super::radix51) in ymm registers.
#![allow(unsafe_code, reason = "vector instructions and their loads")]

use core::arch::x86_64::*;

use super::RESULTS_MAX;
use super::base;
use super::field::Field as _;
use super::ladder::{self, Projective};
use super::radix51::{Doubles, Radix51};
use super::work::Work;

cpufeatures::new!(cpu, "avx2", "fma");

/// 1.5·2^103: sums with it round to multiples of 2^51.
const HIGH: u64 = 0x4668_0000_0000_0000;
/// 1.5·2^52: sums with it are exact integers of either sign.
const LOW: u64 = 0x4338_0000_0000_0000;
/// 1.5·2^103 + 1.5·2^52.
const HIGH_AND_LOW: u64 = HIGH + 3;
/// 2^52.
const EXPONENT: u64 = 0x4330_0000_0000_0000;

/// Proof that the CPU and the system support AVX2 and FMA; only [`Avx2::new`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The proof, if it holds here.
    pub(super) fn new() -> Option<Self> {
        cpu::get().then_some(Self(()))
    }

    /// What `work` asks for.
    pub(super) fn multiply(self, work: &mut Work<'_>) {
        // SAFETY: `self` exists, so the features are there.
        unsafe { batch(self, work) }
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn batch(cpu: Avx2, work: &mut Work<'_>) {
    let f = Radix51(cpu);
    let zero = f.load(&[[0; 8]; 5]);
    let mut groups = [Projective { x: zero, z: zero }; RESULTS_MAX / 4];
    let count = work.scalars.len().div_ceil(4);
    for (group, place) in groups.iter_mut().take(count).enumerate() {
        *place = one_group(cpu, &work.scalars(group, 4), &work.points(group, 4));
    }
    let bases = work.public_keys.len().div_ceil(4);
    for (group, place) in groups.iter_mut().skip(count).take(bases).enumerate() {
        *place = base_group(cpu, &work.scalars(group, 4));
    }
    let mut out = [[0; 32]; RESULTS_MAX];
    ladder::affine(f, &mut groups[..count + bases], &mut out);
    work.take(&out, 4 * count);
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn base_group(cpu: Avx2, scalars: &[[u8; 32]; 8]) -> Projective<Radix51<Avx2>> {
    base::multiply(Radix51(cpu), scalars)
}

/// Apart from [`batch`], so that the registers of the ladder are all its own.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn one_group(
    cpu: Avx2,
    scalars: &[[u8; 32]; 8],
    points: &[[u8; 32]; 8],
) -> Projective<Radix51<Avx2>> {
    ladder::multiply(Radix51(cpu), (scalars, points))
}

impl Doubles for Avx2 {
    type Real = __m256d;
    type Integer = __m256i;
    type Mask = __m256d;

    #[inline(always)]
    fn splat(self, value: u64) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_set1_epi64x(value.cast_signed()) }
    }

    #[inline(always)]
    fn start(self, value: u64, lows: u32, highs: u32) -> __m256i {
        let exponents = LOW
            .wrapping_mul(lows.into())
            .wrapping_add(HIGH.wrapping_mul(highs.into()));
        self.splat(value.wrapping_sub(exponents))
    }

    #[inline(always)]
    fn load(self, lanes: &[u64; 8]) -> __m256i {
        // SAFETY: as above; the array is longer than the vector and the load is unaligned.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, a: __m256i) -> [u64; 8] {
        let mut lanes = [0; 8];
        // SAFETY: as above; the array is longer than the vector and the store is unaligned.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), a) };
        lanes
    }

    #[inline(always)]
    fn mask(self, bits: u8) -> __m256d {
        // SAFETY: `self` exists, so the features are there.
        unsafe {
            let lane = _mm256_set_epi64x(8, 4, 2, 1);
            let set = _mm256_and_si256(_mm256_set1_epi64x(bits.into()), lane);
            _mm256_castsi256_pd(_mm256_cmpeq_epi64(set, lane))
        }
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_add_epi64(a, b) }
    }

    #[inline(always)]
    fn subtract(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_sub_epi64(a, b) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn shift_left<const BITS: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_slli_epi64::<BITS>(a) }
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_srli_epi64::<BITS>(a) }
    }

    #[inline(always)]
    fn times_19(self, a: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_mul_epu32(a, self.splat(19)) }
    }

    #[inline(always)]
    fn product(self, low: __m256i, high: __m256i, a: __m256d, b: __m256d) -> (__m256i, __m256i) {
        // SAFETY: `self` exists, so the features are there.
        unsafe {
            let h = _mm256_fmadd_pd(a, b, _mm256_castsi256_pd(self.splat(HIGH)));
            let rest = _mm256_sub_pd(_mm256_castsi256_pd(self.splat(HIGH_AND_LOW)), h);
            let l = _mm256_fmadd_pd(a, b, rest);
            (
                _mm256_add_epi64(low, _mm256_castpd_si256(l)),
                _mm256_add_epi64(high, _mm256_castpd_si256(h)),
            )
        }
    }

    #[inline(always)]
    fn to_real(self, a: __m256i, offset: u64) -> __m256d {
        // SAFETY: `self` exists, so the features are there.
        unsafe {
            let shifted = _mm256_castsi256_pd(_mm256_or_si256(a, self.splat(EXPONENT)));
            // An offset below 2^52 is that many units in the last place of 2^52.
            _mm256_sub_pd(shifted, _mm256_castsi256_pd(self.splat(EXPONENT + offset)))
        }
    }

    #[inline(always)]
    fn to_integer(self, a: __m256d, offset: u64) -> __m256i {
        // SAFETY: `self` exists, so the features are there.
        unsafe {
            let shifted = _mm256_add_pd(a, _mm256_castsi256_pd(self.splat(LOW)));
            _mm256_add_epi64(
                _mm256_castpd_si256(shifted),
                self.splat(offset.wrapping_sub(LOW)),
            )
        }
    }

    #[inline(always)]
    fn constant(self, value: f64) -> __m256d {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_set1_pd(value) }
    }

    #[inline(always)]
    fn real(self, value: u32) -> __m256d {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_set1_pd(value.into()) }
    }

    #[inline(always)]
    fn add_real(self, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_add_pd(a, b) }
    }

    #[inline(always)]
    fn subtract_real(self, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_sub_pd(a, b) }
    }

    #[inline(always)]
    fn select(self, mask: __m256d, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm256_blendv_pd(a, b, mask) }
    }
}
