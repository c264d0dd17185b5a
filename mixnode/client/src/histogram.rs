//! Latencies, in a histogram of three significant digits.

use hdrhistogram::Histogram;

/// Longest latency told apart: an hour.
const MAX_US: u64 = 3_600_000_000;

/// A distribution of latencies.
#[derive(Clone)]
pub struct Latency(Option<Histogram<u64>>);

impl core::fmt::Debug for Latency {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (p50, p99) = (self.quantile_ms(0.5), self.quantile_ms(0.99));
        write!(
            f,
            "{} measured, p50 {p50:.1} ms, p99 {p99:.1} ms",
            self.count()
        )
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_US, 3).ok())
    }
}

impl Latency {
    pub(crate) fn record_us(&mut self, us: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(us.max(1));
        }
    }

    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.record_us(ns / 1_000);
    }

    /// Measurements.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The latency in milliseconds that a share `quantile` of all did not exceed; 0 without measurements.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let us = |histogram: &Histogram<u64>| histogram.value_at_quantile(quantile);
        self.0.as_ref().map_or(0, us) as f64 / 1_000.0
    }

    /// Adds another distribution's measurements.
    pub fn add(&mut self, other: &Self) {
        if let (Some(own), Some(other)) = (&mut self.0, &other.0) {
            // Both have the same bounds, so nothing is lost.
            let _ = own.add(other);
        }
    }
}
