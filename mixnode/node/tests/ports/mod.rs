//! What the port tests share: one way to open any port, and a pair of them that exchange datagrams.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use mixnode::pool::{DATAGRAM_BYTES, Frame, FramePool};
use mixnode::port::sim::{Conditions, Endpoint, Network};
use mixnode::port::{
    Departing, DepartingBatch, EventFd, PlainPort, Port, PortParts, Received, ReceivedBatch,
    SimPort, SocketOptions, UringPort, socket, uring_available,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Uring,
    Sim,
}

/// Opens ports of one kind. The simulated ones meet on one network.
pub struct Lan {
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

impl Lan {
    /// `None` (said aloud) where io_uring is forbidden to this process.
    pub fn new(kind: Kind) -> Option<Lan> {
        if kind == Kind::Uring
            && let Err(reason) = uring_available()
        {
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        Some(Lan {
            kind,
            network: Network::new(1, Conditions::default()),
        })
    }

    pub fn loopback(&self, n: u8) -> SocketAddr {
        let port = if self.kind == Kind::Sim { 9000 } else { 0 };
        SocketAddr::from(([127, 0, 0, n], port))
    }

    pub fn open(
        &self,
        address: SocketAddr,
        pool: &FramePool,
        event: &Arc<EventFd>,
    ) -> Box<dyn Port> {
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

    pub fn stranger(&self) -> Stranger {
        match self.kind {
            Kind::Sim => Stranger::Endpoint(
                self.network
                    .open(SocketAddr::from(([9, 9, 9, 9], 9)), 8)
                    .unwrap(),
            ),
            _ => Stranger::Socket(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()),
        }
    }

    pub fn node(&self, address: SocketAddr, frames: u32) -> Node {
        let pool = FramePool::new(frames).unwrap();
        let event = Arc::new(EventFd::new().unwrap());
        let port = self.open(address, &pool, &event);
        Node {
            port,
            pool,
            event,
            batch: ReceivedBatch::new(),
            departing: DepartingBatch::new(),
        }
    }
}

/// A port with its pool: as much of a worker as a port needs.
pub struct Node {
    pub port: Box<dyn Port>,
    pub pool: FramePool,
    pub event: Arc<EventFd>,
    pub batch: ReceivedBatch,
    pub departing: DepartingBatch,
}

impl Node {
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
                self.pool.datagram_mut(&mut frame)[..8].copy_from_slice(&next.to_le_bytes());
                self.departing.push(Departing { frame, destination });
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

    /// Stops the port; every frame is back then.
    pub fn close(mut self) {
        self.port.close(&mut self.pool);
        assert_eq!(self.pool.in_use(), 0, "{} kept frames", self.port.name());
        assert_eq!(self.port.in_flight(), 0);
    }
}

/// The number a datagram of [`Node::send`] carries.
pub fn number(pool: &FramePool, received: &Received) -> u64 {
    assert_eq!(received.length, DATAGRAM_BYTES);
    let datagram = pool.datagram(&received.frame);
    u64::from_le_bytes(datagram[..8].try_into().unwrap())
}
