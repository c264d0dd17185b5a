//! The replay table: a burst's tags are looked for and remembered, all of them new; or all of them known.

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, Throughput};
use mixnode::keys::replay::ReplayTable;
use port::BATCH_MAX;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::ReplayTag;

/// What a table has room for: more than any cache.
const TAGS: u64 = 4 << 20;
/// Bursts whose tags are made ahead: few, so that a table is hardly fuller than it is made for.
const BURSTS: u64 = 64;

type Burst = [ReplayTag; BATCH_MAX];

fn table() -> ReplayTable {
    let table = ReplayTable::new(TAGS, &[7; 16]).unwrap();
    let mut from = Some(0);
    // An old kernel can't: then the first tags to come pay for their pages.
    while let Some(at) = from {
        from = table.touch(at).unwrap_or(None);
    }
    table
}

fn burst(rng: &mut ChaCha20Rng) -> Burst {
    let mut burst = [[0; 16]; BATCH_MAX];
    burst.iter_mut().for_each(|tag| rng.fill_bytes(tag));
    burst
}

/// As a worker does it: the memory of all is asked for before the first is looked at. How many were new?
fn remember(table: &ReplayTable, burst: &Burst) -> usize {
    burst.iter().for_each(|tag| table.prefetch(tag));
    burst.iter().filter(|tag| table.insert(tag).is_ok()).count()
}

pub fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(BATCH_MAX as u64));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (current, mut made) = (RefCell::new(table()), 0);
    let mut fresh = || {
        made += BATCH_MAX as u64;
        if made > TAGS {
            made = BATCH_MAX as u64;
            *current.borrow_mut() = table();
        }
        burst(&mut rng)
    };
    group.bench_function("new tags", |bencher| {
        let new = |burst| assert_eq!(remember(&current.borrow(), &burst), BATCH_MAX);
        bencher.iter_batched(&mut fresh, new, BatchSize::NumIterations(BURSTS));
    });
    let known = fresh();
    remember(&current.borrow(), &known);
    group.bench_function("known tags", |bencher| {
        bencher.iter(|| assert_eq!(remember(&current.borrow(), &known), 0));
    });
    group.finish();
}
