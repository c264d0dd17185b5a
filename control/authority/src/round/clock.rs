//! Whether this authority's clock is one to vote by, and which round it says it is.

use std::collections::BTreeMap;

use directory::Parameters;

use super::{VOTE, round_ms};

/// How far the others' clocks are ahead of this one, milliseconds.
#[derive(Debug, Default)]
pub(super) struct Offsets(BTreeMap<[u8; 32], i64>);

impl Offsets {
    pub(super) fn insert(&mut self, from: [u8; 32], ahead_ms: i64) {
        self.0.insert(from, ahead_ms);
    }

    /// How far the median of all clocks that are known, this one among them, is ahead of this one. Of two middle values
    /// the nearer to this clock counts: a liar may hide that a clock is wrong, which is one fault more, and can't talk a
    /// right one out of its vote.
    pub(super) fn median_ms(&self) -> i64 {
        let mut all: Vec<i64> = self.0.values().copied().chain([0]).collect();
        all.sort_unstable();
        let upper = all.get(all.len() / 2).copied().unwrap_or(0);
        let lower = all.get((all.len() - 1) / 2).copied().unwrap_or(0);
        match lower.unsigned_abs() <= upper.unsigned_abs() {
            true => lower,
            false => upper,
        }
    }
}

/// Which round of the relaying it is, so long after an epoch's beginning; what comes before the first counts as of it.
pub(super) fn relay_round(elapsed_ms: u64, parameters: &Parameters) -> u8 {
    let passed = elapsed_ms / round_ms(parameters).max(1);
    u8::try_from((passed + 1).saturating_sub(VOTE))
        .unwrap_or(u8::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(others: &[i64]) -> i64 {
        let mut offsets = Offsets::default();
        for (number, ahead_ms) in (0..).zip(others) {
            offsets.insert([number; 32], *ahead_ms);
        }
        offsets.median_ms()
    }

    #[test]
    fn a_clock_is_measured_by_the_median_of_all_its_own_among_them() {
        assert_eq!(median(&[]), 0);
        // Of two nobody knows who is right.
        assert_eq!(median(&[10_000]), 0);
        // One liar of three talks no right clock out.
        assert_eq!(median(&[-90_000, 3]), 0);
        // A wrong one sees two that agree.
        assert_eq!(median(&[9_000, 9_001]), 9_000);
        // Two of five may lie.
        assert_eq!(median(&[90_000, 80_000, -1, 2]), 2);
        assert_eq!(median(&[-90_000, -80_000, -1, 2]), -1);
        // Of two middle values the nearer to this clock.
        assert_eq!(median(&[5_000, 5_000, -3]), 0);
        assert_eq!(median(&[i64::MIN, i64::MAX, i64::MIN]), 0);
    }
}
