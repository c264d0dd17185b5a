//! What the authorities' answers say of their clocks.

use std::collections::BTreeMap;

use super::Follower;
use crate::clock::Reading;
use crate::http::client::{Answered, AskError};

/// By authority what it said of its clock when it last answered.
pub(super) type Clocks = BTreeMap<[u8; 32], Reading>;

impl Follower {
    /// Keeps in mind what an authority says of its clock; of one that is not reached, nothing.
    pub(super) fn hear(&mut self, authority: &[u8; 32], said: &Result<Answered, AskError>) {
        let clock = match said {
            Ok(Answered { clock, .. }) | Err(AskError::Refused { clock, .. }) => *clock,
            Err(AskError::Network(_) | AskError::Slow) => None,
        };
        match clock {
            Some(clock) => self.clocks.insert(*authority, clock),
            None => self.clocks.remove(authority),
        };
        self.board.hear(self.clocks.values().copied().collect());
    }
}
