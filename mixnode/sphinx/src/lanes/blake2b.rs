//! Keyed BLAKE2b-256 (RFC 7693) of eight messages of one length at once, a message a 64-bit lane (AVX-512).
#![allow(unsafe_code, reason = "vector instructions and their loads")]

use core::arch::x86_64::*;
use zeroize::Zeroize;

cpufeatures::new!(cpu, "avx512f");

/// Messages a call.
pub(crate) const LANES: usize = 8;

const KEY_BYTES: usize = 64;
const BLOCK_BYTES: usize = 128;
const DIGEST_BYTES: usize = 32;

const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// Section 2.7. Rounds 10 and 11 use rows 0 and 1 again.
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// Proof that this CPU has AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct Wide(());

impl Wide {
    /// Looks once; later calls read the answer.
    pub(crate) fn detect() -> Option<Self> {
        cpu::get().then_some(Self(()))
    }

    /// The digests of messages that are not empty and equally long.
    pub(crate) fn hash(
        self,
        keys: [&[u8; KEY_BYTES]; LANES],
        messages: [&[u8]; LANES],
    ) -> [[u8; DIGEST_BYTES]; LANES] {
        debug_assert!(
            messages
                .iter()
                .all(|m| m.len() == messages[0].len() && !m.is_empty())
        );
        // SAFETY: a `Wide` exists only where the feature that `hash` is compiled for was detected.
        unsafe { hash(keys, messages) }
    }
}

#[target_feature(enable = "avx512f")]
fn hash(keys: [&[u8; KEY_BYTES]; LANES], messages: [&[u8]; LANES]) -> [[u8; 32]; LANES] {
    let mut state = IV.map(|word| _mm512_set1_epi64(word.cast_signed()));
    // The parameter block: digest length, key length, fanout 1, depth 1.
    let parameters = (DIGEST_BYTES | KEY_BYTES << 8 | 1 << 16 | 1 << 24) as i64;
    state[0] = _mm512_xor_si512(state[0], _mm512_set1_epi64(parameters));
    compress(&mut state, keys.map(|key| &key[..]), BLOCK_BYTES, false);
    let length = messages[0].len();
    let mut done = 0;
    while done < length {
        let end = length.min(done + BLOCK_BYTES);
        let block = messages.map(|message| message.get(done..end).unwrap_or_default());
        compress(&mut state, block, BLOCK_BYTES + end, end == length);
        done = end;
    }
    let mut digests = [[0; DIGEST_BYTES]; LANES];
    for (index, words) in state.iter().take(DIGEST_BYTES / 8).enumerate() {
        let mut lanes = [0_u64; LANES];
        // SAFETY: eight words are one vector of writable bytes; the instruction needs no alignment.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), *words) }
        for (digest, word) in digests.iter_mut().zip(lanes) {
            digest[8 * index..8 * index + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
    state.zeroize();
    digests
}

/// Section 3.2; `counter` is the bytes up to and with this block, which may be short.
#[inline]
#[target_feature(enable = "avx512f")]
fn compress(state: &mut [__m512i; 8], block: [&[u8]; LANES], counter: usize, is_last: bool) {
    let mut m = [_mm512_setzero_si512(); 16];
    for (index, vector) in m.iter_mut().enumerate() {
        let w = block.map(|bytes| word(bytes, 8 * index));
        *vector = _mm512_set_epi64(w[7], w[6], w[5], w[4], w[3], w[2], w[1], w[0]);
    }
    let mut v = [_mm512_setzero_si512(); 16];
    v[..8].copy_from_slice(state);
    for (vector, word) in v[8..].iter_mut().zip(IV) {
        *vector = _mm512_set1_epi64(word.cast_signed());
    }
    v[12] = _mm512_xor_si512(v[12], _mm512_set1_epi64(counter as i64));
    v[14] = _mm512_xor_si512(v[14], _mm512_set1_epi64(if is_last { -1 } else { 0 }));
    for round in 0..12 {
        let s = &SIGMA[round % 10];
        mix(&mut v, [0, 4, 8, 12], m[s[0]], m[s[1]]);
        mix(&mut v, [1, 5, 9, 13], m[s[2]], m[s[3]]);
        mix(&mut v, [2, 6, 10, 14], m[s[4]], m[s[5]]);
        mix(&mut v, [3, 7, 11, 15], m[s[6]], m[s[7]]);
        mix(&mut v, [0, 5, 10, 15], m[s[8]], m[s[9]]);
        mix(&mut v, [1, 6, 11, 12], m[s[10]], m[s[11]]);
        mix(&mut v, [2, 7, 8, 13], m[s[12]], m[s[13]]);
        mix(&mut v, [3, 4, 9, 14], m[s[14]], m[s[15]]);
    }
    for (index, word) in state.iter_mut().enumerate() {
        *word = _mm512_xor_si512(*word, _mm512_xor_si512(v[index], v[index + 8]));
    }
    m.zeroize();
    v.zeroize();
}

/// G of section 3.1.
#[inline]
#[target_feature(enable = "avx512f")]
fn mix(v: &mut [__m512i; 16], [a, b, c, d]: [usize; 4], x: __m512i, y: __m512i) {
    v[a] = _mm512_add_epi64(_mm512_add_epi64(v[a], v[b]), x);
    v[d] = _mm512_ror_epi64::<32>(_mm512_xor_si512(v[d], v[a]));
    v[c] = _mm512_add_epi64(v[c], v[d]);
    v[b] = _mm512_ror_epi64::<24>(_mm512_xor_si512(v[b], v[c]));
    v[a] = _mm512_add_epi64(_mm512_add_epi64(v[a], v[b]), y);
    v[d] = _mm512_ror_epi64::<16>(_mm512_xor_si512(v[d], v[a]));
    v[c] = _mm512_add_epi64(v[c], v[d]);
    v[b] = _mm512_ror_epi64::<63>(_mm512_xor_si512(v[b], v[c]));
}

/// The little-endian word at `offset`; what lies behind the end is zero.
#[inline]
fn word(bytes: &[u8], offset: usize) -> i64 {
    let rest = bytes.get(offset..).unwrap_or_default();
    if let Some(word) = rest.first_chunk() {
        return i64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    i64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blake2::Blake2bMac;
    use blake2::digest::{KeyInit, Mac, consts::U32};
    use std::vec::Vec;

    #[test]
    fn eight_messages_of_any_length_hash_as_one_by_one() {
        let Some(wide) = Wide::detect() else {
            std::eprintln!("SKIPPED: no AVX-512 on this CPU");
            return;
        };
        for length in (1..=400).chain([991, 992, 993, 1024]) {
            let keys: [[u8; KEY_BYTES]; LANES] =
                core::array::from_fn(|lane| core::array::from_fn(|i| (i * 5 + lane * 31) as u8));
            let messages: [Vec<u8>; LANES] = core::array::from_fn(|lane| {
                (0..length)
                    .map(|i| (i * i + lane * 17 + length) as u8)
                    .collect()
            });
            let key = core::array::from_fn(|lane| &keys[lane]);
            let digests = wide.hash(key, core::array::from_fn(|lane| &messages[lane][..]));
            for lane in 0..LANES {
                let mut hash = <Blake2bMac<U32> as KeyInit>::new((&keys[lane]).into());
                hash.update(&messages[lane]);
                let expected: [u8; 32] = hash.finalize().into_bytes().into();
                assert_eq!(digests[lane], expected, "{length} bytes, lane {lane}");
            }
        }
    }
}
