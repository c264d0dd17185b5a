//! A worker that runs allocates nothing, turn after turn: a gateway and a mix with a client, on every port.

#[path = "../../../mixnode/port/tests/counting/mod.rs"]
mod counting;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::Authority;
use counting::allocations_of;
use directory::{Consensus, Held, Identity, Parameters, Role, SignedConsensus};
use fog::{Client, Config, MemoryStorage};
use link::{ClientKeys, DATAGRAM_BYTES};
use mixnode::path::core::Settings;
use port::pool::FramePool;
use port::sim::{Conditions, Endpoint, Network};
use port::{
    EventFd, PlainPort, Port, PortParts, SimPort, SocketOptions, UringPort, monotonic_ns, socket,
    uring_available,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use simulation::{Node, Place};

const GENESIS_MS: u64 = 1_700_000_000_000;
const MS: u64 = 1_000_000;
/// Packets that the mix sends before anything is counted, and while it is.
const WARM_UP: u64 = 400;
const COUNTED: u64 = 2_000;
/// Wall time after which a run that gets nowhere is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The client's end of the wire.
enum Wire {
    Socket(UdpSocket),
    Endpoint(Endpoint),
}

impl Wire {
    fn socket() -> Wire {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Wire::Socket(socket)
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        match self {
            Wire::Socket(socket) => {
                socket.send_to(datagram, to).unwrap();
            }
            Wire::Endpoint(endpoint) => endpoint.send(to, datagram),
        }
    }

    fn receive(&self, datagram: &mut [u8; DATAGRAM_BYTES]) -> bool {
        match self {
            Wire::Socket(socket) => socket.recv_from(datagram).is_ok(),
            Wire::Endpoint(endpoint) => endpoint.receive(datagram).is_some(),
        }
    }
}

/// A gateway, a mix, and a client of the gateway.
struct Three<P: Port> {
    nodes: Vec<Node<P>>,
    client: Client,
    wire: Wire,
    began_ns: u64,
}

fn settings() -> Settings {
    Settings {
        number: 0,
        workers: 1,
        pool_frames: 512,
        sessions_max: 256,
        clients_max: 8,
        client_queue_frames: 64,
        client_rate_max_pps: 1_000,
        loop_interval_ns: 5 * MS,
        drop_interval_ns: 5 * MS,
        capacity_pps: 0,
        loss: 0.0,
        ipv6: false,
    }
}

impl<P: Port> Three<P> {
    fn new(
        addresses: [SocketAddr; 2],
        wire: Wire,
        now_ns: u64,
        open: impl Fn(SocketAddr, Arc<EventFd>, &FramePool) -> io::Result<P>,
    ) -> Three<P> {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let parameters = Parameters {
            genesis_unix_ms: GENESIS_MS,
            epoch_ms: 3_600_000,
            mean_delay_us: 1_000,
            client_rate_pps: 400,
            layers: 1,
        };
        let authority = Authority::found(Identity::generate(rng), parameters).unwrap();
        let mut nodes: Vec<Node<P>> = [Role::Gateway, Role::Mix]
            .into_iter()
            .zip(addresses)
            .map(|(role, address)| {
                let place = Place::new(role, role.to_string(), vec![address], rng);
                let seat = (&place, authority.chain());
                Node::start(seat, &settings(), 1_000, now_ns, rng, &open).unwrap()
            })
            .collect();
        let descriptors: Vec<_> = nodes
            .iter_mut()
            .filter_map(|node| {
                let clocks = node.clocks(now_ns, GENESIS_MS);
                node.follower.describe(clocks, &mut node.rng)
            })
            .collect();
        let document: SignedConsensus = authority.make(None, 0, &descriptors).unwrap();
        let authorities = authority.chain().clone();
        let verified = document.verify(&authorities, &Held::default());
        let consensus: Consensus = verified.unwrap();
        for node in &mut nodes {
            let encoded = document.encode();
            let clocks = node.clocks(now_ns, GENESIS_MS);
            let state = node
                .follower
                .take_up(consensus.clone(), encoded, clocks, &mut node.rng)
                .unwrap();
            node.install(&state).unwrap();
        }
        let config = Config {
            identity: fog::Identity::generate(rng),
            mailbox: ClientKeys::generate(rng),
            gateway: nodes[0].identity,
            authorities,
            rate_pps: None,
            loop_share: 0.5,
        };
        let storage = Box::new(MemoryStorage::new(1 << 20));
        let rng = sphinx::Generator::from_rng(rng);
        Three {
            nodes,
            client: Client::new(config, consensus, Some(storage), rng, now_ns),
            wire,
            began_ns: now_ns,
        }
    }

    /// One round: every worker's turn and wait, then what other threads do in a real node. Allocations of the
    /// former, by node.
    fn round(&mut self) -> [u64; 2] {
        let mut allocations = [0; 2];
        for (node, count) in self.nodes.iter_mut().zip(&mut allocations) {
            let worker = &mut node.workers[0];
            let now_ns = worker.port().now_ns();
            let unix_ms = GENESIS_MS + (now_ns - self.began_ns) / MS;
            *count = allocations_of(|| {
                worker.turn(now_ns, unix_ms);
                worker.port_mut().wait(Some(now_ns + MS / 10)).unwrap();
            });
            node.handshakes(now_ns);
            let mut datagram = [0; DATAGRAM_BYTES];
            while self.wire.receive(&mut datagram) {
                self.client.receive(now_ns, &mut datagram);
            }
            if let Some((to, datagram)) = self.client.transmit(now_ns, unix_ms) {
                self.wire.send(to, &datagram);
            }
        }
        allocations
    }

    fn sent_by_mix(&self) -> u64 {
        self.nodes[1].workers[0].counters().transmitted
    }

    fn run(&mut self) {
        let gives_up = Instant::now() + PATIENCE;
        let delivered = |three: &Three<P>| three.nodes[0].workers[0].counters().delivered;
        while self.sent_by_mix() < WARM_UP || delivered(self) < WARM_UP / 10 {
            self.round();
            assert!(Instant::now() < gives_up, "the network does not come up");
        }
        let (sent, before) = (self.sent_by_mix(), delivered(self));
        let mut allocations = [0; 2];
        while self.sent_by_mix() < sent + COUNTED {
            let round = self.round();
            allocations[0] += round[0];
            allocations[1] += round[1];
            assert!(Instant::now() < gives_up, "the network stands still");
        }
        assert_eq!(allocations, [0, 0], "of gateway and mix");
        assert!(delivered(self) > before, "the gateway delivered meanwhile");
        for node in &self.nodes {
            let counters = node.counters();
            assert!(counters.is_conserved() && counters.loop_returned > 0);
        }
    }
}

/// The same over sockets on loopback; `open` makes a port of one.
fn over_sockets<P: Port>(open: impl Fn(PortParts, &FramePool) -> io::Result<P>) {
    // Two prefixes: paths avoid neighbours.
    let sockets = [[127, 1, 0, 1], [127, 1, 1, 1]]
        .map(|host| socket::open(&SocketOptions::new(SocketAddr::from((host, 0)))).unwrap());
    let addresses = [0, 1].map(|node: usize| sockets[node].local_addr().unwrap());
    let sockets = RefCell::new(Vec::from(sockets));
    let open = |address, event, pool: &FramePool| {
        let mut sockets = sockets.borrow_mut();
        let place = sockets
            .iter()
            .position(|one| one.local_addr().unwrap() == address);
        let socket = sockets.remove(place.unwrap());
        open(PortParts { socket, event }, pool)
    };
    Three::new(addresses, Wire::socket(), monotonic_ns(), open).run();
}

#[test]
fn a_worker_on_the_plain_port_does_not_allocate_after_start() {
    over_sockets(PlainPort::new);
}

#[test]
fn a_worker_on_the_uring_port_does_not_allocate_after_start() {
    if let Err(reason) = uring_available() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    over_sockets(UringPort::new);
}

#[test]
fn a_worker_on_the_simulated_port_does_not_allocate_after_start() {
    let network = Network::new(
        1,
        Conditions {
            delay_ns: MS / 10,
            ..Conditions::default()
        },
    );
    let addresses = [[10, 1, 0, 1], [10, 1, 1, 1]].map(|host| SocketAddr::from((host, 9_000)));
    let client = network
        .open(SocketAddr::from(([10, 9, 9, 9], 1)), 4_096)
        .unwrap();
    let open = |address, event, pool: &FramePool| {
        Ok(SimPort::new(network.open(address, 4_096)?, event, pool))
    };
    Three::new(addresses, Wire::Endpoint(client), 0, open).run();
}
