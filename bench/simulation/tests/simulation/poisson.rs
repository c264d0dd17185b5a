//! Kolmogorov–Smirnov tests on the gaps between departures.

/// Largest distances allowed are `CRITICAL / √n`: a true null hypothesis exceeds it once in a thousand times
/// (asymptotic distribution, √(ln(2 / 0.001) / 2)). Seeds are fixed, so a run passes always or never.
const CRITICAL: f64 = 1.949;

/// Gaps between the departures within `[from_ns, until_ns)`, in seconds.
pub fn gaps(departures: &[u64], from_ns: u64, until_ns: u64) -> Vec<f64> {
    let within: Vec<u64> = departures
        .iter()
        .copied()
        .filter(|at_ns| (from_ns..until_ns).contains(at_ns))
        .collect();
    within
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 / 1e9)
        .collect()
}

/// Whether `gaps` may come from a Poisson process of this rate, with the distance found and the distance allowed.
pub fn is_poisson(gaps: &[f64], rate_pps: f64) -> (bool, f64, f64) {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let distance = sorted
        .iter()
        .enumerate()
        .map(|(rank, gap)| {
            let expected = 1.0 - (-gap * rate_pps).exp();
            let (below, above) = (rank as f64 / count, (rank + 1) as f64 / count);
            (expected - below).abs().max((expected - above).abs())
        })
        .fold(0.0, f64::max);
    let allowed = CRITICAL / count.sqrt();
    (distance < allowed, distance, allowed)
}

/// Whether `a` and `b` may come from one distribution, with the distance found and the distance allowed.
pub fn are_alike(a: &[f64], b: &[f64]) -> (bool, f64, f64) {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j, mut distance) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        // Past everything equal to the smaller of both, in both.
        let value = a[i].min(b[j]);
        i += a[i..].iter().take_while(|gap| **gap <= value).count();
        j += b[j..].iter().take_while(|gap| **gap <= value).count();
        distance = distance.max((i as f64 / n - j as f64 / m).abs());
    }
    let allowed = CRITICAL * ((n + m) / (n * m)).sqrt();
    (distance < allowed, distance, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    fn exponential(rate_pps: f64, count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        (0..count)
            .map(|_| {
                let uniform = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                -uniform.ln() / rate_pps
            })
            .collect()
    }

    #[test]
    fn the_test_accepts_a_poisson_process() {
        let gaps = exponential(2.0, 2_000, 1);
        assert!(is_poisson(&gaps, 2.0).0);
        assert!(are_alike(&gaps, &exponential(2.0, 1_500, 2)).0);
    }

    #[test]
    fn the_test_refuses_another_rate_or_a_process_that_shows_its_work() {
        let gaps = exponential(2.0, 2_000, 3);
        assert!(!is_poisson(&gaps, 2.3).0);
        assert!(!are_alike(&gaps, &exponential(2.3, 2_000, 4)).0);
        // One departure in ten waits 50 ms for its work.
        let late: Vec<f64> = gaps
            .iter()
            .enumerate()
            .map(|(number, gap)| gap + if number % 10 == 0 { 0.5 } else { 0.0 })
            .collect();
        assert!(!is_poisson(&late, 2.0).0);
        assert!(!is_poisson(&vec![0.5; 200], 2.0).0);
    }
}
