//! What the authorities' answers say of their clocks.

use std::collections::BTreeMap;

use super::Follower;
use crate::api::shapes::Clock;
use crate::clock::{Reading, boot_ms, medians_ms, unix_ms};
use crate::http::client::{Answered, AskError};

/// By how much more the clock here can't move against the one that nobody sets without having been set.
const SET_MS: u64 = 1_000;

/// What authorities said of their clocks.
#[derive(Default)]
pub(super) struct Clocks {
    /// By authority, when it last answered.
    pub(super) said: BTreeMap<[u8; 32], Reading>,
    /// When they were last asked for that alone: by the clock that nobody sets, and how far the wall clock was ahead of it.
    pub(super) asked: Option<(i64, i64)>,
}

impl Follower {
    /// Keeps in mind what an authority says of its clock; of one that is not reached, nothing.
    pub(super) fn hear(&mut self, authority: &[u8; 32], said: &Result<Answered, AskError>) {
        let clock = match said {
            Ok(Answered { clock, .. }) | Err(AskError::Refused { clock, .. }) => *clock,
            Err(AskError::Network(_) | AskError::Slow) => None,
        };
        match clock {
            Some(clock) => self.clocks.said.insert(*authority, clock),
            None => self.clocks.said.remove(authority),
        };
        let now = self.chain.parameters().epoch_at(unix_ms());
        let set = self.authorities(now.saturating_add(1)).into_iter();
        let said = set.map(|member| self.clocks.said.get(&member.key).copied());
        self.board.hear(said.collect());
    }

    /// Whether to ask them again, a round after the last time: the clock here was set since, or is said to be off. One that
    /// runs faster until it is right does not move against the other one, which runs as fast.
    pub(super) fn doubts_clock(&mut self) -> bool {
        let (unix_ms, boot_ms) = (unix_ms(), boot_ms());
        let here_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX) - boot_ms;
        let (asked_ms, was_ms) = *self.clocks.asked.get_or_insert((boot_ms, here_ms));
        let round_ms = self.chain.parameters().round_ms();
        if boot_ms.abs_diff(asked_ms) < round_ms {
            return false;
        }
        let medians = medians_ms(&self.board.read().clocks, unix_ms, boot_ms);
        let is_told = medians.is_some_and(|medians| Clock::of(medians, round_ms).is_told());
        let doubts = is_told || here_ms.abs_diff(was_ms) > SET_MS;
        if doubts {
            self.clocks.asked = Some((boot_ms, here_ms));
        }
        doubts
    }
}
