//! Who is left after days, if each letter rules out all who were away when it was sent.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::law::exponential;

/// Letters a day that one target sends and the attacker sees arrive at his accomplice.
const LETTERS: usize = 2;
const HOURS: f64 = 24.0;

/// When users are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Day and night.
    Always,
    /// Each for eight hours or so away at a time of day of their own, an hour earlier or later each day.
    Nights,
}

/// Whether a user is attached at this hour of a day.
fn is_here(habit: Habit, bedtime: f64, shift: f64, hour: f64) -> bool {
    match habit {
        Habit::Always => true,
        Habit::Nights => (hour - bedtime - shift).rem_euclid(HOURS) >= 8.0,
    }
}

/// Candidates that are left after each day: of so many targets the quarter-way, middle and three-quarter-way one.
pub(super) fn candidates(habit: Habit, users: usize, days: usize, seed: u64) -> Vec<[usize; 3]> {
    const TARGETS: usize = 101;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut left: Vec<Vec<usize>> = vec![Vec::new(); days];
    for _ in 0..TARGETS {
        let bedtimes: Vec<f64> = (0..users).map(|_| rng.random_range(0.0..HOURS)).collect();
        let mut possible = vec![true; users];
        for left in &mut left {
            let early_or_late = |rng: &mut ChaCha8Rng| exponential(rng) - exponential(rng);
            let shifts: Vec<f64> = (0..users).map(|_| early_or_late(&mut rng)).collect();
            let here = |user: usize, hour| is_here(habit, bedtimes[user], shifts[user], hour);
            for _ in 0..LETTERS {
                // User 0 is the target, who writes when attached.
                let hour = loop {
                    let hour = rng.random_range(0.0..HOURS);
                    if here(0, hour) {
                        break hour;
                    }
                };
                for (user, possible) in possible.iter_mut().enumerate() {
                    *possible &= here(user, hour);
                }
            }
            left.push(possible.iter().filter(|possible| **possible).count());
        }
    }
    let quartiles = |mut counts: Vec<usize>| {
        counts.sort_unstable();
        [TARGETS / 4, TARGETS / 2, TARGETS * 3 / 4].map(|place| counts[place])
    };
    left.into_iter().map(quartiles).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_is_one_of_all_and_who_leaves_at_night_is_found() {
        let always = candidates(Habit::Always, 200, 10, 1);
        assert!(always.iter().all(|left| *left == [200; 3]));
        let nights = candidates(Habit::Nights, 200, 20, 1);
        assert!(nights[0][1] < 160 && nights[19][1] < 20, "{nights:?}");
        assert!(nights.windows(2).all(|days| days[1][1] <= days[0][1]));
        assert!(nights[19][0] >= 1, "the target itself is never ruled out");
    }
}
