//! Rounds: each measures every case once, in an order drawn anew, so that a slower moment of the machine falls on all of
//! them alike. Between rounds a fixed piece of work tells how disturbed the machine is.

use std::io;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::clock::thread_cpu_ns;
use crate::stats;

/// Rounds thrown away at the start: caches, branch predictors and the clock frequency settle.
const WARM_UP: usize = 5;
/// A round is marked if the probe took longer than its median by more than this.
const MARKED_OVER: f64 = 1.1;
/// More marked rounds than one in so many are worth a warning.
const MARKED_SHARE: usize = 5;

/// One measurement, repeatable.
pub(crate) trait Round {
    /// Makes everything ready, off the clock.
    ///
    /// # Errors
    /// The machine refuses something.
    fn prepare(&mut self) -> io::Result<()>;
    /// Does it and gives the CPU nanoseconds of each of its parts, always as many.
    ///
    /// # Errors
    /// Something got lost that must not.
    fn run(&mut self) -> io::Result<Vec<u64>>;
}

/// What rounds came to.
pub(crate) struct Measured {
    /// By case, then by part, then by round: nanoseconds.
    pub(crate) samples: Vec<Vec<Vec<f64>>>,
    /// How many rounds were disturbed. Their samples stay.
    pub(crate) marked: usize,
    /// Rounds counted.
    pub(crate) rounds: usize,
}

impl Measured {
    /// What to tell of a disturbed machine.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.marked * MARKED_SHARE > self.rounds).then(|| {
            format!(
                "{} of {} rounds were disturbed: other work ran on this machine, and the intervals are wide for it",
                self.marked, self.rounds
            )
        })
    }
}

/// Measures every case in `rounds` rounds after a warm-up.
pub(crate) fn measure(cases: &mut [impl Round], rounds: usize) -> io::Result<Measured> {
    let mut samples: Vec<Vec<Vec<f64>>> = vec![Vec::new(); cases.len()];
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut probes = Vec::with_capacity(rounds);
    for round in 0..WARM_UP + rounds {
        order.shuffle(&mut rng);
        for &number in &order {
            let case = &mut cases[number];
            case.prepare()?;
            let spent = case.run()?;
            if round >= WARM_UP {
                samples[number].resize(spent.len(), Vec::with_capacity(rounds));
                for (samples, spent) in samples[number].iter_mut().zip(spent) {
                    samples.push(spent as f64);
                }
            }
        }
        if round >= WARM_UP {
            probes.push(probe());
        }
    }
    let usual = stats::median(&probes);
    let marked = probes.iter().filter(|&&ns| ns > usual * MARKED_OVER);
    Ok(Measured {
        marked: marked.count(),
        samples,
        rounds,
    })
}

/// CPU nanoseconds of a fixed amount of vector arithmetic in registers.
fn probe() -> f64 {
    let start = thread_cpu_ns();
    let mut sums = [1.0f64; 16];
    for _ in 0..4_000 {
        for sum in &mut sums {
            *sum = *sum * 0.999_999 + 0.5;
        }
    }
    std::hint::black_box(&sums);
    (thread_cpu_ns() - start) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts its rounds and reports two parts.
    struct Counting {
        rounds: u64,
        fails_at: u64,
    }

    impl Round for Counting {
        fn prepare(&mut self) -> io::Result<()> {
            self.rounds += 1;
            Ok(())
        }

        fn run(&mut self) -> io::Result<Vec<u64>> {
            match self.rounds == self.fails_at {
                true => Err(io::Error::other("a packet was lost")),
                false => Ok(vec![self.rounds, 7]),
            }
        }
    }

    #[test]
    fn every_case_is_measured_once_a_round_and_the_warm_up_is_left_out() {
        let case = |fails_at| Counting {
            rounds: 0,
            fails_at,
        };
        let measured = measure(&mut [case(0), case(0)], 40).unwrap();
        for parts in &measured.samples {
            let expected: Vec<f64> = (6..=45).map(f64::from).collect();
            assert_eq!(parts, &[expected, vec![7.0; 40]]);
        }
        // What is lost ends the measurement.
        assert!(measure(&mut [case(0), case(20)], 40).is_err());
    }

    #[test]
    fn a_disturbed_machine_is_told() {
        let measured = |marked| Measured {
            samples: Vec::new(),
            marked,
            rounds: 100,
        };
        assert_eq!(measured(20).warning(), None);
        assert!(measured(21).warning().unwrap().contains("21 of 100"));
    }
}
