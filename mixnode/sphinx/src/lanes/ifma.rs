//! Eight lanes with AVX-512 IFMA: the words of [`radix52`](super::radix52) in zmm registers.
#![allow(unsafe_code, reason = "vector instructions and their loads")]

use core::arch::x86_64::*;

use super::RESULTS_MAX;
use super::base;
use super::field::Field as _;
use super::ladder::{self, Projective};
use super::radix52::{Radix52, Words};
use super::work::Work;

cpufeatures::new!(cpu, "avx512f", "avx512dq", "avx512ifma");

/// Proof that the CPU and the system support AVX-512 F, DQ and IFMA; only [`Ifma::new`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Ifma(());

impl Ifma {
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
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn batch(cpu: Ifma, work: &mut Work<'_>) {
    let f = Radix52(cpu);
    let zero = f.load(&[[0; 8]; 5]);
    let mut groups = [Projective { x: zero, z: zero }; RESULTS_MAX / 8];
    let count = work.scalars.len().div_ceil(8);
    for (group, place) in groups.iter_mut().take(count).enumerate() {
        *place = one_group(cpu, (&work.scalars(group, 8), &work.points(group, 8)));
    }
    let bases = work.public_keys.len().div_ceil(8);
    for (group, place) in groups.iter_mut().skip(count).take(bases).enumerate() {
        *place = base_group(cpu, &work.scalars(group, 8));
    }
    let mut out = [[0; 32]; RESULTS_MAX];
    ladder::affine(f, &mut groups[..count + bases], &mut out);
    work.take(&out, 8 * count);
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn base_group(cpu: Ifma, scalars: &[[u8; 32]; 8]) -> Projective<Radix52<Ifma>> {
    base::multiply(Radix52(cpu), scalars)
}

/// Apart from [`batch`], so that the registers of the ladder are all its own.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn one_group(cpu: Ifma, group: (&[[u8; 32]; 8], &[[u8; 32]; 8])) -> Projective<Radix52<Ifma>> {
    ladder::multiply(Radix52(cpu), group)
}

impl Words for Ifma {
    type Word = __m512i;
    type Mask = __mmask8;

    #[inline(always)]
    fn splat(self, value: u64) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_set1_epi64(value.cast_signed()) }
    }

    #[inline(always)]
    fn load(self, lanes: &[u64; 8]) -> __m512i {
        // SAFETY: as above; the array is as long as the vector and the load is unaligned.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, word: __m512i) -> [u64; 8] {
        let mut lanes = [0; 8];
        // SAFETY: as above; the array is as long as the vector and the store is unaligned.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), word) };
        lanes
    }

    #[inline(always)]
    fn mask(self, bits: u8) -> __mmask8 {
        bits
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_add_epi64(a, b) }
    }

    #[inline(always)]
    fn subtract(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_sub_epi64(a, b) }
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_srli_epi64::<BITS>(a) }
    }

    #[inline(always)]
    fn product_low(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_madd52lo_epu64(sum, a, b) }
    }

    #[inline(always)]
    fn product_high(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_madd52hi_epu64(sum, a, b) }
    }

    #[inline(always)]
    fn select(self, mask: __mmask8, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the features are there.
        unsafe { _mm512_mask_blend_epi64(mask, a, b) }
    }
}
