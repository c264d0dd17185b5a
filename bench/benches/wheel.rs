//! The delay wheel in its steady state: a burst comes out as it falls due, and another goes in.

use criterion::{BenchmarkId, Criterion, Throughput};
use mixnode::path::stage::{Delayed, DelayedBatch, Route};
use mixnode::path::wheel::{TICK_NS, Wheel};
use port::BATCH_MAX;
use port::pool::FramePool;
use rand_core::SeedableRng;
use sphinx::Generator;

/// Mean delay of a network.
const MEAN_DELAY_US: u32 = 20_000;
/// Delays drawn ahead: drawing them is the sender's work.
const DELAYS: usize = 8_192;

pub fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    group.throughput(Throughput::Elements(BATCH_MAX as u64));
    for pps in [10_000, 100_000] {
        let held = pps * MEAN_DELAY_US / 1_000_000;
        let mut rng = Generator::seed_from_u64(1);
        let delays: Vec<u64> = (0..DELAYS)
            .map(|_| u64::from(directory::sample_delay_us(MEAN_DELAY_US, &mut rng)) * 1_000)
            .collect();
        let mut delays = delays.into_iter().cycle();
        let mut delay_ns = move || delays.next().unwrap();
        let mut pool = FramePool::new(held).unwrap();
        let mut wheel = Wheel::new(held, TICK_NS, 0);
        while let Some(frame) = pool.take() {
            wheel.insert(Delayed {
                frame,
                neighbour: 0,
                since_ns: 0,
                due_ns: delay_ns(),
                route: Route::Forward { link: 0, epoch: 0 },
            });
        }
        let (mut now_ns, mut due) = (0, DelayedBatch::new());
        let mut burst = || {
            while !due.is_full() {
                now_ns += TICK_NS;
                wheel.advance(now_ns, &mut rng, &mut due);
            }
            for mut delayed in due.drain(..) {
                assert!(delayed.due_ns <= now_ns, "nothing leaves early");
                delayed.due_ns = now_ns + delay_ns();
                wheel.insert(delayed);
            }
            assert_eq!(wheel.len(), held as usize);
        };
        let name = BenchmarkId::new("out and in", format!("{pps} packets a second"));
        group.bench_function(name, |bencher| bencher.iter(&mut burst));
    }
    group.finish();
}
