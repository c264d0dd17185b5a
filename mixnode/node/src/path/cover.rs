//! When a node sends cover traffic: loops, which come back and measure loss and delay ([`crate::path::loops`]), and packets
//! that end in nothing.

use rand_core::CryptoRng;

/// Timers of a worker's cover traffic.
pub struct Cover {
    loop_mean_ns: u64,
    drop_mean_ns: u64,
    loop_at_ns: u64,
    drop_at_ns: u64,
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
}
