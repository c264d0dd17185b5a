//! What clients are granted beyond what a client of the network's rate asks for.
//!
//! A stream costs the gateway sealing and sending whatever its client does, and keys cost nothing: a hundred of them at one
//! address, each at the highest rate there is, would draw many times what the gateway can do. So whoever asks for more than
//! others do gets it out of a sum, of which one block of networks has half at most, as of the places.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::path::prefix::Prefix;

/// A block of networks gets one part in so many of the sum.
const BLOCK_PART: u64 = 2;

/// The sum, and who has how much of it.
#[derive(Default)]
pub(super) struct Grants {
    /// What everyone gets that asks for it, packets a second.
    ordinary_pps: u32,
    /// What all together get beyond that; none where nothing is limited.
    beyond_pps: Option<u64>,
    taken_pps: u64,
    blocks: HashMap<Prefix, u64>,
}

impl Grants {
    /// Limits what is granted from now on.
    pub fn limit(&mut self, ordinary_pps: u32, beyond_pps: Option<u64>) {
        (self.ordinary_pps, self.beyond_pps) = (ordinary_pps, beyond_pps);
    }

    /// Takes what there is for a client at this address that asks for `asked_pps`: what it is granted, and how much of
    /// that was taken of the sum.
    pub fn take(&mut self, address: SocketAddr, asked_pps: u32) -> (u32, u32) {
        let Some(sum_pps) = self.beyond_pps else {
            return (asked_pps, 0);
        };
        let of_block = self.of_block(address);
        let left_pps = (sum_pps / BLOCK_PART)
            .saturating_sub(of_block)
            .min(sum_pps.saturating_sub(self.taken_pps));
        let left_pps = u32::try_from(left_pps).unwrap_or(u32::MAX);
        let beyond_pps = asked_pps.saturating_sub(self.ordinary_pps).min(left_pps);
        self.taken_pps += u64::from(beyond_pps);
        self.set(address, of_block + u64::from(beyond_pps));
        (
            asked_pps.min(self.ordinary_pps.saturating_add(beyond_pps)),
            beyond_pps,
        )
    }

    /// Gives back what a client at this address had taken.
    pub fn give_back(&mut self, address: SocketAddr, beyond_pps: u32) {
        let beyond_pps = u64::from(beyond_pps);
        self.taken_pps = self.taken_pps.saturating_sub(beyond_pps);
        self.set(address, self.of_block(address).saturating_sub(beyond_pps));
    }

    /// A client that had taken so much is at another address.
    pub fn moved(&mut self, before: SocketAddr, now: SocketAddr, beyond_pps: u32) {
        let beyond = u64::from(beyond_pps);
        self.set(before, self.of_block(before).saturating_sub(beyond));
        self.set(now, self.of_block(now) + beyond);
    }

    fn of_block(&self, address: SocketAddr) -> u64 {
        let block = Prefix::block(address.ip());
        self.blocks.get(&block).copied().unwrap_or(0)
    }

    fn set(&mut self, address: SocketAddr, pps: u64) {
        let block = Prefix::block(address.ip());
        if pps == 0 {
            self.blocks.remove(&block);
        } else {
            self.blocks.insert(block, pps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u8, host: u8) -> SocketAddr {
        SocketAddr::from(([192, block, 0, host], 9))
    }

    #[test]
    fn who_asks_for_more_than_others_gets_it_out_of_a_sum_and_one_block_half_of_that() {
        let mut grants = Grants::default();
        assert_eq!(grants.take(at(0, 1), 2_000), (2_000, 0), "no limit");
        grants.limit(125, Some(10_000));
        assert_eq!(grants.take(at(0, 1), 125), (125, 0));
        // 1,875 beyond what others have, twice, and what is left of 5,000.
        let all = [(); 5].map(|()| grants.take(at(0, 1), 2_000).0);
        assert_eq!(all, [2_000, 2_000, 1_375, 125, 125]);
        assert_eq!(grants.take(at(1, 1), 5_000), (5_000, 4_875));
        assert_eq!(grants.take(at(2, 1), 5_000), (250, 125));
        assert_eq!(grants.take(at(3, 1), 5_000), (125, 0));
        // A client that moves takes along what it has.
        grants.moved(at(1, 1), at(2, 9), 4_875);
        assert_eq!(grants.take(at(1, 1), 5_000), (125, 0), "the sum is taken");
        for (address, beyond_pps) in [(at(2, 9), 4_875), (at(2, 1), 125), (at(0, 1), 5_000)] {
            grants.give_back(address, beyond_pps);
        }
        assert_eq!((grants.taken_pps, grants.blocks.len()), (0, 0));
    }
}
