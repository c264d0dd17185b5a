//! Cases made of closures.

use std::io;

use crate::cases::Case;
use crate::clock::thread_cpu_ns;
use crate::rounds::Round;

/// What one round does, what makes its inputs off the clock, and these.
struct Consuming<T, P, R> {
    prepare: P,
    run: R,
    input: Option<T>,
}

impl<T, P: FnMut() -> T, R: FnMut(T)> Round for Consuming<T, P, R> {
    fn prepare(&mut self) -> io::Result<()> {
        self.input = Some((self.prepare)());
        Ok(())
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        let input = self
            .input
            .take()
            .ok_or_else(|| io::Error::other("a round without its inputs"))?;
        let start = thread_cpu_ns();
        (self.run)(input);
        Ok(vec![thread_cpu_ns() - start])
    }
}

/// A case of so many operations.
pub(super) fn repeating(
    name: impl AsRef<str>,
    batch: usize,
    operations: usize,
    mut run: impl FnMut() + 'static,
) -> Case {
    consuming(name, batch, operations, || (), move |()| run())
}

/// A case whose `run` uses up what `prepare` makes.
pub(super) fn consuming<T: 'static>(
    name: impl AsRef<str>,
    batch: usize,
    operations: usize,
    prepare: impl FnMut() -> T + 'static,
    run: impl FnMut(T) + 'static,
) -> Case {
    let round = Consuming {
        prepare,
        run,
        input: None,
    };
    Case::new(name.as_ref(), operations, round).batch(batch)
}
