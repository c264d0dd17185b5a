//! Waiting for the socket with the precision of the system's timers: a socket's own timeout is rounded up to the
//! kernel's tick, several milliseconds, which would distort the Poisson process. The one room for unsafe code here.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Returns when the socket has something to read or the time is over; early when a signal arrives.
pub(crate) fn readable(socket: &UdpSocket, timeout: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().min(3_600) as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: one pollfd and one timespec, both alive and initialised for the call; no signal mask.
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, core::ptr::null()) };
    ready > 0
}
