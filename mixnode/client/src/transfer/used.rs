//! What was taken once: sealed bodies and sessions, remembered for as long as they could come again.
//!
//! A gateway that delivers a key request twice would see the same packet answer it twice, and a session that is started
//! again would take its packets again. Every sealed body names its epoch and is taken in that one and the two beside
//! it, so three epochs are remembered; across restarts too, by the [`Storage`].

use std::collections::{BTreeMap, HashSet};
use std::io;

use crate::store::Storage;

/// Marks remembered an epoch. A recipient who has taken so many takes nothing sealed of that epoch any more: who
/// forgot some instead could be made to take one again.
pub(super) const MARKS_MAX: usize = 1 << 17;
const MARK_BYTES: usize = 8;

/// Names what was used.
pub(crate) type Mark = [u8; MARK_BYTES];

/// The marks of the epochs that can come again.
#[derive(Default)]
pub(crate) struct Used {
    /// The epoch of now; nothing is taken before it is known.
    now: Option<u32>,
    marks: BTreeMap<u32, HashSet<Mark>>,
}

impl Used {
    /// What the storage remembers from before.
    pub(crate) fn load(storage: &mut dyn Storage) -> Self {
        let mut marks: BTreeMap<u32, HashSet<Mark>> = BTreeMap::new();
        for (epoch, mark) in storage.remembered() {
            marks.entry(epoch).or_default().insert(mark);
        }
        Self { now: None, marks }
    }

    /// The epoch of now: what is older than the one before is forgotten.
    pub(crate) fn turn(&mut self, now: u32, storage: &mut dyn Storage) {
        let before = self.now.replace(now);
        if before.is_none_or(|before| before < now) {
            let oldest = now.saturating_sub(1);
            self.marks = self.marks.split_off(&oldest);
            storage.forget_before(oldest);
        }
    }

    /// Whether something of this epoch can be taken now.
    pub(crate) fn is_of_now(&self, epoch: u32) -> bool {
        self.now.is_some_and(|now| now.abs_diff(epoch) <= 1)
    }

    /// Whether it was used.
    pub(crate) fn contains(&self, epoch: u32, what: &[u8]) -> bool {
        let marks = self.marks.get(&epoch);
        marks.is_some_and(|marks| marks.contains(&mark(what)))
    }

    /// Uses something; `false` if it was used before, is of another time, or too much was used.
    ///
    /// # Errors
    /// The storage can't remember it: it must not be taken then.
    pub(crate) fn insert(
        &mut self,
        epoch: u32,
        what: &[u8],
        storage: &mut dyn Storage,
    ) -> io::Result<bool> {
        if !self.is_of_now(epoch) {
            return Ok(false);
        }
        let (marks, mark) = (self.marks.entry(epoch).or_default(), mark(what));
        if marks.len() >= MARKS_MAX || marks.contains(&mark) {
            return Ok(false);
        }
        storage.remember(epoch, &mark)?;
        marks.insert(mark);
        Ok(true)
    }
}

fn mark(what: &[u8]) -> Mark {
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&blake3::hash(what).as_bytes()[..MARK_BYTES]);
    mark
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStorage;

    #[test]
    fn what_is_remembered_is_bounded_by_epochs_and_by_number_and_the_bound_refuses() {
        let storage = &mut MemoryStorage::new(0);
        let mut used = Used::load(storage);
        assert!(!used.insert(7, b"early", storage).unwrap());
        used.turn(7, storage);
        for number in 0..MARKS_MAX as u64 + 5 {
            let taken = used.insert(7, &number.to_le_bytes(), storage).unwrap();
            assert_eq!(taken, number < MARKS_MAX as u64);
        }
        for (epoch, taken) in [(5, false), (6, true), (8, true), (9, false)] {
            assert_eq!(used.insert(epoch, b"one", storage).unwrap(), taken);
            assert!(!used.insert(epoch, b"one", storage).unwrap());
        }
        used.turn(9, storage);
        assert_eq!(used.marks.keys().copied().collect::<Vec<_>>(), [8]);
        assert_eq!(storage.remembered().len(), 1);
        let mut again = Used::load(storage);
        again.turn(9, storage);
        assert!(!again.insert(8, b"one", storage).unwrap());
    }
}
