//! What the port tests share: one way to open any port, a pair of them that exchange datagrams, and the cases that
//! hold for all.
#![allow(dead_code)]

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use port::pool::{DATAGRAM_BYTES, Frame, FramePool};
use port::sim::{Conditions, Endpoint, Network};
use port::{
    Departing, DepartingBatch, EventFd, Exclusive, PlainPort, Port, PortParts, Received,
    ReceivedBatch, SimPort, SocketOptions, UringPort, socket, uring_available,
};

pub mod cases;
#[path = "../counting/mod.rs"]
mod counting;

/// The receiver index in the clear bytes of every test datagram: a front end that looks at them knows it.
pub const INDEX: u32 = 7;

/// Where ports of one kind meet.
pub trait Lan {
    /// Address of host `n`, 1 or 2; its port may be left to whoever opens it.
    fn host(&self, n: u8) -> SocketAddr;

    /// A port with a pool of `frames` on `address`.
    fn node(&self, address: SocketAddr, frames: u32) -> Node;

    /// The lock that keeps a second process off `address`, where there is such a thing.
    fn exclusive(&self, address: SocketAddr) -> Option<Exclusive>;

    /// Someone who can throw bytes of any length at a port.
    fn stranger(&self) -> Stranger;

    /// Lets the network deliver what is under way, where that does not happen by itself.
    fn advance(&self) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Uring,
    Sim,
}

/// Ports without privilege: on the loopback, or on one simulated network.
pub struct Local {
    pub kind: Kind,
    pub network: Network,
}

/// Anyone who can throw bytes of any length at a port.
pub enum Stranger {
    Socket(std::net::UdpSocket),
    Endpoint(Endpoint),
}

impl Stranger {
    pub fn send(&self, destination: SocketAddr, bytes: &[u8]) {
        match self {
            Stranger::Socket(socket) => {
                assert_eq!(socket.send_to(bytes, destination).unwrap(), bytes.len())
            }
            Stranger::Endpoint(endpoint) => endpoint.send(destination, bytes),
        }
    }
}

impl Local {
    /// `None` (said aloud) where io_uring is forbidden to this process.
    pub fn new(kind: Kind) -> Option<Local> {
        if kind == Kind::Uring
            && let Err(reason) = uring_available()
        {
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        Some(Local {
            kind,
            network: Network::new(1, Conditions::default()),
        })
    }

    fn open(
        &self,
        address: SocketAddr,
        pool: &FramePool,
        event: &Arc<EventFd>,
    ) -> Box<dyn Port + Send> {
        let event = Arc::clone(event);
        if self.kind == Kind::Sim {
            return Box::new(SimPort::new(
                self.network.open(address, 4096).unwrap(),
                event,
                pool,
            ));
        }
        let parts = PortParts {
            socket: socket::open(&SocketOptions::new(address)).unwrap(),
            event,
        };
        match self.kind {
            Kind::Plain => Box::new(PlainPort::new(parts, pool).unwrap()),
            _ => Box::new(UringPort::new(parts, pool).unwrap()),
        }
    }
}

impl Lan for Local {
    fn host(&self, n: u8) -> SocketAddr {
        let port = if self.kind == Kind::Sim { 9000 } else { 0 };
        SocketAddr::from(([127, 0, 0, n], port))
    }

    fn node(&self, address: SocketAddr, frames: u32) -> Node {
        let pool = FramePool::new(frames).unwrap();
        let event = Arc::new(EventFd::new().unwrap());
        let port = self.open(address, &pool, &event);
        Node::new(port, pool, event, Box::new(()))
    }

    fn exclusive(&self, address: SocketAddr) -> Option<Exclusive> {
        (self.kind != Kind::Sim).then(|| Exclusive::acquire(address).unwrap())
    }

    fn stranger(&self) -> Stranger {
        match self.kind {
            Kind::Sim => Stranger::Endpoint(
                self.network
                    .open(SocketAddr::from(([9, 9, 9, 9], 9)), 8)
                    .unwrap(),
            ),
            _ => Stranger::Socket(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()),
        }
    }

    fn advance(&self) {
        if self.kind == Kind::Sim {
            self.network.advance(0, |_| ());
        }
    }
}

/// A port with its pool: as much of a worker as a port needs.
pub struct Node {
    pub port: Box<dyn Port + Send>,
    pub pool: FramePool,
    pub event: Arc<EventFd>,
    pub batch: ReceivedBatch,
    pub departing: DepartingBatch,
    /// What has to outlive the port, and ends with it.
    pub kept: Box<dyn Any>,
}

impl Node {
    pub fn new(
        port: Box<dyn Port + Send>,
        pool: FramePool,
        event: Arc<EventFd>,
        kept: Box<dyn Any>,
    ) -> Node {
        Node {
            port,
            pool,
            event,
            batch: ReceivedBatch::new(),
            departing: DepartingBatch::new(),
            kept,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.local_address()
    }

    /// Sends `count` datagrams that begin with the numbers from `first` on, and frees their frames.
    pub fn send(&mut self, destination: SocketAddr, first: u64, count: u64) {
        let mut next = first;
        while next < first + count || !self.departing.is_empty() {
            while next < first + count && !self.departing.is_full() {
                let Some(mut frame) = self.pool.take() else {
                    break;
                };
                *self.pool.datagram_mut(&mut frame) = datagram(next);
                self.departing.push(Departing {
                    frame,
                    destination,
                    delivery: false,
                    proven: true,
                });
                next += 1;
            }
            self.port.transmit(&mut self.departing);
            self.port.reclaim(&mut self.pool);
        }
        while self.port.in_flight() > 0 {
            self.port.reclaim(&mut self.pool);
            let soon = self.port.now_ns() + 1_000_000;
            self.port.wait(Some(soon)).unwrap();
        }
    }

    /// Receives until `count` datagrams came or `patience` waits in a row brought none; calls `see` with each.
    pub fn receive(&mut self, count: usize, mut see: impl FnMut(&FramePool, &Received)) -> usize {
        let (mut came, mut patience) = (0, 50);
        while came < count && patience > 0 {
            if self.port.receive(&mut self.pool, &mut self.batch) == 0 {
                patience -= 1;
                let soon = self.port.now_ns() + 10_000_000;
                self.port.wait(Some(soon)).unwrap();
                continue;
            }
            patience = 50;
            for received in self.batch.drain(..) {
                came += 1;
                see(&self.pool, &received);
                self.pool.release(received.frame);
            }
        }
        came
    }

    /// As [`Node::receive`], keeping the frames.
    pub fn hold(&mut self, count: usize) -> Vec<Frame> {
        let mut held = Vec::new();
        for _ in 0..200 {
            self.port.receive(&mut self.pool, &mut self.batch);
            held.extend(self.batch.drain(..).map(|received| received.frame));
            if held.len() >= count {
                break;
            }
            let soon = self.port.now_ns() + 1_000_000;
            self.port.wait(Some(soon)).unwrap();
        }
        held
    }

    /// What was shed at the door, as of now.
    pub fn shed(&mut self) -> u64 {
        self.port.housekeeping();
        let counters = self.port.counters();
        counters.pool_full + counters.ring_full
    }

    /// Stops the port; every frame is back then.
    pub fn close(mut self) {
        self.port.close(&mut self.pool);
        assert_eq!(self.pool.in_use(), 0, "{} kept frames", self.port.name());
        assert_eq!(self.port.in_flight(), 0);
    }
}

/// A datagram that carries a number, behind the clear bytes of a data frame of the link (mixnode/link/SPEC.md).
pub fn datagram(number: u64) -> [u8; DATAGRAM_BYTES] {
    let mut datagram = [0; DATAGRAM_BYTES];
    datagram[0] = 4;
    datagram[8..12].copy_from_slice(&INDEX.to_le_bytes());
    datagram[16..24].copy_from_slice(&number.to_le_bytes());
    datagram[24..].fill(number as u8);
    datagram
}

/// The number a datagram of [`Node::send`] carries; all of it is as it was sent.
pub fn number(pool: &FramePool, received: &Received) -> u64 {
    assert_eq!(received.length, DATAGRAM_BYTES);
    let came = pool.datagram(&received.frame);
    let number = u64::from_le_bytes(came[16..24].try_into().unwrap());
    assert_eq!(*came, datagram(number));
    number
}
