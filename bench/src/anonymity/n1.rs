//! How soon a node notices that the packets of others are kept from it (n−1), with the detector and the bookkeeping of loops
//! that nodes run: one node's loops, over a network that loses some of them anyway.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use mixnode::measure::{Detector, THRESHOLD};
use mixnode::path::loops::Loops;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use sphinx::PathHop;

use super::law::exponential;

const SECOND_NS: u64 = 1_000_000_000;
/// Five loops a second, as the configuration has it unless told otherwise.
const LOOP_NS: f64 = 2e8;
const DELAY_US: f64 = 1e5;
/// Wires and workers on a loop's way.
const WIRES_NS: u64 = SECOND_NS / 50;
/// Mixes of a layer, the least of which something can be told.
const WIDTH: u16 = 3;
/// Before anything goes wrong: the loss that is usual is known by then.
const WARM_NS: u64 = 200 * SECOND_NS;
/// How often a worker looks for what is overdue.
const LOOK_NS: u64 = SECOND_NS / 10;

/// For how long an attack is watched.
pub(super) const WATCHED_S: f64 = 120.0;
/// Within this a sum counts for the curve of thresholds.
pub(super) const SOON_S: f64 = 10.0;
/// The detector's own, and what others would do.
pub(super) const THRESHOLDS: [f64; 9] = [4.0, 5.0, 6.0, 7.0, 8.0, 10.0, THRESHOLD, 16.0, 20.0];

/// What is done to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    /// Share of what others send to it that is dropped.
    pub(super) dropped: f64,
    /// Share of loops that are lost anyway.
    pub(super) loss: f64,
}

/// How it went once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    /// After how many seconds the node warned.
    pub(super) warned_s: Option<f64>,
    /// The highest sum within [`SOON_S`].
    pub(super) peak: f64,
}

/// Hours in which nobody attacked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calm {
    pub(super) hours: f64,
    /// How often the node warned.
    pub(super) warnings: u64,
    /// Highest values of the sum between one zero and the next.
    pub(super) peaks: Vec<f64>,
}

impl Calm {
    /// How often a sum went above this.
    pub(super) fn above(&self, threshold: f64) -> usize {
        self.peaks.iter().filter(|peak| **peak > threshold).count()
    }
}

/// Plays a node's loops until `see` has seen enough: it is shown the seconds since the attack began, negative before, and
/// what the detector says after each loop.
fn play(blocked: Blocked, seed: u64, mut see: impl FnMut(f64, &Detector) -> bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut loops, mut detector) = (Loops::new(0), Detector::new());
    let (mut sends_ns, mut looks_ns, mut number) = (0, 0, 0u64);
    // Soonest first.
    let mut arrivals: BinaryHeap<Reverse<(u64, [u8; 8])>> = BinaryHeap::new();
    loop {
        let arrives_ns = arrivals.peek().map_or(u64::MAX, |first| first.0.0);
        let now_ns = arrives_ns.min(sends_ns).min(looks_ns);
        if now_ns == arrives_ns {
            if let Some(Reverse((_, id))) = arrivals.pop() {
                loops.returned(&id, now_ns);
            }
        } else if now_ns == sends_ns {
            sends_ns += (exponential(&mut rng) * LOOP_NS) as u64 + 1;
            number += 1;
            let id = number.to_be_bytes();
            let hop = |node, delay_us| PathHop {
                public_key: [0; 32],
                node,
                delay_us,
            };
            let mut path: Vec<PathHop> = (0..3)
                .map(|layer| {
                    let delay_us = (exponential(&mut rng) * DELAY_US) as u32;
                    hop(1 + layer * WIDTH + rng.random_range(0..WIDTH), delay_us)
                })
                .collect();
            // The node itself, where the loop ends.
            path.push(hop(0, 0));
            loops.sent(id, 1, &path, now_ns);
            let delays_us: u64 = path.iter().map(|hop| u64::from(hop.delay_us)).sum();
            let home_ns = now_ns + delays_us * 1_000 + WIRES_NS;
            // What is on its way when it begins is dropped too.
            let is_dropped = home_ns >= WARM_NS && rng.random_bool(blocked.dropped);
            if !rng.random_bool(blocked.loss) && !is_dropped {
                arrivals.push(Reverse((home_ns, id)));
            }
        } else {
            looks_ns += LOOK_NS;
            loops.look(now_ns);
        }
        for fate in loops.fates_mut().drain(..) {
            detector.decided(&fate, |_| {});
            let since_s = (fate.decided_ns as f64 - WARM_NS as f64) / SECOND_NS as f64;
            if see(since_s, &detector) {
                return;
            }
        }
    }
}

/// One attack.
pub(super) fn attack(blocked: Blocked, seed: u64) -> Run {
    let mut run = Run {
        warned_s: None,
        peak: 0.0,
    };
    play(blocked, seed, |since_s, detector| {
        if (0.0..SOON_S).contains(&since_s) {
            run.peak = run.peak.max(detector.sum());
        }
        // A false warning from before is none of this.
        if since_s >= 0.0 && run.warned_s.is_none() && detector.is_suspected() {
            run.warned_s = Some(since_s);
        }
        since_s >= WATCHED_S || (since_s >= SOON_S && run.warned_s.is_some())
    });
    run
}

/// So many hours without one.
pub(super) fn calm(loss: f64, hours: f64, seed: u64) -> Calm {
    let blocked = Blocked { dropped: 0.0, loss };
    let (mut calm, mut peak, mut was_suspected) = (Calm::default(), 0.0f64, false);
    play(blocked, seed, |since_s, detector| {
        if since_s >= 0.0 {
            let is_suspected = detector.is_suspected();
            calm.warnings += u64::from(is_suspected && !was_suspected);
            was_suspected = is_suspected;
            let sum = detector.sum();
            peak = peak.max(sum);
            if sum == 0.0 && peak > 0.0 {
                calm.peaks.push(std::mem::take(&mut peak));
            }
        }
        since_s >= hours * 3_600.0
    });
    calm.hours = hours;
    if peak > 0.0 {
        calm.peaks.push(peak);
    }
    calm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_dropped_the_sooner_a_node_warns_and_all_of_it_within_thirty_loops() {
        let median_s = |dropped, loss| {
            let mut after_s: Vec<f64> = (0..21)
                .map(|seed| attack(Blocked { dropped, loss }, seed))
                .map(|run| run.warned_s.unwrap_or(WATCHED_S))
                .collect();
            after_s.sort_by(f64::total_cmp);
            after_s[10]
        };
        let all_s = median_s(1.0, 0.01);
        assert!((0.5..6.0).contains(&all_s), "{all_s}");
        let half_s = median_s(0.5, 0.01);
        assert!(half_s > all_s, "{half_s}");
        // What is lost anyway hides it.
        let hidden_s = median_s(0.5, 0.05);
        assert!(hidden_s > half_s, "{hidden_s} {half_s}");
    }

    #[test]
    fn hours_without_an_attack_give_no_warning_and_low_thresholds_would() {
        let calm = calm(0.05, 3.0, 1);
        assert_eq!((calm.hours, calm.warnings), (3.0, 0));
        let above = THRESHOLDS.map(|threshold| calm.above(threshold));
        assert!(above.windows(2).all(|two| two[0] >= two[1]), "{above:?}");
        assert!(above[0] > 0 && above[8] == 0, "{above:?}");
        // What is blocked goes above all of them.
        let run = attack(
            Blocked {
                dropped: 1.0,
                loss: 0.05,
            },
            1,
        );
        assert!(run.peak > THRESHOLDS[8], "{run:?}");
    }
}
