//! A node's host and its neighbour's, a cable between them, and a loader on the node's side.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover::channel::Channel;
use handover::protocol::{InterfaceStatus, Opened, Refusal, RefusalKind, Reply, Request};
use loader::netns::{self, End, Namespace};
use loader::{Handle, Keeping, Loader, Options, User};

use crate::xsk::Xsk;

pub const PORT: u16 = 4711;
pub const CAPACITY_PPS: u32 = 1_000_000;
/// The receiver index of most tests.
pub const INDEX: u32 = 0x0403_0201;
pub const FRAMES: u32 = 1024;
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for what must come.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub struct World {
    // Fields are dropped in this order: the loader before its namespace.
    loader: Option<Handle>,
    pub node: Namespace,
    pub neighbour: Namespace,
    folder: tempfile::TempDir,
    pub node_user: Option<User>,
    /// The loader binds sockets only when their node is ready; it may whatever this says, on an older kernel.
    pub late: bool,
}

impl World {
    /// With `queues` queues at both ends; no loader yet.
    pub fn bare(queues: u32) -> World {
        let [node, neighbour] = ["loader", "loader"].map(|what| Namespace::create(what).unwrap());
        let addresses = |number: u8| -> [(IpAddr, u8); 2] {
            [
                (IpAddr::from([10, 77, 0, number]), 24),
                (format!("fd77::{number}").parse().unwrap(), 64),
            ]
        };
        let (ours, theirs) = (addresses(1), addresses(2));
        netns::connect(
            &End {
                namespace: &node,
                interface: "eth0",
                addresses: &ours,
                queues,
            },
            &End {
                namespace: &neighbour,
                interface: "eth0",
                addresses: &theirs,
                queues,
            },
        )
        .unwrap();
        World {
            loader: None,
            node,
            neighbour,
            folder: tempfile::tempdir().unwrap(),
            node_user: None,
            late: false,
        }
    }

    pub fn new(queues: u32) -> World {
        World::binding(queues, false)
    }

    /// With a loader that binds late or not.
    pub fn binding(queues: u32, late: bool) -> World {
        let mut world = World::bare(queues);
        world.late = late;
        world.start();
        world
    }

    pub fn options(&self) -> Options {
        Options {
            socket: self.socket(),
            pins: self.node.pins().unwrap(),
            node_user: self.node_user,
        }
    }

    pub fn start(&mut self) {
        self.loader = Some(self.loader(self.options()));
    }

    /// A loader in the node's namespace.
    pub fn loader(&self, options: Options) -> Handle {
        let loader = || Loader::new(options, Keeping::default()).unwrap();
        let loader = self.node.run(loader).unwrap();
        let loader = match self.late {
            true => loader.binding_late(),
            false => loader,
        };
        self.node.run(|| loader.on_a_thread().unwrap()).unwrap()
    }

    pub fn stop(&mut self) {
        self.loader = None;
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("mixctld.sock")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn address(&self, ipv6: bool) -> SocketAddr {
        let ip: IpAddr = if ipv6 { "fd77::1" } else { "10.77.0.1" }.parse().unwrap();
        (ip, PORT).into()
    }

    /// What the loader says to one request; why if it refuses.
    pub fn ask(&self, request: &Request) -> Result<Reply, Refusal> {
        loader::ask(&self.socket(), request).map_err(|error| error.refusal())
    }

    pub fn attach(&self) -> Result<Reply, Refusal> {
        self.attach_with(false)
    }

    pub fn attach_with(&self, allow_generic: bool) -> Result<Reply, Refusal> {
        self.ask(&Request::Attach {
            interface: "eth0".to_owned(),
            port: PORT,
            allow_generic,
            capacity_pps: CAPACITY_PPS,
        })
    }

    pub fn detach(&self) -> Result<Reply, Refusal> {
        self.ask(&Request::Detach {
            interface: "eth0".to_owned(),
        })
    }

    pub fn status(&self) -> Vec<InterfaceStatus> {
        match self.ask(&Request::Status).unwrap() {
            Reply::Status { interfaces } => interfaces,
            other => panic!("{other:?}"),
        }
    }

    /// The program's counter of this name.
    pub fn counted(&self, reason: &str) -> u64 {
        let Reply::Stats { interfaces } = self.ask(&Request::Stats).unwrap() else {
            panic!("no statistics")
        };
        let [interface] = interfaces.as_slice() else {
            panic!("{interfaces:?}")
        };
        let found = interface.packets.iter().find(|(name, _)| name == reason);
        found.unwrap_or_else(|| panic!("no reason {reason}")).1
    }

    /// The kernel's UDP socket on the node's port.
    pub fn kernel_socket(&self, port: u16) -> UdpSocket {
        let socket = self
            .node
            .run(|| UdpSocket::bind(("10.77.0.1", port)).unwrap())
            .unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        socket
    }

    /// Has both hosts know each other's link-layer addresses: packets that wait for them may be dropped.
    pub fn resolve(&self) {
        let listener = self.kernel_socket(PORT + 9);
        let mut sender = self.sender(false);
        sender.to.set_port(PORT + 9);
        listener
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        eventually("a packet", || {
            sender.send(0);
            listener.recv_from(&mut [0; 2048]).ok()
        });
    }

    pub fn sender(&self, ipv6: bool) -> Sender {
        let address = if ipv6 { "fd77::2" } else { "10.77.0.2" };
        let socket = self
            .neighbour
            .run(|| UdpSocket::bind((address, 0)).unwrap())
            .unwrap();
        Sender {
            socket,
            to: self.address(ipv6),
        }
    }
}

/// Sends data frames.
pub struct Sender {
    socket: UdpSocket,
    pub to: SocketAddr,
}

/// A datagram of the link protocol for a receiver index, with a number inside.
pub fn datagram(index: u32, number: u32) -> Vec<u8> {
    let mut datagram = vec![0; ebpf_abi::DATAGRAM_BYTES];
    datagram[0] = 4;
    datagram[8..12].copy_from_slice(&index.to_le_bytes());
    datagram[12..16].copy_from_slice(&number.to_le_bytes());
    datagram
}

impl Sender {
    pub fn send(&self, number: u32) {
        self.socket
            .send_to(&datagram(INDEX, number), self.to)
            .unwrap();
    }
}

/// Numbered data frames, about ten thousand a second, with never more than a window of them under way: no queue
/// overflows because a test is held up.
pub struct Traffic {
    control: Arc<(AtomicBool, AtomicU32)>,
    thread: Option<JoinHandle<u32>>,
}

impl Traffic {
    pub fn start(sender: Sender, window: u32) -> Traffic {
        let control = Arc::new((AtomicBool::new(false), AtomicU32::new(0)));
        let shared = Arc::clone(&control);
        let thread = std::thread::spawn(move || {
            let (stop, received) = &*shared;
            let mut sent = 0;
            while !stop.load(Ordering::Acquire) {
                if sent - received.load(Ordering::Acquire) < window {
                    sender.send(sent);
                    sent += 1;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            sent
        });
        Traffic {
            control,
            thread: Some(thread),
        }
    }

    /// So many have come.
    pub fn received(&self, packets: usize) {
        self.control.1.store(packets as u32, Ordering::Release);
    }

    /// Ends it; how many were sent.
    pub fn stop(mut self) -> u32 {
        self.control.0.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.control.0.store(true, Ordering::Release);
    }
}

/// A node: its connection to the loader and its sockets.
pub struct Node {
    pub channel: Channel,
    pub opened: Opened,
    pub sockets: Vec<Xsk>,
    ipv6: bool,
}

/// One request over a connection.
pub fn over(channel: &Channel, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
    channel.send(request, &[]).unwrap();
    match channel.receive().unwrap().expect("the loader hung up") {
        (Reply::Refused(refusal), _) => Err(refusal),
        answer => Ok(answer),
    }
}

impl Node {
    /// Opens sockets for `workers` workers; fills their rings.
    pub fn open(socket: &Path, address: SocketAddr, workers: usize) -> Result<Node, Refusal> {
        let channel = Channel::connect(socket).unwrap();
        let request = Request::Open {
            address,
            frames: vec![FRAMES; workers],
            busy_poll: false,
        };
        let (reply, descriptors) = over(&channel, &request)?;
        let Reply::Opened(opened) = reply else {
            panic!("{reply:?}")
        };
        let mut descriptors = descriptors.into_iter();
        let mut sockets = Vec::new();
        for queues in &opened.queues {
            let memory = descriptors.next().unwrap();
            let share = FRAMES / queues.len() as u32;
            for part in 0..queues.len() as u32 {
                let chunks = part * share..(part + 1) * share;
                sockets.push(Xsk::new(descriptors.next().unwrap(), &memory, chunks));
            }
        }
        assert!(descriptors.next().is_none());
        Ok(Node {
            channel,
            opened,
            sockets,
            ipv6: address.is_ipv6(),
        })
    }

    /// As [`Node::open`], after the death of another one: a process that some other test starts holds copies of the
    /// dead one's descriptors until its `exec`.
    pub fn open_next(socket: &Path, address: SocketAddr, workers: usize) -> Result<Node, Refusal> {
        eventually("the other node's end", || {
            match Node::open(socket, address, workers) {
                Err(refused) if refused.kind == RefusalKind::HasNode => None,
                other => Some(other),
            }
        })
    }

    /// Opens sockets, has packets steered to them and lets [`INDEX`] in.
    pub fn ready(world: &World, ipv6: bool, workers: usize) -> Node {
        let node = Node::open_next(&world.socket(), world.address(ipv6), workers).unwrap();
        assert_eq!(node.ask(&Request::Ready), Ok(Reply::Done));
        assert_eq!(
            node.ask(&Request::AddIndex {
                index: INDEX,
                source: None,
            }),
            Ok(Reply::Done)
        );
        node
    }

    /// Opens sockets, and has packets steered to them.
    pub fn steered(socket: &Path, address: SocketAddr) -> Result<Node, Refusal> {
        let node = Node::open_next(socket, address, 1)?;
        node.ask(&Request::Ready).map(|_| node)
    }

    pub fn ask(&self, request: &Request) -> Result<Reply, Refusal> {
        over(&self.channel, request).map(|(reply, _)| reply)
    }

    /// The numbers in what has come, with the offsets of the datagrams in their chunks.
    pub fn receive(&mut self) -> Vec<(u32, usize)> {
        let headers = if self.ipv6 { 62 } else { 42 };
        let mut numbers = Vec::new();
        for socket in &mut self.sockets {
            for received in socket.receive() {
                let datagram = &received.frame[headers..];
                assert_eq!(datagram.len(), ebpf_abi::DATAGRAM_BYTES);
                let number = u32::from_le_bytes(datagram[12..16].try_into().unwrap());
                numbers.push((number, received.offset + headers));
            }
        }
        numbers
    }
}
