//! What the kernel keeps out of a node's UDP sockets, and how many that were.
//!
//! Every datagram of the link has one length. A filter on the socket drops the others before they are queued: they cost
//! no wake-up, take no place in the receive buffer, and none of them can end a multishot receive (an empty one does).
#![allow(unsafe_code, reason = "socket options without a safe call")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::pool::DATAGRAM_BYTES;

/// What the filter sees of a datagram: it starts at the UDP header.
const FILTERED_BYTES: u32 = 8 + DATAGRAM_BYTES as u32;

/// Attaches a classic BPF filter that takes datagrams of [`DATAGRAM_BYTES`] and no others.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn close_to_other_lengths(socket: impl AsFd) -> io::Result<()> {
    let instruction = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            FILTERED_BYTES,
        ),
        // As many bytes of it are kept: all.
        instruction(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program during the call; pointer and length describe the array above.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel tells of a socket's memory (SO_MEMINFO, Linux 4.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes that datagrams on their way out take, as the kernel counts them.
    pub sending: u32,
    /// Bytes they may take.
    pub sending_max: u32,
    /// Datagrams dropped before they were queued: filtered, wrong, or for want of room. Wraps.
    pub dropped: u32,
}

impl Memory {
    /// Of `socket`, now.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Memory> {
        // asm-generic/socket.h and linux/sock_diag.h.
        const SO_MEMINFO: libc::c_int = 55;
        const SENDING: usize = 2;
        const SENDING_MAX: usize = 3;
        const DROPPED: usize = 8;
        const COUNT: usize = 9;
        let mut values = [0_u32; COUNT];
        let mut bytes = size_of_val(&values) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes to `values`, which is as large and lives past the call.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        match outcome {
            0 => Ok(Memory {
                sending: values[SENDING],
                sending_max: values[SENDING_MAX],
                dropped: values[DROPPED],
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Follows the kernel's count of what it dropped at a socket's door.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Door {
    seen: u32,
}

impl Door {
    /// How many more since this was last asked; none if the kernel does not say.
    pub(crate) fn dropped(&mut self, socket: impl AsFd) -> u64 {
        let Ok(memory) = Memory::of(socket) else {
            return 0;
        };
        let more = memory.dropped.wrapping_sub(self.seen);
        self.seen = memory.dropped;
        u64::from(more)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_kernel_drops_every_other_length_and_counts_it() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let door = UdpSocket::bind(address).unwrap();
            close_to_other_lengths(&door).unwrap();
            door.set_nonblocking(true).unwrap();
            let stranger = UdpSocket::bind(address).unwrap();
            let mut counted = Door::default();
            let lengths = [
                0,
                1,
                DATAGRAM_BYTES - 1,
                DATAGRAM_BYTES,
                DATAGRAM_BYTES + 1,
                9_000,
            ];
            for round in 1..=2 {
                for length in lengths {
                    let bytes = vec![round; length];
                    stranger
                        .send_to(&bytes, door.local_addr().unwrap())
                        .unwrap();
                }
                let mut bytes = [0; 2 * DATAGRAM_BYTES];
                assert_eq!(door.recv(&mut bytes).unwrap(), DATAGRAM_BYTES);
                assert!(door.recv(&mut bytes).is_err(), "one is all that came in");
                assert_eq!(counted.dropped(&door), 5);
            }
        }
    }

    #[test]
    fn what_waits_to_be_sent_is_told_beside_its_limit() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let memory = Memory::of(&socket).unwrap();
        assert_eq!(memory.sending, 0);
        assert!(memory.sending_max > 0);
        assert!(Memory::of(tempfile::tempfile().unwrap()).is_err());
    }
}
