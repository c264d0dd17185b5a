//! The client's steady clock.

use rustix::time::{ClockId, clock_gettime};

/// Counts from when it was made, and while the machine sleeps: what is of an epoch, and what a session's keys may seal,
/// is over by the time that has passed, whether or not anybody was awake.
#[derive(Clone, Copy, Debug)]
pub(super) struct SteadyClock {
    started_ns: u64,
}

impl SteadyClock {
    /// One that starts now.
    pub(super) fn start() -> Self {
        Self {
            started_ns: boot_ns(),
        }
    }

    /// Nanoseconds since the start.
    pub(super) fn now_ns(self) -> u64 {
        boot_ns().saturating_sub(self.started_ns)
    }
}

fn boot_ns() -> u64 {
    let since = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(since.tv_nsec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
