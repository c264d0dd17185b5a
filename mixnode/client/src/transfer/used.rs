//! What was taken once: sealed bodies and sessions, remembered for as long as they could come again.
//!
//! A gateway that delivers a key request twice would see the same packet answer it twice, and a session that is started
//! again would take its packets again. Every sealed body names its epoch and is taken in that one and the two beside
//! it, so three epochs are remembered; across restarts too, by the [`Storage`]. Which one was forgotten is remembered as
//! well: the clock may be put back.
//!
//! Whoever has the address can fill what is remembered, and what is full takes nothing more. So nothing is taken faster
//! than an epoch's length allows, with a budget of its own for each of the three epochs that can be named: a flood then
//! has its share of what is taken and no more, others have theirs all the time, and what it says of the next epoch costs
//! nobody anything in this one. Sessions that have been started need none of this.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::bucket::Bucket;
use crate::store::{Once, Storage};

/// Marks remembered an epoch. A recipient who has taken so many takes nothing sealed of that epoch any more: who
/// forgot some instead could be made to take one again. Only restarts, which fill the buckets, and clocks that are put
/// back let it come to this.
const MARKS_MAX: usize = 1 << 18;
/// Of these, what is taken while the epoch is the next one, this one and the one before: nobody whose clock is right
/// names another one than this but at its turn.
const SHARES: [u32; 3] = [
    MARKS_MAX as u32 / 8,
    MARKS_MAX as u32 * 6 / 8,
    MARKS_MAX as u32 / 8,
];
/// Of each share, what can be taken at once.
pub(super) const AT_ONCE: u32 = 2_048;
const MARK_BYTES: usize = 8;

const _: () = assert!(SHARES[0] + SHARES[1] + SHARES[2] == MARKS_MAX as u32);
const _: () = assert!(SHARES[0] > AT_ONCE && SHARES[1] > AT_ONCE && SHARES[2] > AT_ONCE);

/// Names what was used.
pub(crate) type Mark = [u8; MARK_BYTES];

/// The marks of the epochs that can come again, and what the storage knows of them beyond a restart.
pub(super) struct Marks {
    of: Once,
    marks: BTreeMap<u32, HashSet<Mark>>,
    /// The highest epoch of which marks were forgotten: a clock that is put back makes it no empty one.
    forgotten: Option<u32>,
}

impl Marks {
    /// What the storage remembers from before.
    pub(super) fn load(of: Once, storage: &mut dyn Storage) -> Self {
        let mut marks: BTreeMap<u32, HashSet<Mark>> = BTreeMap::new();
        for (epoch, mark) in storage.remembered(of) {
            marks.entry(epoch).or_default().insert(mark);
        }
        Self {
            of,
            marks,
            forgotten: storage.forgotten(of),
        }
    }

    /// Those of epochs below `oldest` are needed no more. The storage is told elsewhere.
    pub(super) fn forget_before(&mut self, oldest: u32) {
        let kept = self.marks.split_off(&oldest);
        let old = std::mem::replace(&mut self.marks, kept);
        let old = old.into_iter().filter(|(_, marks)| !marks.is_empty());
        let highest = old.map(|(epoch, _)| epoch).max();
        self.forgotten = self.forgotten.max(highest);
    }

    /// Whether marks of this epoch or a later one were forgotten.
    pub(super) fn is_forgotten(&self, epoch: u32) -> bool {
        self.forgotten.is_some_and(|forgotten| epoch <= forgotten)
    }

    pub(super) fn contains(&self, epoch: u32, mark: &Mark) -> bool {
        let marks = self.marks.get(&epoch);
        marks.is_some_and(|marks| marks.contains(mark))
    }

    fn count(&self, epoch: u32) -> usize {
        self.marks.get(&epoch).map_or(0, HashSet::len)
    }

    /// # Errors
    /// The storage can't remember it: what it stands for must not be used then.
    pub(super) fn insert(
        &mut self,
        epoch: u32,
        mark: Mark,
        storage: &mut dyn Storage,
    ) -> io::Result<()> {
        storage.remember(self.of, epoch, &mark)?;
        self.marks.entry(epoch).or_default().insert(mark);
        Ok(())
    }
}

/// Of sealed bodies and sessions.
pub(crate) struct Used {
    /// The epoch of now; nothing is taken before it is known.
    now: Option<u32>,
    marks: Marks,
    /// For what names the epoch before, this one, the next one.
    budgets: [Bucket; 3],
}

impl Used {
    /// What the storage remembers from before, with epochs of this length.
    pub(crate) fn load(storage: &mut dyn Storage, epoch_ms: u64) -> Self {
        let budget = |share: u32| Bucket::over_an_epoch((AT_ONCE, share), epoch_ms);
        Self {
            now: None,
            marks: Marks::load(Once::Body, storage),
            budgets: SHARES.map(budget),
        }
    }

    /// The epoch of now: what is older than the one before is forgotten.
    pub(crate) fn turn(&mut self, now: u32, storage: &mut dyn Storage) {
        let before = self.now.replace(now);
        if before.is_none_or(|before| before < now) {
            let oldest = now.saturating_sub(1);
            self.marks.forget_before(oldest);
            storage.forget_before(oldest);
        }
    }

    /// Whether it was used.
    pub(crate) fn contains(&self, epoch: u32, what: &[u8]) -> bool {
        self.marks.contains(epoch, &mark(what))
    }

    /// Uses something; `false` if it was used before, is of another time, or too much was used lately.
    ///
    /// # Errors
    /// The storage can't remember it: it must not be taken then.
    pub(crate) fn insert(
        &mut self,
        epoch: u32,
        what: &[u8],
        now_ns: u64,
        storage: &mut dyn Storage,
    ) -> io::Result<bool> {
        if self.marks.is_forgotten(epoch) {
            return Ok(false);
        }
        let before = self.now.map(|now| i64::from(now) - 1);
        let ahead = before.and_then(|before| usize::try_from(i64::from(epoch) - before).ok());
        let Some(budget) = ahead.and_then(|ahead| self.budgets.get_mut(ahead)) else {
            return Ok(false);
        };
        let (marks, mark) = (&mut self.marks, mark(what));
        let is_over = marks.contains(epoch, &mark) || marks.count(epoch) >= MARKS_MAX;
        if is_over || !budget.take(now_ns) {
            return Ok(false);
        }
        marks.insert(epoch, mark, storage)?;
        Ok(true)
    }
}

pub(super) fn mark(what: &[u8]) -> Mark {
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&blake3::hash(what).as_bytes()[..MARK_BYTES]);
    mark
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::store::MemoryStorage;

    const EPOCH_MS: u64 = 1_200_000;
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_remembered_is_bounded_by_epochs_and_by_number_and_the_bound_refuses() {
        let storage = &mut MemoryStorage::new(0);
        for number in 0..MARKS_MAX as u64 - 1 {
            storage
                .remember(Once::Body, 7, &mark(&number.to_le_bytes()))
                .unwrap();
        }
        let mut used = Used::load(storage, EPOCH_MS);
        assert!(!used.insert(7, b"early", 0, storage).unwrap());
        used.turn(7, storage);
        assert!(!used.insert(7, &[0; 8], 0, storage).unwrap());
        assert!(used.insert(7, b"last", 0, storage).unwrap());
        assert!(!used.insert(7, b"more", 0, storage).unwrap());
        for (epoch, taken) in [(5, false), (6, true), (8, true), (9, false)] {
            assert_eq!(used.insert(epoch, b"one", 0, storage).unwrap(), taken);
            assert!(!used.insert(epoch, b"one", 0, storage).unwrap());
        }
        used.turn(9, storage);
        assert_eq!(used.marks.marks.keys().copied().collect::<Vec<_>>(), [8]);
        assert_eq!(storage.remembered(Once::Body).len(), 1);
        let mut again = Used::load(storage, EPOCH_MS);
        again.turn(9, storage);
        assert!(!again.insert(8, b"one", 0, storage).unwrap());
    }

    #[test]
    fn what_is_taken_in_all_the_time_that_an_epoch_can_be_named_fits_the_bound() {
        let storage = &mut MemoryStorage::new(0);
        let mut used = Used::load(storage, EPOCH_MS);
        let mut taken = 0;
        for second in 0..3 * EPOCH_MS / 1_000 {
            used.turn(6 + (second * 1_000 / EPOCH_MS) as u32, storage);
            for number in 0..250 {
                let what = (second * 1_000 + number).to_le_bytes();
                taken += usize::from(used.insert(7, &what, second * SECOND, storage).unwrap());
            }
        }
        assert!((MARKS_MAX * 9 / 10..=MARKS_MAX).contains(&taken), "{taken}");
    }

    #[test]
    fn attack_a_clock_that_jumps_ahead_and_comes_back_lets_nothing_come_again() {
        let storage = &mut MemoryStorage::new(0);
        let mut used = Used::load(storage, EPOCH_MS);
        used.turn(7, storage);
        for (epoch, what) in [(7, b"one"), (8, b"two")] {
            assert!(used.insert(epoch, what, 0, storage).unwrap());
        }
        used.turn(1_000, storage);
        used.turn(7, storage);
        let mut again = Used::load(storage, EPOCH_MS);
        again.turn(7, storage);
        let twice = [&mut used, &mut again].map(|used| {
            [(7, b"one"), (8, b"two")]
                .map(|(epoch, what)| used.insert(epoch, what, 0, storage).unwrap())
        });
        println!("taken twice, by this process and the next: {twice:?}");
        assert_eq!(twice, [[false; 2]; 2]);
        // Of what was forgotten nothing comes again; what comes after it is taken.
        used.turn(8, storage);
        assert!(used.insert(9, b"three", 0, storage).unwrap());
    }

    /// 400 a second is what a client of 320 slots a second can be sent.
    #[test]
    fn a_stranger_who_floods_two_epochs_with_sealed_bodies_shuts_nobody_out() {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let storage = &mut MemoryStorage::new(0);
        let mut used = Used::load(storage, EPOCH_MS);
        let mut number = 0u64;
        let mut insert = |epoch, now_ns| {
            number += 1;
            used.turn(7 + (now_ns / (EPOCH_MS * 1_000_000)) as u32, storage);
            let what = number.to_le_bytes();
            used.insert(epoch, &what, now_ns, storage).unwrap()
        };
        let mut shares = Vec::new();
        for epoch in [7, 8] {
            for quarter in 0..4 {
                let mut taken = 0;
                for second in 0..300 {
                    let start_ns = (u64::from(epoch - 7) * 1_200 + quarter * 300 + second) * SECOND;
                    let other_ns = start_ns + rng.next_u64() % SECOND;
                    for of_flood in 0..200 {
                        let now_ns = start_ns + of_flood * SECOND / 200;
                        if (now_ns..now_ns + SECOND / 200).contains(&other_ns) {
                            taken += u32::from(insert(epoch, other_ns));
                        }
                        insert(epoch, now_ns + SECOND / 200);
                        insert(epoch + 1, now_ns + SECOND / 200);
                    }
                }
                shares.push(taken);
            }
        }
        println!("of 300 bodies of others in each quarter of two epochs were taken: {shares:?}");
        assert!(shares.iter().all(|taken| *taken > 75));
    }
}
