//! The anonymity figure over time: means of what workers summed up, and whether they stay below the operator's floor.

use std::collections::VecDeque;

use crate::path::anonymity::{Anonymity, UNITS_PER_BIT};

/// Seconds that the longer mean is taken over, and that the figure must stay below the floor.
pub const LONG_S: u64 = 300;

/// Bits of a mean: of the pool, and without the part of the neighbour who has most there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bits {
    /// All packets held.
    pub all: f64,
    /// Without the largest neighbour's.
    pub apart: f64,
}

/// A sample a second.
#[derive(Debug, Default)]
pub struct Pool {
    samples: VecDeque<(u64, Anonymity)>,
    floor_bits: f64,
    is_low: bool,
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Five minutes below the floor: the mean.
    Low(f64),
    /// Above it again.
    Enough(f64),
}

impl Pool {
    /// Nothing was seen yet.
    pub fn new(floor_bits: f64) -> Pool {
        Pool {
            floor_bits,
            ..Pool::default()
        }
    }

    /// Below this an operator is warned.
    pub fn floor_bits(&self) -> f64 {
        self.floor_bits
    }

    /// Takes a sample; to be called once a second.
    pub fn sample(&mut self, now_s: u64, sums: Anonymity) -> Option<Change> {
        self.samples.push_back((now_s, sums));
        while self.samples.len() > LONG_S as usize + 1 {
            self.samples.pop_front();
        }
        let (first, _) = *self.samples.front()?;
        let mean = self.long()?.all;
        // A node that has just started has not been anything for five minutes.
        if !self.is_low && now_s.saturating_sub(first) >= LONG_S && mean < self.floor_bits {
            self.is_low = true;
            return Some(Change::Low(mean));
        }
        if self.is_low && mean >= self.floor_bits {
            self.is_low = false;
            return Some(Change::Enough(mean));
        }
        None
    }

    /// Whether it stays below the floor.
    pub fn is_low(&self) -> bool {
        self.is_low
    }

    /// The mean over what left in the last second; none if nothing did.
    pub fn short(&self) -> Option<Bits> {
        self.mean(self.samples.len().checked_sub(2)?)
    }

    /// The mean over what left in the last five minutes.
    pub fn long(&self) -> Option<Bits> {
        self.mean(0)
    }

    fn mean(&self, from: usize) -> Option<Bits> {
        let (_, then) = self.samples.get(from)?;
        let (_, now) = self.samples.back()?;
        let departures = now.departures.saturating_sub(then.departures);
        let bits = |then: u64, now: u64| {
            let units = now.saturating_sub(then) as f64 / departures as f64;
            units / f64::from(UNITS_PER_BIT)
        };
        (departures > 0).then(|| Bits {
            all: bits(then.units, now.units),
            apart: bits(then.units_apart, now.units_apart),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_below_the_floor_warn_once_until_it_is_above_again() {
        let (mut pool, mut sums, mut said) = (Pool::new(4.0), Anonymity::default(), Vec::new());
        assert_eq!(pool.short(), None);
        for second in 0..2_000 {
            let held = if second < 1_000 { 8 } else { 64 };
            sums.released(10, held, held / 2);
            said.extend(pool.sample(second, sums).map(|change| (second, change)));
        }
        let seconds: Vec<u64> = said.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds.len(), 2, "{said:?}");
        assert_eq!(seconds[0], LONG_S);
        assert!((1_050..1_200).contains(&seconds[1]), "{said:?}");
        assert_eq!(said[0].1, Change::Low(3.0));
        let bits = Bits {
            all: 6.0,
            apart: 5.0,
        };
        assert_eq!((pool.short(), pool.long()), (Some(bits), Some(bits)));
        // Nothing leaves: nothing is said of it, in the long run neither.
        for second in 2_000..2_400 {
            assert_eq!(pool.sample(second, sums), None);
        }
        assert_eq!((pool.short(), pool.long()), (None, None));
    }
}
