//! Frames of a link: a burst to one neighbour is sealed, a burst of one neighbour is opened.

use arrayvec::ArrayVec;
use criterion::{BatchSize, Criterion, Throughput};
use link::{
    BATCH_MAX, DATAGRAM_BYTES, Kind, OpenJob, ReceiveKey, SealJob, SendKey, open_batch, seal_batch,
};

const KEY: [u8; 32] = [9; 32];

type Burst = [[u8; DATAGRAM_BYTES]; BATCH_MAX];

fn seal(session: &SendKey, first: u64, burst: &mut Burst) {
    let jobs = (first..).zip(burst).map(|(counter, datagram)| SealJob {
        session,
        counter,
        kind: Kind::Sphinx,
        epoch: 1,
        datagram,
    });
    seal_batch(&mut jobs.collect::<ArrayVec<SealJob<'_>, BATCH_MAX>>());
}

fn open(session: &ReceiveKey, burst: &mut Burst) {
    let jobs = burst
        .iter_mut()
        .map(|datagram| OpenJob { session, datagram });
    let mut jobs: ArrayVec<OpenJob<'_>, BATCH_MAX> = jobs.collect();
    let mut verdicts = ArrayVec::new();
    open_batch(&mut jobs, &mut verdicts);
    assert!(verdicts.len() == BATCH_MAX && verdicts.iter().all(Result::is_ok));
}

pub fn all(criterion: &mut Criterion) {
    let (sending, receiving) = (SendKey::new(&KEY, 1), ReceiveKey::new(&KEY));
    let mut group = criterion.benchmark_group("link");
    group.throughput(Throughput::Elements(BATCH_MAX as u64));
    let mut burst = [[7; DATAGRAM_BYTES]; BATCH_MAX];
    let mut counter = 0;
    group.bench_function("seal", |bencher| {
        bencher.iter(|| {
            seal(&sending, counter, &mut burst);
            counter += BATCH_MAX as u64;
        });
    });
    seal(&sending, counter, &mut burst);
    group.bench_function("open", |bencher| {
        let opened = |burst: &mut Burst| open(&receiving, burst);
        bencher.iter_batched_ref(|| burst, opened, BatchSize::SmallInput);
    });
    group.finish();
}
