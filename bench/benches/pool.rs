//! The packet memory: frames are taken and given back, alone and with a datagram written into each.

use arrayvec::ArrayVec;
use criterion::{Criterion, Throughput};
use port::BATCH_MAX;
use port::pool::{DATAGRAM_BYTES, Frame, FramePool};

/// A node's at a low rate: more than the nearest cache holds.
const FRAMES: u32 = 4_096;

type Burst = ArrayVec<Frame, BATCH_MAX>;

pub fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    group.throughput(Throughput::Elements(BATCH_MAX as u64));
    let mut pool = FramePool::new(FRAMES).unwrap();
    let mut burst = Burst::new();
    group.bench_function("take and release", |bencher| {
        bencher.iter(|| {
            burst.extend((0..BATCH_MAX).map_while(|_| pool.take()));
            assert!(burst.is_full());
            burst.drain(..).for_each(|frame| pool.release(frame));
        });
    });
    let datagram = [7; DATAGRAM_BYTES];
    group.bench_function("take, write and release", |bencher| {
        bencher.iter(|| {
            burst.extend((0..BATCH_MAX).map_while(|_| pool.take()));
            for one in pool.datagrams_mut(&mut burst) {
                *one = datagram;
            }
            burst.drain(..).for_each(|frame| pool.release(frame));
            assert_eq!(pool.available(), FRAMES);
        });
    });
    group.finish();
}
