//! Replay tables are made resident before their epoch begins, so that no worker has to: a few pieces in each round of
//! the control loop, which has other things to do.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::keys::epoch::EpochState;

/// Pieces of 4 MiB touched in one round: some milliseconds.
const PIECES_A_ROUND: usize = 8;
/// A table is touched ahead if it takes at most one part in this many of the memory that was free at the start. Three
/// may live at once.
const MEMORY_SHARE: u64 = 8;

/// The memory that could be had now without swapping, bytes; `None` where the system does not tell.
pub(super) fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What is still to be touched.
pub(super) struct Touching {
    /// Largest table that is touched, bytes.
    limit_bytes: Option<u64>,
    /// The epochs do not live longer for it: their keys die on time.
    left: VecDeque<(Weak<EpochState>, usize)>,
}

impl Touching {
    /// Touches tables that fit a machine with `available_bytes` to spare; none if that is not known.
    pub(super) fn new(available_bytes: Option<u64>) -> Touching {
        Touching {
            limit_bytes: available_bytes.map(|bytes| bytes / MEMORY_SHARE),
            left: VecDeque::new(),
        }
    }

    /// Has the tables of `states` touched in the rounds that come.
    pub(super) fn add(&mut self, states: &[Arc<EpochState>]) {
        for state in states {
            let Some(own) = state.own() else { continue };
            let bytes = own.replay.bytes() as u64;
            // Unknown, or not wanted: nothing is done and there is nothing to say.
            let Some(limit_bytes) = self.limit_bytes else {
                continue;
            };
            if bytes <= limit_bytes {
                self.left.push_back((Arc::downgrade(state), 0));
            } else {
                tracing::warn!(
                    epoch = state.epoch(),
                    bytes,
                    limit_bytes,
                    "the replay table is too large for this machine's memory to be touched ahead: its pages come as \
                     packets do"
                );
            }
        }
    }

    /// Goes on for one round.
    pub(super) fn round(&mut self) {
        for _ in 0..PIECES_A_ROUND {
            let Some((weak, from)) = self.left.front_mut() else {
                return;
            };
            let state = weak.upgrade();
            let Some(own) = state.as_ref().and_then(|state| state.own()) else {
                self.left.pop_front();
                continue;
            };
            let (epoch, bytes) = (
                state.as_ref().map(|state| state.epoch()),
                own.replay.bytes(),
            );
            match own.replay.touch(*from) {
                Ok(Some(next)) => {
                    *from = next;
                    continue;
                }
                Ok(None) => tracing::info!(
                    epoch,
                    bytes,
                    huge_pages = own.replay.is_huge(),
                    locked = own.replay.is_locked(),
                    "the replay table is in memory"
                ),
                Err(error) => tracing::warn!(
                    epoch,
                    bytes,
                    %error,
                    "the replay table can't be made resident ahead: the first packets of the epoch take longer"
                ),
            }
            self.left.pop_front();
        }
    }
}
