//! Forgets what a computation left behind. Compilers spill vectors to the stack wherever they like, so after a batch
//! the whole stretch of stack below the caller is overwritten and the vector registers are cleared.
#![allow(unsafe_code, reason = "clears registers and the stack")]

use core::arch::asm;
use core::mem::MaybeUninit;

/// More than it takes to make a node's key of an epoch and what follows from it; a test searches for what is left.
const KEY_STACK_BYTES: usize = 64 * 1024;

/// Calls `work`, then overwrites the stack that it used: what is moved stays behind where it was, and nothing that wipes
/// when dropped finds that. For what is seldom done; what it gives must not hold a secret itself.
pub fn leaving_nothing<T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    fill_below::<KEY_STACK_BYTES>(0);
    done
}

/// A frame of its own, where [`fill_below`] has its.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// More than the deepest call under `Lanes::x25519` uses; a test compares.
#[cfg(target_arch = "x86_64")]
const STACK_BYTES: usize = 32 * 1024;

/// Fills that many bytes of stack below the caller's frame.
#[inline(never)]
pub(crate) fn fill_below<const BYTES: usize>(value: u8) {
    let mut below = MaybeUninit::<[u8; BYTES]>::uninit();
    // SAFETY: the pointer is to that many bytes of this frame.
    unsafe { core::ptr::write_bytes(below.as_mut_ptr(), value, 1) };
    // SAFETY: no instruction is emitted; the compiler must assume that the bytes are read.
    unsafe { asm!("/* {0} */", in(reg) below.as_mut_ptr(), options(nostack, preserves_flags)) };
}

/// Several times what a single multiplication uses; a test compares.
#[cfg(any(feature = "std", all(test, target_arch = "x86_64")))]
const SCALAR_STACK_BYTES: usize = 4 * 1024;

/// Clears the stack below the caller after code for single pairs that has cleared its registers.
#[cfg(feature = "std")]
#[inline(always)]
pub(super) fn after_scalar() {
    fill_below::<SCALAR_STACK_BYTES>(0);
}

/// Clears the stack below the caller and ymm0 to ymm15, whole zmm registers included.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn after_avx(_proof: super::avx2::Avx2) {
    fill_below::<STACK_BYTES>(0);
    // SAFETY: the CPU has AVX, or there would be no proof; all vector registers are declared lost.
    unsafe {
        asm!(
            "vzeroall",
            clobber_abi("C"),
            options(nomem, nostack, preserves_flags)
        )
    };
}

/// Clears the stack below the caller and zmm0 to zmm31.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn after_avx512(_proof: super::ifma::Ifma) {
    fill_below::<STACK_BYTES>(0);
    // SAFETY: the CPU has AVX-512, or there would be no proof; all vector registers are declared lost.
    unsafe {
        asm!(
            "vzeroall",
            "vpxord zmm16, zmm16, zmm16",
            "vpxord zmm17, zmm17, zmm17",
            "vpxord zmm18, zmm18, zmm18",
            "vpxord zmm19, zmm19, zmm19",
            "vpxord zmm20, zmm20, zmm20",
            "vpxord zmm21, zmm21, zmm21",
            "vpxord zmm22, zmm22, zmm22",
            "vpxord zmm23, zmm23, zmm23",
            "vpxord zmm24, zmm24, zmm24",
            "vpxord zmm25, zmm25, zmm25",
            "vpxord zmm26, zmm26, zmm26",
            "vpxord zmm27, zmm27, zmm27",
            "vpxord zmm28, zmm28, zmm28",
            "vpxord zmm29, zmm29, zmm29",
            "vpxord zmm30, zmm30, zmm30",
            "vpxord zmm31, zmm31, zmm31",
            clobber_abi("C"),
            options(nomem, nostack, preserves_flags)
        );
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod tests {
    use super::*;
    #[cfg(feature = "std")]
    use crate::lanes::graviola::Graviola;
    use crate::lanes::{ENCAPSULATE_MAX, Lanes, RESULTS_MAX, avx2::Avx2, ifma::Ifma, work::Work};

    pub(crate) const PAINTED: usize = 2 * STACK_BYTES;

    /// How deep below the caller, at most [`PAINTED`] bytes, something else lies than `value` or zero (which the
    /// probes of large frames write into every page).
    #[inline(never)]
    pub(crate) fn depth_below(value: u8, copy: &mut [u8; PAINTED]) -> usize {
        let below = MaybeUninit::<[u8; PAINTED]>::uninit();
        // SAFETY: copies within two live arrays of PAINTED bytes. The assembly reads the stack, not Rust, to which
        // those bytes would be uninitialized.
        unsafe {
            asm!("rep movsb", inout("rcx") PAINTED => _, inout("rsi") below.as_ptr() => _,
                inout("rdi") copy.as_mut_ptr() => _, options(nostack, preserves_flags));
        }
        PAINTED
            - copy
                .iter()
                .position(|byte| *byte != value && *byte != 0)
                .unwrap_or(PAINTED)
    }

    #[test]
    fn the_wiped_stack_is_deeper_than_any_backend_goes() {
        let (k, u) = ([[7; 32]; ENCAPSULATE_MAX], [[9; 32]; ENCAPSULATE_MAX]);
        let (mut out, mut copy) = ([[0; 32]; RESULTS_MAX], [0; PAINTED]);
        let (avx2, ifma) = (Avx2::new(), Ifma::new());
        for backend in 0..2 {
            let (shared, public_keys) = out.split_at_mut(ENCAPSULATE_MAX);
            let mut work = Work {
                scalars: &k,
                points: &u,
                shared,
                public_keys,
            };
            fill_below::<PAINTED>(0xa5);
            match (backend, avx2, ifma) {
                (0, Some(avx2), _) => avx2.multiply(&mut work),
                (1, _, Some(ifma)) => ifma.multiply(&mut work),
                _ => continue,
            }
            let depth = depth_below(0xa5, &mut copy);
            assert!(depth > 2048 && depth < STACK_BYTES - 4096, "{depth}");
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn the_stack_wiped_after_single_pairs_is_deeper_than_they_go() {
        let Some(graviola) = Graviola::new() else {
            return;
        };
        let mut copy = [0; PAINTED];
        for base in [false, true] {
            fill_below::<PAINTED>(0xa5);
            if base {
                graviola.base_product(&[7; 32]);
            } else {
                graviola.product(&[7; 32], &[9; 32]);
            }
            let depth = depth_below(0xa5, &mut copy);
            assert!(depth > 256 && depth < SCALAR_STACK_BYTES - 1024, "{depth}");
        }
    }

    #[test]
    fn nothing_but_zeros_is_left_below_a_batch() {
        let (k, u, mut out, mut copy) = ([[7; 32]; 64], [[9; 32]; 64], [[0; 32]; 64], [0; PAINTED]);
        for (lanes, wiped) in [
            (Lanes::Graviola, SCALAR_STACK_BYTES),
            (Lanes::Avx2, STACK_BYTES),
            (Lanes::Ifma, STACK_BYTES),
        ] {
            if !lanes.is_available() {
                continue;
            }
            fill_below::<PAINTED>(0);
            lanes.x25519(&k, &u, &mut out);
            depth_below(0, &mut copy);
            // What is left at the top are return addresses and the small frame of `Lanes::x25519` itself.
            let wiped = &copy[PAINTED - wiped..PAINTED - 1024];
            assert!(wiped.iter().all(|byte| *byte == 0), "{}", lanes.name());
        }
    }
}
