//! The core this thread stays on, its place in the queue there, and the CPU time it has used.
#![allow(unsafe_code, reason = "a scheduling class that no safe call sets")]

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Keeps this thread on the core it is running on, so that no migration falls into a measurement.
pub(crate) fn pin_to_this_core() -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(sched_getcpu());
    Ok(sched_setaffinity(None, &set)?)
}

/// A core beside the one this thread is on, of so many; the same if there is but one.
pub(crate) fn another_core(cores: usize) -> usize {
    (sched_getcpu() + 1) % cores.max(1)
}

/// CPU time of this thread, in nanoseconds. Unlike a wall clock it stands still while others run.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of a thread of this process, in nanoseconds: exact while it sleeps. 0 of one that is gone.
pub(crate) fn cpu_ns_of(thread: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
    // Its first number is time on a CPU.
    let text = text.unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// Puts this thread before all ordinary work of its core, where the user may: a measurement in real time is of the
/// node then, not of what else the machine does.
pub(crate) fn go_first() {
    let parameters = libc::sched_param { sched_priority: 10 };
    // SAFETY: 0 is the calling thread; the parameters outlive the call. A refusal changes nothing.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) };
}

/// Runs `work` on the first so many cores that this thread may use. Processes that it starts stay there.
pub(crate) fn confined<T>(cores: usize, work: impl FnOnce() -> T) -> io::Result<T> {
    let all = sched_getaffinity(None)?;
    let mut some = CpuSet::new();
    let allowed = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    allowed.take(cores.max(1)).for_each(|core| some.set(core));
    sched_setaffinity(None, &some)?;
    let done = work();
    sched_setaffinity(None, &all)?;
    Ok(done)
}

/// Runs `work` on a thread of its own, pinned to a core, before the machine's other work there if that is allowed.
pub(crate) fn on_core<T: Send>(
    core: usize,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            port::affinity::pin(core)?;
            go_first();
            work()
        });
        let ended = thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("a thread of the benchmark failed")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_confined_has_so_many_cores_and_all_of_them_afterwards() {
        let before = sched_getaffinity(None).unwrap();
        let within = confined(1, || sched_getaffinity(None).unwrap()).unwrap();
        assert_eq!(within.count(), 1);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        let all = confined(usize::MAX, || sched_getaffinity(None).unwrap());
        assert_eq!(all.unwrap(), before);
    }
}
