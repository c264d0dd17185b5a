//! Does the time of X25519 depend on its secrets? dudect's method (Reparaz, Balasch and Verbauwhede, "Dude, is my code
//! constant time?", DATE 2017): one class of inputs is fixed, the other random, both in random order; Welch's t-test
//! compares their times, on all measurements and on those below several percentiles.
//!
//! `cargo run --release -p sphinx --example dudect [MEASUREMENTS]`
//!
//! |t| above 10 is a leak, above 4.5 (dudect's older bound) worth a longer run: a real leak grows with √n, noise
//! does not. Exits with 1 above 10.

use std::hint::black_box;
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;

/// One group of the widest backend, two of the narrower.
const BATCH: usize = 8;
type Batch = [[u8; 32]; BATCH];

/// What differs between the classes.
#[derive(Clone, Copy)]
enum Varied {
    Scalars,
    Points,
}

/// One timed call: its class and nanoseconds.
struct Measurement {
    fixed: bool,
    nanoseconds: f64,
}

fn random(rng: &mut ChaCha20Rng) -> Batch {
    core::array::from_fn(|_| {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        bytes
    })
}

/// Times `count` calls. The inputs of a chunk are made before its first call, so that the clock sees calls alone.
fn measure(
    lanes: Lanes,
    varied: Varied,
    fixed: &Batch,
    count: usize,
    rng: &mut ChaCha20Rng,
) -> Vec<Measurement> {
    const CHUNK: usize = 256;
    let mut measurements = Vec::with_capacity(count);
    let mut out = [[0; 32]; BATCH];
    while measurements.len() < count {
        let inputs: Vec<(bool, Batch, Batch)> = (0..CHUNK)
            .map(|_| {
                let class = rng.next_u32() & 1 == 0;
                let (drawn, other) = (random(rng), random(rng));
                let chosen = if class { *fixed } else { drawn };
                match varied {
                    Varied::Scalars => (class, chosen, other),
                    Varied::Points => (class, other, chosen),
                }
            })
            .collect();
        for (fixed, scalars, points) in &inputs {
            let start = Instant::now();
            lanes.x25519(black_box(scalars), black_box(points), &mut out);
            black_box(&out);
            let nanoseconds = start.elapsed().as_nanos() as f64;
            measurements.push(Measurement {
                fixed: *fixed,
                nanoseconds,
            });
        }
    }
    measurements
}

/// Welch's t of the two classes, of the measurements up to `limit` nanoseconds.
fn welch(measurements: &[Measurement], limit: f64) -> f64 {
    let statistics = |fixed: bool| {
        let times = || {
            measurements
                .iter()
                .filter(|m| m.fixed == fixed && m.nanoseconds <= limit)
                .map(|m| m.nanoseconds)
        };
        let count = times().count() as f64;
        let mean = times().sum::<f64>() / count;
        let variance = times().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, error), (other_mean, other_error)) = (statistics(true), statistics(false));
    (mean - other_mean) / (error + other_error).sqrt()
}

/// The largest t in size, over all measurements and eight percentiles (interrupts make a long tail).
fn largest_t(measurements: &[Measurement]) -> f64 {
    let mut sorted: Vec<f64> = measurements.iter().map(|m| m.nanoseconds).collect();
    sorted.sort_by(f64::total_cmp);
    [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0]
        .map(|part| {
            welch(
                measurements,
                sorted[((sorted.len() - 1) as f64 * part) as usize],
            )
        })
        .into_iter()
        .fold(
            0.0,
            |largest: f64, t| if t.abs() > largest.abs() { t } else { largest },
        )
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(20_000);
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let drawn = random(&mut rng);
    let small_order = [[0; 32]; BATCH];
    let mut sparse = [[0; 32]; BATCH];
    sparse.iter_mut().for_each(|scalar| scalar[0] = 8);
    println!(
        "{count} calls of {BATCH} pairs each; t of fixed against random, largest over nine croppings"
    );
    println!("{:<10} {:<28} {:>8}", "backend", "fixed input", "t");
    let mut worst = 0.0_f64;
    for lanes in Lanes::available() {
        for (name, varied, fixed) in [
            ("scalars, drawn once", Varied::Scalars, &drawn),
            ("scalars, one bit set", Varied::Scalars, &sparse),
            ("points, drawn once", Varied::Points, &drawn),
            ("points, of small order", Varied::Points, &small_order),
        ] {
            measure(lanes, varied, fixed, count / 10, &mut rng); // warms up
            let t = largest_t(&measure(lanes, varied, fixed, count, &mut rng));
            println!("{:<10} {name:<28} {t:>8.2}", lanes.name());
            worst = worst.max(t.abs());
        }
    }
    let verdict = if worst > 10.0 {
        "a leak"
    } else {
        "no leak found"
    };
    println!("largest |t| = {worst:.2}: {verdict}");
    std::process::exit(i32::from(worst > 10.0));
}
