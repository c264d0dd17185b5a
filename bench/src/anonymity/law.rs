//! The law of delays, and how far samples are from it.

use directory::DELAY_CAP_MEANS;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

/// An exponential number with mean 1.
pub(crate) fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    -(1.0 - rng.random_range(0.0..1.0f64)).ln()
}

/// One of a Poisson process' gaps, microseconds.
pub(super) fn gap_us(rate_pps: f64, rng: &mut ChaCha8Rng) -> f64 {
    exponential(rng) / rate_pps * 1e6
}

/// Sums of so many delays, drawn by the definition and not by the production code: exponential with this mean, drawn
/// anew above the cap.
pub(crate) fn sums(hops: usize, mean_us: f64, count: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let cap = f64::from(DELAY_CAP_MEANS);
    let mut delay = || loop {
        let delay = exponential(&mut rng);
        if delay < cap {
            return delay * mean_us;
        }
    };
    (0..count)
        .map(|_| (0..hops).map(|_| delay()).sum())
        .collect()
}

/// Density of a sum of delays: a step of the table is [`STEPS`] to the mean.
pub(super) struct Density {
    step_us: f64,
    /// A microsecond.
    values: Vec<f64>,
}

const STEPS: usize = 40;

impl Density {
    pub(super) fn new(hops: usize, mean_us: f64) -> Density {
        let cap = DELAY_CAP_MEANS as usize * STEPS;
        let whole = 1.0 - (-f64::from(DELAY_CAP_MEANS)).exp();
        let below = |step: usize| (1.0 - (-(step as f64) / STEPS as f64).exp()) / whole;
        let one: Vec<f64> = (0..cap).map(|step| below(step + 1) - below(step)).collect();
        let mut sum = one.clone();
        for _ in 1..hops {
            let mut next = vec![0.0; sum.len() + cap];
            for (at, share) in sum.iter().enumerate() {
                for (more, other) in one.iter().enumerate() {
                    next[at + more] += share * other;
                }
            }
            sum = next;
        }
        let step_us = mean_us / STEPS as f64;
        Density {
            // A sum of numbers from n steps lies half a step of each but one further on.
            values: sum.iter().map(|share| share / step_us).collect(),
            step_us,
        }
    }

    /// At a delay; a step more for what lies within the steps.
    pub(super) fn at(&self, delay_us: f64) -> f64 {
        let place = delay_us / self.step_us;
        match place >= 0.0 {
            true => self.values.get(place as usize).copied().unwrap_or(0.0),
            false => 0.0,
        }
    }

    /// No sum is longer.
    pub(super) fn longest_us(&self) -> f64 {
        self.values.len() as f64 * self.step_us
    }
}

/// Kolmogorov and Smirnov's distance between two samples.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut i, mut j, mut most) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        // Past everything equal to the smaller of both, in both.
        let value = a[i].min(b[j]);
        i += a[i..].iter().take_while(|one| **one <= value).count();
        j += b[j..].iter().take_while(|one| **one <= value).count();
        most = most.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    most
}

/// Kolmogorov and Smirnov's distance between counts of 0, 1, 2 and so on and Poisson's law.
pub(super) fn distance_from_poisson(counts: &[u64], mean: f64) -> f64 {
    let all: u64 = counts.iter().sum();
    // Of a mean of a thousand the first terms are too small for a number.
    let (mut log_term, mut law, mut seen, mut most) = (-mean, 0.0, 0.0, 0.0f64);
    for (number, count) in counts.iter().enumerate() {
        law += log_term.exp();
        log_term += (mean / (number + 1) as f64).ln();
        seen += *count as f64 / all.max(1) as f64;
        most = most.max((law - seen).abs());
    }
    most
}

/// Kolmogorov and Smirnov's distance between two samples, each counted in the same bins.
pub(super) fn distance_in_bins(a: &[u64], b: &[u64]) -> f64 {
    let all = |counts: &[u64]| counts.iter().sum::<u64>().max(1) as f64;
    let (all_a, all_b) = (all(a), all(b));
    let (mut seen_a, mut seen_b, mut most) = (0, 0, 0.0f64);
    for bin in 0..a.len().max(b.len()) {
        seen_a += a.get(bin).copied().unwrap_or(0);
        seen_b += b.get(bin).copied().unwrap_or(0);
        most = most.max((seen_a as f64 / all_a - seen_b as f64 / all_b).abs());
    }
    most
}

/// The chance that χ² with so many degrees is as large by chance (E. Wilson and M. Hilferty, PNAS 17, 1931).
pub(super) fn chi_square_p(chi_square: f64, degrees: f64) -> f64 {
    let spread = 2.0 / (9.0 * degrees);
    let z = ((chi_square / degrees).cbrt() - (1.0 - spread)) / spread.sqrt();
    upper_tail(z)
}

/// Of the normal law (Abramowitz and Stegun, 26.2.17: to 7.5·10⁻⁸).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let sum = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if z < 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_density_is_that_of_the_sums() {
        let density = Density::new(4, 50_000.0);
        let sums = sums(4, 50_000.0, 200_000, 1);
        for (from, to) in [
            (0.0, 100_000.0),
            (100_000.0, 200_000.0),
            (200_000.0, 400_000.0),
        ] {
            let steps = ((to - from) / density.step_us) as usize;
            let at = |step: usize| density.at(from + (step as f64 + 0.5) * density.step_us);
            let expected: f64 = (0..steps).map(at).sum::<f64>() * density.step_us;
            let inside = sums.iter().filter(|sum| (from..to).contains(*sum)).count();
            let seen = inside as f64 / sums.len() as f64;
            assert!((seen - expected).abs() < 0.02, "{seen} {expected}");
        }
        assert_eq!(
            density.at(-1.0) + density.at(density.longest_us() + 1.0),
            0.0
        );
    }

    #[test]
    fn distances_are_small_of_one_law_and_large_of_two() {
        let (a, b) = (sums(4, 50.0, 50_000, 1), sums(4, 50.0, 50_000, 2));
        assert!(distance(&a, &b) < 0.02);
        assert!(distance(&a, &sums(4, 55.0, 50_000, 3)) > 0.05);
        assert!(distance(&a, &sums(3, 50.0, 50_000, 3)) > 0.1);
        // Poisson with mean 2, in a thousand.
        let counts = [135, 271, 271, 180, 90, 36, 12, 4, 1];
        assert!(distance_from_poisson(&counts, 2.0) < 0.002);
        assert!(distance_from_poisson(&counts, 2.3) > 0.05);
        // Half of the law with mean 1,600 lies below it, and here nothing does.
        let mut counts = vec![0; 1_600];
        counts.extend([495, 10, 495]);
        let apart = distance_from_poisson(&counts, 1_600.0);
        assert!((apart - 0.49).abs() < 0.02, "{apart}");
    }

    #[test]
    fn counts_in_bins_are_as_far_apart_as_what_was_counted() {
        assert_eq!(distance_in_bins(&[1, 1, 2], &[10, 10, 20]), 0.0);
        assert_eq!(distance_in_bins(&[4, 0], &[0, 4]), 1.0);
        // A quarter and a half are in the first; one is longer.
        assert_eq!(distance_in_bins(&[1, 3], &[2, 1, 1]), 0.25);
    }

    #[test]
    fn chi_square_is_known_from_tables() {
        for (chi_square, degrees, p) in [
            (18.31, 10.0, 0.05),
            (124.3, 100.0, 0.05),
            (149.4, 100.0, 0.001),
        ] {
            let found = chi_square_p(chi_square, degrees);
            assert!((found / p - 1.0).abs() < 0.06, "{found} {p}");
        }
    }
}
