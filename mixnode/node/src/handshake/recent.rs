//! Initiations answered lately: one that comes again costs a look-up and no Diffie-Hellman.
//!
//! Nothing depends on it: what a replay past this memory opens is a half-open session that nobody can speak on.

use std::collections::{BTreeSet, VecDeque};

/// Initiations that are remembered; the oldest gives way.
pub(super) const RECENT_MAX: usize = 1_024;

/// The newest [`RECENT_MAX`] first macs.
#[derive(Default)]
pub(super) struct Recent {
    known: BTreeSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

impl Recent {
    pub(super) fn contains(&self, mac1: &[u8; 16]) -> bool {
        self.known.contains(mac1)
    }

    pub(super) fn insert(&mut self, mac1: [u8; 16]) {
        if !self.known.insert(mac1) {
            return;
        }
        if self.order.len() >= RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(mac1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_answered_initiations_is_bounded_and_the_oldest_is_forgotten() {
        let mut recent = Recent::default();
        let mac = |number: usize| (number as u128).to_le_bytes();
        for number in 0..RECENT_MAX + 10 {
            recent.insert(mac(number));
            recent.insert(mac(number));
        }
        assert_eq!(
            (recent.known.len(), recent.order.len()),
            (RECENT_MAX, RECENT_MAX)
        );
        assert!(!recent.contains(&mac(9)) && recent.contains(&mac(10)));
    }
}
