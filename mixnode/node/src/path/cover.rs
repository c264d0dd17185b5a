//! Cover traffic of a node: loops, which come back and measure loss and delay, and packets that end in nothing.

use arrayvec::ArrayVec;
use rand_core::CryptoRng;
use sphinx::Id;

/// Loops waited for at once; more are sent only when one came back or was given up.
const OUTSTANDING_MAX: usize = 256;

struct Outstanding {
    id: Id,
    sent_ns: u64,
    link: u16,
}

/// Timers of a worker's cover traffic and the loops it waits for.
pub struct Cover {
    loop_mean_ns: u64,
    drop_mean_ns: u64,
    loop_at_ns: u64,
    drop_at_ns: u64,
    outstanding: ArrayVec<Outstanding, OUTSTANDING_MAX>,
    loops: LoopCounts,
}

/// What became of loops: sent = returned + lost + waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCounts {
    /// Sent.
    pub sent: u64,
    /// Come back.
    pub returned: u64,
    /// Given up.
    pub lost: u64,
}

/// Which cover packet is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoverKind {
    /// One that comes back here.
    Loop,
    /// One that the last hop drops.
    Drop,
}

impl Cover {
    /// Cover with these mean intervals; 0 means none of the kind. The first is due after one interval.
    pub fn new<R: CryptoRng + ?Sized>(
        loop_mean_ns: u64,
        drop_mean_ns: u64,
        now_ns: u64,
        rng: &mut R,
    ) -> Cover {
        let first = |mean_ns, rng: &mut R| {
            if mean_ns == 0 {
                u64::MAX
            } else {
                now_ns + exponential_ns(mean_ns, rng)
            }
        };
        Cover {
            loop_mean_ns,
            drop_mean_ns,
            loop_at_ns: first(loop_mean_ns, rng),
            drop_at_ns: first(drop_mean_ns, rng),
            outstanding: ArrayVec::new(),
            loops: LoopCounts::default(),
        }
    }

    /// When the next cover packet is due.
    pub fn deadline_ns(&self) -> Option<u64> {
        Some(self.loop_at_ns.min(self.drop_at_ns)).filter(|at_ns| *at_ns != u64::MAX)
    }

    /// The cover packet that is due, and draws the time of the next of its kind. Intervals missed are skipped: a
    /// burst after a pause would show the pause.
    pub fn due<R: CryptoRng + ?Sized>(&mut self, now_ns: u64, rng: &mut R) -> Option<CoverKind> {
        let (kind, at_ns, mean_ns) = if self.loop_at_ns <= self.drop_at_ns {
            (CoverKind::Loop, &mut self.loop_at_ns, self.loop_mean_ns)
        } else {
            (CoverKind::Drop, &mut self.drop_at_ns, self.drop_mean_ns)
        };
        if *at_ns > now_ns {
            return None;
        }
        let start_ns = if now_ns - *at_ns > mean_ns {
            now_ns
        } else {
            *at_ns
        };
        *at_ns = start_ns + exponential_ns(mean_ns, rng);
        Some(kind)
    }

    /// Whether another loop can be waited for.
    pub fn has_room(&self) -> bool {
        !self.outstanding.is_full()
    }

    /// A loop left through `link`.
    pub fn sent(&mut self, id: Id, link: u16, sent_ns: u64) {
        let _ = self.outstanding.try_push(Outstanding { id, sent_ns, link });
        self.loops.sent += 1;
    }

    /// What became of the loops so far.
    pub fn loops(&self) -> LoopCounts {
        self.loops
    }

    /// A loop came back: the link it left through and its round trip. `None` if it was given up or is not ours.
    pub fn returned(&mut self, id: &Id, now_ns: u64) -> Option<(u16, u64)> {
        let position = self.outstanding.iter().position(|one| one.id == *id)?;
        let one = self.outstanding.swap_remove(position);
        self.loops.returned += 1;
        Some((one.link, now_ns.saturating_sub(one.sent_ns)))
    }

    /// Gives up loops sent more than `patience_ns` ago; `lost` gets the link of each.
    pub fn give_up(&mut self, now_ns: u64, patience_ns: u64, mut lost: impl FnMut(u16)) {
        self.outstanding.retain(|one| {
            let waiting = now_ns.saturating_sub(one.sent_ns) <= patience_ns;
            if !waiting {
                self.loops.lost += 1;
                lost(one.link);
            }
            waiting
        });
    }
}

/// An exponential interval with this mean, at least a nanosecond: the gaps of a Poisson process.
pub fn exponential_ns<R: CryptoRng + ?Sized>(mean_ns: u64, rng: &mut R) -> u64 {
    // 53 random bits in (0, 1]: the logarithm is finite.
    let uniform = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    ((-uniform.ln() * mean_ns as f64) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn cover_keeps_its_mean_rate_and_skips_missed_intervals() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let mut cover = Cover::new(1_000_000, 0, 0, &mut rng);
        let mut sent = 0;
        for now_ns in (0..10_000_000_000u64).step_by(100_000) {
            while cover.due(now_ns, &mut rng) == Some(CoverKind::Loop) {
                sent += 1;
            }
        }
        assert!((9_500..10_500).contains(&sent), "{sent}");
        let mut after_pause = 0;
        while cover.due(3_600_000_000_000, &mut rng).is_some() {
            after_pause += 1;
        }
        assert!(after_pause < 10, "{after_pause}");
    }

    #[test]
    fn loops_are_returned_once_or_given_up() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(2);
        let mut cover = Cover::new(1, 1, 0, &mut rng);
        cover.sent([1; 8], 3, 1_000);
        cover.sent([2; 8], 4, 2_000);
        assert_eq!(cover.returned(&[1; 8], 5_000), Some((3, 4_000)));
        assert_eq!(cover.returned(&[1; 8], 5_000), None);
        let mut lost = Vec::new();
        cover.give_up(10_000, 5_000, |link| lost.push(link));
        assert_eq!(lost, [4]);
    }
}
