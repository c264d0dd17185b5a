//! recvmmsg and sendmmsg over preallocated headers: one system call moves up to [`BATCH_MAX`] datagrams.
//!
//! A room for unsafe code: the kernel reads and writes through the pointers built here, all of which live for one
//! call only.
#![allow(
    unsafe_code,
    reason = "recvmmsg and sendmmsg take pointers into the pool"
)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use super::BATCH_MAX;
use super::socket::KernelAddress;
use crate::pool::{DATAGRAM_BYTES, Frame, Memory, ROOM_BYTES};

/// What one message needs, side by side for all messages of a batch.
pub(super) struct MessageBatch {
    headers: [libc::mmsghdr; BATCH_MAX],
    vectors: [libc::iovec; BATCH_MAX],
    names: [KernelAddress; BATCH_MAX],
    /// Where datagrams go that no frame is free for. All messages share it: nobody reads it.
    scratch: [u8; 64],
}

// SAFETY: the pointers inside are written before and read during one system call; between calls they mean nothing.
unsafe impl Send for MessageBatch {}

impl MessageBatch {
    pub(super) fn new() -> Box<MessageBatch> {
        Box::new(MessageBatch {
            // SAFETY: all-zero is a valid mmsghdr (null pointers, zero lengths).
            headers: [unsafe { std::mem::zeroed() }; BATCH_MAX],
            vectors: [libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            }; BATCH_MAX],
            names: [KernelAddress::empty(); BATCH_MAX],
            scratch: [0; 64],
        })
    }

    /// Describes message `n`: `bytes` at `address`, and `name_bytes` of its name.
    fn describe(&mut self, n: usize, address: *mut u8, bytes: usize, name_bytes: libc::socklen_t) {
        self.vectors[n] = libc::iovec {
            iov_base: address.cast(),
            iov_len: bytes,
        };
        let header = &mut self.headers[n];
        header.msg_len = 0;
        header.msg_hdr.msg_name = (&raw mut self.names[n]).cast();
        header.msg_hdr.msg_namelen = name_bytes;
        header.msg_hdr.msg_iov = &raw mut self.vectors[n];
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_flags = 0;
    }

    /// Receives into `frames`, at most [`BATCH_MAX`]; returns how many came.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        memory: &Memory,
        frames: &mut [Frame],
    ) -> io::Result<usize> {
        let count = frames.len().min(BATCH_MAX);
        for (n, frame) in frames.iter_mut().take(count).enumerate() {
            self.describe(
                n,
                memory.datagram_address(frame),
                ROOM_BYTES,
                size_of::<KernelAddress>() as _,
            );
        }
        self.call_receive(socket, count, libc::MSG_DONTWAIT)
    }

    /// Source and length of message `n` of the last [`MessageBatch::receive`].
    pub(super) fn received(&self, n: usize) -> (SocketAddr, usize) {
        (self.names[n].get(), self.headers[n].msg_len as usize)
    }

    /// Reads and forgets up to [`BATCH_MAX`] waiting datagrams; returns how many.
    pub(super) fn discard(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let scratch = self.scratch.as_mut_ptr();
        for n in 0..BATCH_MAX {
            self.describe(n, scratch, 64, size_of::<KernelAddress>() as _);
        }
        self.call_receive(socket, BATCH_MAX, libc::MSG_DONTWAIT | libc::MSG_TRUNC)
    }

    fn call_receive(
        &mut self,
        socket: &UdpSocket,
        count: usize,
        flags: libc::c_int,
    ) -> io::Result<usize> {
        // SAFETY: `count` headers are described, each pointing at memory this call may write: a chunk whose token
        // the caller holds exclusively, or the scratch bytes; names and vectors are fields of `self`.
        let outcome = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        if outcome < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(outcome as usize)
        }
    }

    /// Sends `messages`, at most [`BATCH_MAX`], in order; returns how many the kernel took. An error is that of
    /// the first message.
    pub(super) fn transmit<'a>(
        &mut self,
        socket: &UdpSocket,
        memory: &Memory,
        messages: impl Iterator<Item = (&'a Frame, SocketAddr)>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (n, (frame, destination)) in messages.take(BATCH_MAX).enumerate() {
            let name_bytes = self.names[n].set(destination);
            self.describe(
                n,
                memory.datagram_address(frame),
                DATAGRAM_BYTES,
                name_bytes,
            );
            count = n + 1;
        }
        // SAFETY: `count` headers are described; the kernel only reads the chunks, whose tokens the caller holds.
        let outcome = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        if outcome < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(outcome as usize)
        }
    }
}

/// Whether a send that failed this way is worth repeating: the kernel is full for the moment.
pub(super) fn is_transient(error: i32) -> bool {
    matches!(
        error,
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR
    )
}
