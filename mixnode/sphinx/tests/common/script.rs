//! A generator that hands out what it was given, to build packets from known ephemeral secrets and padding.

use rand_core::{TryCryptoRng, TryRng};
use std::convert::Infallible;

pub struct Script(Vec<u8>);

impl Script {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Whether everything was drawn.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unimplemented!("packets draw bytes only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unimplemented!("packets draw bytes only")
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(into.len());
        into.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Script {}
