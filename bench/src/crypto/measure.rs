//! Cases and their measurement.

use crate::clock::thread_cpu_ns;
use crate::rounds::{self, Round};
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

impl Round for Case {
    fn prepare(&mut self) -> io::Result<()> {
        (self.prepare)();
        Ok(())
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        let start = thread_cpu_ns();
        (self.run)();
        Ok(vec![thread_cpu_ns() - start])
    }
}

/// A case's measurements.
pub(super) struct Samples {
    pub(super) name: String,
    pub(super) batch: usize,
    /// By round: nanoseconds an operation.
    pub(super) ns: Vec<f64>,
}

/// Measures all of them; says whether the machine was disturbed.
pub(super) fn measure(
    cases: &mut [Case],
    rounds: usize,
) -> io::Result<(Vec<Samples>, Option<String>)> {
    let measured = rounds::measure(cases, rounds)?;
    let warning = measured.warning();
    let samples = cases
        .iter()
        .zip(measured.samples)
        .map(|(case, parts)| Samples {
            name: case.name.clone(),
            batch: case.batch,
            ns: parts
                .into_iter()
                .flatten()
                .map(|ns| ns / case.operations as f64)
                .collect(),
        });
    Ok((samples.collect(), warning))
}
