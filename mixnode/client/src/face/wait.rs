//! Waiting for the socket with the precision of the system's timers: a socket's own timeout is rounded up to the
//! kernel's tick, several milliseconds, which would distort the Poisson process.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Returns when the socket has something to read or the time is over; early when a signal arrives.
pub(crate) fn readable(socket: &UdpSocket, timeout: Duration) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    poll(&mut polled, Some(&timeout)).is_ok_and(|ready| ready > 0)
}
