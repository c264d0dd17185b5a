//! A node's sockets and packet memory.
//!
//! Each worker gets one sealed memfd of 2 KiB frames and an AF_XDP socket for each of its queues; the sockets of a
//! worker share its memory, each with rings of its own. They are handed over, the node fills the rings and then asks for
//! the packets. From then on nothing of it is kept: the kernel takes a socket out of the map when the last descriptor of
//! it is closed, so a descriptor kept here would keep a dead node's queue taken.
//!
//! Sockets are bound before they are handed over: who has one that is not bound may bind it to any interface of the host.
//! Before Linux 6.4 nobody can map the rings of a socket that is bound; there they are bound when their node asks for the
//! packets. Nothing of the kernel's keeps who has them from binding them itself before; a node at work can bind nothing,
//! for its filter has no such system call, unless its sandbox is off.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ebpf_abi::XSKS_MAX;
use handover::chunk::{CHUNK_BYTES, FRAMES_MAX, HEADROOM_BYTES};
use handover::protocol::{DESCRIPTORS_MAX, FILL_ENTRIES, RING_ENTRIES};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XdpOptionsFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::explain;
use super::interface::Interface;
use super::{memory, sockets};
use crate::error::LoaderError;

/// How long a queue may stay taken: the kernel gives a closed socket's queue back from a work queue, which took up to
/// 365 ms when measured.
const BUSY_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes the kernel leaves before a received packet, whatever is asked for (XDP_PACKET_HEADROOM).
const KERNEL_HEADROOM_BYTES: usize = 256;
const ETHERNET_BYTES: usize = 14;
const UDP_BYTES: usize = 8;
/// Frames of all workers of a node: 16 GiB.
const FRAMES_TOTAL_MAX: u64 = 2 * FRAMES_MAX as u64;

/// Bytes more than the kernel's own headroom that put the datagram at [`HEADROOM_BYTES`] of its chunk.
const fn headroom_bytes(ipv6: bool) -> u32 {
    let ip = if ipv6 { 40 } else { 20 };
    (HEADROOM_BYTES - KERNEL_HEADROOM_BYTES - ETHERNET_BYTES - ip - UDP_BYTES) as u32
}

/// Which queues each of `workers` workers gets, of `queues`.
pub(super) fn deal(queues: u32, workers: usize) -> Vec<Vec<u32>> {
    let share = |worker| (worker as u32..queues).step_by(workers.max(1)).collect();
    (0..workers).map(share).collect()
}

/// Whether this kernel lets nobody map the rings of sockets that are bound.
pub(super) fn binds_late() -> bool {
    is_before_6_4(&rustix::system::uname().release().to_string_lossy())
}

/// Of a kernel that can't be told: the other order is right in all.
fn is_before_6_4(release: &str) -> bool {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 4)
}

/// One worker's part.
pub(super) struct Worker {
    /// Its packet memory.
    pub memory: OwnedFd,
    /// Its sockets with their queues.
    pub sockets: Vec<(u32, OwnedFd)>,
    /// So many of these are bound.
    bound: usize,
}

/// A node's sockets until packets are steered to them. A queue may be taken for a moment, so it is done in steps.
pub(super) struct Opening {
    interface: Interface,
    queues: Vec<Vec<u32>>,
    frames: Vec<u32>,
    headroom_bytes: u32,
    busy_poll: bool,
    /// Whether the sockets stay unbound until the node asks for its packets.
    late: bool,
    /// The node has asked for them.
    asked: bool,
    /// Until when a taken queue is waited for, from when it was first found taken.
    deadline: Option<Instant>,
    workers: Vec<Worker>,
}

impl Opening {
    /// Checks what is asked for; makes nothing yet. `receive_queues` are the interface's; `late`: see [`binds_late`].
    pub fn new(
        interface: Interface,
        receive_queues: u32,
        frames: Vec<u32>,
        ipv6: bool,
        busy_poll: bool,
        late: bool,
    ) -> Result<Opening, LoaderError> {
        let name = &interface.name;
        if !interface.up {
            return Err(LoaderError::InterfaceDown {
                interface: name.clone(),
            });
        }
        let workers = frames.len();
        let total: u64 = frames.iter().map(|frames| u64::from(*frames)).sum();
        if workers == 0 || frames.contains(&0) || total > FRAMES_TOTAL_MAX {
            return Err(LoaderError::Frames {
                workers,
                frames: total,
                frames_max: FRAMES_TOTAL_MAX,
            });
        }
        // What came on a queue beyond the program's map would go to the kernel's socket, which is no fast path.
        let queues = receive_queues;
        if queues as usize > XSKS_MAX {
            return Err(LoaderError::TooManyQueues {
                interface: name.clone(),
                queues,
            });
        }
        if workers > queues as usize {
            return Err(LoaderError::TooFewQueues {
                interface: name.clone(),
                workers,
                queues,
            });
        }
        if workers + queues as usize > DESCRIPTORS_MAX {
            return Err(LoaderError::TooManyDescriptors { workers, queues });
        }
        Ok(Opening {
            queues: deal(queues, workers),
            interface,
            frames,
            headroom_bytes: headroom_bytes(ipv6),
            busy_poll,
            late,
            asked: false,
            deadline: None,
            workers: Vec::new(),
        })
    }

    /// The interface.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// By worker: its queues.
    pub fn queues(&self) -> &[Vec<u32>] {
        &self.queues
    }

    /// The node has filled the rings and asks for its packets.
    pub fn ask(&mut self) {
        self.asked = true;
        self.deadline = None;
    }

    /// Whether the node has asked for its packets.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// Goes on; true when all is there for the sockets to be handed over, or packets to be steered to them. False: a queue
    /// is taken, try again in a moment.
    pub fn step(&mut self) -> Result<bool, LoaderError> {
        let binds = !self.late || self.asked;
        loop {
            // Before the next worker's memory is made: while a dead node's queues are taken, its memory is there too.
            if binds && !self.bind_all()? {
                return Ok(false);
            }
            if self.workers.len() == self.queues.len() {
                return Ok(true);
            }
            let worker = self.make(self.workers.len())?;
            self.workers.push(worker);
        }
    }

    /// A worker's sockets and memory.
    fn make(&self, index: usize) -> Result<Worker, LoaderError> {
        let frames = self.frames.get(index).copied().unwrap_or_default();
        let bytes = frames as usize * CHUNK_BYTES;
        let memory = memory::sealed("fogmix-packets", bytes as u64)
            .map_err(|error| explain::socket("packet memory", error))?;
        let mut sockets = Vec::new();
        for queue in self.queues.get(index).into_iter().flatten() {
            let owns = sockets.is_empty().then_some((bytes, self.headroom_bytes));
            sockets.push((*queue, set_up(&memory, owns, self.busy_poll)?));
        }
        Ok(Worker {
            memory,
            sockets,
            bound: 0,
        })
    }

    /// Binds what is not bound yet; false if a queue is taken.
    fn bind_all(&mut self) -> Result<bool, LoaderError> {
        for worker in &mut self.workers {
            while let Some((queue, socket)) = worker.sockets.get(worker.bound) {
                let owner = worker.sockets.first().filter(|_| worker.bound > 0);
                let owner = owner.map(|(_, first)| first.as_fd());
                match bind(socket, owner, self.interface.index, *queue) {
                    Ok(()) => worker.bound += 1,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        let now = Instant::now();
                        if now >= *self.deadline.get_or_insert(now + BUSY_DEADLINE) {
                            return Err(LoaderError::QueueTaken {
                                interface: self.interface.name.clone(),
                                queue: *queue,
                            });
                        }
                        return Ok(false);
                    }
                    Err(error) => {
                        let what = format!("queue {queue} of {}", self.interface.name);
                        return Err(explain::socket(&what, error));
                    }
                }
            }
        }
        Ok(true)
    }

    /// What was made.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The sockets with their queues; the memory is given up.
    pub fn into_sockets(self) -> Vec<(u32, OwnedFd)> {
        let workers = self.workers.into_iter();
        workers.flat_map(|worker| worker.sockets).collect()
    }

    /// Whether the driver reads and writes packet memory itself, on every queue: not of sockets that are not bound yet.
    pub fn zero_copy(&self) -> bool {
        let mut sockets = self.workers.iter().flat_map(|worker| &worker.sockets);
        sockets.all(|(_, socket)| {
            sockopt::xdp_options(socket)
                .is_ok_and(|options| options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
        })
    }
}

/// A socket with its rings; the first of a worker with its memory (`owns`: bytes and headroom).
fn set_up(
    memory: &OwnedFd,
    owns: Option<(usize, u32)>,
    busy_poll: bool,
) -> Result<OwnedFd, LoaderError> {
    let made = || -> io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(
            AddressFamily::XDP,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        if let Some((bytes, headroom)) = owns {
            let memory = memory.as_fd();
            sockets::register_memory(socket.as_fd(), memory, bytes, CHUNK_BYTES as u32, headroom)?;
        }
        sockopt::set_xdp_umem_fill_ring_size(&socket, FILL_ENTRIES)?;
        sockopt::set_xdp_umem_completion_ring_size(&socket, FILL_ENTRIES)?;
        sockopt::set_xdp_rx_ring_size(&socket, RING_ENTRIES)?;
        sockopt::set_xdp_tx_ring_size(&socket, RING_ENTRIES)?;
        Ok(socket)
    };
    let socket = made().map_err(|error| explain::socket("an AF_XDP socket", error))?;
    if busy_poll {
        sockets::prefer_busy_poll(socket.as_fd()).map_err(LoaderError::BusyPoll)?;
    }
    Ok(socket)
}

/// Binds to a queue: zero-copy where the driver offers it, else by copying (the kernel chooses so when neither is asked
/// for). Further sockets of a worker have the memory of its first one, `owner`, which is bound, and inherit its flags.
fn bind(
    socket: &OwnedFd,
    owner: Option<BorrowedFd<'_>>,
    interface_index: u32,
    queue: u32,
) -> io::Result<()> {
    match owner {
        None => {
            let flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
            rustix::net::bind(socket, &SocketAddrXdp::new(flags, interface_index, queue))?;
        }
        Some(owner) => {
            let flags = SocketAddrXdpFlags::XDP_SHARED_UMEM;
            let address = SocketAddrXdpWithSharedUmem {
                addr: SocketAddrXdp::new(flags, interface_index, queue),
                shared_umem_fd: owner,
            };
            rustix::net::bind(socket, &address)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datagram_lies_where_the_pool_expects_it() {
        assert_eq!((headroom_bytes(false), headroom_bytes(true)), (22, 2));
    }

    #[test]
    fn every_queue_is_dealt_to_one_worker() {
        assert_eq!(deal(5, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(deal(3, 3), [[0], [1], [2]]);
        assert_eq!(deal(1, 1), [[0]]);
    }

    #[test]
    fn rings_of_bound_sockets_can_be_mapped_from_linux_6_4_on() {
        for release in [
            "6.1.0-57-cloud-amd64",
            "6.3.13",
            "5.15.0-100-generic",
            "6",
            "?",
            "",
        ] {
            assert!(is_before_6_4(release), "{release}");
        }
        for release in ["6.4.0", "6.12.9+bpo-amd64", "6.18.44-fc-v782", "7.0"] {
            assert!(!is_before_6_4(release), "{release}");
        }
    }

    #[test]
    fn workers_without_a_queue_or_frames_are_refused_with_the_remedy() {
        let interface = Interface {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            mtu: 1500,
            up: true,
            aggregate: false,
            program: None,
        };
        let refused = |queues, frames: &[u32]| match Opening::new(
            interface.clone(),
            queues,
            frames.to_vec(),
            false,
            false,
            false,
        ) {
            Ok(_) => panic!("not refused"),
            Err(error) => error.to_string(),
        };
        assert!(refused(1, &[64, 64]).contains("ethtool -L eth0 combined 2"));
        assert!(refused(65, &[64]).contains("ethtool -L eth0 combined 64"));
        assert!(refused(4, &[]).contains("at least one"));
        assert!(refused(4, &[64, 0]).contains("at least one"));
        assert!(refused(4, &[u32::MAX; 4]).contains("at most"));
        assert!(Opening::new(interface.clone(), 4, vec![64; 4], false, false, true).is_ok());
    }
}
