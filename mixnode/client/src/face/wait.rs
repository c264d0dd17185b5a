//! Waiting for sockets and for the departure thread.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Returns when one of them has something to read or the time is over; early when a signal arrives. Which have.
pub(crate) fn readable(sources: &[BorrowedFd<'_>], timeout: Duration) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> = sources
        .iter()
        .map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // After an error nothing is known of any.
    let waited = poll(&mut polled, Some(&timeout)).is_ok();
    let ready = polled.iter().map(|one| waited && !one.revents().is_empty());
    ready.collect()
}
