//! How fast a transfer is, and how long it will take.

use std::collections::VecDeque;
use std::time::Duration;

/// The average is over so long, so that a pause of some seconds does not throw it.
const WINDOW: Duration = Duration::from_secs(60);
/// Between two samples.
const STEP: Duration = Duration::from_secs(1);
/// Nothing is said before so much time with data has passed.
const LEAST: Duration = Duration::from_secs(3);

/// Takes what has arrived, and knows no clock.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// When, and how many bytes had arrived. The first is where this run found the transfer, with what came before it.
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// `bytes` have arrived at the time `now`, counted from any moment. Before the first bytes nothing is known.
    pub fn add(&mut self, now: Duration, bytes: u64) {
        if bytes == 0 && self.samples.is_empty() {
            return;
        }
        if self
            .samples
            .back()
            .is_some_and(|(at, _)| now.saturating_sub(*at) < STEP)
        {
            return;
        }
        self.samples.push_back((now, bytes));
        // One sample is as old as the window, or older.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes a second, once there are data to tell it from.
    pub fn bytes_per_second(&self, now: Duration) -> Option<f64> {
        let ((from, before), (_, after)) = (self.samples.front()?, self.samples.back()?);
        let passed = now.saturating_sub(*from);
        let bytes = after.saturating_sub(*before);
        (passed >= LEAST && bytes > 0).then(|| bytes as f64 / passed.as_secs_f64())
    }

    /// How long the rest of `total` bytes takes.
    pub fn left(&self, now: Duration, total: u64) -> Option<Duration> {
        let (_, bytes) = self.samples.back()?;
        let seconds = total.saturating_sub(*bytes) as f64 / self.bytes_per_second(now)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn nothing_is_said_before_there_are_data() {
        let mut pace = Pace::default();
        for second in 0..100 {
            pace.add(s(f64::from(second)), 0);
        }
        assert_eq!(pace.bytes_per_second(s(100.0)), None);
        pace.add(s(100.0), 1_000);
        pace.add(s(101.0), 2_000);
        assert_eq!(pace.left(s(101.0), 10_000), None);
        pace.add(s(104.0), 5_000);
        let rate = pace.bytes_per_second(s(104.0)).unwrap();
        assert!((rate - 1_000.0).abs() < 1.0, "{rate}");
        assert_eq!(pace.left(s(104.0), 10_000), Some(s(5.0)));
    }

    #[test]
    fn what_an_earlier_run_sent_is_no_speed_of_this_one() {
        let mut pace = Pace::default();
        pace.add(s(2.0), 900_000);
        for second in 3..=12u32 {
            pace.add(
                s(f64::from(second)),
                900_000 + u64::from(second - 2) * 1_000,
            );
        }
        let left = pace.left(s(12.0), 1_000_000).unwrap().as_secs_f64();
        assert!((left - 90.0).abs() < 2.0, "{left}");
    }

    #[test]
    fn a_short_pause_does_not_throw_the_time_left() {
        // 1,000 bytes a second in bursts, of a million: every five seconds, with a pause of ten in the middle.
        let mut pace = Pace::default();
        let mut worst: f64 = 1.0;
        for second in 0..120u32 {
            let bytes = u64::from(second / 5 * 5) * 1_000 + 1;
            let bytes = if (50..60).contains(&second) {
                50_001
            } else {
                bytes
            };
            pace.add(s(f64::from(second)), bytes);
            if second >= 15 {
                let left = pace
                    .left(s(f64::from(second)), 1_000_000)
                    .unwrap()
                    .as_secs_f64();
                let truth = 1_000.0 - f64::from(second);
                worst = worst.max(left / truth).max(truth / left);
            }
        }
        assert!(worst < 1.5, "{worst}");
    }

    #[test]
    fn the_average_follows_a_lasting_change_within_its_window() {
        let mut pace = Pace::default();
        for second in 0..100u64 {
            pace.add(s(second as f64), 1 + second * 1_000);
        }
        for second in 100..200u64 {
            pace.add(s(second as f64), 100_000 + (second - 100) * 100);
        }
        let rate = pace.bytes_per_second(s(199.0)).unwrap();
        assert!((rate - 100.0).abs() < 5.0, "{rate}");
        assert!(pace.samples.len() <= 62);
    }
}
