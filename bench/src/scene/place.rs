//! Where a node is measured: its address, its neighbours' sockets, and what takes in what it sends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use port::{SocketOptions, socket};

use super::veth::{Cable, Steering};

/// Next hops of the node: enough that a burst rarely has two datagrams for one of them.
pub(crate) const NEXT_HOPS: usize = 32;
/// Neighbours that send to the node.
pub(crate) const SENDERS: usize = 4;

/// A node's surroundings on a network.
pub(crate) struct Place {
    /// The node's socket.
    pub(crate) node: UdpSocket,
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Sockets of the neighbours that send, connected to the node.
    pub(crate) senders: Vec<UdpSocket>,
    /// Addresses of the next hops.
    pub(crate) next_hops: Vec<SocketAddr>,
    /// Their sockets, where there are any.
    pub(crate) sinks: Vec<UdpSocket>,
    /// Addresses of the senders.
    sources: Vec<SocketAddr>,
    /// The loader that steers datagrams to the node, if one does.
    pub(crate) steering: Option<Steering>,
    /// The hosts, if they are not this one. Gone last.
    pub(crate) cable: Option<Cable>,
}

impl Place {
    /// On the loopback interface: no root. Every send runs the whole way into the receiver's socket, so the node's
    /// sends carry their receivers' cost.
    ///
    /// # Errors
    /// The sockets can't be had.
    pub(crate) fn loopback(next_hops: usize) -> io::Result<Place> {
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
            } else if sinks.len() < next_hops {
                sinks.push(one);
            } else {
                break;
            }
        }
        let next_hops = sinks.iter().map(UdpSocket::local_addr);
        let next_hops = next_hops.collect::<io::Result<_>>()?;
        Place::new(node, address, senders, next_hops, sinks)
    }

    /// A node's socket between `senders` and `next_hops`; without `sinks` these swallow what comes.
    ///
    /// # Errors
    /// A sender is not bound.
    pub(crate) fn new(
        node: UdpSocket,
        address: SocketAddr,
        senders: Vec<UdpSocket>,
        next_hops: Vec<SocketAddr>,
        sinks: Vec<UdpSocket>,
    ) -> io::Result<Place> {
        let sources = senders.iter().map(UdpSocket::local_addr);
        Ok(Place {
            sources: sources.collect::<io::Result<_>>()?,
            node,
            address,
            senders,
            next_hops,
            sinks,
            steering: None,
            cable: None,
        })
    }

    /// Where the senders send from.
    pub(crate) fn sources(&self) -> &[SocketAddr] {
        &self.sources
    }

    /// Lets datagrams of a receiver index, which is `source`'s, through to the node.
    ///
    /// # Errors
    /// What the loader refused.
    pub(crate) fn admit(&self, index: u32, source: SocketAddr) -> io::Result<()> {
        self.steering
            .as_ref()
            .map_or(Ok(()), |steering| steering.admit(index, source))
    }

    /// A socket of someone the node does not know, connected to the node; each number has an address of its own.
    ///
    /// # Errors
    /// The socket can't be had.
    pub(crate) fn stranger(&self, number: usize) -> io::Result<UdpSocket> {
        let socket = match &self.cable {
            Some(cable) => cable.far_socket(3, number)?,
            None => {
                let ip = Ipv4Addr::new(127, 0, 3, number as u8 + 1);
                let socket = UdpSocket::bind((ip, 0))?;
                socket.set_nonblocking(true)?;
                socket
            }
        };
        socket.connect(self.address)?;
        Ok(socket)
    }

    /// Sends `datagram` to the node as neighbour `number`.
    ///
    /// # Errors
    /// The kernel did not take it.
    pub(crate) fn send(&self, number: usize, datagram: &[u8]) -> io::Result<()> {
        self.senders[number % self.senders.len()].send(datagram)?;
        Ok(())
    }

    /// Takes in what the node sent, so that no socket is full when it sends again.
    pub(crate) fn drain(&self) {
        let mut bytes = [0; 2048];
        for sink in self.sinks.iter().chain(&self.senders) {
            while sink.recv(&mut bytes).is_ok() {}
        }
    }
}
