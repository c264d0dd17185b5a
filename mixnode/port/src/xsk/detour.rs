//! How much may come through the kernel's socket although the program steers.
//!
//! The program has limited by source what it steered, and the kernel's socket gets what it passed: what it could not
//! read as ours and the kernel could. Nothing honest comes that way, but for what arrived before packets were steered.

use ebpf_abi::{Bucket, Rate};

/// A full socket from before packets were steered, and then a thousand a second: less than a twentieth of a core.
const RATE: Rate = Rate::new(1_000, 2_048);
/// After so many rounds of housekeeping without a packet from the rings, a few seconds, nothing is steered here: what
/// comes through the kernel's socket is all there is, and is not limited.
const SILENT_ROUNDS: u32 = 16;

/// A token bucket, in force while packets come through the rings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Detour {
    bucket: Bucket,
    silent_rounds: u32,
    /// Packets from the rings, as of the last round.
    received: u64,
}

impl Detour {
    /// How many of `came` datagrams may go on.
    pub(super) fn admit(&mut self, now_ns: u64, came: usize) -> usize {
        if self.silent_rounds >= SILENT_ROUNDS {
            return came;
        }
        let bucket = &mut self.bucket;
        (0..came).take_while(|_| bucket.take(now_ns, &RATE)).count()
    }

    /// A round of housekeeping: the rings have brought `received` packets so far.
    pub(super) fn note(&mut self, received: u64) {
        self.silent_rounds = match received == self.received {
            true => self.silent_rounds.saturating_add(1),
            false => 0,
        };
        self.received = received;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socketful_may_come_at_once_and_a_thousand_a_second_after_it() {
        let (mut detour, start) = (Detour::default(), 1 << 40);
        let socketful: usize = (0..100).map(|_| detour.admit(start, 64)).sum();
        assert_eq!(socketful, 2_048);
        let later: usize = (1..=1_000)
            .map(|ms| detour.admit(start + ms * 1_000_000, 64))
            .sum();
        assert_eq!(later, 1_000);
    }

    #[test]
    fn a_node_that_nothing_is_steered_to_is_not_limited_until_something_is() {
        let (mut detour, now) = (Detour::default(), 1 << 40);
        detour.note(7);
        (0..SILENT_ROUNDS - 1).for_each(|_| detour.note(7));
        assert_eq!(detour.admit(now, 4_096), 2_048);
        detour.note(7);
        assert_eq!(detour.admit(now, 4_096), 4_096);
        detour.note(8);
        assert_eq!(detour.admit(now, 4_096), 0);
    }
}
