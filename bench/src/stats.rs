//! Statistics of measurements: quantiles, the median's interval, ratios.

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// A sample's spread, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min_ns: f64,
    pub(crate) p10_ns: f64,
    pub(crate) median_ns: f64,
    pub(crate) p90_ns: f64,
    /// The median's 95 % interval, by bootstrap.
    pub(crate) median_95_ns: [f64; 2],
}

/// How many times one thing is another, with a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// Median of the ratios of single rounds.
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of values in nanoseconds, at least one.
    pub(crate) fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part| rounded(quantile(&sorted, part), 10.0);
        let (low, high) = median_interval(values);
        Spread {
            min_ns: at(0.0),
            p10_ns: at(0.1),
            median_ns: at(0.5),
            p90_ns: at(0.9),
            median_95_ns: [rounded(low, 10.0), rounded(high, 10.0)],
        }
    }
}

impl Ratio {
    /// How many times `slow` is `fast`, both by round.
    pub(crate) fn of(slow: &[f64], fast: &[f64]) -> Ratio {
        let ratios: Vec<f64> = slow
            .iter()
            .zip(fast)
            .map(|(slow, fast)| slow / fast)
            .collect();
        let (low, high) = median_interval(&ratios);
        Ratio {
            median: rounded(median(&ratios), 1_000.0),
            low: rounded(low, 1_000.0),
            high: rounded(high, 1_000.0),
        }
    }

    /// Whether it could as well be 1.
    pub(crate) fn spans_one(&self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ratio { median, low, high } = self;
        write!(f, "{median:.2} ({low:.2} to {high:.2})")?;
        match self.spans_one() {
            true => write!(f, ": no difference"),
            false => Ok(()),
        }
    }
}

/// The middle value; of an even number the mean of the two in the middle. NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    middle(&mut values)
}

/// As [`median`], and leaves the values in another order.
fn middle(values: &mut [f64]) -> f64 {
    let half = values.len() / 2;
    if values.is_empty() {
        return f64::NAN;
    }
    let odd = !values.len().is_multiple_of(2);
    let (below, &mut upper, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp);
    match (odd, lower) {
        (false, Some(lower)) => f64::midpoint(lower, upper),
        _ => upper,
    }
}

/// The value below which `part` of them lie.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * part).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// The 95 % interval of the median: its 2.5 % and 97.5 % quantiles over resamples of the same size (percentile bootstrap;
/// Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). The same values give the same interval.
pub(crate) fn median_interval(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut resample = vec![0.0; values.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample
                .iter_mut()
                .for_each(|value| *value = values[rng.random_range(0..values.len())]);
            middle(&mut resample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    (quantile(&medians, 0.025), quantile(&medians, 0.975))
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_medians_are_those_of_the_sorted_values() {
        let values: Vec<f64> = [50, 10, 40, 20, 30, 0, 90, 80, 60, 70, 100]
            .map(f64::from)
            .to_vec();
        let spread = Spread::of(&values);
        assert_eq!(
            (
                spread.min_ns,
                spread.p10_ns,
                spread.median_ns,
                spread.p90_ns
            ),
            (0.0, 10.0, 50.0, 90.0)
        );
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    /// Uniform numbers; their median is 0.5.
    fn uniform(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        (0..count).map(|_| rng.random_range(0.0..1.0)).collect()
    }

    #[test]
    fn ninety_five_in_a_hundred_intervals_hold_the_true_median() {
        let holds = (0..400)
            .filter(|&seed| {
                let (low, high) = median_interval(&uniform(60, seed));
                (low..=high).contains(&0.5)
            })
            .count();
        // Binomial, 400 × 0.95 = 380 ± 4.4: four deviations and the bootstrap's own bias.
        assert!((355..=399).contains(&holds), "{holds} of 400");
    }

    #[test]
    fn more_rounds_make_a_narrower_interval() {
        let width = |count| {
            let (low, high) = median_interval(&uniform(count, 9));
            high - low
        };
        assert!(width(2_000) < width(50) / 3.0);
    }

    #[test]
    fn a_ratio_is_of_rounds_and_says_when_it_could_be_one() {
        // A machine that is twice as slow in every other round: the ratio does not see it.
        let fast: Vec<f64> = (0..40)
            .map(|round| if round % 2 == 0 { 10.0 } else { 20.0 })
            .collect();
        let slow: Vec<f64> = fast.iter().map(|ns| ns * 3.0).collect();
        let ratio = Ratio::of(&slow, &fast);
        assert_eq!((ratio.median, ratio.low, ratio.high), (3.0, 3.0, 3.0));
        assert_eq!(ratio.to_string(), "3.00 (3.00 to 3.00)");
        // Every ratio of the first half is the reciprocal of one in the second.
        let values = uniform(100, 1);
        let reversed: Vec<f64> = values.iter().rev().copied().collect();
        let same = Ratio::of(&values, &reversed);
        assert!(same.spans_one());
        assert!(same.to_string().ends_with("no difference"));
    }
}
