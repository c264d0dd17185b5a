//! Cases and their measurement.

use crate::clock::thread_cpu_ns;
use serde::Serialize;
use std::io;

/// Something to measure.
pub(super) struct Case {
    pub(super) name: String,
    /// How many operations one call of the thing measured does.
    pub(super) batch: usize,
    /// Operations in one `run`.
    operations: usize,
    /// Makes the inputs of one `run`, untimed.
    prepare: Box<dyn FnMut()>,
    run: Box<dyn FnMut()>,
}

impl Case {
    pub(super) fn new(
        name: impl Into<String>,
        batch: usize,
        operations: usize,
        run: impl FnMut() + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            batch,
            operations,
            prepare: Box::new(|| ()),
            run: Box::new(run),
        }
    }

    /// A case whose `run` uses up what `prepare` makes.
    pub(super) fn consuming<T: 'static>(
        name: impl Into<String>,
        batch: usize,
        operations: usize,
        mut prepare: impl FnMut() -> T + 'static,
        mut run: impl FnMut(T) + 'static,
    ) -> Self {
        let prepared = std::rc::Rc::new(std::cell::RefCell::new(None));
        let input = prepared.clone();
        let mut case = Self::new(name, batch, operations, move || {
            let taken = input.borrow_mut().take();
            if let Some(taken) = taken {
                run(taken);
            }
        });
        case.prepare = Box::new(move || *prepared.borrow_mut() = Some(prepare()));
        case
    }
}

/// One line of the report, in nanoseconds an operation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) batch: usize,
    pub(super) median_ns: f64,
    pub(super) min_ns: f64,
    pub(super) p90_ns: f64,
}

/// Rounds thrown away at the start: caches, branch predictors and the clock frequency settle.
const WARM_UP: usize = 3;

pub(super) fn measure(cases: &mut [Case], rounds: usize) -> io::Result<Vec<Measured>> {
    let mut samples = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 0..WARM_UP + rounds {
        for (case, samples) in cases.iter_mut().zip(&mut samples) {
            (case.prepare)();
            let start = thread_cpu_ns();
            (case.run)();
            let elapsed = thread_cpu_ns() - start;
            if round >= WARM_UP {
                samples.push(elapsed as f64 / case.operations as f64);
            }
        }
    }
    let results = cases.iter().zip(samples);
    Ok(results
        .map(|(case, samples)| summary(case, samples))
        .collect())
}

fn summary(case: &Case, mut samples: Vec<f64>) -> Measured {
    samples.sort_by(f64::total_cmp);
    let quantile = |part: f64| samples[((samples.len() - 1) as f64 * part).round() as usize];
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    Measured {
        name: case.name.clone(),
        batch: case.batch,
        median_ns: tenth(quantile(0.5)),
        min_ns: tenth(quantile(0.0)),
        p90_ns: tenth(quantile(0.9)),
    }
}
