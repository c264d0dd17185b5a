//! The core this thread stays on, its place in the queue there, and the CPU time it has used. A room for unsafe code: system calls.

use std::io;

/// Keeps this thread on the core it is running on, so that no migration falls into a measurement.
pub(crate) fn pin_to_this_core() -> io::Result<()> {
    // SAFETY: takes no arguments and touches no memory.
    let core = unsafe { libc::sched_getcpu() };
    let core = usize::try_from(core).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: all zero bits are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel numbers cores below the set's size; libc's bounds check is part of the macro.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set outlives the call, and its size is passed with it.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// CPU time of this thread, in nanoseconds. Unlike a wall clock it stands still while others run.
pub(crate) fn thread_cpu_ns() -> io::Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which outlives the call.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } {
        0 => Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts this thread before all ordinary work of its core, where the user may: a measurement in real time is of the
/// node then, not of what else the machine does.
pub(crate) fn go_first() {
    let parameters = libc::sched_param { sched_priority: 10 };
    // SAFETY: 0 is the calling thread; the parameters outlive the call. A refusal changes nothing.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) };
}
