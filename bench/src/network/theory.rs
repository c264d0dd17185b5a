//! How long a probe takes by theory, and how far what was measured is from that.
//!
//! A probe is one packet, given to a client at a random moment with nothing waiting before it. It waits for the client's
//! next slot that is for letters: slots are a Poisson process, each is one for letters with the same chance, so those
//! are one too. It is held by its gateway and three mixes: exponential with the network's mean, drawn anew above the cap.
//! Then it stands in line for the slots of the recipient's gateway to him, behind loops and other probes: that is M/M/1,
//! and the time there is exponential too, with the rate of slots less that of what arrives.
//!
//! A client that fetches a document asks for its parts in slots that are else for letters, and its gateway sends them
//! before all mail: M/M/1 with two classes, whose second one waits for the first. Epochs here are short, so that this is
//! often. Which probes met it is known of their sender and recipient, not of how long they took.
//!
//! What the machine and the network add is not taken off: one fails that is slower than by [`unseen_us`].
//!
//! A probe that finds another in line is not sent, and nobody knows how long it would have taken. A line has one place, so
//! by the law the share of them is Erlang's loss: of p given for each slot for letters, p / (1 + p). Where it is clearly more
//! the line stood longer than it should, and those that were sent are the lucky ones.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

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
    /// Slots for letters a second, of a sender that fetches no document.
    pub(super) letters_pps: f64,
    /// Slots a second from the gateway to the recipient.
    pub(super) stream_pps: f64,
    /// What arrives there for him a second.
    pub(super) mail_pps: f64,
    /// Share of the probes whose sender did not fetch a document or did, and whose recipient did not or did.
    pub(super) fetching: [[f64; 2]; 2],
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
        let meets: Vec<_> = times_us
            .iter()
            .map(|_| self.meets(unit(&mut rng)))
            .collect();
        let behind_parts = meets.iter().filter(|(_, recipient)| *recipient).count();
        let mut lines_s = self
            .lines_s(self.parts_pps(), behind_parts, seed)
            .into_iter();
        for (time_us, (is_sender, is_recipient)) in times_us.iter_mut().zip(meets) {
            let letters_pps = match is_sender {
                true => self.letters_pps / FETCH,
                false => self.letters_pps,
            };
            let line_s = match is_recipient.then(|| lines_s.next()).flatten() {
                Some(line_s) => line_s,
                None => exponential(&mut rng) / (self.stream_pps - self.mail_pps),
            };
            *time_us += (exponential(&mut rng) / letters_pps + line_s) * 1e6;
        }
        times_us.sort_by(f64::total_cmp);
        times_us
    }

    /// A million of them.
    pub(super) fn all(&self, seed: u64) -> Vec<f64> {
        self.draws(DRAWS, seed)
    }

    /// Parts of a document that a client asks for a second, while it does.
    fn parts_pps(&self) -> f64 {
        self.letters_pps * (1.0 - 1.0 / FETCH)
    }

    /// Share of the probes whose sender fetches.
    pub(super) fn senders_fetching(&self) -> f64 {
        self.fetching[1].iter().sum()
    }

    /// Whether sender and recipient fetch, where `unit` of all probes come before.
    fn meets(&self, unit: f64) -> (bool, bool) {
        let mut before = 0.0;
        for (sender, recipient) in [(true, true), (true, false), (false, true)] {
            before += self.fetching[usize::from(sender)][usize::from(recipient)];
            if unit < before {
                return (sender, recipient);
            }
        }
        (false, false)
    }

    /// So many times in line behind parts of a document, seconds, one after the other: slots, mail and parts of a document are Poisson processes, a slot takes a part if
    /// there is one, else what came first of the mail.
    fn lines_s(&self, parts_pps: f64, count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(2));
        // Without any there is nothing to wait for.
        let mail_pps = self.mail_pps.max(self.stream_pps / 100.0);
        let all_pps = self.stream_pps + mail_pps + parts_pps;
        let (mut now_s, mut parts) = (0.0, 0u64);
        let (mut mail, mut times_s) = (VecDeque::new(), Vec::with_capacity(count));
        while times_s.len() < count {
            now_s += exponential(&mut rng) / all_pps;
            let which_pps = unit(&mut rng) * all_pps;
            if which_pps < mail_pps {
                mail.push_back(now_s);
            } else if which_pps < mail_pps + parts_pps {
                parts += 1;
            } else if parts > 0 {
                parts -= 1;
            } else if let Some(came_s) = mail.pop_front() {
                times_s.push(now_s - came_s);
            }
        }
        times_s
    }
}

/// From 0 on, below 1.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
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

/// The same where this share of the senders has fewer slots, for they fetch a document.
pub(super) fn crowded_of(per_slot: f64, fetching: f64) -> f64 {
    crowded_share(per_slot) * (1.0 - fetching) + crowded_share(per_slot * FETCH) * fetching
}

/// No more of so many are by the law, and by chance.
pub(super) fn crowded_most(per_slot: f64, fetching: f64, given: u64) -> f64 {
    let share = crowded_of(per_slot, fetching);
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
        stream_pps: 5.0,
        mail_pps: 0.6,
        fetching: [[0.6, 0.1], [0.1, 0.2]],
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
                mail_pps: 0.0,
                ..LAW
            },
            // As if nobody fetched documents.
            Law {
                fetching: [[1.0, 0.0], [0.0, 0.0]],
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
            for (slower, fetching) in [(1.0, 0.0), (FETCH, 1.0)] {
                let off = share(slower) - crowded_of(per_slot, fetching);
                assert!(off.abs() < 0.01, "{per_slot}: {off}");
                let most = crowded_most(per_slot, fetching, GIVEN);
                assert!(share(slower) < most);
                assert!(share(slower * 1.25) > most, "{per_slot}: {most}");
            }
        }
    }

    #[test]
    fn a_line_that_others_stand_in_takes_as_long_as_slots_that_are_fewer() {
        // Without parts of a document it is M/M/1, whose times are exponential.
        let mut times_s = LAW.lines_s(0.0, 200_000, 3);
        times_s.sort_by(f64::total_cmp);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut law_s: Vec<f64> = (0..200_000)
            .map(|_| exponential(&mut rng) / (LAW.stream_pps - LAW.mail_pps))
            .collect();
        law_s.sort_by(f64::total_cmp);
        let distance = distance(&times_s, &law_s);
        assert!(distance < 0.01, "{distance}");
    }

    #[test]
    fn mail_waits_for_the_parts_of_a_document_as_the_second_class_of_a_line_does() {
        // Cobham's mean with preemption, for a slot takes what is first at its time.
        let parts_pps = LAW.parts_pps();
        assert!((parts_pps - 0.72).abs() < 1e-9);
        let times_s = LAW.lines_s(parts_pps, 200_000, 5);
        let mean_s = times_s.iter().sum::<f64>() / times_s.len() as f64;
        let (first, both) = (
            parts_pps / LAW.stream_pps,
            (parts_pps + LAW.mail_pps) / LAW.stream_pps,
        );
        let by_theory_s = 1.0 / LAW.stream_pps / ((1.0 - first) * (1.0 - both));
        assert!(
            (mean_s / by_theory_s - 1.0).abs() < 0.02,
            "{mean_s} of {by_theory_s}"
        );
    }
}
