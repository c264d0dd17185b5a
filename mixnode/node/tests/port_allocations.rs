//! Nothing allocates in the pool, the wheel or the replay table once they run; for ports see the port suite.

#[path = "../../port/tests/counting/mod.rs"]
mod counting;

use counting::allocations_of;
use mixnode::keys::replay::ReplayTable;
use mixnode::path::stage::{Delayed, DelayedBatch, Route};
use mixnode::path::wheel::{TICK_NS, Wheel};
use port::pool::{Frame, FramePool};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

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

#[test]
fn wheel_and_replay_table_do_not_allocate_after_start() {
    let mut pool = FramePool::new(1000).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut wheel = Wheel::new(1000, TICK_NS, 0);
    let table = ReplayTable::new(100_000, &[1; 16]).unwrap();
    let count = allocations_of(|| {
        let mut due = DelayedBatch::new();
        for now_ns in (0..2_000_000_000).step_by(100_000) {
            while let Some(frame) = pool.take() {
                let delay_ns = rng.next_u64() % 50_000_000;
                wheel.insert(delayed(frame, now_ns + delay_ns));
                let mut tag = [0; 16];
                rng.fill_bytes(&mut tag);
                let _ = table.insert(&tag);
            }
            while wheel.advance(now_ns, &mut rng, &mut due) > 0 {
                due.drain(..).for_each(|one| pool.release(one.frame));
            }
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(
        allocations_of(|| drop(std::hint::black_box(Box::new(1)))),
        1
    );
}
