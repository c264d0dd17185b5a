//! Finds a hop that loses packets, and an attack that keeps all others' packets from this node (n−1), by the loops that
//! are overdue. It says so and does nothing else: what an alarm would stop, an attacker could stop.
//!
//! One cumulative sum (CUSUM, Page 1954) for all loops, and one for each hop over the loops through it:
//! `S ← max(0, S + ln(p1/p0))` for a loop that is overdue, `S ← max(0, S + ln((1−p1)/(1−p0)))` for one that came home;
//! p0 follows the loss there is, p1 is the loss to be found. Before a sum over all loops counts as n−1, the one hop that
//! explains most of it is left out: else a single dead node of another layer would look like an attack to every node.

use std::collections::{BTreeMap, VecDeque};

use crate::path::loops::Fate;

/// An alarm is a sum above this: five overdue loops in a row at least, where hardly any are lost.
pub const THRESHOLD: f64 = 12.0;
/// A sum goes no higher, so that an alarm ends soon after its cause.
const CEILING: f64 = 2.0 * THRESHOLD;
/// The loss to be found.
const P1: f64 = 0.35;
/// The loss taken for granted: so many times what others have, within bounds.
const P0_FACTOR: f64 = 1.5;
const P0_MIN: f64 = 0.02;
const P0_MAX: f64 = 0.10;
/// Loops that a sum is computed over again with a hop left out.
const LAST: usize = 128;
/// After an epoch's turn sums stay at zero for so long: sessions are renewed then.
pub const SETTLES_NS: u64 = 10_000_000_000;
/// Hops that are bad at once; of further ones nothing is said.
const BAD_MAX: usize = 16;
const MINUTE_NS: u64 = 60_000_000_000;
/// An hour, and the minute that is not part of it because it may be under attack.
const MINUTES: usize = 62;
/// Counts of hops are halved so often, so that they are of late.
const COUNTS_NS: u64 = 15 * MINUTE_NS;

/// A change of what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Loops through this node of the epoch's consensus are overdue, others are not.
    Bad(u16),
    /// They come home again.
    Sound(u16),
    /// Loops are overdue whichever way they take.
    Suspected,
    /// Not any more.
    Calm,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    decided: f64,
    overdue: f64,
}

impl Counts {
    fn count(&mut self, overdue: bool) {
        self.decided += 1.0;
        self.overdue += f64::from(u8::from(overdue));
    }

    fn less(self, other: Counts) -> Counts {
        Counts {
            decided: (self.decided - other.decided).max(0.0),
            overdue: (self.overdue - other.overdue).max(0.0),
        }
    }

    /// The loss taken for granted where this is what was seen.
    fn p0(self) -> f64 {
        let loss = self.overdue / self.decided.max(1.0);
        (P0_FACTOR * loss).clamp(P0_MIN, P0_MAX)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    sum: f64,
    /// Loops through it since the sum was zero.
    run: usize,
    counts: Counts,
    is_bad: bool,
}

/// The sums, and what they were computed from.
#[derive(Debug, Default)]
pub struct Detector {
    epoch: Option<u32>,
    /// Sums stay at zero until then.
    settled_ns: u64,
    all: f64,
    /// By index in the epoch's consensus.
    hops: BTreeMap<u16, Hop>,
    counts: Counts,
    halved_ns: u64,
    last: VecDeque<Fate>,
    minutes: VecDeque<(u64, Counts)>,
    is_suspected: bool,
}

impl Detector {
    /// Nothing was seen yet.
    pub fn new() -> Detector {
        Detector::default()
    }

    /// Whether n−1 is suspected.
    pub fn is_suspected(&self) -> bool {
        self.is_suspected
    }

    /// The epoch that hops are named by.
    pub fn epoch(&self) -> Option<u32> {
        self.epoch
    }

    /// Hops that are bad, ascending.
    pub fn bad(&self) -> impl Iterator<Item = u16> + '_ {
        let bad = self.hops.iter().filter(|(_, hop)| hop.is_bad);
        bad.map(|(number, _)| *number)
    }

    /// Takes note of a loop's fate, in the order they were decided; `tell` hears what changes.
    pub fn decided(&mut self, fate: &Fate, mut tell: impl FnMut(Change)) {
        let now_ns = fate.decided_ns;
        match self.epoch {
            Some(epoch) if fate.epoch < epoch => return,
            Some(epoch) if fate.epoch == epoch => {}
            _ => self.turn(fate.epoch, now_ns, &mut tell),
        }
        let overdue = fate.is_overdue();
        let p0 = self.own_p0(now_ns);
        let others_bad = fate.way.iter().filter(|hop| self.is_bad(**hop)).count();
        if others_bad == 0 {
            // What a bad hop loses is no loss of this node's.
            self.count_minute(now_ns, overdue);
        }
        if now_ns < self.settled_ns {
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(fate.clone());
        self.all = step(self.all, overdue, p0);
        self.count_hops(fate, overdue);
        if self.is_suspected {
            if self.all == 0.0 {
                self.is_suspected = false;
                tell(Change::Calm);
            }
            return;
        }
        self.judge(fate, p0, &mut tell);
        for number in &fate.way {
            if let Some(hop) = self.hops.get_mut(number)
                && hop.is_bad
                && hop.sum == 0.0
            {
                hop.is_bad = false;
                tell(Change::Sound(*number));
            }
        }
    }

    fn turn(&mut self, epoch: u32, now_ns: u64, tell: &mut impl FnMut(Change)) {
        // What was found stands for another document's hops; an attack that goes on is found again.
        if core::mem::take(&mut self.is_suspected) {
            tell(Change::Calm);
        }
        self.bad().for_each(|number| tell(Change::Sound(number)));
        self.epoch = Some(epoch);
        self.settled_ns = now_ns + SETTLES_NS;
        self.halved_ns = now_ns;
        self.all = 0.0;
        self.counts = Counts::default();
        self.hops.clear();
        self.last.clear();
    }

    fn is_bad(&self, number: u16) -> bool {
        self.hops.get(&number).is_some_and(|hop| hop.is_bad)
    }

    fn count_minute(&mut self, now_ns: u64, overdue: bool) {
        let minute = now_ns / MINUTE_NS;
        match self.minutes.back_mut() {
            Some((last, counts)) if *last == minute => counts.count(overdue),
            _ => {
                let mut counts = Counts::default();
                counts.count(overdue);
                self.minutes.push_back((minute, counts));
                if self.minutes.len() > MINUTES {
                    self.minutes.pop_front();
                }
            }
        }
    }

    /// The loss that this node has when nobody attacks: that of the hour before the last minute.
    fn own_p0(&self, now_ns: u64) -> f64 {
        let minute = now_ns / MINUTE_NS;
        let ages = 2..MINUTES as u64;
        let mut sum = Counts::default();
        for (then, counts) in &self.minutes {
            if ages.contains(&minute.saturating_sub(*then)) {
                sum.decided += counts.decided;
                sum.overdue += counts.overdue;
            }
        }
        sum.p0()
    }

    /// The sums of the hops on a way. A bad one takes the blame for all of it: what others on the way are like can't be
    /// seen there.
    fn count_hops(&mut self, fate: &Fate, overdue: bool) {
        if fate.decided_ns >= self.halved_ns + COUNTS_NS {
            self.halved_ns = fate.decided_ns;
            let hops = self.hops.values_mut().map(|hop| &mut hop.counts);
            for counts in hops.chain([&mut self.counts]) {
                counts.decided /= 2.0;
                counts.overdue /= 2.0;
            }
        }
        let bad = fate.way.iter().filter(|hop| self.is_bad(**hop)).count();
        for number in &fate.way {
            let others = match self.hops.get(number) {
                Some(hop) => self.counts.less(hop.counts),
                None => self.counts,
            };
            let hop = self.hops.entry(*number).or_default();
            let others_bad = bad - usize::from(hop.is_bad);
            if others_bad == 0 || !overdue {
                hop.sum = step(hop.sum, overdue, others.p0());
                hop.run = if hop.sum > 0.0 { hop.run + 1 } else { 0 };
            }
            if bad == 0 {
                hop.counts.count(overdue);
            }
        }
        if bad == 0 {
            self.counts.count(overdue);
        }
    }

    /// What the sums say after this loop.
    fn judge(&mut self, fate: &Fate, p0: f64, tell: &mut impl FnMut(Change)) {
        if self.all > THRESHOLD {
            let worst = self.worst();
            if self.sum_without(p0, |way| worst.is_some_and(|hop| way.contains(&hop))) > THRESHOLD {
                self.is_suspected = true;
                // Every way is blocked: what was said of single hops explains nothing.
                for (number, hop) in &mut self.hops {
                    (hop.sum, hop.run) = (0.0, 0);
                    if core::mem::take(&mut hop.is_bad) {
                        tell(Change::Sound(*number));
                    }
                }
                tell(Change::Suspected);
                return;
            }
        }
        let mut accused: Vec<(usize, f64, u16)> = Vec::new();
        for number in &fate.way {
            let hop = self.hops.get(number).copied().unwrap_or_default();
            if hop.sum > THRESHOLD && !hop.is_bad {
                let overdue = self.overdue_of(*number, hop.run);
                // Where another hop was on most of these ways too, further loops tell the two apart, unless all go
                // through both.
                if hop.sum < CEILING && self.has_companion(*number, &overdue) {
                    continue;
                }
                accused.push((overdue.len(), hop.sum, *number));
            }
        }
        accused.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
        for (_, _, number) in accused {
            let rest = self.sum_without(p0, |way| {
                way.contains(&number) || way.iter().any(|hop| self.is_bad(*hop))
            });
            // Where its loops are no worse than the others it is not the hop.
            if rest > THRESHOLD || self.bad().count() >= BAD_MAX {
                continue;
            }
            self.name(number, p0, tell);
            return;
        }
    }

    /// A hop is bad. What it lost was blamed on whoever was on the same ways.
    fn name(&mut self, number: u16, p0: f64, tell: &mut impl FnMut(Change)) {
        tell(Change::Bad(number));
        let earlier: Vec<u16> = self.bad().collect();
        for (other, hop) in &mut self.hops {
            if *other == number {
                hop.is_bad = true;
            } else if !hop.is_bad {
                (hop.sum, hop.run) = (0.0, 0);
            }
        }
        for other in earlier {
            let own = |way: &[u16]| !way.contains(&other) || way.contains(&number);
            if self.sum_without(p0, own) <= THRESHOLD
                && let Some(hop) = self.hops.get_mut(&other)
            {
                (hop.sum, hop.run, hop.is_bad) = (0.0, 0, false);
                tell(Change::Sound(other));
            }
        }
    }

    /// The overdue loops among the last `run` through a hop.
    fn overdue_of(&self, number: u16, run: usize) -> Vec<&Fate> {
        let through = self.last.iter().rev();
        let through = through.filter(|fate| fate.way.contains(&number)).take(run);
        through.filter(|fate| fate.is_overdue()).collect()
    }

    /// Whether another hop was on three in four of these ways.
    fn has_companion(&self, number: u16, overdue: &[&Fate]) -> bool {
        let on = |other: u16| {
            overdue
                .iter()
                .filter(|fate| fate.way.contains(&other))
                .count()
        };
        let mut others = overdue.iter().flat_map(|fate| &fate.way);
        others.any(|other| *other != number && 4 * on(*other) >= 3 * overdue.len())
    }

    /// The hop, at any place, on most of the overdue loops among the last; of two the one on fewer that came home.
    fn worst(&self) -> Option<u16> {
        let mut by_hop: BTreeMap<u16, (usize, isize)> = BTreeMap::new();
        for fate in &self.last {
            for hop in &fate.way {
                let counted = by_hop.entry(*hop).or_default();
                match fate.is_overdue() {
                    true => counted.0 += 1,
                    false => counted.1 -= 1,
                }
            }
        }
        let worst = by_hop.into_iter().max_by_key(|(_, counted)| *counted);
        worst.map(|(hop, _)| hop)
    }

    /// The sum over the last loops, some left out.
    fn sum_without(&self, p0: f64, left_out: impl Fn(&[u16]) -> bool) -> f64 {
        let rest = self.last.iter().filter(|fate| !left_out(&fate.way));
        rest.fold(0.0, |sum, fate| step(sum, fate.is_overdue(), p0))
    }
}

fn step(sum: f64, overdue: bool, p0: f64) -> f64 {
    let weight = match overdue {
        true => (P1 / p0).ln(),
        false => ((1.0 - P1) / (1.0 - p0)).ln(),
    };
    (sum + weight).clamp(0.0, CEILING)
}
