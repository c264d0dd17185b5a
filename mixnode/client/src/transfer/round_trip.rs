//! When to take a packet for lost. Mixing reorders by design, so that a later packet's arrival says nothing of an
//! earlier one: only time does.

/// Hops there and back that hold a packet for a random time.
const HOPS: u64 = 10;

/// Retransmission timeout from measured times between a chunk's departure and its acknowledgement (RFC 6298's
/// estimator; samples of retransmitted chunks are left out, after Karn).
#[derive(Clone, Debug)]
pub(crate) struct RoundTrip {
    smoothed_ns: u64,
    variation_ns: u64,
    measured: bool,
    floor_ns: u64,
}

const MAX_NS: u64 = 20_000_000_000;

impl RoundTrip {
    /// Before the first measurement: ten exponential delays have a standard deviation of √10 means, so three times
    /// their sum is beyond all but one in a million; half a second more for slots and answers.
    pub(crate) fn new(mean_delay_us: u32) -> Self {
        let travel_ns = u64::from(mean_delay_us) * 1_000 * HOPS;
        Self {
            smoothed_ns: travel_ns + 100_000_000,
            variation_ns: travel_ns / 2 + 100_000_000,
            measured: false,
            // Never below what the delays alone take nearly always: mean + 2.5 standard deviations of the sum.
            floor_ns: travel_ns * 9 / 5 + 50_000_000,
        }
    }

    /// Takes a measurement.
    pub(crate) fn sample(&mut self, elapsed_ns: u64) {
        if self.measured {
            let error = self.smoothed_ns.abs_diff(elapsed_ns);
            self.variation_ns = (self.variation_ns * 31 + error) / 32;
            self.smoothed_ns = (self.smoothed_ns * 15 + elapsed_ns) / 16;
        } else {
            self.measured = true;
            self.smoothed_ns = elapsed_ns;
            self.variation_ns = elapsed_ns / 2;
        }
    }

    /// By how much mixing may reorder: a packet that left so much earlier than one that has arrived is lost, but for
    /// one in some hundreds.
    pub(crate) fn spread_ns(&self) -> u64 {
        self.floor_ns / 2
    }

    /// How long to wait for an acknowledgement.
    pub(crate) fn timeout_ns(&self) -> u64 {
        (self.smoothed_ns + 4 * self.variation_ns).clamp(self.floor_ns, MAX_NS.max(self.floor_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_measurements_and_never_goes_below_the_delays() {
        let mut trip = RoundTrip::new(20_000);
        let first = trip.timeout_ns();
        for _ in 0..500 {
            trip.sample(2_000_000_000);
        }
        assert!(trip.timeout_ns() > 1_900_000_000);
        for _ in 0..500 {
            trip.sample(1_000_000);
        }
        assert!(trip.timeout_ns() >= 200_000_000 && trip.timeout_ns() < first);
    }
}
