//! Cases with names, and what their rounds came to.

use std::io;

use crate::rounds::{self, Round};

/// Something to measure round by round.
pub(crate) struct Case {
    pub(crate) name: String,
    /// How many operations one call of the thing measured does, where that is a choice.
    batch: Option<usize>,
    /// Names of what a round measures, in order.
    parts: Vec<String>,
    /// Operations of one round.
    operations: usize,
    round: Box<dyn Round>,
}

impl Case {
    /// A case with one part.
    pub(crate) fn new(name: &str, operations: usize, round: impl Round + 'static) -> Case {
        Case::with_parts(name, &[""], operations, round)
    }

    /// A case whose rounds measure several parts apart.
    pub(crate) fn with_parts(
        name: &str,
        parts: &[&str],
        operations: usize,
        round: impl Round + 'static,
    ) -> Case {
        Case {
            name: name.to_owned(),
            batch: None,
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            operations,
            round: Box::new(round),
        }
    }

    /// Says how many operations one call does.
    pub(crate) fn batch(mut self, batch: usize) -> Case {
        self.batch = Some(batch);
        self
    }
}

impl Round for Case {
    fn prepare(&mut self) -> io::Result<()> {
        self.round.prepare()
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        self.round.run()
    }
}

/// Nanoseconds an operation of one part of one case, all rounds.
pub(crate) struct Samples {
    pub(crate) name: String,
    pub(crate) batch: Option<usize>,
    pub(crate) ns: Vec<f64>,
}

impl Samples {
    /// Added up round by round; none of nothing.
    pub(crate) fn sum(parts: &[&[f64]]) -> Vec<f64> {
        let rounds = parts.iter().map(|part| part.len()).min().unwrap_or(0);
        (0..rounds)
            .map(|round| parts.iter().map(|part| part[round]).sum())
            .collect()
    }
}

/// Measures all of them; says whether the machine was disturbed.
pub(crate) fn measure(
    cases: &mut [Case],
    rounds: usize,
) -> io::Result<(Vec<Samples>, Option<String>)> {
    let measured = rounds::measure(cases, rounds)?;
    let warning = measured.warning();
    let mut samples = Vec::new();
    for (case, parts) in cases.iter().zip(measured.samples) {
        for (part, ns) in case.parts.iter().zip(parts) {
            samples.push(Samples {
                name: format!("{} {part}", case.name).trim_end().to_owned(),
                batch: case.batch,
                ns: ns
                    .into_iter()
                    .map(|ns| ns / case.operations as f64)
                    .collect(),
            });
        }
    }
    Ok((samples, warning))
}
