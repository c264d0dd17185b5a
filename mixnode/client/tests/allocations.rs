//! The departure thread takes no memory from the allocator, whatever keeps the rest of the program from supplying it.
#![allow(unsafe_code, reason = "an allocator that counts")]

#[allow(dead_code, reason = "other tests that share it need more of it")]
mod common;
#[path = "common/outside.rs"]
mod outside;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fog::home::Home;
use fog::{MemoryStorage, run};
use outside::Outside;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// By the number of a thread, modulo this.
const THREADS: usize = 1 << 16;
static ALLOCATIONS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];

fn count_of(thread: u32) -> &'static AtomicU64 {
    &ALLOCATIONS[thread as usize % THREADS]
}

struct Counting;

// SAFETY: forwards to the system allocator unchanged; counting is a system call and an atomic, and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        count_of(thread).fetch_add(1, Ordering::Relaxed);
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

/// The thread of this process that has this name.
fn thread_called(name: &str) -> Option<u32> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.filter_map(Result::ok).find_map(|entry| {
        let called = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        (called.trim() == name).then_some(number)
    })
}

#[test]
fn departures_allocate_nothing_when_the_reserve_is_used_up_either() {
    let folder = tempfile::tempdir().unwrap();
    let [home, out] = ["home", "out"].map(|name| folder.path().join(name));
    let mut outside = Outside::new();
    outside.init(folder.path(), &home, &mut ChaCha20Rng::seed_from_u64(71));
    let [stuck, stop] = [(), ()].map(|()| Arc::new(AtomicBool::new(false)));
    let program = {
        let (stuck, stop) = (Arc::clone(&stuck), Arc::clone(&stop));
        thread::spawn(move || {
            let home = Home::open(&home).unwrap();
            let storage = Box::new(MemoryStorage::new(0));
            let options = run::Options::default();
            run::receive_into(&home, &out, storage, &options, &stop, &mut |event| {
                if matches!(event, run::ReceiveEvent::Ready(_)) {
                    stuck.store(true, Ordering::Relaxed);
                    thread::sleep(Duration::from_secs(3));
                }
            })
            .unwrap();
        })
    };
    while !stuck.load(Ordering::Relaxed) {
        outside.live(Duration::from_millis(20));
    }
    let allocations = count_of(thread_called("departures").expect("the thread"));
    let before = allocations.load(Ordering::Relaxed);
    let departed = outside.live(Duration::from_millis(2_500)).len();
    let allocated = allocations.load(Ordering::Relaxed) - before;
    println!("{allocated} allocations at {departed} departures, while nothing was supplied");
    stop.store(true, Ordering::Relaxed);
    program.join().unwrap();
    assert!(departed > 300, "more than a second's reserve: {departed}");
    assert_eq!(allocated, 0);
}
