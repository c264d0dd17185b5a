//! The delay wheel: holds frames until they are due, and forgets the order they came in.
//!
//! A hierarchical timing wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987) of three
//! levels, linked by `u32` over frame numbers, so that its memory is fixed. Slots of a plain wheel are first in,
//! first out, which would leak arrival order within a tick: here everything that expired is drawn at random with
//! the worker's cryptographic generator, one draw a frame.
//!
//! Work is bounded. Each level has twice the slots one turn of it needs, so that a slot of an upper level may
//! move down at any time during the turn before it is needed: a tick moves its share, never a whole slot at once.

use rand::RngExt;
use rand_core::CryptoRng;

use crate::path::stage::{Delayed, DelayedBatch};

/// Ticks of one turn of a level, and the factor from one level to the next.
const TURN: u64 = 256;
const SLOTS: usize = 2 * TURN as usize;
const LEVELS: usize = 3;
const WORDS: usize = SLOTS / 64;
/// Farthest a frame can be put ahead, in ticks (56 minutes of [`TICK_NS`]); a later one is put there.
pub const HORIZON_TICKS: u64 = (SLOTS as u64 - 1) * TURN * TURN;
const NONE: u32 = u32::MAX;

/// Nanoseconds of a tick unless told otherwise: a fraction of any mean delay worth having.
pub const TICK_NS: u64 = 100_000;

/// What the wheel keeps of a frame: a cache line of its own, read when the frame comes and when it leaves. The links
/// lie apart, so that walking a slot touches nothing else.
#[repr(align(64))]
struct Entry {
    delayed: Option<Delayed>,
    tick: u64,
}

const _: () = assert!(size_of::<Entry>() == 64);

struct Level {
    heads: [u32; SLOTS],
    counts: [u32; SLOTS],
    occupied: [u64; WORDS],
}

impl Level {
    const EMPTY: Level = Level {
        heads: [NONE; SLOTS],
        counts: [0; SLOTS],
        occupied: [0; WORDS],
    };

    /// Absolute number of the first occupied slot after `after`, searching one round of the level.
    fn first_after(&self, after: u64) -> Option<u64> {
        let start = (after + 1) as usize % SLOTS;
        let mut passed = 0;
        while passed < SLOTS {
            let slot = (start + passed) % SLOTS;
            let word = self.occupied[slot / 64] >> (slot % 64);
            if word != 0 {
                let distance = passed + word.trailing_zeros() as usize;
                return (distance < SLOTS).then_some(after + 1 + distance as u64);
            }
            passed += 64 - slot % 64;
        }
        None
    }
}

/// Frames held until due. Capacity, memory and the most work of a call are fixed at start.
pub struct Wheel {
    levels: Box<[Level; LEVELS]>,
    /// By frame number.
    entries: Box<[Entry]>,
    /// By frame number: the next frame of the same slot.
    next: Box<[u32]>,
    /// Due and not handed out yet, in no order.
    expired: Vec<u32>,
    tick_ns: u64,
    /// Every tick up to this one has been expired.
    tick: u64,
    held: usize,
}

/// Slot width of a level, in ticks.
const fn width(level: usize) -> u64 {
    TURN.pow(level as u32)
}

impl Wheel {
    /// A wheel for frames with numbers below `frames`, ticking every `tick_ns` (at least 1) from `start_ns` on.
    pub fn new(frames: u32, tick_ns: u64, start_ns: u64) -> Wheel {
        let tick_ns = tick_ns.max(1);
        Wheel {
            levels: Box::new([Level::EMPTY; LEVELS]),
            entries: (0..frames)
                .map(|_| Entry {
                    delayed: None,
                    tick: 0,
                })
                .collect(),
            next: (0..frames).map(|_| NONE).collect(),
            expired: Vec::with_capacity(frames as usize),
            tick_ns,
            tick: start_ns / tick_ns,
            held: 0,
        }
    }

    /// Number of frames held, due ones included.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Holds `delayed` until it is due, rounded up to a tick; what is due already leaves with the next tick.
    ///
    /// # Panics
    /// If the frame's number is not below the wheel's `frames`: it is of another pool.
    pub fn insert(&mut self, delayed: Delayed) {
        let index = delayed.frame.index();
        let tick = delayed
            .due_ns
            .div_ceil(self.tick_ns)
            .clamp(self.tick + 1, self.tick + HORIZON_TICKS);
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.delayed.is_none(), "one token, one place");
        entry.delayed = Some(delayed);
        entry.tick = tick;
        self.link(index);
        self.held += 1;
    }

    /// Puts an entry into the lowest level that reaches its tick.
    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        for (number, level) in self.levels.iter_mut().enumerate() {
            let position = tick / width(number);
            if position - self.tick / width(number) < SLOTS as u64 {
                let slot = position as usize % SLOTS;
                self.next[index as usize] = level.heads[slot];
                level.heads[slot] = index;
                level.counts[slot] += 1;
                level.occupied[slot / 64] |= 1 << (slot % 64);
                return;
            }
        }
    }

    /// Takes one entry out of a slot.
    fn unlink(&mut self, level: usize, slot: usize) -> Option<u32> {
        let level = &mut self.levels[level];
        let index = level.heads[slot];
        if index == NONE {
            return None;
        }
        level.heads[slot] = self.next[index as usize];
        level.counts[slot] -= 1;
        if level.heads[slot] == NONE {
            level.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        Some(index)
    }

    /// When [`Wheel::advance`] next has something to do: the earliest due frame, or a little before it when that
    /// frame is far away. `None` when nothing is held.
    pub fn deadline_ns(&self) -> Option<u64> {
        if !self.expired.is_empty() {
            return Some(self.tick * self.tick_ns);
        }
        let mut earliest: Option<u64> = None;
        for (number, level) in self.levels.iter().enumerate() {
            if let Some(slot) = level.first_after(self.tick / width(number)) {
                let tick = slot * width(number);
                earliest = Some(earliest.map_or(tick, |other| other.min(tick)));
            }
        }
        earliest.map(|tick| tick * self.tick_ns)
    }

    /// Moves time to `now_ns` and hands out frames that are due, in random order, as far as `due` has room. A
    /// full `due` may mean that more are waiting: call again. Returns how many were handed out.
    pub fn advance<R: CryptoRng + ?Sized>(
        &mut self,
        now_ns: u64,
        rng: &mut R,
        due: &mut DelayedBatch,
    ) -> usize {
        let target = now_ns / self.tick_ns;
        while self.tick < target {
            let next = self.next_busy_tick().min(target);
            self.tick = next.max(self.tick + 1);
            self.expire_slot();
            self.move_down();
        }
        let before = due.len();
        while !due.is_full() && !self.expired.is_empty() {
            let drawn = rng.random_range(0..self.expired.len());
            let index = self.expired.swap_remove(drawn);
            due.extend(self.take(index));
        }
        due.len() - before
    }

    /// Takes out what an unlinked entry holds.
    fn take(&mut self, index: u32) -> Option<Delayed> {
        let delayed = self.entries[index as usize].delayed.take();
        self.held -= usize::from(delayed.is_some());
        delayed
    }

    /// The next tick at which a slot expires or a share moves down; ticks before it can be skipped.
    fn next_busy_tick(&self) -> u64 {
        let mut next = self.levels[0].first_after(self.tick).unwrap_or(u64::MAX);
        for number in 1..LEVELS {
            if let Some(slot) = self.levels[number].first_after(self.tick / width(number)) {
                // Its move begins one turn of this level's slot before it is needed.
                next = next.min(((slot - 1) * width(number)).max(self.tick + 1));
            }
        }
        next
    }

    fn expire_slot(&mut self) {
        let slot = self.tick as usize % SLOTS;
        while let Some(index) = self.unlink(0, slot) {
            self.expired.push(index);
        }
    }

    /// Moves this tick's share of the next slot of each upper level one level down: what is left of it divided by
    /// the ticks left, so that the slot is empty when its time begins.
    fn move_down(&mut self) {
        for number in (1..LEVELS).rev() {
            let position = self.tick / width(number) + 1;
            let slot = position as usize % SLOTS;
            let left = position * width(number) - self.tick;
            let share = u64::from(self.levels[number].counts[slot]).div_ceil(left);
            for _ in 0..share {
                if let Some(index) = self.unlink(number, slot) {
                    self.link(index);
                }
            }
        }
    }

    /// Takes any frames out, due or not: how a stopped node frees what is left. Returns how many.
    pub fn drain(&mut self, into: &mut DelayedBatch) -> usize {
        let before = into.len();
        while !into.is_full()
            && let Some(index) = self.any()
        {
            into.extend(self.take(index));
        }
        into.len() - before
    }

    /// Unlinks one entry from wherever there is one.
    fn any(&mut self) -> Option<u32> {
        if let Some(index) = self.expired.pop() {
            return Some(index);
        }
        for level in 0..LEVELS {
            let occupied = self.levels[level].occupied;
            if let Some(word) = occupied.iter().position(|&word| word != 0) {
                return self.unlink(level, word * 64 + occupied[word].trailing_zeros() as usize);
            }
        }
        None
    }
}
