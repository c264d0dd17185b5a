//! Nothing allocates on a port, in the pool, the wheel or the replay table once they run.

mod counting;
mod ports;

use arrayvec::ArrayVec;
use counting::allocations_of;
use mixnode::replay::ReplayTable;
use mixnode::wheel::{TICK_NS, Wheel};
use ports::{Kind, Lan};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

fn no_port_allocates_after_start(kind: Kind) {
    let Some(lan) = Lan::new(kind) else { return };
    let (mut a, mut b) = (
        lan.node(lan.loopback(1), 256),
        lan.node(lan.loopback(2), 256),
    );
    let destination = b.address();
    let mut exchange = |rounds: u64| {
        for round in 0..rounds {
            a.send(destination, 64 * round, 64);
            assert_eq!(b.receive(64, |_, _| ()), 64);
        }
    };
    // Arms the receive, makes the ring the thread's, and lets the simulated network grow to its size.
    exchange(4);
    assert_eq!(allocations_of(|| exchange(200)), 0);
}

#[test]
fn the_plain_port_does_not_allocate_after_start() {
    no_port_allocates_after_start(Kind::Plain);
}

#[test]
fn the_uring_port_does_not_allocate_after_start() {
    no_port_allocates_after_start(Kind::Uring);
}

#[test]
fn the_simulated_port_does_not_allocate_after_start() {
    no_port_allocates_after_start(Kind::Sim);
}

#[test]
fn wheel_and_replay_table_do_not_allocate_after_start() {
    let mut pool = mixnode::pool::FramePool::new(1000).unwrap();
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
