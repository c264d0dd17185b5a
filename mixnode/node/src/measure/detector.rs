//! Finds hops that lose packets, and an attack that keeps all others' packets from this node (n−1), by the loops that
//! are overdue. It says so and does nothing else: what an alarm would stop, an attacker could stop.
//!
//! One cumulative sum (CUSUM, Page 1954) for all loops, and one for each hop over the loops through it:
//! `S ← max(0, S + ln(p1/p0))` for a loop that is overdue, `S ← max(0, S + ln((1−p1)/(1−p0)))` for one that came home;
//! p0 follows the loss there is, p1 is the loss to be found. A sum says that something is wrong and since when, and
//! [`explain`] what: else a dead node of another layer would look like an attack to every node. A loop that comes home
//! after it was due is taken back out of the sums.

use std::collections::{BTreeMap, VecDeque};

use sphinx::Id;

use super::explain::{Explanation, Loop, explain};
use super::sums::{CEILING, Counts, Sum, THRESHOLD};
use crate::path::loops::{Fate, Outcome, Way};

/// Loops remembered, and where layers are wide so many for each hop of the widest: what is held against a hop is computed
/// again from them.
const LAST: usize = 128;
const LAST_A_HOP: usize = 16;
const LAST_MAX: usize = 8_192;
/// Loops since the sum was zero without which n−1 is not suspected, and how often in a row it has to fit best: nodes that die
/// together look like it by chance at first.
const ATTACK_LOOPS: usize = 12;
const ATTACK_ROW: u32 = 2;
/// So much better than n−1 hops have to fit before they are named, in nats.
const LEAD: f64 = 8.0;
/// Loops through a hop that is bad for longer say nothing of n−1 any more. Until then it may turn out to be that.
const ESTABLISHED_NS: u64 = 30_000_000_000;
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
    /// Loops through this node of the epoch's consensus are overdue, others are not. Where it can't be told from others,
    /// these are named in the same moment.
    Bad(u16),
    /// They come home again, or it was not this one.
    Sound(u16),
    /// Loops are overdue whichever way they take.
    Suspected,
    /// Not any more.
    Calm,
}

/// A hop that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    at_ns: u64,
    /// By which loop: the same for hops that can't be told apart.
    by: u64,
    is_established: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    /// Where it is on a way.
    place: usize,
    sum: Sum,
    counts: Counts,
    bad: Option<Named>,
}

#[derive(Debug)]
struct Past {
    number: u64,
    id: Id,
    decided_ns: u64,
    way: Way,
    overdue: bool,
    /// No bad hop was on the way: it is in the counts.
    is_counted: bool,
}

/// The sums, and what they were computed from.
#[derive(Debug, Default)]
pub struct Detector {
    epoch: Option<u32>,
    /// Sums stay at zero until then.
    settled_ns: u64,
    /// Over all loops but those through established bad hops.
    all: Sum,
    /// By index in the epoch's consensus.
    hops: BTreeMap<u16, Hop>,
    counts: Counts,
    halved_ns: u64,
    last: VecDeque<Past>,
    /// Of the next loop.
    number: u64,
    minutes: VecDeque<(u64, Counts)>,
    is_suspected: bool,
    /// How often in a row n−1 fitted best.
    row: u32,
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

    /// What loops of all ways say for an attack since they last said nothing, in nats. Above
    /// [`THRESHOLD`](super::THRESHOLD) it is asked whether single hops explain it.
    pub fn sum(&self) -> f64 {
        self.all.value
    }

    /// The epoch that hops are named by.
    pub fn epoch(&self) -> Option<u32> {
        self.epoch
    }

    /// Hops that are bad, ascending.
    pub fn bad(&self) -> impl Iterator<Item = u16> + '_ {
        let bad = self.hops.iter().filter(|(_, hop)| hop.bad.is_some());
        bad.map(|(number, _)| *number)
    }

    /// Takes note of a loop's fate, in the order they were decided; `tell` hears what changes.
    pub fn decided(&mut self, fate: &Fate, mut tell: impl FnMut(Change)) {
        let now_ns = fate.decided_ns;
        match self.epoch {
            Some(epoch) if fate.epoch < epoch => return,
            Some(epoch) if fate.epoch == epoch => {}
            _ => {
                self.rest(&mut tell);
                self.epoch = Some(fate.epoch);
                self.settled_ns = now_ns + SETTLES_NS;
                self.halved_ns = now_ns;
            }
        }
        let p0 = self.own_p0(now_ns);
        let overdue = match fate.outcome {
            Outcome::Home { .. } => false,
            Outcome::Overdue => true,
            Outcome::Late { .. } => {
                self.take_back(&fate.id, p0);
                return self.ends(p0, &fate.way, &mut tell);
            }
        };
        self.establish(now_ns, p0);
        let is_counted = fate.way.iter().all(|hop| self.named(*hop).is_none());
        if is_counted {
            // What a bad hop loses is no loss of this node's.
            self.count_minute(now_ns, overdue);
        }
        if now_ns < self.settled_ns {
            return;
        }
        self.remember(fate, overdue, is_counted);
        self.count_hops(fate, overdue, is_counted);
        if !self.is_past_established(&fate.way) {
            self.all.step(self.number, overdue, p0);
        }
        self.ends(p0, &fate.way, &mut tell);
        if !self.is_suspected {
            self.judge(fate, p0, &mut tell);
        }
    }

    /// Forgets what was found and the loops it was found by: they stand for another document's hops, or for a time that is
    /// over. What goes on is found again.
    pub fn rest(&mut self, mut tell: impl FnMut(Change)) {
        if core::mem::take(&mut self.is_suspected) {
            tell(Change::Calm);
        }
        self.bad().for_each(|number| tell(Change::Sound(number)));
        self.all.clear(self.number + 1);
        self.counts = Counts::default();
        self.hops.clear();
        self.last.clear();
        self.row = 0;
    }

    fn named(&self, number: u16) -> Option<Named> {
        self.hops.get(&number)?.bad
    }

    fn is_past_established(&self, way: &[u16]) -> bool {
        let mut named = way.iter().filter_map(|hop| self.named(*hop));
        named.any(|named| named.is_established)
    }

    /// Loops through hops that are bad for long are left out of the sum over all.
    fn establish(&mut self, now_ns: u64, p0: f64) {
        let mut is_new = false;
        for named in self.hops.values_mut().filter_map(|hop| hop.bad.as_mut()) {
            let is_old = now_ns.saturating_sub(named.at_ns) > ESTABLISHED_NS;
            is_new |= is_old && !named.is_established;
            named.is_established |= is_old;
        }
        if is_new {
            self.sum_all(p0);
        }
    }

    fn sum_all(&mut self, p0: f64) {
        let mut sum = Sum {
            value: 0.0,
            ..self.all
        };
        for past in &self.last {
            if past.number >= self.all.since && !self.is_past_established(&past.way) {
                sum.step(past.number, past.overdue, p0);
            }
        }
        self.all = sum;
    }

    fn remember(&mut self, fate: &Fate, overdue: bool, is_counted: bool) {
        let mut wide = [0; sphinx::HOPS_MAX];
        for (place, number) in fate.way.iter().enumerate() {
            self.hops.entry(*number).or_default().place = place;
        }
        for hop in self.hops.values() {
            if let Some(hops) = wide.get_mut(hop.place) {
                *hops += LAST_A_HOP;
            }
        }
        let most = wide.into_iter().max().unwrap_or(0).clamp(LAST, LAST_MAX);
        while self.last.len() >= most {
            self.last.pop_front();
        }
        self.number += 1;
        self.last.push_back(Past {
            number: self.number,
            id: fate.id,
            decided_ns: fate.decided_ns,
            way: fate.way.clone(),
            overdue,
            is_counted,
        });
    }

    /// A loop that was overdue came home: sums and counts are as if it had been in time.
    fn take_back(&mut self, id: &Id, p0: f64) {
        let mut past = self.last.iter_mut().rev();
        let Some(past) = past.find(|past| past.id == *id && past.overdue) else {
            return;
        };
        past.overdue = false;
        let way = past.way.clone();
        if past.is_counted {
            let minute = past.decided_ns / MINUTE_NS;
            let mut minutes = self.minutes.iter_mut();
            if let Some((_, counts)) = minutes.find(|(then, _)| *then == minute) {
                counts.take_back();
            }
            self.counts.take_back();
        }
        let is_counted = past.is_counted;
        for number in &way {
            let (since, others) = match self.hops.get_mut(number) {
                Some(hop) => {
                    if is_counted {
                        hop.counts.take_back();
                    }
                    (hop.sum.since, self.counts.less(hop.counts))
                }
                None => continue,
            };
            let sum = self.sum_of(*number, since, others.p0());
            if let Some(hop) = self.hops.get_mut(number) {
                hop.sum = sum;
            }
        }
        self.sum_all(p0);
    }

    /// A hop's sum over the last loops, those left out that others are to blame for.
    fn sum_of(&self, number: u16, since: u64, p0: f64) -> Sum {
        let mut sum = Sum { value: 0.0, since };
        let past = self.last.iter().filter(|past| past.number >= since);
        for past in past.filter(|past| past.way.contains(&number)) {
            if !past.overdue || !self.is_blamed_besides(number, &past.way) {
                sum.step(past.number, past.overdue, p0);
            }
        }
        sum
    }

    /// Whether a bad hop is on a way, another than this one and those it can't be told from.
    fn is_blamed_besides(&self, number: u16, way: &[u16]) -> bool {
        let own = self.named(number).map(|named| named.by);
        let mut others = way.iter().filter(|other| **other != number);
        others.any(|other| {
            let named = self.named(*other).map(|named| named.by);
            named.is_some() && named != own
        })
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
    fn count_hops(&mut self, fate: &Fate, overdue: bool, is_counted: bool) {
        if fate.decided_ns >= self.halved_ns + COUNTS_NS {
            self.halved_ns = fate.decided_ns;
            let hops = self.hops.values_mut().map(|hop| &mut hop.counts);
            for counts in hops.chain([&mut self.counts]) {
                counts.decided /= 2.0;
                counts.overdue /= 2.0;
            }
        }
        for number in &fate.way {
            let is_blamed_besides = self.is_blamed_besides(*number, &fate.way);
            let Some(hop) = self.hops.get_mut(number) else {
                continue;
            };
            let others = self.counts.less(hop.counts);
            if !is_blamed_besides || !overdue {
                hop.sum.step(self.number, overdue, others.p0());
            }
            if is_counted {
                hop.counts.count(overdue);
            }
        }
        if is_counted {
            self.counts.count(overdue);
        }
    }

    /// What is not found any more after this loop.
    fn ends(&mut self, p0: f64, way: &[u16], tell: &mut impl FnMut(Change)) {
        let is_over = |all: &Sum| all.value == 0.0;
        if self.is_suspected
            && (is_over(&self.all) || self.explanation(self.all.since, p0).lead > 1.0)
        {
            self.is_suspected = false;
            tell(Change::Calm);
        }
        for number in way {
            if let Some(hop) = self.hops.get_mut(number)
                && hop.bad.is_some()
                && hop.sum.value == 0.0
            {
                hop.bad = None;
                tell(Change::Sound(*number));
            }
        }
    }

    /// What explains the loops from number `since` on, but for those through established bad hops.
    fn explanation(&self, since: u64, p0: f64) -> Explanation {
        let past = self.last.iter().filter(|past| past.number >= since);
        let loops = past.filter(|past| !self.is_past_established(&past.way));
        let loops: Vec<Loop<'_>> = loops
            .map(|past| Loop {
                way: &past.way,
                overdue: past.overdue,
            })
            .collect();
        explain(&loops, p0, |blamed| {
            let of = |number: &u16| self.hops.get(number).map(|hop| hop.place);
            blamed.iter().all(|one| {
                let place = of(one);
                let mut hops = self.hops.iter();
                hops.any(|(number, hop)| Some(hop.place) == place && !blamed.contains(number))
            })
        })
    }

    /// What the sums say after this loop.
    fn judge(&mut self, fate: &Fate, p0: f64, tell: &mut impl FnMut(Change)) {
        if self.all.value > THRESHOLD {
            let found = self.explanation(self.all.since, p0);
            let is_attack = found.lead < 0.0 && found.loops >= ATTACK_LOOPS;
            self.row = if is_attack { self.row + 1 } else { 0 };
            if self.row >= ATTACK_ROW {
                return self.suspect(tell);
            }
        }
        let accused = |number: &&u16| {
            let hop = self.hops.get(number);
            hop.is_some_and(|hop| hop.bad.is_none() && hop.sum.value > THRESHOLD)
        };
        let accused: Vec<u16> = fate.way.iter().filter(accused).copied().collect();
        let sums = accused.iter().filter_map(|number| self.hops.get(number));
        let Some(since) = sums.map(|hop| hop.sum.since).min() else {
            return;
        };
        let found = self.explanation(since, p0);
        for blamed in &found.blamed {
            let number = blamed.hop;
            let sum = self.hops.get(&number).map_or(0.0, |hop| hop.sum.value);
            let is_clear = blamed.is_clear && found.home_besides > 0 && found.lead > LEAD;
            // Further loops tell hops apart, unless all go through the same ones.
            let is_full = sum >= CEILING && found.lead > 0.0;
            if accused.contains(&number) && (is_clear || is_full) {
                return self.name(number, &blamed.rivals, fate.decided_ns, p0, tell);
            }
        }
    }

    fn suspect(&mut self, tell: &mut impl FnMut(Change)) {
        self.is_suspected = true;
        self.row = 0;
        let next = self.number + 1;
        // Every way is blocked: what was said of single hops explains nothing.
        for (number, hop) in &mut self.hops {
            hop.sum.clear(next);
            if hop.bad.take().is_some() {
                tell(Change::Sound(*number));
            }
        }
        tell(Change::Suspected);
    }

    /// A hop is bad, or one that it can't be told from. What they lost was blamed on whoever was on the same ways.
    fn name(
        &mut self,
        number: u16,
        rivals: &[u16],
        now_ns: u64,
        p0: f64,
        tell: &mut impl FnMut(Change),
    ) {
        let earlier: Vec<u16> = self.bad().collect();
        let named = Named {
            at_ns: now_ns,
            by: self.number,
            is_established: false,
        };
        let next = self.number + 1;
        let room = BAD_MAX.saturating_sub(earlier.len());
        for new in [&[number], rivals].concat().into_iter().take(room) {
            if let Some(hop) = self.hops.get_mut(&new)
                && hop.bad.is_none()
            {
                hop.bad = Some(named);
                tell(Change::Bad(new));
            }
        }
        for hop in self.hops.values_mut().filter(|hop| hop.bad.is_none()) {
            hop.sum.clear(next);
        }
        for other in earlier {
            if self.sum_of(other, 0, p0).value <= THRESHOLD
                && let Some(hop) = self.hops.get_mut(&other)
            {
                hop.sum.clear(next);
                hop.bad = None;
                tell(Change::Sound(other));
            }
        }
    }
}
