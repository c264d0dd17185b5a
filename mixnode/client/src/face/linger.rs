//! How long cover goes on when all is done: the end of a client's datagrams must not tell when its transfer ended.

use std::time::{Duration, Instant};

use rand_core::Rng;

use super::run::{RunError, system_rng};

/// What is drawn on average.
pub const LINGER_MEAN: Duration = Duration::from_secs(60);
/// No draw is longer than so many means: four in a hundred thousand would be.
const MEANS_MAX: f64 = 10.0;
/// The sender of a file must still hear that it has arrived.
const ANSWER: Duration = Duration::from_secs(5);

/// Draws for how long a client goes on after the end of its work: exponential, so that its going on tells nothing of
/// when that was.
///
/// # Errors
/// The system gives no random numbers.
pub fn linger(mean: Duration) -> Result<Duration, RunError> {
    // Uniform in (0, 1]: 53 random bits.
    let uniform = ((system_rng()?.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    Ok(mean.mul_f64((-uniform.ln()).min(MEANS_MAX)))
}

/// The same for a recipient, whose last answers must still leave.
///
/// # Errors
/// As of [`linger`].
pub fn linger_of_recipient(mean: Duration) -> Result<Duration, RunError> {
    Ok(ANSWER + linger(mean)?)
}

/// Cover that goes on after the end of the work, until that long nothing was left to do.
pub(super) struct Lingering {
    time: Duration,
    since: Instant,
}

impl Lingering {
    /// From now on, for so long.
    pub(super) fn new(time: Duration) -> Self {
        let since = Instant::now();
        Self { time, since }
    }

    /// Whether it is over. While others' files are on their way it is not, and after them it lasts as long again.
    pub(super) fn is_over(&mut self, is_busy: bool) -> bool {
        if is_busy {
            self.since = Instant::now();
        }
        self.since.elapsed() >= self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_which_cover_goes_on_is_exponential_and_bounded() {
        let draws: Vec<f64> = (0..2_000)
            .map(|_| linger(LINGER_MEAN).unwrap().as_secs_f64())
            .collect();
        let mean = draws.iter().sum::<f64>() / 2_000.0;
        assert!((52.0..68.0).contains(&mean), "{mean}");
        // A memoryless draw is longer than its mean in e^-1 of all cases, and than twice that in e^-2.
        for (means, share) in [(1.0, 0.368), (2.0, 0.135)] {
            let longer = draws.iter().filter(|draw| **draw > 60.0 * means).count();
            assert!((longer as f64 / 2_000.0 - share).abs() < 0.05, "{longer}");
        }
        assert!(draws.iter().all(|draw| *draw <= 600.0));
    }
}
