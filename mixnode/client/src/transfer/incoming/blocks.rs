//! Reply blocks that were used: each is used once, in whatever requests it comes.
//!
//! A correspondent who sends one block twice, or two with one header, would get two packets that begin with the same
//! bytes: nodes on the way would know them again, and the second would end at the first of them as a replay.

use std::collections::{BTreeMap, HashSet};

use sphinx::{KEM_BYTES, Surb};

/// Where a block's header begins, and with it the ciphertext that no two packets may share.
const CIPHERTEXT_OFFSET: usize = 4 + 2;
const MARK_BYTES: usize = 8;

type Mark = [u8; MARK_BYTES];

/// The blocks that this process has used of this epoch and the one before: one a slot at most, so that the slots of two
/// epochs bound them.
#[derive(Default)]
pub(super) struct UsedBlocks(BTreeMap<u32, HashSet<Mark>>);

impl UsedBlocks {
    /// The epoch of now: blocks of those before the last are never used again.
    pub(super) fn turn(&mut self, now: u32) {
        self.0.retain(|epoch, _| *epoch >= now.saturating_sub(1));
    }

    /// Whether it was used.
    pub(super) fn contains(&self, surb: &Surb) -> bool {
        let used = self.0.get(&surb.epoch());
        used.is_some_and(|used| used.contains(&mark(surb)))
    }

    /// Uses it; `false` if it was used before.
    pub(super) fn insert(&mut self, surb: &Surb) -> bool {
        self.0.entry(surb.epoch()).or_default().insert(mark(surb))
    }
}

/// By the ciphertext alone: whatever else is changed in a block, its packet begins with it.
fn mark(surb: &Surb) -> Mark {
    let ciphertext = surb.as_bytes().iter().skip(CIPHERTEXT_OFFSET);
    let ciphertext: Vec<u8> = ciphertext.take(KEM_BYTES).copied().collect();
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&blake3::hash(&ciphertext).as_bytes()[..MARK_BYTES]);
    mark
}
