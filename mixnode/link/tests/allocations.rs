//! Sealing and opening take no memory from the allocator.
#![allow(unsafe_code, reason = "an allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::*;
use link::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: forwards to the system allocator unchanged; the counter is a plain thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises about pointer and layout are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sealing_and_opening_batches_allocates_nothing() {
    let (mut a, mut b) = Ends::new(40).sessions();
    let mut frames = vec![[0; DATAGRAM_BYTES]; BATCH_MAX];
    let counters: Vec<_> = (0..BATCH_MAX)
        .map(|_| a.send.next_counter().unwrap())
        .collect();
    let mut seals: Vec<_> = frames
        .iter_mut()
        .zip(&counters)
        .map(|(datagram, &counter)| SealJob {
            session: a.send.key(),
            counter,
            kind: Kind::Sphinx,
            epoch: 1,
            datagram,
        })
        .collect();
    let before = ALLOCATIONS.get();
    seal_batch(&mut seals);
    assert_eq!(ALLOCATIONS.get(), before, "sealing");

    let mut opens: Vec<_> = frames
        .iter_mut()
        .map(|datagram| OpenJob {
            session: b.receive.key(),
            datagram,
        })
        .collect();
    let mut verdicts = arrayvec::ArrayVec::new();
    let before = ALLOCATIONS.get();
    open_batch(&mut opens, &mut verdicts);
    for verdict in &verdicts {
        let opened = verdict.unwrap();
        b.receive.check(opened.counter).unwrap();
        b.receive.admit(opened.counter).unwrap();
    }
    assert_eq!(ALLOCATIONS.get(), before, "opening and admitting");
    assert_eq!(verdicts.len(), BATCH_MAX);
}
