//! Wiping secrets on the packet path.
//!
//! `Zeroize` wipes bytes with one volatile store each: for the hundreds of key and keystream bytes of a hop that
//! would take longer than some of the ciphers. Here bytes are filled with zeros as the compiler likes, and a barrier
//! that claims to read them keeps it from leaving that out.

use core::ops::{Deref, DerefMut};
use zeroize::optimization_barrier;

/// Overwrites secret bytes.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    optimization_barrier(bytes);
}

/// Bytes that are wiped when dropped.
pub(crate) struct Wiping<const N: usize>([u8; N]);

impl<const N: usize> Wiping<N> {
    pub(crate) fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> Drop for Wiping<N> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl<const N: usize> Deref for Wiping<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> DerefMut for Wiping<N> {
    fn deref_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}
