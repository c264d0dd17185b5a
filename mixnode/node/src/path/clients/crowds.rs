//! How many clients are attached from each network, and from each block of networks.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use crate::path::prefix::Prefix;

/// Counts of clients by block and by network; the largest block, and the largest network of each, are always at hand.
#[derive(Default)]
pub(super) struct Crowds {
    blocks: HashMap<Prefix, usize>,
    networks: HashMap<Prefix, usize>,
    by_count: BTreeSet<(usize, Prefix)>,
    /// By block, count and network.
    within: BTreeSet<(Prefix, usize, Prefix)>,
}

impl Crowds {
    /// Clients attached from the block and from the network of this address.
    pub fn count(&self, address: SocketAddr) -> (usize, usize) {
        let (block, network) = places_of(address);
        let of = |counts: &HashMap<Prefix, usize>, prefix| counts.get(&prefix).copied();
        (
            of(&self.blocks, block).unwrap_or(0),
            of(&self.networks, network).unwrap_or(0),
        )
    }

    /// The largest count of a block, and the block.
    pub fn most(&self) -> Option<(usize, Prefix)> {
        self.by_count.last().copied()
    }

    /// The largest count of a network in this block, and the network.
    pub fn most_within(&self, block: Prefix) -> Option<(usize, Prefix)> {
        let up_to = (block, usize::MAX, Prefix::LAST);
        let (of, count, network) = self.within.range(..=up_to).next_back()?;
        (*of == block).then_some((*count, *network))
    }

    pub fn add(&mut self, address: SocketAddr) {
        let (block, network) = self.count(address);
        self.set(address, (block + 1, network + 1));
    }

    pub fn remove(&mut self, address: SocketAddr) {
        let (block, network) = self.count(address);
        self.set(
            address,
            (block.saturating_sub(1), network.saturating_sub(1)),
        );
    }

    fn set(&mut self, address: SocketAddr, (of_block, of_network): (usize, usize)) {
        let (block, network) = places_of(address);
        let before = self.count(address);
        self.by_count.remove(&(before.0, block));
        self.within.remove(&(block, before.1, network));
        put(&mut self.blocks, block, of_block);
        put(&mut self.networks, network, of_network);
        if of_block > 0 {
            self.by_count.insert((of_block, block));
        }
        if of_network > 0 {
            self.within.insert((block, of_network, network));
        }
    }
}

fn places_of(address: SocketAddr) -> (Prefix, Prefix) {
    let ip = address.ip();
    (Prefix::block(ip), Prefix::network(ip))
}

fn put(counts: &mut HashMap<Prefix, usize>, prefix: Prefix, count: usize) {
    if count == 0 {
        counts.remove(&prefix);
    } else {
        counts.insert(prefix, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_crowds_are_known_and_nothing_stays_of_those_that_went() {
        let at =
            |block: u8, network: u8, host: u8| SocketAddr::from(([192, block, network, host], 9));
        let block = |address: SocketAddr| Prefix::block(address.ip());
        let network = |address: SocketAddr| Prefix::network(address.ip());
        let mut crowds = Crowds::default();
        let three = [at(0, 0, 1), at(0, 0, 2), at(0, 1, 1)];
        let two = [at(1, 7, 1), at(1, 7, 2)];
        for address in three.into_iter().chain(two) {
            crowds.add(address);
        }
        assert_eq!(crowds.count(at(0, 0, 9)), (3, 2));
        assert_eq!(crowds.count(at(0, 9, 9)), (3, 0));
        assert_eq!(crowds.most(), Some((3, block(three[0]))));
        assert_eq!(
            crowds.most_within(block(three[0])),
            Some((2, network(three[0])))
        );
        assert_eq!(
            crowds.most_within(block(two[0])),
            Some((2, network(two[0])))
        );
        assert_eq!(crowds.most_within(block(at(2, 0, 1))), None);
        crowds.remove(three[0]);
        crowds.remove(three[1]);
        assert_eq!(crowds.most(), Some((2, block(two[0]))));
        assert_eq!(
            crowds.most_within(block(three[2])),
            Some((1, network(three[2])))
        );
        for address in two.into_iter().chain([three[2]]) {
            crowds.remove(address);
        }
        assert!(crowds.blocks.is_empty() && crowds.networks.is_empty());
        assert!(crowds.by_count.is_empty() && crowds.within.is_empty());
    }
}
