//! What the detector adds up: loops and how many of them were overdue, and the cumulative sums over them.

/// An alarm is a sum above this: five overdue loops in a row at least, where hardly any are lost.
pub const THRESHOLD: f64 = 12.0;
/// A sum goes no higher, so that an alarm ends soon after its cause.
pub(super) const CEILING: f64 = 2.0 * THRESHOLD;
/// The loss to be found.
const P1: f64 = 0.35;
/// The loss taken for granted: so many times what others have, within bounds.
const P0_FACTOR: f64 = 1.5;
const P0_MIN: f64 = 0.02;
const P0_MAX: f64 = 0.10;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub decided: f64,
    pub overdue: f64,
}

impl Counts {
    /// One more of them.
    pub fn count(&mut self, overdue: bool) {
        self.decided += 1.0;
        self.overdue += f64::from(u8::from(overdue));
    }

    /// One that was counted as overdue came home.
    pub fn take_back(&mut self) {
        self.overdue = (self.overdue - 1.0).max(0.0);
    }

    pub fn less(self, other: Counts) -> Counts {
        Counts {
            decided: (self.decided - other.decided).max(0.0),
            overdue: (self.overdue - other.overdue).max(0.0),
        }
    }

    /// The loss taken for granted where this is what was seen.
    pub fn p0(self) -> f64 {
        let loss = self.overdue / self.decided.max(1.0);
        (P0_FACTOR * loss).clamp(P0_MIN, P0_MAX)
    }
}

/// A sum, and the first loop that it is of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub value: f64,
    pub since: u64,
}

impl Sum {
    pub fn step(&mut self, number: u64, overdue: bool, p0: f64) {
        if self.value == 0.0 {
            self.since = number;
        }
        let weight = match overdue {
            true => (P1 / p0).ln(),
            false => ((1.0 - P1) / (1.0 - p0)).ln(),
        };
        self.value = (self.value + weight).clamp(0.0, CEILING);
    }

    /// Begins anew with loop number `next`.
    pub fn clear(&mut self, next: u64) {
        (self.value, self.since) = (0.0, next);
    }
}
