//! Reply blocks that were used: each is used once, in whatever requests it comes.
//!
//! A correspondent who sends one block twice, or two with one header, would get two packets that begin with the same
//! bytes: nodes on the way would know them again, and the second would end at the first of them as a replay.

use std::io;

use sphinx::{KEM_BYTES, Surb};

use crate::store::{Once, Storage};
use crate::transfer::used::{self, Mark, Marks};

/// Where a block's header begins, and with it the ciphertext that no two packets may share.
const CIPHERTEXT_OFFSET: usize = 4 + 2;

/// The blocks that this client has used of this epoch and the one before, in this process or an earlier one: one a slot at
/// most, so that the slots of two epochs bound them.
pub(super) struct UsedBlocks(Marks);

impl UsedBlocks {
    /// What the storage remembers from before.
    pub(super) fn load(storage: &mut dyn Storage) -> Self {
        Self(Marks::load(Once::Block, storage))
    }

    /// The epoch of now: blocks of those before the last are never used again.
    pub(super) fn turn(&mut self, now: u32) {
        self.0.forget_before(now.saturating_sub(1));
    }

    /// Whether it was used, or may have been.
    pub(super) fn contains(&self, surb: &Surb) -> bool {
        self.0.is_forgotten(surb.epoch()) || self.0.contains(surb.epoch(), &mark(surb))
    }

    /// Uses it; `false` if it was used before. It is remembered before it is used.
    ///
    /// # Errors
    /// The storage can't remember it: it must not be used then.
    pub(super) fn insert(&mut self, surb: &Surb, storage: &mut dyn Storage) -> io::Result<bool> {
        let is_new = !self.contains(surb);
        if is_new {
            self.0.insert(surb.epoch(), mark(surb), storage)?;
        }
        Ok(is_new)
    }
}

/// By the ciphertext alone: whatever else is changed in a block, its packet begins with it.
fn mark(surb: &Surb) -> Mark {
    let ciphertext = surb.as_bytes().iter().skip(CIPHERTEXT_OFFSET);
    let ciphertext: Vec<u8> = ciphertext.take(KEM_BYTES).copied().collect();
    used::mark(&ciphertext)
}
