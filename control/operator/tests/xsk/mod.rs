//! Two hosts in network namespaces with a cable between them, a loader on each, and ports over AF_XDP.
#![allow(unsafe_code, reason = "a bare system call")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover::channel::Channel;
use handover::protocol::{Mode, Opened, Reply, Request};
use loader::netns::Namespace;
use loader::{self, Keeping, Loader};
use port::pool::{CHUNK_BYTES, DATAGRAM_BYTES, FramePool, HEADROOM_BYTES};
use port::xsk::headers::Sender;
use port::{
    EventFd, Exclusive, PortParts, QueueSocket, Routes, SocketOptions, XskParts, XskPort, socket,
};

use crate::ports::{INDEX, Lan, Node, Stranger};

pub const PORT: u16 = 9000;
pub const INTERFACE: &str = "eth0";
/// Far longer than anything here takes; a bound on waiting, no measurement.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the cable and the hosts are like.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    pub mode: Mode,
    pub ipv6: bool,
    pub queues: u32,
    /// The hosts know each other's link-layer addresses from the start.
    pub acquainted: bool,
    /// Ports prefer busy polling.
    pub busy_poll: bool,
    /// Bytes of the buffers of the kernel's sockets beside the ports.
    pub buffer_bytes: usize,
    /// The loaders bind sockets only when their node is ready; they may whatever this says, on an older kernel.
    pub late: bool,
}

impl Wiring {
    pub fn new(mode: Mode, ipv6: bool) -> Wiring {
        Wiring {
            mode,
            ipv6,
            queues: 1,
            acquainted: true,
            busy_poll: false,
            buffer_bytes: 4 << 20,
            late: false,
        }
    }

    /// The same, with loaders that bind late.
    pub fn late(mode: Mode, ipv6: bool) -> Wiring {
        Wiring {
            late: true,
            ..Wiring::new(mode, ipv6)
        }
    }
}

/// One host.
pub struct Host {
    // Dropped in this order: the loader before the namespace it works in.
    loader: Option<loader::Handle>,
    pub socket: PathBuf,
    pub namespace: Namespace,
    pub ip: IpAddr,
}

/// Two hosts.
pub struct Wire {
    pub hosts: [Host; 2],
    wiring: Wiring,
    _folder: tempfile::TempDir,
}

impl Wire {
    pub fn new(wiring: Wiring) -> Wire {
        let folder = tempfile::tempdir().unwrap();
        let spaces = [1, 2].map(|_| Namespace::create("xsk").unwrap());
        let ips: [IpAddr; 2] = match wiring.ipv6 {
            false => ["10.91.0.1", "10.91.0.2"],
            true => ["fd91::1", "fd91::2"],
        }
        .map(|ip| ip.parse().unwrap());
        let receive = wiring.queues.to_string();
        // veth has no native mode when its peer may send on more queues than it receives on.
        let transmit = match wiring.mode {
            Mode::Native => wiring.queues,
            Mode::Generic => wiring.queues + 1,
        }
        .to_string();
        let queues = ["numrxqueues", &receive, "numtxqueues", &transmit];
        let mut cable = vec!["link", "add", INTERFACE, "address", "02:00:00:00:00:01"];
        cable.extend(queues);
        cable.extend(["type", "veth", "peer", "name", INTERFACE]);
        cable.extend(["netns", spaces[1].name(), "address", "02:00:00:00:00:02"]);
        cable.extend(queues);
        spaces[0].ip(&cable).unwrap();
        for (n, space) in spaces.iter().enumerate() {
            let prefix = if wiring.ipv6 { 64 } else { 24 };
            let address = format!("{}/{prefix}", ips[n]);
            let mut add = vec!["address", "add", &address, "dev", INTERFACE];
            if wiring.ipv6 {
                add.push("nodad");
            }
            space.ip(&add).unwrap();
            space.ip(&["link", "set", INTERFACE, "up"]).unwrap();
            if wiring.acquainted {
                let other = ips[1 - n].to_string();
                let mac = format!("02:00:00:00:00:0{}", 2 - n);
                let entry = ["lladdr", &mac, "dev", INTERFACE, "nud", "permanent"];
                let mut add = vec!["neighbour", "add", &other];
                add.extend(entry);
                space.ip(&add).unwrap();
            }
        }
        if wiring.ipv6 {
            // The kernel notes a moment after the cable is in that it may be solicited there.
            for space in &spaces {
                until(|| {
                    let path = "/proc/thread-self/net/ipv6_route";
                    let routes = space.run(|| std::fs::read_to_string(path)).unwrap();
                    let routes = routes.unwrap();
                    let mut lines = routes.lines();
                    lines.any(|line| line.starts_with("ff000000") && line.ends_with(INTERFACE))
                });
            }
        }
        let mut n = 0;
        let hosts = spaces.map(|namespace| {
            let socket = folder.path().join(format!("loader{n}.sock"));
            let ip = ips[n];
            n += 1;
            let options = loader::Options {
                socket: socket.clone(),
                pins: namespace.pins().unwrap(),
                node_user: None,
            };
            let loader = || {
                let loader = Loader::new(options, Keeping::default())?;
                match wiring.late {
                    true => loader.binding_late().on_a_thread(),
                    false => loader.on_a_thread(),
                }
            };
            let loader = namespace.run(loader).unwrap().unwrap();
            let attach = Request::Attach {
                interface: INTERFACE.into(),
                port: PORT,
                allow_generic: wiring.mode == Mode::Generic,
                capacity_pps: u32::MAX,
            };
            match loader::ask(&socket, &attach).unwrap() {
                Reply::Attached { mode, .. } => assert_eq!(mode, wiring.mode),
                other => panic!("{other:?}"),
            }
            Host {
                loader: Some(loader),
                socket,
                namespace,
                ip,
            }
        });
        Wire {
            hosts,
            wiring,
            _folder: folder,
        }
    }

    fn host_of(&self, address: SocketAddr) -> (&Host, &Host) {
        let [one, two] = &self.hosts;
        match address.ip() == one.ip {
            true => (one, two),
            false => (two, one),
        }
    }

    /// The program's counter of `reason` on host `n`.
    pub fn counted(&self, n: usize, reason: ebpf_abi::Reason) -> u64 {
        let reply = loader::ask(&self.hosts[n].socket, &Request::Stats).unwrap();
        let Reply::Stats { interfaces } = reply else {
            panic!("{reply:?}")
        };
        let packets = &interfaces[0].packets;
        let counter = packets.iter().find(|(name, _)| name == reason.name());
        counter.unwrap().1
    }

    /// On how many queues host `n` has received anything, as its driver counts in native mode.
    pub fn queues_that_received(&self, n: usize) -> usize {
        let output = self.hosts[n]
            .namespace
            .run(|| {
                std::process::Command::new("ethtool")
                    .args(["-S", INTERFACE])
                    .output()
            })
            .unwrap()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (0..self.wiring.queues)
            .filter(|&queue| {
                let name = format!("rx_queue_{queue}_xdp_packets: ");
                text.lines()
                    .filter_map(|line| line.trim().strip_prefix(&name))
                    .any(|count| count != "0")
            })
            .count()
    }

    /// A frame from one host to the other with `tags` tags of `vlan`.
    pub fn frame(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8; DATAGRAM_BYTES],
        tags: usize,
        vlan: u16,
    ) -> Vec<u8> {
        let mut chunk = [0; CHUNK_BYTES];
        chunk[HEADROOM_BYTES..][..DATAGRAM_BYTES].copy_from_slice(datagram);
        let sender = Sender::new([2, 0, 0, 0, 0, 1], from);
        let place = sender.write(&mut chunk, to, [2, 0, 0, 0, 0, 2]).unwrap();
        let mut frame = chunk[place].to_vec();
        for _ in 0..tags {
            let [high, low] = vlan.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        frame
    }

    /// Puts a frame on the cable at host `n`.
    pub fn send_frame(&self, n: usize, frame: &[u8]) {
        let sent = self.hosts[n].namespace.run(|| {
            use socket2::{Domain, Protocol, SockAddr, Socket, Type};
            let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>)?;
            let index = rustix::net::netdevice::name_to_index(&socket, INTERFACE)?;
            // SAFETY: all bytes of a `sockaddr_ll` are within the storage, zeroed before; its length is returned.
            let ((), address) = unsafe {
                SockAddr::try_init(|storage, length| {
                    let address = storage.cast::<libc::sockaddr_ll>();
                    (*address).sll_family = libc::AF_PACKET as u16;
                    (*address).sll_ifindex = index as i32;
                    *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                    Ok(())
                })?
            };
            socket.send_to(frame, &address)
        });
        assert_eq!(sent.unwrap().unwrap(), frame.len());
    }

    /// Sockets and memory for a node at `address`, and the connection that holds them.
    pub fn open(&self, address: SocketAddr, frames: u32) -> (Channel, Opened, Vec<OwnedFd>) {
        let (host, _) = self.host_of(address);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let channel = Channel::connect(&host.socket).unwrap();
            let open = Request::Open {
                address,
                frames: vec![frames],
                busy_poll: self.wiring.busy_poll,
            };
            channel.send(&open, &[]).unwrap();
            match channel.receive::<Reply>().unwrap().unwrap() {
                (Reply::Opened(opened), descriptors) => return (channel, opened, descriptors),
                // The one before has just gone.
                (reply, _) => assert!(Instant::now() < deadline, "{reply:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A UDP socket on `address`; call it in that host's namespace.
    pub fn socket(&self, address: SocketAddr) -> UdpSocket {
        let options = SocketOptions {
            receive_buffer_bytes: self.wiring.buffer_bytes,
            ..SocketOptions::new(address)
        };
        socket::open(&options).unwrap()
    }

    /// A port at `address` whose packets are not steered to it before [`Wire::steer`].
    pub fn quiet_node(&self, address: SocketAddr, frames: u32) -> XskNode {
        let (host, other) = self.host_of(address);
        let (channel, opened, mut descriptors) = self.open(address, frames);
        assert_eq!(opened.queues, [(0..self.wiring.queues).collect::<Vec<_>>()]);
        assert_eq!(opened.mode, self.wiring.mode);
        let sockets: Vec<QueueSocket> = opened.queues[0]
            .iter()
            .zip(descriptors.split_off(1))
            .map(|(&queue, socket)| QueueSocket { queue, socket })
            .collect();
        let pool = FramePool::shared(descriptors[0].as_fd(), frames).unwrap();
        let event = Arc::new(EventFd::new().unwrap());
        let refreshed = Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = Arc::clone(&refreshed);
        let (socket, routes) = host
            .namespace
            .run(|| {
                let refresh =
                    Box::new(move |hops| heard.lock().unwrap().extend::<Vec<IpAddr>>(hops));
                (
                    self.socket(address),
                    Routes::start(opened.interface_index, host.ip, refresh).unwrap(),
                )
            })
            .unwrap();
        let parts = XskParts {
            sockets,
            interface_index: opened.interface_index,
            mac: opened.mac,
            kernel: PortParts {
                socket,
                event: Arc::clone(&event),
            },
            routes: Arc::clone(&routes),
        };
        for one in &parts.sockets {
            let zero_copy = port::xsk::is_zero_copy(&one.socket).unwrap();
            assert_eq!(zero_copy, opened.zero_copy);
        }
        let port = XskPort::new(parts, &pool).unwrap();
        if self.wiring.acquainted {
            routes.want(other.ip);
            until(|| routes.is_resolved(other.ip));
        }
        XskNode {
            interface_index: opened.interface_index,
            port,
            pool,
            event,
            channel,
            routes,
            refreshed,
        }
    }
}

/// Waits for something that has to come about.
pub fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port over AF_XDP with what belongs to it.
pub struct XskNode {
    pub interface_index: u32,
    pub port: XskPort,
    pub pool: FramePool,
    pub event: Arc<EventFd>,
    pub channel: Channel,
    pub routes: Arc<Routes>,
    /// Next hops whose confirmation was asked for.
    pub refreshed: Arc<std::sync::Mutex<Vec<IpAddr>>>,
}

impl XskNode {
    fn ask(&self, request: &Request) {
        self.channel.send(request, &[]).unwrap();
        let (reply, _) = self.channel.receive::<Reply>().unwrap().unwrap();
        assert_eq!(reply, Reply::Done);
    }

    /// Lets test datagrams in.
    pub fn let_in(&self) {
        self.ask(&Request::AddIndex {
            index: INDEX,
            source: None,
        });
    }

    /// Has packets steered to the port.
    pub fn steer(mut self) -> Node {
        self.port.fill(&mut self.pool);
        self.let_in();
        self.ask(&Request::Ready);
        self.node()
    }

    /// The port as it is.
    pub fn node(self) -> Node {
        let kept = Box::new((self.channel, self.routes));
        Node::new(Box::new(self.port), self.pool, self.event, kept)
    }
}

impl Lan for Wire {
    fn host(&self, n: u8) -> SocketAddr {
        SocketAddr::new(self.hosts[usize::from(n) - 1].ip, PORT)
    }

    fn node(&self, address: SocketAddr, frames: u32) -> Node {
        self.quiet_node(address, frames).steer()
    }

    fn stranger(&self) -> Stranger {
        let host = &self.hosts[0];
        let address = SocketAddr::new(host.ip, PORT + 1);
        let socket = host.namespace.run(|| UdpSocket::bind(address));
        Stranger::Socket(socket.unwrap().unwrap())
    }

    fn exclusive(&self, address: SocketAddr) -> Option<Exclusive> {
        let (host, _) = self.host_of(address);
        let acquired = host.namespace.run(|| Exclusive::acquire(address));
        Some(acquired.unwrap().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let detach = Request::Detach {
            interface: INTERFACE.into(),
        };
        let detached = loader::ask(&self.socket, &detach);
        drop(self.loader.take());
        if !std::thread::panicking() {
            detached.unwrap();
        }
    }
}
