//! The rings over memory of the heap, both sides in one process, against a queue as oracle.
#![allow(unsafe_code, reason = "the rings under test are unsafe to make")]

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use proptest::prelude::*;

use super::rings::*;

/// A ring that is nobody's but the test's.
pub struct HeapRing {
    pub producer: AtomicU32,
    pub consumer: AtomicU32,
    /// The other side sleeps.
    pub sleeps: AtomicBool,
    entries: Vec<UnsafeCell<u64>>,
}

// SAFETY: entries are reached only as the rings' protocol allows, which is what is tested.
unsafe impl Sync for HeapRing {}

impl HeapRing {
    pub fn new(entries: u32, start: u32) -> Arc<HeapRing> {
        Arc::new(HeapRing {
            producer: AtomicU32::new(start),
            consumer: AtomicU32::new(start),
            sleeps: AtomicBool::new(false),
            entries: (0..entries).map(|_| UnsafeCell::new(u64::MAX)).collect(),
        })
    }
}

// SAFETY: the length is a power of two in every test, and indexing checks its bounds.
unsafe impl RingMemory for Arc<HeapRing> {
    type Entry = u64;

    fn entries(&self) -> u32 {
        self.entries.len() as u32
    }
    fn producer(&self) -> u32 {
        self.producer.load(Ordering::Acquire)
    }
    fn set_producer(&self, index: u32) {
        self.producer.store(index, Ordering::Release);
    }
    fn consumer(&self) -> u32 {
        self.consumer.load(Ordering::Acquire)
    }
    fn set_consumer(&self, index: u32) {
        self.consumer.store(index, Ordering::Release);
    }
    fn needs_wakeup(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeps.load(Ordering::Relaxed)
    }
    unsafe fn read(&self, slot: u32) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { *self.entries[slot as usize].get() }
    }
    unsafe fn write(&self, slot: u32, entry: u64) {
        // SAFETY: the caller's promise.
        unsafe { *self.entries[slot as usize].get() = entry };
    }
}

fn pair(ring: &Arc<HeapRing>) -> (Producer<Arc<HeapRing>>, Consumer<Arc<HeapRing>>) {
    // SAFETY: one of each.
    unsafe {
        (
            Producer::new(Arc::clone(ring)),
            Consumer::new(Arc::clone(ring)),
        )
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Publish,
    Pop(u8),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..20_u8).prop_map(Step::Push),
        Just(Step::Publish),
        (1..20_u8).prop_map(Step::Pop),
        Just(Step::Release),
    ]
}

proptest! {
    /// Order, nothing lost, nothing twice, no place used before it is given back; also across the wrap of the indices.
    #[test]
    fn a_ring_is_a_bounded_queue(
        bits in 0_u32..5, before_wrap in 0_u32..40, steps in proptest::collection::vec(step(), 1..400),
    ) {
        let entries = 1 << bits;
        let ring = HeapRing::new(entries, 0_u32.wrapping_sub(before_wrap));
        let (mut producer, mut consumer) = pair(&ring);
        let (mut unpublished, mut published) = (VecDeque::new(), VecDeque::new());
        let (mut next, mut taken) = (0_u64, 0_usize);
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    let full = unpublished.len() + published.len() + taken == entries as usize;
                    prop_assert_eq!(producer.push(next).is_err(), full);
                    if full { break }
                    unpublished.push_back(next);
                    next += 1;
                },
                Step::Publish => {
                    prop_assert_eq!(producer.publish() as usize, unpublished.len());
                    published.append(&mut unpublished);
                }
                Step::Pop(count) => for _ in 0..count {
                    let entry = consumer.pop();
                    prop_assert_eq!(entry, published.pop_front());
                    taken += usize::from(entry.is_some());
                },
                Step::Release => {
                    prop_assert_eq!(consumer.release() as usize, taken);
                    taken = 0;
                }
            }
            prop_assert_eq!(producer.pending() as usize, published.len() + taken);
            prop_assert_eq!(producer.room(entries) as usize, entries as usize - unpublished.len() - published.len() - taken);
            prop_assert!(!consumer.is_corrupt());
        }
    }

    /// Whatever the other side writes into its index, nothing is out of bounds and no side takes what can't be there.
    #[test]
    fn nonsense_in_the_other_sides_index_is_no_entry_and_no_place(
        start: u32, theirs: u32, bits in 0_u32..5,
    ) {
        let entries = 1_u32 << bits;
        let ring = HeapRing::new(entries, start);
        let (_, mut consumer) = pair(&ring);
        ring.producer.store(theirs, Ordering::Relaxed);
        let claimed = theirs.wrapping_sub(start);
        prop_assert_eq!(consumer.is_corrupt(), claimed > entries);
        prop_assert_eq!(consumer.available(), if claimed <= entries { claimed } else { 0 });
        while consumer.pop().is_some() {}
        prop_assert!(consumer.release() <= entries);
        let ring = HeapRing::new(entries, start);
        ring.consumer.store(theirs, Ordering::Relaxed);
        let (mut producer, _) = pair(&ring);
        let used = start.wrapping_sub(theirs);
        prop_assert_eq!(producer.room(entries), entries.saturating_sub(used));
        while producer.push(1).is_ok() {}
        prop_assert!(producer.publish() <= entries);
        prop_assert!(producer.pending() <= entries);
    }
}

/// A driver finds the ring empty, is given entries, and only then raises its flag and sleeps.
#[test]
fn a_flag_raised_after_the_entries_were_published_is_seen_as_long_as_they_lie_there() {
    let ring = HeapRing::new(8, 0);
    let (mut producer, mut consumer) = pair(&ring);
    producer.push(1).unwrap();
    producer.publish();
    assert!(!producer.needs_wakeup(), "nothing to see yet");
    ring.sleeps.store(true, Ordering::SeqCst);
    assert!(producer.is_slept_on());
    // Until it has taken them; who sleeps over an empty ring needs no waking.
    assert_eq!(consumer.pop(), Some(1));
    consumer.release();
    assert!(producer.needs_wakeup() && !producer.is_slept_on());
}

/// Two threads, a small ring, many wraps: every entry once, in order.
#[test]
fn a_million_entries_pass_between_two_threads_in_order() {
    let ring = HeapRing::new(8, u32::MAX - 1000);
    let (mut producer, mut consumer) = pair(&ring);
    const COUNT: u64 = 1_000_000;
    let writer = std::thread::spawn(move || {
        let mut next = 0;
        while next < COUNT {
            while next < COUNT && producer.push(next).is_ok() {
                next += 1;
            }
            if producer.publish() == 0 {
                std::thread::yield_now();
            }
        }
        producer
    });
    let mut expected = 0;
    while expected < COUNT {
        while let Some(entry) = consumer.pop() {
            assert_eq!(entry, expected);
            expected += 1;
        }
        if consumer.release() == 0 {
            std::thread::yield_now();
        }
    }
    let mut producer = writer.join().unwrap();
    assert_eq!((producer.pending(), consumer.pop()), (0, None));
    assert_eq!(producer.room(8), 8);
}
