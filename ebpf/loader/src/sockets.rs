//! The loader's room for unsafe code: the system calls for sockets and memory that no safe crate offers.
#![allow(unsafe_code, reason = "system calls that no crate wraps")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::net::sockopt;
use rustix::net::xdp::{XdpUmemReg, XdpUmemRegFlags};

/// Microseconds a socket that prefers busy polling polls before it waits for an interrupt.
const BUSY_POLL_US: libc::c_int = 20;
/// Packets of one busy poll.
const BUSY_POLL_BUDGET: libc::c_int = 64;

/// Who is at the other end of a unix socket, as of its `connect` (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Process; 0 when it is not visible from here.
    pub pid: i32,
    /// User.
    pub uid: u32,
}

/// Reads the peer's credentials. Not by rustix: its process number can't be the 0 of a peer that is not visible.
pub(super) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut found = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes to `found`, which is as large and lives past the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut bytes,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer {
        pid: found.pid,
        uid: found.uid,
    })
}

/// Registers `bytes` of a memfd as packet memory of an AF_XDP socket: chunks of `chunk_bytes`, with `headroom_bytes`
/// more than the kernel's own before what is received. The kernel pins the pages; no mapping is left here.
pub(super) fn register_memory(
    socket: BorrowedFd<'_>,
    memory: BorrowedFd<'_>,
    bytes: usize,
    chunk_bytes: u32,
    headroom_bytes: u32,
) -> io::Result<()> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let address = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            memory,
            0,
        )?
    };
    let registration = XdpUmemReg {
        addr: address as u64,
        len: bytes as u64,
        chunk_size: chunk_bytes,
        headroom: headroom_bytes,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    let registered = sockopt::set_xdp_umem_reg(socket, registration);
    // SAFETY: the mapping made above, of which nothing here holds a reference; the kernel works on the pages.
    unsafe { rustix::mm::munmap(address, bytes)? };
    Ok(registered?)
}

/// Descriptors that the service manager gave this process at its start, by name (sd_listen_fds(3)): what an earlier one
/// had it keep, and sockets of the unit. To be called before anything else opens descriptors; the second call gets none.
pub fn listen_fds() -> Vec<(String, OwnedFd)> {
    /// The number of the first of them.
    const FIRST: i32 = 3;
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let count = match number("LISTEN_PID") {
        Some(process) if process == std::process::id() => number("LISTEN_FDS"),
        _ => None,
    };
    let count = count.and_then(|count| i32::try_from(count).ok());
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut descriptors = Vec::new();
    for at in FIRST..FIRST.saturating_add(count.unwrap_or(0)) {
        let name = names.next().unwrap_or_default().to_owned();
        // SAFETY: this only asks whether there is such a descriptor, and keeps it from programs started later.
        if unsafe { libc::fcntl(at, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            break;
        }
        // SAFETY: it is open, and by the protocol this process's own to take: nothing else here did, since nothing was
        // opened before and this happens once.
        descriptors.push((name, unsafe { OwnedFd::from_raw_fd(at) }));
    }
    descriptors
}

/// Memory that stays out of swap for as long as this lives, and can't be read through it: its one mapping here is locked,
/// without access, which a core dump does not ask for, and left out of those. The lock holds for the pages, whoever else maps them.
#[derive(Debug)]
pub(super) struct Resident {
    address: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: mapped memory has no thread affinity, and this gives no access to it.
unsafe impl Send for Resident {}

impl Resident {
    /// Locks `bytes` of a memfd, which is sealed against being cut.
    pub fn new(memory: BorrowedFd<'_>, bytes: usize) -> io::Result<Resident> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                memory,
                0,
            )?
        };
        let resident = Resident {
            address: NonNull::new(address).ok_or(io::ErrorKind::OutOfMemory)?,
            bytes,
        };
        // SAFETY: the calls name exactly this mapping, to which there is no reference.
        unsafe {
            rustix::mm::madvise(address, bytes, Advice::LinuxDontDump)?;
            rustix::mm::mlock(address, bytes)?;
            rustix::mm::mprotect(address, bytes, MprotectFlags::empty())?;
        }
        Ok(resident)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing refers to it.
        let _ = unsafe { rustix::mm::munmap(self.address.as_ptr(), self.bytes) };
    }
}

/// Has the kernel poll the queue of an AF_XDP socket from the system calls of its owner instead of interrupts. Refused
/// to the unprivileged, so it is done before the socket is handed over. Linux 5.11.
pub(super) fn prefer_busy_poll(socket: BorrowedFd<'_>) -> io::Result<()> {
    // Linux's numbers (asm-generic/socket.h); the crate libc names only some of them.
    const SO_BUSY_POLL: libc::c_int = 46;
    const SO_PREFER_BUSY_POLL: libc::c_int = 69;
    const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
    for (option, value) in [
        (SO_PREFER_BUSY_POLL, 1),
        (SO_BUSY_POLL, BUSY_POLL_US),
        (SO_BUSY_POLL_BUDGET, BUSY_POLL_BUDGET),
    ] {
        // SAFETY: the kernel reads one int, which lives past the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// How many queues of an interface receive now (`ethtool -l`); 1 where the driver has no such notion.
pub(super) fn receive_queues(interface: &str) -> io::Result<u32> {
    /// `struct ethtool_channels` (linux/ethtool.h).
    #[repr(C)]
    #[derive(Default)]
    struct Channels {
        command: u32,
        receive_max: u32,
        transmit_max: u32,
        other_max: u32,
        combined_max: u32,
        receive: u32,
        transmit: u32,
        other: u32,
        combined: u32,
    }
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    let any = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    let mut channels = Channels {
        command: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut channels).cast(),
        },
    };
    // SAFETY: for this command the kernel reads a name that ends in zero, and reads and writes one `Channels`; both
    // live past the call.
    let result = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Ok(1),
            _ => Err(error),
        };
    }
    Ok(channels.combined.saturating_add(channels.receive).max(1))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_peer_of_a_socket_pair_is_this_process() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let found = peer(one.as_fd()).unwrap();
        assert_eq!(found.pid, std::process::id() as i32);
        assert_eq!(found.uid, rustix::process::getuid().as_raw());
    }

    #[test]
    fn the_loopback_has_one_queue_and_a_missing_interface_is_an_error() {
        assert_eq!(receive_queues("lo").unwrap(), 1);
        assert!(receive_queues("no-such-one").is_err());
        assert!(receive_queues("a-name-too-long-for-an-interface").is_err());
    }

    #[test]
    fn memory_of_something_that_is_no_memory_is_an_error() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(register_memory(one.as_fd(), other.as_fd(), 4096, 2048, 0).is_err());
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(register_memory(one.as_fd(), file.as_fd(), 4096, 2048, 0).is_err());
    }
}
