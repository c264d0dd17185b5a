//! Two network namespaces and a cable: where `xsk` can be measured, and the others beside it. Needs root.
//!
//! The node is in one namespace, all its neighbours are in the other. What the node sends may be addressed to a MAC
//! address that nobody has: the other end drops it first thing, so that the receivers' share of the cost, which the
//! kernel bills to the node, is small and the same for all ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover::channel::Channel;
use handover::protocol::{Opened, Peer, Reply, Request};
use loader::netns::{End, Namespace, connect};
use loader::{self, Handle, Loader};
use port::pool::FramePool;
use port::{EventFd, PortParts, QueueSocket, Routes, SocketOptions, XskParts, XskPort, socket};

use super::place::{Place, SENDERS};

const INTERFACE: &str = "eth0";
/// UDP port of the node and of all its neighbours.
const PORT: u16 = 9_000;
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));
const PREFIX: u8 = 16;
/// All of these networks' addresses belong to the far host: next hop N is 10.88.1.N, sender N is 10.88.2.N, and
/// strangers are in the third.
const FAR_NETWORKS: [&str; 3] = ["10.88.1.0/24", "10.88.2.0/24", "10.88.3.0/24"];
/// How long the kernel may take to resolve the next hops.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose no frame is: locally administered, not that of an interface here.
const NOBODY: &str = "02:00:5e:00:53:01";

/// Both hosts. The loader goes before them.
pub(crate) struct Cable {
    loader: Option<Handle>,
    /// What the next hops from this one on get is dropped at the door.
    listening: usize,
    near: Namespace,
    far: Namespace,
    // Last: the loaders' sockets lie in it.
    folder: tempfile::TempDir,
}

/// Address `number` (from 0) of a network of the far host.
pub(crate) fn far(network: u8, number: usize) -> SocketAddr {
    let ip = Ipv4Addr::new(10, 88, network, number as u8 + 1);
    SocketAddr::new(IpAddr::V4(ip), PORT)
}

/// A connection to the node's loader, with what keeps the sockets alive.
pub(crate) struct Steering {
    channel: Channel,
    _routes: Arc<Routes>,
}

impl Steering {
    /// Gives nodes of the consensus rates of their own.
    pub(crate) fn peers(&self, peers: Vec<Peer>) -> io::Result<()> {
        let append = false;
        done(&self.channel, &Request::Peers { peers, append })
    }

    /// The program's counters on the node's interface, by reason.
    pub(crate) fn counters(&self) -> io::Result<Vec<(String, u64)>> {
        match ask(&self.channel, &Request::Stats)? {
            (Reply::Stats { interfaces }, _) => Ok(interfaces
                .into_iter()
                .flat_map(|interface| interface.packets)
                .collect()),
            _ => Err(io::Error::other("the loader answered something else")),
        }
    }

    /// Lets datagrams of a receiver index in, which is `source`'s.
    pub(crate) fn admit(&self, index: u32, source: SocketAddr) -> io::Result<()> {
        let source = Some(source.ip());
        done(&self.channel, &Request::AddIndex { index, source })
    }
}

fn ask(channel: &Channel, request: &Request) -> io::Result<(Reply, Vec<std::os::fd::OwnedFd>)> {
    channel.send(request, &[])?;
    match channel.receive()? {
        Some((Reply::Refused(refusal), _)) => Err(io::Error::other(refusal)),
        Some(answer) => Ok(answer),
        None => Err(io::Error::other("the loader ended")),
    }
}

fn done(channel: &Channel, request: &Request) -> io::Result<()> {
    match ask(channel, request)? {
        (Reply::Done | Reply::Attached { .. }, _) => Ok(()),
        _ => Err(io::Error::other("the loader answered something else")),
    }
}

impl Cable {
    /// Lays one; the first `listening` next hops get what is sent to them, nobody gets the rest.
    ///
    /// # Errors
    /// Not root, no `ip` command, or no XDP.
    pub(crate) fn lay(listening: usize) -> io::Result<Cable> {
        let [near, far] = [Namespace::create("bench")?, Namespace::create("bench")?];
        let end = |namespace, addresses| End {
            namespace,
            interface: INTERFACE,
            addresses,
            queues: 1,
        };
        connect(&end(&near, &[(NODE, PREFIX)]), &end(&far, &[(FAR, PREFIX)]))?;
        for network in FAR_NETWORKS {
            far.ip(&["route", "add", "local", network, "dev", "lo"])?;
        }
        Ok(Cable {
            loader: None,
            listening,
            near,
            far,
            folder: tempfile::tempdir()?,
        })
    }

    /// Starts a loader on the node's host.
    fn load(&mut self) -> io::Result<Channel> {
        let socket = self.folder.path().join("loader.sock");
        let options = loader::Options {
            socket: socket.clone(),
            pins: self.near.pins()?,
            node_user: None,
        };
        let handle = self.near.run(|| Loader::start(options))?;
        self.loader = Some(handle.map_err(io::Error::other)?);
        Channel::connect(&socket)
    }

    /// The node's surroundings on this cable, with so many next hops; they have sockets unless what is sent to them is
    /// dropped.
    ///
    /// # Errors
    /// The sockets can't be had.
    pub(crate) fn place(&self, next_hops: usize) -> io::Result<Place> {
        let address = SocketAddr::new(NODE, PORT);
        let node = self
            .near
            .run(|| socket::open(&SocketOptions::new(address)))??;
        let mut senders = Vec::new();
        for number in 0..SENDERS {
            let sender = self.far_socket(2, number)?;
            sender.connect(address)?;
            senders.push(sender);
        }
        let next_hops: Vec<SocketAddr> = (0..next_hops).map(|number| far(1, number)).collect();
        let mut sinks = Vec::new();
        for (number, next_hop) in next_hops.iter().enumerate() {
            if number >= self.listening {
                let address = next_hop.ip().to_string();
                self.near.ip(&[
                    "neigh",
                    "add",
                    &address,
                    "lladdr",
                    NOBODY,
                    "dev",
                    INTERFACE,
                    "nud",
                    "permanent",
                ])?;
            } else {
                sinks.push(self.far_socket(1, number)?);
            }
        }
        Place::new(node, address, senders, next_hops, sinks)
    }

    /// A socket of the far host, on address `number` of one of its networks (1 to 3).
    ///
    /// # Errors
    /// The socket can't be had.
    pub(crate) fn far_socket(&self, network: u8, number: usize) -> io::Result<UdpSocket> {
        let address = far(network, number);
        let socket = self
            .far
            .run(|| socket::open(&SocketOptions::new(address)))??;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// The node's port over AF_XDP, with its packet memory, and the way to let sessions in. The program's rate limits
    /// are those of a node of this capacity.
    ///
    /// # Errors
    /// What the loader refused.
    pub(crate) fn open_xsk(
        &mut self,
        place: &Place,
        event: Arc<EventFd>,
        capacity_pps: u32,
        frames: u32,
    ) -> io::Result<(FramePool, XskPort, Steering)> {
        let channel = self.load()?;
        attach(&channel, capacity_pps)?;
        let open = Request::Open {
            address: place.address,
            frames: vec![frames],
            busy_poll: false,
        };
        let (Reply::Opened(opened), descriptors) = ask(&channel, &open)? else {
            return Err(io::Error::other("the loader answered something else"));
        };
        let Opened {
            interface_index,
            mac,
            queues,
            ..
        } = opened;
        let mut descriptors = descriptors.into_iter();
        let memory = descriptors
            .next()
            .ok_or_else(|| io::Error::other("the loader sent no packet memory"))?;
        let mut pool = FramePool::shared(memory.as_fd(), frames)?;
        let queues = queues.into_iter().flatten();
        let sockets = queues
            .zip(descriptors)
            .map(|(queue, socket)| QueueSocket { queue, socket });
        let routes = self
            .near
            .run(|| Routes::start(interface_index, NODE, Box::new(|_| ())))??;
        let parts = XskParts {
            sockets: sockets.collect(),
            interface_index,
            mac,
            kernel: PortParts {
                socket: place.node.try_clone()?,
                event,
            },
            routes: Arc::clone(&routes),
        };
        let mut port = XskPort::new(parts, &pool)?;
        port.fill(&mut pool);
        done(&channel, &Request::Ready)?;
        let deadline = Instant::now() + PATIENCE;
        let mut addresses = place
            .next_hops
            .iter()
            .chain(place.sources())
            .map(SocketAddr::ip);
        while let Some(address) = addresses.find(|address| !routes.is_resolved(*address)) {
            while !routes.is_resolved(address) {
                if Instant::now() >= deadline {
                    let message = format!("the kernel does not resolve {address}");
                    return Err(io::Error::other(message));
                }
                routes.want(address);
                place.node.send_to(&[0], SocketAddr::new(address, PORT))?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let steering = Steering {
            channel,
            _routes: routes,
        };
        Ok((pool, port, steering))
    }
}

/// Puts the program on the interface; its rate limits follow from the capacity.
fn attach(channel: &Channel, capacity_pps: u32) -> io::Result<()> {
    let request = Request::Attach {
        interface: INTERFACE.to_owned(),
        port: PORT,
        allow_generic: false,
        capacity_pps,
    };
    done(channel, &request)
}
