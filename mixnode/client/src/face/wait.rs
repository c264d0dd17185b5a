//! Waiting for the socket and for the departure thread.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Returns when one of both has something to read or the time is over; early when a signal arrives. Which have.
pub(crate) fn readable(sources: [BorrowedFd<'_>; 2], timeout: Duration) -> [bool; 2] {
    let mut polled = sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN));
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // After an error nothing is known of any.
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => polled.map(|one| !one.revents().is_empty()),
        Err(_) => [false; 2],
    }
}
