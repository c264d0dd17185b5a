//! The wheel against a binary heap: the same frames at the same time, in another order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use mixnode::path::stage::{Delayed, DelayedBatch, Route};
use mixnode::path::wheel::{HORIZON_TICKS, Wheel};
use port::BATCH_MAX;
use port::pool::{Frame, FramePool};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const TICK_NS: u64 = 1000;

/// A packet for a next hop; only its frame and its time matter to the wheel.
fn delayed(frame: Frame, due_ns: u64) -> Delayed {
    Delayed {
        frame,
        neighbour: 3,
        since_ns: 5,
        due_ns,
        route: Route::Forward { link: 7, epoch: 1 },
    }
}

struct Pair {
    wheel: Wheel,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    pool: FramePool,
    rng: ChaCha20Rng,
    now_ns: u64,
}

impl Pair {
    fn new(frames: u32, start_ns: u64) -> Pair {
        Pair {
            wheel: Wheel::new(frames, TICK_NS, start_ns),
            heap: BinaryHeap::new(),
            pool: FramePool::new(frames).unwrap(),
            rng: ChaCha20Rng::seed_from_u64(1),
            now_ns: start_ns,
        }
    }

    fn insert(&mut self, delay_ns: u64) {
        if let Some(frame) = self.pool.take() {
            let due_ns = self.now_ns + delay_ns;
            // A frame leaves with the first tick at or after its time, and not before the next one.
            let tick = due_ns.div_ceil(TICK_NS).max(self.now_ns / TICK_NS + 1);
            self.heap.push(Reverse((tick, frame.index())));
            self.wheel.insert(delayed(frame, due_ns));
        }
    }

    /// Moves both; the frames both agree on, in the wheel's order.
    fn advance(&mut self, now_ns: u64) -> Vec<u32> {
        self.now_ns = now_ns;
        let mut expected = Vec::new();
        while let Some(&Reverse((tick, index))) = self.heap.peek()
            && tick <= now_ns / TICK_NS
        {
            self.heap.pop();
            expected.push(index);
        }
        let mut got = Vec::new();
        let mut due = DelayedBatch::new();
        while self.wheel.advance(now_ns, &mut self.rng, &mut due) > 0 {
            for one in due.drain(..) {
                got.push(one.frame.index());
                self.pool.release(one.frame);
            }
        }
        let mut sorted = got.clone();
        sorted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
        assert_eq!(self.wheel.len(), self.heap.len());
        self.check_deadline();
        got
    }

    /// The deadline is never after the first due frame, and always ahead.
    fn check_deadline(&self) {
        let first = self.heap.peek().map(|&Reverse((tick, _))| tick * TICK_NS);
        let deadline = self.wheel.deadline_ns();
        assert_eq!(deadline.is_some(), first.is_some());
        if let (Some(deadline), Some(first)) = (deadline, first) {
            assert!(
                deadline <= first && deadline > self.now_ns / TICK_NS * TICK_NS,
                "{deadline} {first}"
            );
        }
    }
}

proptest! {
    #[test]
    fn the_wheel_releases_what_a_heap_would(
        start_ns in 0u64..1_000_000_000,
        steps in proptest::collection::vec(
            // Delays within a slot, across one turn, across two, and beyond; jumps alike.
            (prop_oneof![0u64..5_000, 0u64..600_000, 0u64..200_000_000, 0u64..33_000_000_000],
             1usize..40,
             prop_oneof![Just(0u64), 0u64..3_000, 0u64..700_000, 0u64..80_000_000, 0u64..5_000_000_000]),
            1..60),
    ) {
        let mut pair = Pair::new(256, start_ns);
        for (delay_ns, count, jump_ns) in steps {
            for n in 0..count as u64 {
                pair.insert(delay_ns + n * 777);
            }
            pair.advance(pair.now_ns + jump_ns);
        }
        // Sleeping until each deadline, nothing is ever late and everything comes out.
        while let Some(deadline_ns) = pair.wheel.deadline_ns() {
            pair.advance(deadline_ns);
        }
        prop_assert_eq!(pair.pool.in_use(), 0);
    }
}

/// Farther ahead than the wheel reaches, a frame leaves at the wheel's end, never later and never lost.
#[test]
fn a_frame_beyond_the_horizon_leaves_at_the_horizon() {
    let mut pair = Pair::new(1, 7 * TICK_NS);
    let frame = pair.pool.take().unwrap();
    pair.heap.push(Reverse((7 + HORIZON_TICKS, frame.index())));
    pair.wheel.insert(delayed(frame, u64::MAX));
    while let Some(deadline_ns) = pair.wheel.deadline_ns() {
        pair.advance(deadline_ns);
    }
    assert_eq!(
        (pair.now_ns, pair.pool.in_use()),
        ((7 + HORIZON_TICKS) * TICK_NS, 0)
    );
}

/// A worker that sleeps until the deadline wakes a bounded number of times for one far frame.
#[test]
fn a_far_frame_costs_few_wake_ups() {
    let mut pair = Pair::new(4, 5);
    pair.insert(30_000_000_000);
    let mut wakes = 0;
    while let Some(deadline_ns) = pair.wheel.deadline_ns() {
        pair.advance(deadline_ns);
        wakes += 1;
    }
    assert!(wakes <= 4, "{wakes}");
}

/// All orders of the frames of one slot come up, about equally often: arrival order is forgotten.
#[test]
fn the_order_within_a_slot_is_random_and_not_that_of_arrival() {
    let mut pair = Pair::new(4, 0);
    let mut orders: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
    const ROUNDS: u32 = 24_000;
    for _ in 0..ROUNDS {
        let mut arrival = Vec::new();
        for _ in 0..4 {
            let frame = pair.pool.take().unwrap();
            arrival.push(frame.index());
            pair.heap
                .push(Reverse((pair.now_ns / TICK_NS + 1, frame.index())));
            pair.wheel.insert(delayed(frame, pair.now_ns + TICK_NS / 2));
        }
        let left = pair.advance(pair.now_ns + TICK_NS);
        // By place in the order of arrival.
        let places = left
            .iter()
            .map(|index| arrival.iter().position(|one| one == index).unwrap() as u32);
        *orders.entry(places.collect()).or_default() += 1;
    }
    assert_eq!(orders.len(), 24);
    // Chi-squared with 23 degrees of freedom: 58 is exceeded once in 10,000 seeds, and this one is fixed.
    let expected = f64::from(ROUNDS) / 24.0;
    let chi: f64 = orders
        .values()
        .map(|&seen| (f64::from(seen) - expected).powi(2) / expected)
        .sum();
    assert!(chi < 58.0, "{chi}");
}

/// Frames of an upper slot move down a few a tick, not all when their turn begins.
#[test]
fn a_crowded_far_slot_comes_out_whole_and_on_time() {
    let mut pair = Pair::new(20_000, 0);
    // All within one slot of the second level, far ahead; and a block of the third.
    for n in 0..10_000u64 {
        pair.insert(1_024_000 + n * 25);
        pair.insert(131_072_000 + n * 25);
    }
    let mut largest = 0;
    for tick in 1..=132_000 {
        largest = largest.max(pair.advance(tick * TICK_NS).len());
    }
    assert_eq!(pair.wheel.len(), 0);
    assert!(largest <= 40, "a tick's frames, not a block's: {largest}");
}

#[test]
fn more_due_frames_than_a_batch_holds_come_in_several() {
    let mut pair = Pair::new(1000, 0);
    for _ in 0..1000 {
        pair.insert(1);
    }
    let mut due = DelayedBatch::new();
    assert_eq!(
        pair.wheel.advance(TICK_NS, &mut pair.rng, &mut due),
        BATCH_MAX
    );
    // What is left is due now.
    assert!(pair.wheel.deadline_ns().unwrap() <= TICK_NS);
    due.drain(..).for_each(|one| pair.pool.release(one.frame));
    assert_eq!(pair.wheel.len(), 1000 - BATCH_MAX);
}

#[test]
fn a_stopped_wheel_gives_every_frame_back() {
    let mut pair = Pair::new(300, 0);
    for n in 0..300u64 {
        pair.insert(n * n * n * 1000);
    }
    let mut due = DelayedBatch::new();
    // Some are due and not handed out.
    pair.wheel.advance(100 * TICK_NS, &mut pair.rng, &mut due);
    while pair.wheel.drain(&mut due) > 0 || !due.is_empty() {
        due.drain(..).for_each(|one| pair.pool.release(one.frame));
    }
    assert_eq!((pair.wheel.len(), pair.pool.in_use()), (0, 0));
    assert!(pair.wheel.is_empty() && pair.wheel.deadline_ns().is_none());
}

#[test]
fn what_the_wheel_was_given_comes_back_whole() {
    let mut pair = Pair::new(1, 0);
    let mut due = DelayedBatch::new();
    let frame = pair.pool.take().unwrap();
    let index = frame.index();
    pair.wheel.insert(delayed(frame, 5 * TICK_NS));
    assert_eq!(pair.wheel.advance(4 * TICK_NS, &mut pair.rng, &mut due), 0);
    pair.wheel.advance(5 * TICK_NS, &mut pair.rng, &mut due);
    let one = due.pop().unwrap();
    assert_eq!(
        (one.frame.index(), one.neighbour, one.since_ns, one.due_ns),
        (index, 3, 5, 5 * TICK_NS)
    );
    assert_eq!(one.route, Route::Forward { link: 7, epoch: 1 });
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn a_frame_of_a_larger_pool_is_refused() {
    let mut pool = FramePool::new(2).unwrap();
    let mut wheel = Wheel::new(1, TICK_NS, 0);
    let (low, high) = (pool.take().unwrap(), pool.take().unwrap());
    wheel.insert(delayed(low, 5));
    wheel.insert(delayed(high, 5));
}
