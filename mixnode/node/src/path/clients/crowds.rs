//! How many clients are attached from each network.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use crate::path::prefix::Prefix;

/// Counts of clients by network; the largest is always at hand.
#[derive(Default)]
pub(super) struct Crowds {
    counts: HashMap<Prefix, usize>,
    by_count: BTreeSet<(usize, Prefix)>,
}

impl Crowds {
    /// Clients attached from the network of this address.
    pub fn count(&self, address: SocketAddr) -> usize {
        let network = Prefix::network(address.ip());
        self.counts.get(&network).copied().unwrap_or(0)
    }

    /// The largest count and its network.
    pub fn most(&self) -> Option<(usize, Prefix)> {
        self.by_count.last().copied()
    }

    pub fn add(&mut self, address: SocketAddr) {
        let count = self.count(address);
        self.set(Prefix::network(address.ip()), count, count + 1);
    }

    pub fn remove(&mut self, address: SocketAddr) {
        let count = self.count(address);
        self.set(
            Prefix::network(address.ip()),
            count,
            count.saturating_sub(1),
        );
    }

    fn set(&mut self, network: Prefix, before: usize, count: usize) {
        self.by_count.remove(&(before, network));
        if count == 0 {
            self.counts.remove(&network);
        } else {
            self.counts.insert(network, count);
            self.by_count.insert((count, network));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_crowd_is_known_and_nothing_stays_of_those_that_went() {
        let at = |host: u8, network: u8| SocketAddr::from(([192, 0, network, host], 9));
        let mut crowds = Crowds::default();
        for address in [at(1, 0), at(2, 0), at(1, 1), at(9, 0)] {
            crowds.add(address);
        }
        assert_eq!((crowds.count(at(7, 0)), crowds.count(at(7, 1))), (3, 1));
        assert_eq!(crowds.most().unwrap().0, 3);
        for address in [at(1, 0), at(2, 0), at(9, 0)] {
            crowds.remove(address);
        }
        assert_eq!(crowds.most().unwrap(), (1, Prefix::network(at(1, 1).ip())));
        crowds.remove(at(1, 1));
        assert!(crowds.counts.is_empty() && crowds.by_count.is_empty());
    }
}
