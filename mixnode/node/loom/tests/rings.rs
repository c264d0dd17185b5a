//! The rings shared with the kernel under the model checker: every interleaving of a producer and a consumer, with
//! entries that the checker guards against being reached by both at once.
#![allow(unsafe_code, reason = "the rings under test are unsafe to make")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use models::rings::{Consumer, Producer, RingMemory};

struct LoomRing {
    producer: AtomicU32,
    consumer: AtomicU32,
    entries: Vec<UnsafeCell<u64>>,
}

#[derive(Clone)]
struct Shared(Arc<LoomRing>);

impl Shared {
    fn new(entries: u32, start: u32) -> Shared {
        Shared(Arc::new(LoomRing {
            producer: AtomicU32::new(start),
            consumer: AtomicU32::new(start),
            entries: (0..entries).map(|_| UnsafeCell::new(u64::MAX)).collect(),
        }))
    }
}

// SAFETY: a power of two of entries; the checker's cell panics if both sides reach one at once.
unsafe impl RingMemory for Shared {
    type Entry = u64;

    fn entries(&self) -> u32 {
        self.0.entries.len() as u32
    }
    fn producer(&self) -> u32 {
        self.0.producer.load(Ordering::Acquire)
    }
    fn set_producer(&self, index: u32) {
        self.0.producer.store(index, Ordering::Release);
    }
    fn consumer(&self) -> u32 {
        self.0.consumer.load(Ordering::Acquire)
    }
    fn set_consumer(&self, index: u32) {
        self.0.consumer.store(index, Ordering::Release);
    }
    fn needs_wakeup(&self) -> bool {
        false
    }
    unsafe fn read(&self, slot: u32) -> u64 {
        // SAFETY: the caller's promise, and the checker looks.
        self.0.entries[slot as usize].with(|entry| unsafe { *entry })
    }
    unsafe fn write(&self, slot: u32, entry: u64) {
        // SAFETY: as above.
        self.0.entries[slot as usize].with_mut(|place| unsafe { *place = entry });
    }
}

/// Passes `count` entries through a ring of `entries`, `batch` at a time on both sides.
fn pass(entries: u32, start: u32, count: u64, batch: u64) {
    loom::model(move || {
        let ring = Shared::new(entries, start);
        // SAFETY: one producer and one consumer.
        let (mut producer, mut consumer) =
            unsafe { (Producer::new(ring.clone()), Consumer::new(ring)) };
        let writer = thread::spawn(move || {
            let mut next = 0;
            while next < count {
                let until = (next + batch).min(count);
                while next < until && producer.push(next).is_ok() {
                    next += 1;
                }
                if producer.publish() == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < count {
            for _ in 0..batch {
                if let Some(entry) = consumer.pop() {
                    assert_eq!(entry, expected);
                    expected += 1;
                }
            }
            if consumer.release() == 0 {
                thread::yield_now();
            }
        }
        writer.join().unwrap();
        assert_eq!(consumer.pop(), None);
    });
}

#[test]
fn a_ring_of_one_place_hands_each_entry_over_once() {
    pass(1, 0, 3, 1);
}

#[test]
fn batches_are_seen_whole_and_in_order_while_the_indices_wrap() {
    pass(2, u32::MAX - 1, 3, 2);
}
