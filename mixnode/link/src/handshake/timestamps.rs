//! Timestamps of initiations: strictly increasing per peer, so that a recorded initiation opens nothing.

use alloc::collections::{BTreeMap, BTreeSet};

use super::HandshakeError;

/// How far an initiation's timestamp may be from the responder's clock, in milliseconds. It bounds how long a peer
/// must be remembered, and what a restarted responder, which remembers nobody, can be replayed.
pub const CLOCK_TOLERANCE_MS: u64 = 180_000;

/// How many peers a responder remembers. A full table refuses new peers and keeps those it knows: forgetting one
/// would open it to replays.
pub const TIMESTAMPS_MAX: usize = 1 << 16;

/// Gives an initiator timestamps that strictly increase, also when its clock stands still or steps back. One for each
/// static key: every session of that key draws from it.
#[derive(Clone, Debug, Default)]
pub struct TimestampSource {
    last_ms: u64,
}

impl TimestampSource {
    /// A timestamp in milliseconds of Unix time: the clock, or one more than the last.
    pub fn next(&mut self, unix_ms: u64) -> u64 {
        self.last_ms = unix_ms.max(self.last_ms.saturating_add(1));
        self.last_ms
    }
}

/// The last timestamp of each peer that was within the clock's tolerance.
pub(super) struct Timestamps {
    last: BTreeMap<[u8; 32], u64>,
    /// The same pairs by age, to forget the expired ones in order.
    by_age: BTreeSet<(u64, [u8; 32])>,
    capacity: usize,
}

impl Timestamps {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            last: BTreeMap::new(),
            by_age: BTreeSet::new(),
            capacity,
        }
    }

    /// Whether this authenticated timestamp opens a session; remembers it if so.
    pub(super) fn admit(
        &mut self,
        peer: &[u8; 32],
        timestamp: u64,
        unix_ms: u64,
    ) -> Result<(), HandshakeError> {
        if timestamp.abs_diff(unix_ms) > CLOCK_TOLERANCE_MS {
            return Err(HandshakeError::Clock);
        }
        self.forget_expired(unix_ms);
        match self.last.get(peer) {
            Some(&last) if timestamp <= last => return Err(HandshakeError::Replayed),
            Some(&last) => {
                self.by_age.remove(&(last, *peer));
            }
            None if self.last.len() >= self.capacity => return Err(HandshakeError::PeersFull),
            None => {}
        }
        self.last.insert(*peer, timestamp);
        self.by_age.insert((timestamp, *peer));
        Ok(())
    }

    /// Drops peers whose last timestamp the clock check alone would refuse by now.
    fn forget_expired(&mut self, unix_ms: u64) {
        while let Some(&(timestamp, peer)) = self.by_age.first() {
            if timestamp.saturating_add(CLOCK_TOLERANCE_MS) >= unix_ms {
                return;
            }
            self.by_age.pop_first();
            self.last.remove(&peer);
        }
    }
}
