//! A layer of Sphinx, by backend of the wide arithmetic and size of the batch.

use arrayvec::ArrayVec;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::lanes::Lanes;
use sphinx::{
    BATCH_MAX, BODY_BYTES, Engine, EpochSecret, Job, PACKET_BYTES, PathHop, Terminal, wrap,
};

const DELAY_MAX_US: u32 = 1_000_000;

/// Packets of five hops, to be opened by the first of them.
fn packets(secrets: &[EpochSecret], rng: &mut ChaCha20Rng) -> Vec<[u8; PACKET_BYTES]> {
    let path: Vec<PathHop> = (1..)
        .zip(secrets)
        .map(|(node, secret)| PathHop {
            public_key: *secret.public_key(),
            node,
            delay_us: 20_000,
        })
        .collect();
    let terminal = Terminal::Deliver {
        destination: [1; 16],
        id: [2; 8],
    };
    let packet = |_| {
        let mut packet = [0; PACKET_BYTES];
        wrap(rng, &path, &terminal, &[5; BODY_BYTES], &mut packet).unwrap();
        packet
    };
    (0..BATCH_MAX).map(packet).collect()
}

pub fn all(criterion: &mut Criterion) {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let secrets: Vec<EpochSecret> = (0..5).map(|_| EpochSecret::generate(&mut rng)).collect();
    let packets = packets(&secrets, &mut rng);
    let secret = &secrets[0];
    let mut group = criterion.benchmark_group("hop");
    for lanes in Lanes::available() {
        let mut engine = Engine::new(lanes, DELAY_MAX_US);
        for batch in [1, 8, BATCH_MAX] {
            let mut open = |packets: &mut Vec<[u8; PACKET_BYTES]>| {
                let jobs = packets.iter_mut().map(|packet| Job { packet, secret });
                let mut jobs: ArrayVec<Job<'_>, BATCH_MAX> = jobs.collect();
                let mut verdicts = ArrayVec::new();
                engine.unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
                assert!(verdicts.len() == batch && verdicts.iter().all(Result::is_ok));
            };
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new(lanes.name(), batch), |bencher| {
                let fresh = || packets[..batch].to_vec();
                bencher.iter_batched_ref(fresh, &mut open, BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}
