//! Segmentation offload of UDP sockets. A room for unsafe code: one system call.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Has the kernel cut each send of `socket` into datagrams of `bytes`.
pub(crate) fn enable(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the option takes one int, and that is what the pointer and the length describe.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
