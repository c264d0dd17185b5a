//! LIONESS (Anderson and Biham, "Two practical and provably secure block ciphers: BEAR and LION", 1996) from
//! ChaCha20 with a zero nonce and keyed BLAKE2b-256. Key: k1 32 | k2 64 | k3 32 | k4 64; the left half is 32 bytes.

use super::keys::{PAYLOAD_KEY_BYTES, PayloadKey};
use crate::geometry::read;
use crate::header::xor;
use crate::wipe::Wiping;
use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use hmac::{KeyInit, Mac};

pub(super) const LEFT_BYTES: usize = 32;

const K1: usize = 0;
const K2: usize = 32;
const K3: usize = 96;
const K4: usize = 128;
const _: () = assert!(K4 + 64 == PAYLOAD_KEY_BYTES);

/// Encrypts in place. The block is longer than [`LEFT_BYTES`]; a shorter one is left as it is.
pub(super) fn encrypt(key: &PayloadKey, block: &mut [u8]) {
    let Some((left, right)) = block.split_first_chunk_mut() else {
        return;
    };
    stream(key, K1, left, right);
    hash(key, K2, left, right);
    stream(key, K3, left, right);
    hash(key, K4, left, right);
}

/// Undoes [`encrypt`].
pub(super) fn decrypt(key: &PayloadKey, block: &mut [u8]) {
    decrypt_group(&mut [Block { key, data: block }]);
}

/// A block to decrypt, with its key.
pub(super) struct Block<'a> {
    pub(super) key: &'a PayloadKey,
    pub(super) data: &'a mut [u8],
}

/// Undoes [`encrypt`] for many blocks: the hashes, which take most of the time, of several at once.
pub(super) fn decrypt_batch(blocks: &mut [Block<'_>]) {
    for group in blocks.chunks_mut(GROUP) {
        decrypt_group(group);
    }
}

#[cfg(target_arch = "x86_64")]
const GROUP: usize = crate::lanes::blake2b::LANES;
#[cfg(not(target_arch = "x86_64"))]
const GROUP: usize = 1;

fn decrypt_group(group: &mut [Block<'_>]) {
    for (hash_key, stream_key) in [(K4, K3), (K2, K1)] {
        hash_group(group, hash_key);
        for Block { key, data } in group.iter_mut() {
            if let Some((left, right)) = data.split_first_chunk_mut() {
                stream(key, stream_key, left, right);
            }
        }
    }
}

fn hash_group(group: &mut [Block<'_>], offset: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(wide) = crate::lanes::blake2b::Wide::detect()
        && hash_wide(wide, group, offset)
    {
        return;
    }
    for Block { key, data } in group {
        if let Some((left, right)) = data.split_first_chunk_mut() {
            hash(key, offset, left, right);
        }
    }
}

/// Fewer messages than this are hashed faster one by one.
#[cfg(target_arch = "x86_64")]
const WIDE_MIN: usize = 3;

/// Hashes all at once and says so, if they are equally long and enough.
#[cfg(target_arch = "x86_64")]
fn hash_wide(wide: crate::lanes::blake2b::Wide, group: &mut [Block<'_>], offset: usize) -> bool {
    let Some(length) = group.first().map(|block| block.data.len()) else {
        return true;
    };
    let equal = group.iter().all(|block| block.data.len() == length);
    if group.len() < WIDE_MIN || length <= LEFT_BYTES || !equal {
        return false;
    }
    // Lanes without a block of their own repeat the last one.
    let lane = |index: usize| &group[index.min(group.len() - 1)];
    let keys: [Wiping<64>; GROUP] =
        core::array::from_fn(|index| Wiping::new(read(&**lane(index).key, offset)));
    let digests = wide.hash(
        core::array::from_fn(|index| &*keys[index]),
        core::array::from_fn(|index| &lane(index).data[LEFT_BYTES..]),
    );
    for (block, digest) in group.iter_mut().zip(digests) {
        xor(&mut block.data[..LEFT_BYTES], &digest);
    }
    true
}

/// R ← R ⊕ S(L ⊕ k)
fn stream(key: &PayloadKey, offset: usize, left: &[u8; LEFT_BYTES], right: &mut [u8]) {
    let mut key: Wiping<32> = Wiping::new(read(&**key, offset));
    xor(&mut *key, left);
    ChaCha20::new((&*key).into(), &[0; 12].into()).apply_keystream(right);
}

/// L ← L ⊕ H(k, R)
fn hash(key: &PayloadKey, offset: usize, left: &mut [u8; LEFT_BYTES], right: &[u8]) {
    let key: Wiping<64> = Wiping::new(read(&**key, offset));
    let mut hash = <Blake2bMac<U32> as KeyInit>::new((&*key).into());
    hash.update(right);
    xor(left, &hash.finalize().into_bytes());
}
