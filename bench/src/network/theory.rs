//! How long a probe takes by theory, and how far what was measured is from that.
//!
//! A probe is one packet, given to a client at a random moment with nothing waiting before it. It waits for the client's
//! next slot that is for letters: slots are a Poisson process, each is one for letters with the same chance, so those
//! are one too. It is held by its gateway and three mixes: exponential with the network's mean, drawn anew above the cap.
//! Then it stands in line for the slots of the recipient's gateway to him, behind loops and other probes: that is M/M/1,
//! and the time there is exponential too, with the rate of slots less that of what arrives. What the machine and the network
//! add is not taken off: one fails that is slower than by [`unseen_us`].
//!
//! A probe that finds another in line is not sent, and nobody knows how long it would have taken. A line has one place, so
//! by the law the share of them is Erlang's loss: of p given for each slot for letters, p / (1 + p). Where it is clearly more
//! the line stood longer than it should, and those that were sent are the lucky ones.

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::anonymity::law::{distance, exponential, sums};

/// Hops that hold a packet: the last gateway delivers it at its next slot.
pub(super) const HELD: usize = 4;
/// Draws of the law.
const DRAWS: usize = 1_000_000;
/// Kolmogorov and Smirnov's distance may be so large. No p-value: probes share machine and minute, and are not independent.
pub(super) const DISTANCE_MOST: f64 = 0.02;
/// Of fewer probes the distance of a true law comes near that by chance: 1.36 / √20,000 is 0.0096.
pub(super) const PROBES_LEAST: usize = 20_000;
/// A document that is fetched takes two slots of nine that letters else have, so a line may last longer by this.
const FETCH: f64 = 9.0 / 7.0;
/// Standard deviations that chance is allowed.
const CHANCE: f64 = 4.0;

/// The law of one network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Law {
    /// Mean delay of a hop, microseconds.
    pub(super) mean_us: f64,
    /// Slots for letters a second, of the sender.
    pub(super) letters_pps: f64,
    /// Slots a second from the gateway to the recipient, less what arrives there for him.
    pub(super) stream_pps: f64,
}

/// What comes of comparing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// Kolmogorov and Smirnov's distance.
    pub(super) distance: f64,
    /// Whether there were enough probes to tell.
    pub(super) is_enough: bool,
    /// Whether they are near enough.
    pub(super) is_near: bool,
}

impl Law {
    /// So many one-way times, microseconds, in order.
    pub(super) fn draws(&self, count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut times_us = sums(HELD, self.mean_us, count, seed.wrapping_add(1));
        for time_us in &mut times_us {
            for slots_pps in [self.letters_pps, self.stream_pps] {
                *time_us += exponential(&mut rng) / slots_pps * 1e6;
            }
        }
        times_us.sort_by(f64::total_cmp);
        times_us
    }

    /// A million of them.
    pub(super) fn all(&self, seed: u64) -> Vec<f64> {
        self.draws(DRAWS, seed)
    }
}

/// Holds probes against draws of their law.
pub(super) fn judge(probes_us: &[f64], law_us: &[f64]) -> Verdict {
    let distance = distance(probes_us, law_us);
    let is_enough = probes_us.len() >= PROBES_LEAST;
    Verdict {
        distance,
        is_enough,
        is_near: distance < DISTANCE_MOST,
    }
}

/// The share of probes that find another in line, where so many are given for each slot for letters.
pub(super) fn crowded_share(per_slot: f64) -> f64 {
    per_slot / (1.0 + per_slot)
}

/// No more of so many are by the law: also if a document is fetched all the time, and by chance.
pub(super) fn crowded_most(per_slot: f64, given: u64) -> f64 {
    let share = crowded_share(per_slot * FETCH);
    share + CHANCE * (share * (1.0 - share) / given.max(1) as f64).sqrt()
}

/// Probes that all take so much longer than these draws, in order, are still near enough: the shortest time in which as
/// many of them lie as the distance may be.
pub(super) fn unseen_us(law_us: &[f64]) -> f64 {
    let many = (law_us.len() as f64 * DISTANCE_MOST) as usize;
    let spans = law_us.iter().zip(law_us.iter().skip(many));
    spans.map(|(from, to)| to - from).fold(f64::MAX, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: Law = Law {
        mean_us: 50_000.0,
        letters_pps: 4.0 * 0.81,
        stream_pps: 4.4,
    };

    fn judged(probes_us: &[f64]) -> Verdict {
        judge(probes_us, &LAW.draws(200_000, 1))
    }

    #[test]
    fn probes_by_the_law_are_near_it_and_few_are_not_enough() {
        let verdict = judged(&LAW.draws(PROBES_LEAST, 7));
        assert!(verdict.is_near && verdict.is_enough, "{verdict:?}");
        assert!(!judged(&LAW.draws(PROBES_LEAST - 1, 7)).is_enough);
    }

    #[test]
    fn another_mean_and_slots_of_another_rate_are_told_from_it() {
        for wrong in [
            // Of all slots and not of those for letters alone.
            Law {
                letters_pps: 4.0,
                ..LAW
            },
            // As if nothing else came to the recipient.
            Law {
                stream_pps: 5.0,
                ..LAW
            },
            Law {
                mean_us: 60_000.0,
                ..LAW
            },
        ] {
            let verdict = judged(&wrong.draws(PROBES_LEAST, 7));
            assert!(!verdict.is_near, "{wrong:?}: {verdict:?}");
        }
    }

    #[test]
    fn what_waited_in_line_is_not_taken_for_a_probe_nor_what_a_slow_machine_held() {
        // Every second probe finds another before it.
        let mut times_us = LAW.draws(PROBES_LEAST, 7);
        let line = Law {
            mean_us: 0.0,
            ..LAW
        };
        for (time_us, more_us) in times_us
            .iter_mut()
            .zip(line.draws(PROBES_LEAST, 9))
            .step_by(2)
        {
            *time_us += more_us;
        }
        assert!(!judged(&times_us).is_near);
        let late = LAW
            .draws(PROBES_LEAST, 5)
            .into_iter()
            .map(|us| us + 30_000.0);
        assert!(!judged(&late.collect::<Vec<_>>()).is_near);
    }

    #[test]
    fn about_fifteen_milliseconds_more_are_not_seen() {
        let law = LAW.draws(200_000, 1);
        let unseen_us = unseen_us(&law);
        assert!((13e3..17e3).contains(&unseen_us), "{unseen_us}");
        let more = |us: f64| law.iter().map(|one| one + us).collect::<Vec<_>>();
        assert!(judge(&more(unseen_us * 0.97), &law).is_near);
        assert!(!judge(&more(unseen_us * 1.03), &law).is_near);
    }

    /// Probes of a Poisson process at a line with one place: how many of so many find it taken, and slots are `slower`.
    fn crowded(per_slot: f64, slower: f64, given: u64) -> u64 {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let (mut now, mut free, mut crowded) = (0.0, 0.0, 0);
        for _ in 0..given {
            now += exponential(&mut rng) / per_slot;
            match now < free {
                true => crowded += 1,
                false => free = now + exponential(&mut rng) * slower,
            }
        }
        crowded
    }

    #[test]
    fn as_many_probes_find_another_in_line_as_erlang_says() {
        const GIVEN: u64 = 80_000;
        for per_slot in [0.05, 0.2, 1.0] {
            let share = |slower| crowded(per_slot, slower, GIVEN) as f64 / GIVEN as f64;
            let off = share(1.0) - crowded_share(per_slot);
            assert!(off.abs() < 0.01, "{per_slot}: {off}");
            let most = crowded_most(per_slot, GIVEN);
            assert!(share(1.0) < most && share(FETCH) < most);
            assert!(share(1.6) > most, "{per_slot}: {} of {most}", share(1.6));
        }
    }

    #[test]
    fn a_line_that_others_stand_in_takes_as_long_as_slots_that_are_fewer() {
        // A queue played by hand: arrivals and slots are Poisson, who arrives waits for those before it.
        let (slots_pps, arrivals_pps) = (5.0, 0.6);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut arrives, mut leaves, mut times_us) = (0.0, 0.0f64, Vec::new());
        for _ in 0..200_000 {
            arrives += exponential(&mut rng) / arrivals_pps;
            // Of a Poisson process the next slot is as far from any moment.
            leaves = leaves.max(arrives) + exponential(&mut rng) / slots_pps;
            times_us.push((leaves - arrives) * 1e6);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let law: Vec<f64> = (0..200_000)
            .map(|_| exponential(&mut rng) / (slots_pps - arrivals_pps) * 1e6)
            .collect();
        assert!(distance(&times_us, &law) < 0.01);
    }
}
