//! HCTR2 with AES-128 (Crowley, Huckleberry, Biggers: "Length-preserving encryption with HCTR2", 2021), for empty
//! tweaks and whole blocks: a wide-block cipher, so that one changed bit garbles the whole body.

mod portable;
#[cfg(target_arch = "x86_64")]
mod vaes;

use crate::wipe::Wiping;

/// Encrypts `data` in place. Its length is a multiple of 16 and at least 16; every key is used for one message only.
pub(crate) fn encrypt(key: &[u8; 16], data: &mut [u8]) {
    let blocks = blocks(data);
    #[cfg(target_arch = "x86_64")]
    if let Some(vaes) = vaes::Vaes::detect() {
        return vaes.encrypt(key, blocks);
    }
    portable::encrypt(key, blocks);
}

/// Undoes [`encrypt`].
pub(crate) fn decrypt(key: &[u8; 16], data: &mut [u8]) {
    let blocks = blocks(data);
    #[cfg(target_arch = "x86_64")]
    if let Some(vaes) = vaes::Vaes::detect() {
        return vaes.decrypt(key, blocks);
    }
    portable::decrypt(key, blocks);
}

/// Header keystream that a hop needs, rounded up to whole vectors.
pub(crate) const KEYSTREAM_BYTES: usize = 320;

/// The first blocks of AES-128-CTR from a zero counter block. Not HCTR2's, but the header's: the instructions are
/// the same.
pub(crate) fn keystream(key: &[u8; 16]) -> Wiping<KEYSTREAM_BYTES> {
    let mut out = Wiping::new([0; KEYSTREAM_BYTES]);
    #[cfg(target_arch = "x86_64")]
    if let Some(vaes) = vaes::Vaes::detect() {
        vaes.keystream(key, &mut out);
        return out;
    }
    portable::keystream(key, &mut out);
    out
}

fn blocks(data: &mut [u8]) -> &mut [[u8; 16]] {
    let (blocks, rest) = data.as_chunks_mut();
    debug_assert!(rest.is_empty() && !blocks.is_empty());
    blocks
}

#[cfg(test)]
mod tests;
