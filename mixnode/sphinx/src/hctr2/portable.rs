//! HCTR2-AES-128 from the crates `aes` and `polyval`, for CPUs without wide AES instructions.

use super::KEYSTREAM_BYTES;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes128Enc};
use ctr::cipher::{KeyIvInit, StreamCipher};
use polyval::{Block, Polyval, universal_hash::UniversalHash};
use zeroize::{Zeroize, Zeroizing};

/// Encrypts whole blocks in place.
pub(super) fn encrypt(key: &[u8; 16], data: &mut [[u8; 16]]) {
    Hctr2::new(key).apply(data, |aes, block| aes.encrypt_block(block));
}

/// Undoes `encrypt`.
pub(super) fn decrypt(key: &[u8; 16], data: &mut [[u8; 16]]) {
    Hctr2::new(key).apply(data, |aes, block| aes.decrypt_block(block));
}

/// AES-128-CTR from a zero counter block, over `out`.
pub(super) fn keystream(key: &[u8; 16], out: &mut [u8; KEYSTREAM_BYTES]) {
    let mut stream = ctr::Ctr128BE::<Aes128Enc>::new(key.into(), &[0; 16].into());
    stream.apply_keystream(out);
}

struct Hctr2 {
    aes: Aes128,
    /// POLYVAL under E(0), after the block that encodes the empty tweak and a whole number of blocks.
    hash: Polyval,
    /// L = E(1).
    mask: Block,
}

impl Hctr2 {
    fn new(key: &[u8; 16]) -> Self {
        let aes = Aes128::new(key.into());
        let mut derived = [Block::from([0; 16]), number(1)];
        aes.encrypt_blocks(&mut derived);
        let [mut hash_key, mask] = derived;
        let mut hash = Polyval::new(&hash_key);
        hash_key.zeroize();
        // 2 · |tweak in bits| + 2, plus 1 if the message had a partial last block (section 3 of the paper).
        hash.update(&[number(2)]);
        Self { aes, hash, mask }
    }

    /// Encryption and decryption differ in the direction of the one block in the middle.
    fn apply(self, data: &mut [[u8; 16]], middle: impl FnOnce(&Aes128, &mut Block)) {
        let Some((first, tail)) = Block::cast_slice_from_core_mut(data).split_first_mut() else {
            return;
        };
        let before = xor(first, &self.digest(tail));
        let mut after = before;
        middle(&self.aes, &mut after);
        self.count(&xor(&xor(&before, &after), &self.mask), tail);
        *first = xor(&after, &self.digest(tail));
    }

    fn digest(&self, tail: &[Block]) -> Block {
        let mut hash = self.hash.clone();
        hash.update(tail);
        hash.finalize()
    }

    /// XCTR mode: block i is masked with E(start ⊕ i), i little endian from 1.
    fn count(&self, start: &Block, tail: &mut [Block]) {
        let mut index = 0;
        let mut stream = Zeroizing::new([[0; 16]; 32]);
        let stream = Block::cast_slice_from_core_mut(&mut *stream);
        for chunk in tail.chunks_mut(stream.len()) {
            for block in &mut stream[..chunk.len()] {
                index += 1;
                *block = xor(start, &number(index));
            }
            self.aes.encrypt_blocks(&mut stream[..chunk.len()]);
            for (block, mask) in chunk.iter_mut().zip(&*stream) {
                *block = xor(block, mask);
            }
        }
    }
}

fn number(value: u128) -> Block {
    value.to_le_bytes().into()
}

fn xor(a: &Block, b: &Block) -> Block {
    (u128::from_ne_bytes((*a).into()) ^ u128::from_ne_bytes((*b).into()))
        .to_ne_bytes()
        .into()
}
