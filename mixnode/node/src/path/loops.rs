//! Loops on their way. Of each the whole path is remembered and when it is due: who sent it knows the delays it chose.

use arrayvec::ArrayVec;
use sphinx::{HOPS_MAX, Id, PathHop};

/// Loops remembered at once; more are sent only when one came home or is overdue.
pub const OUTSTANDING_MAX: usize = 256;
/// Fates that wait to be published, which happens ten times a second. Further ones are counted and not told.
pub const FATES_MAX: usize = 256;

/// Beside its delays a loop has so long at least, for wires and workers on its way, and at most.
const MARGIN_MIN_NS: u64 = 500_000_000;
const MARGIN_MAX_NS: u64 = 3_000_000_000;
/// Between these it has so many times what 99 in 100 took lately.
const MARGIN_FACTOR: u64 = 2;
/// So long after its delays a loop that is overdue may come home all the same, before it is forgotten.
const LATE_MAX_NS: u64 = 10_000_000_000;
/// A worker turns ten times a second at least. Where it stood still for so long, what is not home when it is due may lie
/// before its door: of that nothing is said.
const STALL_NS: u64 = 300_000_000;

/// The nodes that a loop goes through, by index in its epoch's consensus, first hop first. The node itself, at whose
/// door it ends, is left out.
pub type Way = ArrayVec<u16, HOPS_MAX>;

/// What became of a loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// When that was known, on the monotonic clock.
    pub decided_ns: u64,
    /// Which one.
    pub id: Id,
    /// The epoch of its packet.
    pub epoch: u32,
    /// Where it went.
    pub way: Way,
    /// What is known of it.
    pub outcome: Outcome,
}

/// Whether a loop came home. What it took beside its delays is in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In time.
    Home {
        /// Microseconds.
        excess_us: u32,
    },
    /// Not when it was due.
    Overdue,
    /// One that was told to be overdue came home: nothing was lost.
    Late {
        /// Microseconds.
        excess_us: u32,
    },
}

/// Fates in the order they were known.
pub type Fates = ArrayVec<Fate, FATES_MAX>;

/// What became of loops: sent = returned + lost + waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCounts {
    /// Sent.
    pub sent: u64,
    /// Come home in time.
    pub returned: u64,
    /// Overdue.
    pub lost: u64,
    /// Overdue ones that came home all the same.
    pub late: u64,
}

struct Outstanding {
    id: Id,
    sent_ns: u64,
    delays_ns: u64,
    due_ns: u64,
    epoch: u32,
    way: Way,
    is_overdue: bool,
    /// The worker stood still while this one was on its way.
    is_excused: bool,
}

/// The loops that a worker waits for.
pub struct Loops {
    outstanding: ArrayVec<Outstanding, OUTSTANDING_MAX>,
    counts: LoopCounts,
    excess: Excess,
    fates: Fates,
    turned_ns: u64,
}

impl Loops {
    /// None is on its way yet.
    pub fn new(now_ns: u64) -> Loops {
        Loops {
            outstanding: ArrayVec::new(),
            counts: LoopCounts::default(),
            excess: Excess::new(now_ns),
            fates: ArrayVec::new(),
            turned_ns: now_ns,
        }
    }

    /// To be called when the worker turns, before it takes what arrived: who was late does not judge others.
    pub fn turned(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.turned_ns) >= STALL_NS {
            let on_the_way = self.outstanding.iter_mut();
            on_the_way
                .filter(|one| !one.is_overdue)
                .for_each(|one| one.is_excused = true);
        }
        self.turned_ns = now_ns;
    }

    /// Whether another loop can be remembered. One that is overdue gives way.
    pub fn has_room(&self) -> bool {
        !self.outstanding.is_full() || self.outstanding.iter().any(|one| one.is_overdue)
    }

    /// A loop left on `path`, which ends at this node.
    pub fn sent(&mut self, id: Id, epoch: u32, path: &[PathHop], now_ns: u64) {
        if self.outstanding.is_full()
            && let Some(overdue) = self.outstanding.iter().position(|one| one.is_overdue)
        {
            self.outstanding.swap_remove(overdue);
        }
        let delays_us: u64 = path.iter().map(|hop| u64::from(hop.delay_us)).sum();
        let others = path.split_last().map_or(&[][..], |(_, others)| others);
        let delays_ns = delays_us * 1_000;
        let one = Outstanding {
            id,
            sent_ns: now_ns,
            delays_ns,
            due_ns: now_ns + delays_ns + self.margin_ns(now_ns),
            epoch,
            way: others.iter().take(HOPS_MAX).map(|hop| hop.node).collect(),
            is_overdue: false,
            is_excused: false,
        };
        if self.outstanding.try_push(one).is_ok() {
            self.counts.sent += 1;
        }
    }

    /// What a loop that leaves now may take beside its delays: four links around the world take longer than half a
    /// second, and a way that is slow all the time is none that loses.
    pub fn margin_ns(&mut self, now_ns: u64) -> u64 {
        let p99_ns = self.excess.p99_us(now_ns).unwrap_or(0) * 1_000;
        (MARGIN_FACTOR * p99_ns).clamp(MARGIN_MIN_NS, MARGIN_MAX_NS)
    }

    /// A loop came home: its round trip. `None` if it is not remembered any more, or none of ours.
    pub fn returned(&mut self, id: &Id, now_ns: u64) -> Option<u64> {
        let position = self.outstanding.iter().position(|one| one.id == *id)?;
        let one = self.outstanding.swap_remove(position);
        let round_ns = now_ns.saturating_sub(one.sent_ns);
        let excess_us = round_ns.saturating_sub(one.delays_ns) / 1_000;
        // Late ones too: else a way that became slow would never be seen as one.
        self.excess.record(excess_us, now_ns);
        let excess_us = u32::try_from(excess_us).unwrap_or(u32::MAX);
        if one.is_overdue || now_ns > one.due_ns {
            self.counts.late += 1;
            if !one.is_overdue {
                self.counts.lost += 1;
                tell(&mut self.fates, now_ns, &one, Outcome::Overdue);
            }
            tell(&mut self.fates, now_ns, &one, Outcome::Late { excess_us });
        } else {
            self.counts.returned += 1;
            tell(&mut self.fates, now_ns, &one, Outcome::Home { excess_us });
        }
        Some(round_ns)
    }

    /// Finds what is overdue, and forgets what is so for longer than a slow way explains.
    pub fn look(&mut self, now_ns: u64) {
        let (counts, fates) = (&mut self.counts, &mut self.fates);
        self.outstanding.retain(|one| {
            if !one.is_overdue && now_ns > one.due_ns {
                one.is_overdue = true;
                counts.lost += 1;
                tell(fates, now_ns, one, Outcome::Overdue);
            }
            !one.is_overdue || now_ns <= one.sent_ns + one.delays_ns + LATE_MAX_NS
        });
    }

    /// What became of the loops so far.
    pub fn counts(&self) -> LoopCounts {
        self.counts
    }

    /// Fates that were not told yet; who tells them takes them out.
    pub fn fates_mut(&mut self) -> &mut Fates {
        &mut self.fates
    }
}

fn tell(fates: &mut Fates, decided_ns: u64, one: &Outstanding, outcome: Outcome) {
    if one.is_excused {
        return;
    }
    let _ = fates.try_push(Fate {
        decided_ns,
        id: one.id,
        epoch: one.epoch,
        way: one.way.clone(),
        outcome,
    });
}

const MINUTE_NS: u64 = 60_000_000_000;
const MINUTES: usize = 15;
/// Buckets, four an octave, from half a millisecond to over four seconds.
const OCTAVE_FIRST: u32 = 9;
const BUCKETS: usize = 56;

/// What loops took beside their delays in the last quarter of an hour.
struct Excess {
    minutes: Box<[[u32; BUCKETS]; MINUTES]>,
    minute: u64,
    total: [u32; BUCKETS],
    count: u32,
}

impl Excess {
    fn new(now_ns: u64) -> Excess {
        Excess {
            minutes: Box::new([[0; BUCKETS]; MINUTES]),
            minute: now_ns / MINUTE_NS,
            total: [0; BUCKETS],
            count: 0,
        }
    }

    fn record(&mut self, us: u64, now_ns: u64) {
        self.forget(now_ns);
        let octave = us.max(1 << OCTAVE_FIRST).ilog2();
        let quarter = (us.max(1 << OCTAVE_FIRST) >> (octave - 2)) & 3;
        let bucket = (octave - OCTAVE_FIRST) as usize * 4 + quarter as usize;
        let bucket = bucket.min(BUCKETS - 1);
        self.minutes[(self.minute % MINUTES as u64) as usize][bucket] += 1;
        self.total[bucket] += 1;
        self.count += 1;
    }

    /// The 99th percentile, rounded up to its bucket's end.
    fn p99_us(&mut self, now_ns: u64) -> Option<u64> {
        self.forget(now_ns);
        let rank = (u64::from(self.count) * 99).div_ceil(100);
        let mut below = 0;
        let holds = |count: &u32| {
            below += u64::from(*count);
            below >= rank
        };
        let bucket = self.total.iter().position(holds).filter(|_| rank > 0)?;
        let octave = OCTAVE_FIRST + bucket as u32 / 4;
        Some((5 + bucket as u64 % 4) << (octave - 2))
    }

    fn forget(&mut self, now_ns: u64) {
        let minute = now_ns / MINUTE_NS;
        let passed = minute.saturating_sub(self.minute).min(MINUTES as u64);
        for later in 1..=passed {
            let place = ((self.minute + later) % MINUTES as u64) as usize;
            let old = core::mem::replace(&mut self.minutes[place], [0; BUCKETS]);
            for (total, old) in self.total.iter_mut().zip(old) {
                *total -= old;
                self.count -= old;
            }
        }
        self.minute = self.minute.max(minute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn path(delays_ms: [u32; 4]) -> Vec<PathHop> {
        let hop = |(node, ms)| PathHop {
            public_key: [0; 32],
            node,
            delay_us: ms * 1_000,
        };
        (7..).zip(delays_ms).map(hop).collect()
    }

    #[test]
    fn a_loop_is_due_by_its_own_delays_and_its_whole_way_is_told() {
        let mut loops = Loops::new(0);
        loops.sent([1; 8], 5, &path([100, 200, 300, 0]), 0);
        loops.sent([2; 8], 5, &path([10, 20, 30, 0]), 0);
        assert_eq!(loops.returned(&[1; 8], 610 * MS), Some(610 * MS));
        assert_eq!(loops.returned(&[1; 8], 610 * MS), None, "once");
        loops.look(560 * MS);
        assert_eq!(loops.counts().lost, 0, "60 ms of delays and half a second");
        loops.look(561 * MS);
        let way: Way = [7, 8, 9].into_iter().collect();
        let fates: Vec<Fate> = loops.fates_mut().drain(..).collect();
        assert_eq!(
            fates,
            [
                Fate {
                    decided_ns: 610 * MS,
                    id: [1; 8],
                    epoch: 5,
                    way: way.clone(),
                    outcome: Outcome::Home { excess_us: 10_000 }
                },
                Fate {
                    decided_ns: 561 * MS,
                    id: [2; 8],
                    epoch: 5,
                    way,
                    outcome: Outcome::Overdue
                },
            ]
        );
    }

    #[test]
    fn a_late_loop_is_overdue_once_and_home_all_the_same_until_it_is_forgotten() {
        let mut loops = Loops::new(0);
        for id in 1..=3 {
            loops.sent([id; 8], 5, &path([0; 4]), 0);
        }
        // One comes between two looks, one after, one when nobody waits for it any more.
        assert_eq!(loops.returned(&[1; 8], 501 * MS), Some(501 * MS));
        loops.look(600 * MS);
        assert!(loops.returned(&[2; 8], 9_900 * MS).is_some());
        loops.look(10_001 * MS);
        assert_eq!(loops.returned(&[3; 8], 10_002 * MS), None);
        let counts = LoopCounts {
            sent: 3,
            returned: 0,
            lost: 3,
            late: 2,
        };
        assert_eq!(loops.counts(), counts);
        let told: Vec<(u8, bool)> = loops
            .fates_mut()
            .iter()
            .map(|fate| (fate.id[0], fate.outcome == Outcome::Overdue))
            .collect();
        let late = false;
        assert_eq!(
            told,
            [(1, true), (1, late), (3, true), (2, true), (2, late)]
        );
    }

    #[test]
    fn a_worker_that_stood_still_says_nothing_of_the_loops_that_were_on_their_way() {
        let mut loops = Loops::new(0);
        loops.sent([1; 8], 5, &path([0; 4]), 0);
        loops.sent([2; 8], 5, &path([100, 100, 0, 0]), 0);
        for turn in 1..=2 {
            loops.turned(turn * 100 * MS);
        }
        // Whatever came meanwhile is taken after this.
        loops.turned(900 * MS);
        assert!(loops.returned(&[1; 8], 900 * MS).is_some());
        loops.sent([3; 8], 5, &path([0; 4]), 900 * MS);
        loops.look(900 * MS);
        for turn in 10..=30 {
            loops.turned(turn * 100 * MS);
        }
        loops.look(3_000 * MS);
        let counts = LoopCounts {
            sent: 3,
            returned: 0,
            lost: 3,
            late: 1,
        };
        assert_eq!(loops.counts(), counts, "they are counted all the same");
        let told: Vec<u8> = loops.fates_mut().iter().map(|fate| fate.id[0]).collect();
        assert_eq!(told, [3]);
    }

    #[test]
    fn a_way_that_is_slow_all_the_time_gets_more_time_and_loses_it_again() {
        let mut loops = Loops::new(0);
        assert_eq!(loops.margin_ns(0), MARGIN_MIN_NS);
        for id in 0..100u8 {
            loops.sent([id; 8], 5, &path([0; 4]), 0);
            loops.returned(&[id; 8], 900 * MS);
        }
        let margin_ns = loops.margin_ns(1_000 * MS);
        assert!((1_800 * MS..2_200 * MS).contains(&margin_ns), "{margin_ns}");
        loops.sent([9; 8], 5, &path([0; 4]), 1_000 * MS);
        loops.returned(&[9; 8], 60_000 * MS);
        assert!(loops.margin_ns(60_000 * MS) <= MARGIN_MAX_NS);
        assert_eq!(loops.margin_ns(16 * MINUTE_NS + 1), MARGIN_MIN_NS);
    }

    #[test]
    fn a_full_table_sends_no_more_until_one_is_overdue() {
        let mut loops = Loops::new(0);
        for number in 0..OUTSTANDING_MAX {
            assert!(loops.has_room());
            let id = (number as u64).to_be_bytes();
            loops.sent(id, 5, &path([0; 4]), number as u64);
        }
        assert!(!loops.has_room());
        loops.look(MARGIN_MIN_NS + 1);
        assert!(loops.has_room());
        loops.sent([255; 8], 5, &path([0; 4]), MARGIN_MIN_NS + 1);
        assert_eq!(loops.counts().sent, OUTSTANDING_MAX as u64 + 1);
        assert_eq!(loops.counts().lost, 1, "it made room");
    }
}
