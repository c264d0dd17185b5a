//! What the XDP program itself costs: the kernel's own measurement of each run (BPF_ENABLE_STATS).

use std::os::fd::OwnedFd;

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// The program's name in the kernel.
const NAME: &str = "steer";

/// The kernel measures while this lives.
pub(super) struct Measuring(#[expect(dead_code, reason = "held for its life")] OwnedFd);

/// Has the kernel measure programs; `None` if it can't.
pub(super) fn measure() -> Option<Measuring> {
    enable_stats(Stats::RunTime).ok().map(Measuring)
}

/// Nanoseconds a run of the program that has run about `runs` times: others on this machine have it loaded too.
pub(super) fn run_ns(runs: u64) -> Option<f64> {
    let programs = loaded_programs().filter_map(Result::ok);
    let ours = programs.filter(|program| program.name_as_str() == Some(NAME));
    let program = ours.min_by_key(|program| program.run_count().abs_diff(runs))?;
    let (time, count) = (program.run_time(), program.run_count());
    (count > 0).then(|| time.as_nanos() as f64 / count as f64)
}
