//! HCTR2-AES-128 with four AES blocks and four carry-less products an instruction (AVX-512 VAES and VPCLMULQDQ).
//!
//! The message runs in groups of 16 blocks, four 512-bit vectors. The first group is the short one: its blocks are
//! aligned to its end and what is missing before them counts as zero blocks, which leave POLYVAL's state at zero.
//! The first block is not hashed, but the length block is, before the rest: it takes the first block's place, so
//! hash and keystream walk over the same vectors.
#![allow(unsafe_code, reason = "vector instructions and their loads")]

use super::KEYSTREAM_BYTES;
use core::arch::x86_64::*;
use zeroize::Zeroize;

cpufeatures::new!(
    cpu,
    "avx512f",
    "avx512vl",
    "avx512bw",
    "avx512dq",
    "aes",
    "vaes",
    "pclmulqdq",
    "vpclmulqdq"
);

/// Proof that this CPU, and its operating system, have what the functions here need.
#[derive(Clone, Copy)]
pub(super) struct Vaes(());

impl Vaes {
    /// Looks once; later calls read the answer.
    pub(super) fn detect() -> Option<Self> {
        cpu::get().then_some(Self(()))
    }

    /// Encrypts whole blocks in place.
    pub(super) fn encrypt(self, key: &[u8; 16], data: &mut [[u8; 16]]) {
        // SAFETY: a `Vaes` exists only where every feature that `apply` is compiled for was detected.
        unsafe { apply::<true>(key, data) }
    }

    /// The first blocks of AES-128-CTR from a zero counter block.
    pub(super) fn keystream(self, key: &[u8; 16], out: &mut [u8; KEYSTREAM_BYTES]) {
        // SAFETY: as in `encrypt`.
        unsafe { count_from_zero(key, out) }
    }

    /// Undoes `encrypt`.
    pub(super) fn decrypt(self, key: &[u8; 16], data: &mut [[u8; 16]]) {
        // SAFETY: as in `encrypt`.
        unsafe { apply::<false>(key, data) }
    }
}

/// Blocks in a group: four vectors of four.
const GROUP: usize = 16;

/// Defines functions that the compiler may give these instructions; they inline into each other.
macro_rules! with_cpu {
    ($($(#[$meta:meta])* fn $name:ident $([$($generics:tt)*])? ($($args:tt)*) $(-> $out:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[inline]
        #[target_feature(
            enable = "avx512f,avx512vl,avx512bw,avx512dq,aes,vaes,pclmulqdq,vpclmulqdq,avx2,sse4.1"
        )]
        fn $name $(<$($generics)*>)? ($($args)*) $(-> $out)? $body
    )*};
}

/// AES-128's round keys, from 0 to 10.
type RoundKeys = [__m128i; 11];

/// H^16 … H^1, four to a vector, as the blocks of a group meet them.
type Powers = [__m512i; 4];

with_cpu! {
    /// HCTR2 (section 3 of the paper): the names are the paper's, for encryption; decryption runs the one block
    /// cipher call in the middle backwards.
    fn apply[const ENCRYPT: bool](key: &[u8; 16], data: &mut [[u8; 16]]) {
        let Some(first) = data.first() else { return };
        let m = load_block(first);
        let mut keys = expand_key(key);
        let (h, l) = hash_key_and_mask(&keys);
        let mut powers = powers(h);

        let mm = _mm_xor_si128(m, hash(data, &powers));
        let uu = if ENCRYPT { encrypt_block(mm, &keys) } else { decrypt_block(mm, &keys) };
        let s = _mm_xor_si128(_mm_xor_si128(mm, uu), l);
        let u = _mm_xor_si128(uu, count_and_hash(data, s, &keys, &powers));
        if let Some(first) = data.first_mut() {
            store_block(first, u);
        }
        keys.zeroize();
        powers.zeroize();
    }

    /// SP 800-38A, section 6.5. The counter is big endian and stays below 256 here: it is the last byte alone.
    fn count_from_zero(key: &[u8; 16], out: &mut [u8; KEYSTREAM_BYTES]) {
        const _: () = assert!(KEYSTREAM_BYTES.is_multiple_of(64) && KEYSTREAM_BYTES / 16 <= 256);
        let mut keys = expand_key(key);
        let mut states = [_mm512_set_epi64(3 << 56, 0, 2 << 56, 0, 1 << 56, 0, 0, 0); KEYSTREAM_BYTES / 64];
        for (index, state) in (0..).zip(&mut states) {
            let number = _mm512_maskz_set1_epi64(0b1010_1010, (4 * index) << 56);
            let counter = _mm512_add_epi64(*state, number);
            *state = _mm512_xor_si512(counter, _mm512_broadcast_i32x4(keys[0]));
        }
        for key in &keys[1..10] {
            let key = _mm512_broadcast_i32x4(*key);
            for state in &mut states {
                *state = _mm512_aesenc_epi128(*state, key);
            }
        }
        let key = _mm512_broadcast_i32x4(keys[10]);
        let (vectors, _) = out.as_chunks_mut::<64>();
        for (state, vector) in states.iter().zip(vectors) {
            let state = _mm512_aesenclast_epi128(*state, key);
            // SAFETY: a chunk is one vector of writable bytes; the instruction needs no alignment.
            unsafe { _mm512_storeu_si512(vector.as_mut_ptr().cast(), state) }
        }
        keys.zeroize();
    }

    /// FIPS 197, section 5.2, with the key schedule's own instruction.
    fn expand_key(key: &[u8; 16]) -> RoundKeys {
        let k0 = load_block(key);
        let k1 = next_round_key::<0x01>(k0);
        let k2 = next_round_key::<0x02>(k1);
        let k3 = next_round_key::<0x04>(k2);
        let k4 = next_round_key::<0x08>(k3);
        let k5 = next_round_key::<0x10>(k4);
        let k6 = next_round_key::<0x20>(k5);
        let k7 = next_round_key::<0x40>(k6);
        let k8 = next_round_key::<0x80>(k7);
        let k9 = next_round_key::<0x1b>(k8);
        let k10 = next_round_key::<0x36>(k9);
        [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10]
    }

    fn next_round_key[const RCON: i32](key: __m128i) -> __m128i {
        let word = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, RCON), 0xff);
        let mut sum = _mm_xor_si128(key, _mm_slli_si128(key, 4));
        sum = _mm_xor_si128(sum, _mm_slli_si128(sum, 8));
        _mm_xor_si128(sum, word)
    }

    /// E(0), the key of POLYVAL, and L = E(1), side by side.
    fn hash_key_and_mask(keys: &RoundKeys) -> (__m128i, __m128i) {
        let mut pair = _mm256_xor_si256(_mm256_set_epi64x(0, 1, 0, 0), _mm256_broadcastsi128_si256(keys[0]));
        for key in &keys[1..10] {
            pair = _mm256_aesenc_epi128(pair, _mm256_broadcastsi128_si256(*key));
        }
        pair = _mm256_aesenclast_epi128(pair, _mm256_broadcastsi128_si256(keys[10]));
        (_mm256_castsi256_si128(pair), _mm256_extracti128_si256(pair, 1))
    }

    fn encrypt_block(block: __m128i, keys: &RoundKeys) -> __m128i {
        let mut state = _mm_xor_si128(block, keys[0]);
        for key in &keys[1..10] {
            state = _mm_aesenc_si128(state, *key);
        }
        _mm_aesenclast_si128(state, keys[10])
    }

    /// The equivalent inverse cipher (FIPS 197, section 5.3.5).
    fn decrypt_block(block: __m128i, keys: &RoundKeys) -> __m128i {
        let mut state = _mm_xor_si128(block, keys[10]);
        for key in keys[1..10].iter().rev() {
            state = _mm_aesdec_si128(state, _mm_aesimc_si128(*key));
        }
        _mm_aesdeclast_si128(state, keys[0])
    }

    /// POLYVAL's product a·b·x^-128 in each lane (RFC 8452, section 3; the reduction is Gueron's, by two products
    /// with the polynomial's middle part, x^63 + x^62 + x^57).
    fn multiply(a: __m512i, b: __m512i) -> __m512i {
        let middle = _mm512_xor_si512(
            _mm512_clmulepi64_epi128(a, b, 0x01),
            _mm512_clmulepi64_epi128(a, b, 0x10),
        );
        reduce(_mm512_clmulepi64_epi128(a, b, 0x00), middle, _mm512_clmulepi64_epi128(a, b, 0x11))
    }

    fn reduce(low: __m512i, middle: __m512i, high: __m512i) -> __m512i {
        let polynomial = _mm512_set1_epi64(0xc200_0000_0000_0000_u64.cast_signed());
        let mut low = _mm512_xor_si512(low, _mm512_bslli_epi128(middle, 8));
        let high = _mm512_xor_si512(high, _mm512_bsrli_epi128(middle, 8));
        for _ in 0..2 {
            let product = _mm512_clmulepi64_epi128(low, polynomial, 0x00);
            low = _mm512_xor_si512(_mm512_shuffle_epi32(low, 0x4e), product);
        }
        _mm512_xor_si512(high, low)
    }

    fn powers(h: __m128i) -> Powers {
        let h1 = _mm512_broadcast_i32x4(h);
        let h2 = multiply(h1, h1);
        // Lanes from the lowest: H^2·H^2, H^2·H.
        let h2_h1 = _mm512_mask_mov_epi64(h1, 0b0000_0011, h2);
        let h4_h3 = multiply(h2, h2_h1);
        let p3 = _mm512_inserti64x4(h4_h3, _mm512_castsi512_si256(h2_h1), 1);
        let h4 = _mm512_broadcast_i32x4(_mm512_castsi512_si128(h4_h3));
        let p2 = multiply(p3, h4);
        let h8 = _mm512_broadcast_i32x4(_mm512_castsi512_si128(p2));
        [multiply(p2, h8), multiply(p3, h8), p2, p3]
    }

    /// Horner's rule, 16 blocks a step and one reduction for all: (acc + d₀)·H^16 + d₁·H^15 + … + d₁₅·H.
    fn absorb(acc: __m128i, group: [__m512i; 4], powers: &Powers) -> __m128i {
        let [first, rest @ ..] = group;
        let group = [_mm512_xor_si512(first, _mm512_zextsi128_si512(acc)), rest[0], rest[1], rest[2]];
        let zero = _mm512_setzero_si512();
        let (mut low, mut middle, mut high) = (zero, zero, zero);
        for (d, h) in group.into_iter().zip(powers) {
            low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128(d, *h, 0x00));
            middle = _mm512_ternarylogic_epi64(
                middle,
                _mm512_clmulepi64_epi128(d, *h, 0x01),
                _mm512_clmulepi64_epi128(d, *h, 0x10),
                0x96, // exclusive or of the three
            );
            high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128(d, *h, 0x11));
        }
        let sum = |lanes: __m512i| _mm512_zextsi128_si512(add_lanes(lanes));
        _mm512_castsi512_si128(reduce(sum(low), sum(middle), sum(high)))
    }

    fn add_lanes(lanes: __m512i) -> __m128i {
        let pair = _mm256_xor_si256(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
        _mm_xor_si128(_mm256_castsi256_si128(pair), _mm256_extracti128_si256(pair, 1))
    }

    /// H(empty tweak, all blocks but the first).
    fn hash(data: &[[u8; 16]], powers: &Powers) -> __m128i {
        let (head, groups) = data.split_at(head_blocks(data.len()));
        let missing = GROUP - head.len();
        let group = core::array::from_fn(|j| load_head(head, j));
        let mut acc = absorb(_mm_setzero_si128(), with_length_block(group, missing), powers);
        for group in groups.as_chunks::<GROUP>().0 {
            acc = absorb(acc, load_group(group), powers);
        }
        acc
    }

    /// XCTR (block i is masked with E(S ⊕ i), i little endian from 1) over all blocks but the first, and the hash
    /// of what comes out. The first block's bytes become garbage.
    fn count_and_hash(data: &mut [[u8; 16]], s: __m128i, keys: &RoundKeys, powers: &Powers) -> __m128i {
        let (head, groups) = data.split_at_mut(head_blocks(data.len()));
        let missing = GROUP - head.len();
        let start = _mm512_broadcast_i32x4(s);
        let mut counters = [
            _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0),
            _mm512_set_epi64(0, 7, 0, 6, 0, 5, 0, 4),
            _mm512_set_epi64(0, 11, 0, 10, 0, 9, 0, 8),
            _mm512_set_epi64(0, 15, 0, 14, 0, 13, 0, 12),
        ];
        for counter in &mut counters {
            // The head's first block has number 0 wherever it stands; the lanes before it are never stored.
            *counter = _mm512_sub_epi64(*counter, _mm512_maskz_set1_epi64(0b0101_0101, missing as i64));
        }
        let mut group = keystream(&mut counters, start, keys);
        for (j, vector) in group.iter_mut().enumerate() {
            *vector = _mm512_xor_si512(*vector, load_head(head, j));
            *vector = store_head(head, j, *vector);
        }
        let mut acc = absorb(_mm_setzero_si128(), with_length_block(group, missing), powers);
        for chunk in groups.as_chunks_mut::<GROUP>().0 {
            let mut group = keystream(&mut counters, start, keys);
            for (mask, text) in group.iter_mut().zip(load_group(chunk)) {
                *mask = _mm512_xor_si512(*mask, text);
            }
            store_group(chunk, &group);
            acc = absorb(acc, group, powers);
        }
        acc
    }

    /// E(start ⊕ counter) for 16 blocks, and steps the counters to the next 16.
    fn keystream(counters: &mut [__m512i; 4], start: __m512i, keys: &RoundKeys) -> [__m512i; 4] {
        let mut state = [_mm512_setzero_si512(); 4];
        let whitening = _mm512_xor_si512(start, _mm512_broadcast_i32x4(keys[0]));
        let step = _mm512_set_epi64(0, 16, 0, 16, 0, 16, 0, 16);
        for (state, counter) in state.iter_mut().zip(counters) {
            *state = _mm512_xor_si512(*counter, whitening);
            *counter = _mm512_add_epi64(*counter, step);
        }
        for key in &keys[1..10] {
            let key = _mm512_broadcast_i32x4(*key);
            for state in &mut state {
                *state = _mm512_aesenc_epi128(*state, key);
            }
        }
        let key = _mm512_broadcast_i32x4(keys[10]);
        state.map(|state| _mm512_aesenclast_epi128(state, key))
    }

    /// Puts the length block in the first block's place: 2·|empty tweak| + 2 for a message of whole blocks.
    fn with_length_block(mut group: [__m512i; 4], place: usize) -> [__m512i; 4] {
        let length = _mm512_set_epi64(0, 2, 0, 2, 0, 2, 0, 2);
        let lane = 0b11 << (2 * (place % 4));
        if let Some(vector) = group.get_mut(place / 4) {
            *vector = _mm512_mask_mov_epi64(*vector, lane, length);
        }
        group
    }

    fn load_block(block: &[u8; 16]) -> __m128i {
        // SAFETY: 16 readable bytes; the instruction needs no alignment.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }

    fn store_block(block: &mut [u8; 16], value: __m128i) {
        // SAFETY: 16 writable bytes; the instruction needs no alignment.
        unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) }
    }

    fn load_group(group: &[[u8; 16]; GROUP]) -> [__m512i; 4] {
        let bytes: *const __m512i = group.as_ptr().cast();
        // SAFETY: a group is four vectors of readable bytes; the instruction needs no alignment.
        core::array::from_fn(|j| unsafe { _mm512_loadu_si512(bytes.add(j)) })
    }

    fn store_group(group: &mut [[u8; 16]; GROUP], vectors: &[__m512i; 4]) {
        let bytes: *mut __m512i = group.as_mut_ptr().cast();
        for (j, vector) in vectors.iter().enumerate() {
            // SAFETY: a group is four vectors of writable bytes; the instruction needs no alignment.
            unsafe { _mm512_storeu_si512(bytes.add(j), *vector) }
        }
    }

    /// Vector `j` of the group that ends with `head`'s last block; lanes before its first block are zero.
    fn load_head(head: &[[u8; 16]], j: usize) -> __m512i {
        let (mask, start) = head_lanes(head.len(), j);
        // SAFETY: the mask selects exactly the lanes that lie inside `head`; others are not accessed, and the
        // pointer to them is formed by wrapping arithmetic.
        unsafe { _mm512_maskz_loadu_epi64(mask, head.as_ptr().wrapping_offset(start).cast()) }
    }

    /// Writes vector `j` back, and returns it with the lanes before `head` set to zero.
    fn store_head(head: &mut [[u8; 16]], j: usize, value: __m512i) -> __m512i {
        let (mask, start) = head_lanes(head.len(), j);
        // SAFETY: as in `load_head`, for writing.
        unsafe { _mm512_mask_storeu_epi64(head.as_mut_ptr().wrapping_offset(start).cast(), mask, value) }
        _mm512_maskz_mov_epi64(mask, value)
    }
}

/// Blocks of the first group: 1 to 16, so that all others are full.
fn head_blocks(blocks: usize) -> usize {
    match blocks % GROUP {
        0 => GROUP.min(blocks),
        rest => rest,
    }
}

/// Which quadwords of vector `j` of the first group hold blocks, and where the vector starts relative to the first
/// block, in blocks (before it, for vectors that hold none or begin with missing ones).
fn head_lanes(blocks: usize, j: usize) -> (__mmask8, isize) {
    let start = (4 * j + blocks).cast_signed() - GROUP.cast_signed();
    let before = (-start).clamp(0, 4) as u32;
    let mask = 0xff_u32 << (2 * before);
    ((mask & 0xff) as __mmask8, start)
}
