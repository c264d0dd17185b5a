//! The wall clock, and what others' clocks say of it.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// `Date` leaves out parts of a second.
const DATE_MS: i64 = 1_000;

/// Milliseconds since the Unix epoch; 0 before it.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Milliseconds by a clock that nobody sets, and that counts the machine's sleep.
pub fn boot_ms() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

/// Another host's wall clock, as an answer's `Date` shows it: by how much it is ahead of [`boot_ms`], between two bounds. So
/// it stays true when the wall clock here is set. Who carries the answer can change it: no more than a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    earliest_ms: i64,
    latest_ms: i64,
}

impl Reading {
    /// Of a `Date`, read between two moments of [`boot_ms`].
    pub fn new(date: SystemTime, asked_ms: i64, answered_ms: i64) -> Option<Reading> {
        let since = date.duration_since(UNIX_EPOCH).ok()?;
        let unix_ms = i64::try_from(since.as_millis()).ok()?;
        Some(Reading {
            earliest_ms: unix_ms.saturating_sub(answered_ms),
            latest_ms: unix_ms.saturating_add(DATE_MS).saturating_sub(asked_ms),
        })
    }

    /// How far that clock is behind one that shows `unix_ms` at `boot_ms`, at least; negative: ahead of it. 0 where they may
    /// show the same.
    pub fn behind_ms(&self, unix_ms: u64, boot_ms: i64) -> i64 {
        let here_ms = i64::try_from(unix_ms)
            .unwrap_or(i64::MAX)
            .saturating_sub(boot_ms);
        let after_latest = here_ms.saturating_sub(self.latest_ms).max(0);
        let before_earliest = here_ms.saturating_sub(self.earliest_ms).min(0);
        after_latest + before_earliest
    }
}

/// How far the clock here is ahead of those of an authority set, of each of which there is what it said, if it answered: by
/// the median of those that did; and by that of all, the silent ones taken for such that show the same, so that it takes
/// more than half of the set to say that the clock here is off. Whoever can silence the others can't do it with one.
pub fn medians_ms(clocks: &[Option<Reading>], unix_ms: u64, boot_ms: i64) -> Option<(i64, i64)> {
    let behind = clocks.iter().flatten();
    let mut behind: Vec<i64> = behind
        .map(|reading| reading.behind_ms(unix_ms, boot_ms))
        .collect();
    let of_answers = median_ms(&mut behind)?;
    behind.resize(clocks.len(), 0);
    Some((of_answers, median_ms(&mut behind)?))
}

/// Of two middle values the nearer to 0.
fn median_ms(all: &mut [i64]) -> Option<i64> {
    all.sort_unstable();
    let upper = *all.get(all.len() / 2)?;
    let lower = *all.get((all.len() - 1) / 2)?;
    Some(match lower.unsigned_abs() <= upper.unsigned_abs() {
        true => lower,
        false => upper,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn reading(date_s: u64, asked_ms: i64, answered_ms: i64) -> Reading {
        let date = UNIX_EPOCH + Duration::from_secs(date_s);
        Reading::new(date, asked_ms, answered_ms).unwrap()
    }

    #[test]
    fn a_clock_is_off_by_what_neither_the_way_nor_a_part_of_a_second_explains() {
        // The answer left at some time in 200 ms, which was from 1,000.000 s to 1,001.000 s by the other clock.
        let reading = reading(1_000, 5_000, 5_200);
        for (unix_ms, behind_ms) in [
            (1_000_000, 0),
            (1_000_999, 0),
            (1_001_200, 0),
            (1_001_201, 1),
            (999_999, -1),
            (4_601_200, 3_600_000),
            (0, -1_000_000),
        ] {
            assert_eq!(reading.behind_ms(unix_ms, 5_200), behind_ms, "{unix_ms}");
        }
        // A minute later, and after the clock here was set right.
        assert_eq!(reading.behind_ms(4_661_200, 65_200), 3_600_000);
        assert_eq!(reading.behind_ms(1_060_500, 65_200), 0);
        assert_eq!(
            Reading::new(UNIX_EPOCH - Duration::from_secs(1), 0, 0),
            None
        );
    }

    #[test]
    fn it_takes_more_than_half_of_all_to_say_that_this_clock_is_off() {
        let (right, wrong) = (Some(reading(1_000, 0, 0)), Some(reading(4_000, 0, 0)));
        let off_ms = -2_999_500;
        for (of, medians) in [
            (&[][..], None),
            (&[None, None], None),
            (&[right], Some((0, 0))),
            (&[wrong], Some((off_ms, off_ms))),
            (&[wrong, right], Some((0, 0))),
            (&[wrong, wrong, right], Some((off_ms, off_ms))),
            (&[right, wrong, right], Some((0, 0))),
            // Silence is no word against this clock.
            (&[wrong, None], Some((off_ms, 0))),
            (&[None, wrong, None], Some((off_ms, 0))),
            (&[wrong, None, wrong], Some((off_ms, off_ms))),
            (&[wrong, None, None, wrong], Some((off_ms, 0))),
        ] {
            assert_eq!(medians_ms(of, 1_000_500, 0), medians, "{of:?}");
        }
    }
}
