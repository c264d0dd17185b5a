//! Nothing allocates in the pool, the wheel or the replay table once they run; for ports see the port suite.

#[path = "../../port/tests/counting/mod.rs"]
mod counting;

use arrayvec::ArrayVec;
use counting::allocations_of;
use mixnode::keys::replay::ReplayTable;
use mixnode::path::wheel::{TICK_NS, Wheel};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

#[test]
fn wheel_and_replay_table_do_not_allocate_after_start() {
    let mut pool = port::pool::FramePool::new(1000).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut wheel = Wheel::new(1000, TICK_NS, 0);
    let table = ReplayTable::new(100_000, &[1; 16]).unwrap();
    let count = allocations_of(|| {
        let mut due = ArrayVec::new();
        for now_ns in (0..2_000_000_000).step_by(100_000) {
            while let Some(frame) = pool.take() {
                let delay_ns = rng.next_u64() % 50_000_000;
                wheel.insert(frame, now_ns + delay_ns).unwrap();
                let mut tag = [0; 16];
                rng.fill_bytes(&mut tag);
                let _ = table.insert(&tag);
            }
            while wheel.advance(now_ns, &mut rng, &mut due) > 0 {
                due.drain(..).for_each(|frame| pool.release(frame));
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
