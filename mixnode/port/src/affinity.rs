//! Pinning a worker's thread to a core.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Pins the calling thread to the `number`-th of the cores this process may use.
///
/// # Errors
/// There are fewer cores, or the kernel refuses.
pub fn pin(number: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let core = (0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .nth(number);
    let Some(core) = core else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "fewer cores than workers: unset [worker] pin",
        ));
    };
    let mut one = CpuSet::new();
    one.set(core);
    Ok(sched_setaffinity(None, &one)?)
}
