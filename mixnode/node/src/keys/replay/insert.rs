//! The insert, which relies on memory order. The model checker's crate compiles this file over atomics of its own.

use super::{AtomicU64, Ordering};

/// Why a packet is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayRefusal {
    /// The tag was inserted before.
    #[error("a packet with this tag was seen before")]
    Seen,
    /// No slot is left for this tag. The packet may be fresh; letting it through would let its replay through too.
    #[error("the replay table has no room for this tag")]
    Full,
}

/// Walks one probe sequence: finds the fingerprint, or takes the first empty slot in one compare-and-swap.
///
/// Relaxed order is enough: the fingerprint is the whole message, and compare-and-swap on one location is totally
/// ordered by itself.
///
/// # Errors
/// [`ReplayRefusal::Seen`] where the fingerprint was there, [`ReplayRefusal::Full`] where no slot is left.
pub fn insert_if_absent<'a>(
    sequence: impl Iterator<Item = &'a AtomicU64>,
    fingerprint: u64,
) -> Result<(), ReplayRefusal> {
    for slot in sequence {
        let mut present = slot.load(Ordering::Relaxed);
        if present == 0 {
            match slot.compare_exchange(0, fingerprint, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(winner) => present = winner,
            }
        }
        if present == fingerprint {
            return Err(ReplayRefusal::Seen);
        }
    }
    Err(ReplayRefusal::Full)
}
