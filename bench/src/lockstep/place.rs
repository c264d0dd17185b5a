//! Where a node is measured: its address, its neighbours' sockets, and what takes in what it sends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use mixnode::port::{SocketOptions, socket};

/// Next hops of the node: enough that a burst rarely has two datagrams for one of them.
pub(super) const NEXT_HOPS: usize = 32;
/// Neighbours that send to the node.
pub(super) const SENDERS: usize = 4;

/// A node's surroundings on a network.
pub(super) struct Place {
    /// The node's socket.
    pub(super) node: UdpSocket,
    /// Its address.
    pub(super) address: SocketAddr,
    /// Sockets of the neighbours that send, connected to the node.
    pub(super) senders: Vec<UdpSocket>,
    /// Addresses of the next hops.
    pub(super) next_hops: Vec<SocketAddr>,
    /// Their sockets, where there are any.
    sinks: Vec<UdpSocket>,
}

impl Place {
    /// On the loopback interface: no root. Every send runs the whole way into the receiver's socket, so the node's
    /// sends carry their receivers' cost.
    ///
    /// # Errors
    /// The sockets can't be had.
    pub(super) fn loopback() -> io::Result<Place> {
        let open = |last: u8| {
            let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            socket::open(&SocketOptions::new(SocketAddr::new(ip, 0)))
        };
        let node = open(1)?;
        let address = node.local_addr()?;
        let mut senders = Vec::new();
        let mut sinks = Vec::new();
        for last in 2.. {
            let one = open(last)?;
            one.set_nonblocking(true)?;
            if senders.len() < SENDERS {
                one.connect(address)?;
                senders.push(one);
            } else if sinks.len() < NEXT_HOPS {
                sinks.push(one);
            } else {
                break;
            }
        }
        let next_hops = sinks.iter().map(UdpSocket::local_addr);
        Ok(Place {
            next_hops: next_hops.collect::<io::Result<_>>()?,
            node,
            address,
            senders,
            sinks,
        })
    }

    /// Sends `datagram` to the node as neighbour `number`.
    ///
    /// # Errors
    /// The kernel did not take it.
    pub(super) fn send(&self, number: usize, datagram: &[u8]) -> io::Result<()> {
        self.senders[number % self.senders.len()].send(datagram)?;
        Ok(())
    }

    /// Takes in what the node sent, so that no socket is full when it sends again.
    pub(super) fn drain(&self) {
        let mut bytes = [0; 2048];
        for sink in self.sinks.iter().chain(&self.senders) {
            while sink.recv(&mut bytes).is_ok() {}
        }
    }
}
