//! The tokio node in lockstep: a round puts packets on its connections and waits until all have come out at its next
//! hops; what is measured is CPU time of the node's threads.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_packet::SphinxPacket;
use sphinx_packet::crypto::{PrivateKey, PublicKey};
use sphinx_packet::header::HEADER_SIZE;
use sphinx_packet::header::delays::Delay;
use sphinx_packet::packet::builder::SphinxPacketBuilder;
use sphinx_packet::payload::PAYLOAD_OVERHEAD_SIZE;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};

use super::tokio_sphinx::{NextHops, Options, TokioNode};
use crate::clock::thread_cpu_ns;
use crate::lost::lost;
use crate::rounds::Round;
use crate::scene::world::DELAY_MAX_US;

/// Packets of one round, as many as of this node's.
pub(super) const BATCH: usize = port::BATCH_MAX;
/// Packets that `process` alone opens in one round.
pub(super) const BARE: usize = 8;
/// How long a round's packets may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The length before a packet.
const LENGTH_BYTES: usize = 4;

/// Makes packets of the crate: through one node to a random next hop.
pub(super) struct Maker {
    rng: ChaCha20Rng,
    secret: [u8; 32],
    next_hops: Vec<Node>,
    payload_bytes: usize,
}

/// The address of next hop `number` in headers.
fn name(number: usize) -> [u8; 32] {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    name
}

impl Maker {
    /// For so many next hops, with so many bytes of a user's in a packet.
    pub(super) fn new(next_hops: usize, payload_bytes: usize) -> Maker {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let node = |number| {
            let mut key = [0; 32];
            rng.fill_bytes(&mut key);
            let key = PublicKey::from(&PrivateKey::from(key));
            Node::new(NodeAddressBytes::from_bytes(name(number)), key)
        };
        Maker {
            next_hops: (0..next_hops).map(node).collect(),
            rng: ChaCha20Rng::seed_from_u64(4),
            secret,
            payload_bytes,
        }
    }

    /// Bytes of a packet on the wire, without its length.
    pub(super) fn packet_bytes(&self) -> usize {
        HEADER_SIZE + PAYLOAD_OVERHEAD_SIZE + self.payload_bytes
    }

    fn packet(&mut self) -> io::Result<SphinxPacket> {
        let public = PublicKey::from(&PrivateKey::from(self.secret));
        let node = Node::new(NodeAddressBytes::from_bytes([0; 32]), public);
        let next = self.rng.random_range(0..self.next_hops.len());
        let route = [node, self.next_hops[next].clone()];
        let delay_us = u64::from(self.rng.random_range(0..DELAY_MAX_US));
        let delays = [delay_us, 0].map(|us| Delay::new_from_nanos(us * 1_000));
        let destination = Destination::new(DestinationAddressBytes::from_bytes([1; 32]), [2; 16]);
        SphinxPacketBuilder::new()
            .with_payload_size(self.payload_bytes + PAYLOAD_OVERHEAD_SIZE)
            .build_packet(vec![5; self.payload_bytes], &route, &destination, &delays)
            .map_err(io::Error::other)
    }
}

/// A node and its neighbours.
pub(super) struct Rig {
    node: TokioNode,
    maker: Maker,
    senders: Vec<TcpStream>,
    sinks: Vec<TcpStream>,
    frames: Vec<Vec<u8>>,
}

impl Rig {
    /// So many connections to the node, and as many next hops.
    pub(super) fn new(maker: Maker, options: Options) -> io::Result<Rig> {
        let connections = maker.next_hops.len();
        let mut listeners = Vec::new();
        let mut next_hops = NextHops::new();
        for number in 0..connections {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            next_hops.insert(name(number), listener.local_addr()?);
            listeners.push(listener);
        }
        let node = TokioNode::start(maker.secret, next_hops, options)?;
        let mut sinks = Vec::new();
        for listener in listeners {
            let (sink, _) = listener.accept()?;
            sink.set_nonblocking(true)?;
            sinks.push(sink);
        }
        let sender = |_| {
            let sender = TcpStream::connect(node.address)?;
            sender.set_nodelay(true)?;
            Ok(sender)
        };
        let senders = (0..connections).map(sender).collect::<io::Result<_>>()?;
        Ok(Rig {
            node,
            maker,
            senders,
            sinks,
            frames: Vec::new(),
        })
    }

    /// Reads what came out; gives the bytes.
    fn drain(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 64 * 1024];
        let mut came = 0;
        for sink in &mut self.sinks {
            match sink.read(&mut bytes) {
                Ok(0) => return Err(lost("the node closed a connection")),
                Ok(count) => came += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(came)
    }

    /// CPU time of the node, once it sleeps: the kernel counts a thread exactly when it gives up its core.
    fn settled_ns(&self) -> u64 {
        let mut seen = self.node.cpu_ns();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(1));
            let now = self.node.cpu_ns();
            if std::mem::replace(&mut seen, now) == now {
                break;
            }
        }
        seen
    }
}

impl Round for Rig {
    /// Wraps the packets.
    fn prepare(&mut self) -> io::Result<()> {
        self.frames.clear();
        for _ in 0..BATCH {
            let packet = self.maker.packet()?.to_bytes();
            let mut frame = (packet.len() as u32).to_be_bytes().to_vec();
            frame.extend(packet);
            self.frames.push(frame);
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        let before = self.settled_ns();
        for (number, frame) in self.frames.iter().enumerate() {
            let sender = number % self.senders.len();
            self.senders[sender].write_all(frame)?;
        }
        let wanted = BATCH * (LENGTH_BYTES + self.maker.packet_bytes());
        let deadline = Instant::now() + PATIENCE;
        let mut came = 0;
        while came < wanted {
            came += self.drain()?;
            if self.node.failed() || Instant::now() >= deadline {
                return Err(lost(format!("{came} of {wanted} bytes came through tokio")));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(vec![self.settled_ns() - before])
    }
}

/// The crate's `process` and nothing else, on packets that are parsed already.
pub(super) struct Bare {
    maker: Maker,
    packets: Vec<SphinxPacket>,
}

impl Bare {
    pub(super) fn new(maker: Maker) -> Bare {
        Bare {
            maker,
            packets: Vec::new(),
        }
    }
}

impl Round for Bare {
    fn prepare(&mut self) -> io::Result<()> {
        let packets = (0..BARE).map(|_| self.maker.packet());
        self.packets = packets.collect::<io::Result<_>>()?;
        Ok(())
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        let secret = PrivateKey::from(self.maker.secret);
        let start = thread_cpu_ns();
        for packet in self.packets.drain(..) {
            let processed = packet.process(&secret).map_err(io::Error::other)?;
            std::hint::black_box(processed);
        }
        Ok(vec![thread_cpu_ns() - start])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_CORE: Options = Options {
        all_cores: false,
        remembers: false,
        core: 0,
    };

    #[test]
    fn the_tokio_node_forwards_every_packet_in_every_build() {
        for (all_cores, remembers) in [(false, false), (false, true), (true, true)] {
            let options = Options {
                all_cores,
                remembers,
                ..ONE_CORE
            };
            let mut rig = Rig::new(Maker::new(4, 880), options).unwrap();
            for _ in 0..2 {
                rig.prepare().unwrap();
                // A round fails unless all of them come out.
                assert!(rig.run().unwrap()[0] > 0);
            }
        }
    }

    #[test]
    fn with_the_set_a_packet_that_comes_again_goes_nowhere() {
        let options = Options {
            remembers: true,
            ..ONE_CORE
        };
        let mut rig = Rig::new(Maker::new(2, 880), options).unwrap();
        rig.prepare().unwrap();
        let twice = rig.frames[0].clone();
        rig.run().unwrap();
        rig.senders[0].write_all(&twice).unwrap();
        // The next round's packets come out behind it, and nothing else.
        rig.prepare().unwrap();
        rig.run().unwrap();
        assert_eq!(rig.drain().unwrap(), 0);
        assert!(!rig.node.failed());
    }
}
