//! The clock workers sleep by and the event that wakes them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};

/// An eventfd: whoever puts something into a worker's mailbox signals it, and the worker's port wakes.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A fresh, unsignalled event.
    ///
    /// # Errors
    /// What `eventfd` answered (no file descriptors left).
    pub fn new() -> io::Result<EventFd> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(EventFd(eventfd(0, flags)?))
    }

    /// Signals. Signals before the next wake-up count as one.
    pub fn signal(&self) {
        // A full counter (EAGAIN) is a signalled one: nothing is lost by not looking at the result.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes the signal back; says whether there was one.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        rustix::io::read(&self.0, &mut count).is_ok_and(|bytes| bytes == count.len())
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline]
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Time since the machine was booted, sleep included, nanoseconds: nobody can set it, and a suspended machine finds it
/// ahead.
pub fn boot_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Time left until `deadline_ns`, as the kernel's relative timeouts want it; zero if it has passed.
pub(crate) fn remaining(deadline_ns: u64) -> (i64, i64) {
    let left = deadline_ns.saturating_sub(monotonic_ns());
    ((left / 1_000_000_000) as i64, (left % 1_000_000_000) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_before_a_clear_count_as_one() {
        let event = EventFd::new().unwrap();
        assert!(!event.clear());
        event.signal();
        event.signal();
        assert!(event.clear());
        assert!(!event.clear());
    }
}
