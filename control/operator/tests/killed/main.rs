//! A node that is killed under load returns with its keys and every tag, by a `mixctld` that is killed too. No root;
//! times are printed and judge nothing.

#[path = "../live/mod.rs"]
mod live;
mod neighbour;
#[path = "../programs/mod.rs"]
mod programs;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use directory::{LinkKey, Role};
use link::LinkPublic;
use live::{Network, Node, PATIENCE};
use loader::{Handle, Keeping, Loader, Options, Store};
use neighbour::Neighbour;
use port::uring_available;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sphinx::{BODY_BYTES, CHECK_BYTES, PACKET_BYTES, PathHop, Terminal, wrap};

/// Times that the node is killed, and at night.
const KILLS: usize = 10;
const KILLS_AT_NIGHT: usize = 50;
/// Packets between two of them.
const PACKETS: usize = 150;
/// Sent at once, so that no socket is too small for them.
const BURST: usize = 16;
/// The only epoch with packets.
const EPOCH: u32 = 0;

/// What a service manager would be told; here it keeps nothing, so that the node alone brings its keys back.
#[derive(Clone, Default)]
struct Heard(Arc<AtomicUsize>);

impl Store for Heard {
    fn keep(&mut self, name: &str, _: BorrowedFd<'_>) {
        if name == "vault" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn forget(&mut self, _: &str) {}
}

fn mixctld(socket: PathBuf, heard: &Heard) -> Handle {
    let options = Options {
        socket,
        ..Options::default()
    };
    let keeping = Keeping {
        store: Some(Box::new(heard.clone())),
        ..Keeping::default()
    };
    let loader = Loader::without_xdp(options, keeping).unwrap();
    loader.on_a_thread().unwrap()
}

struct World {
    network: Network,
    listen: SocketAddr,
    config: String,
    port: &'static str,
    sender: Neighbour,
    receiver: Neighbour,
    node: Option<Node>,
    public: Option<Arc<LinkPublic>>,
    rng: ChaCha20Rng,
    /// Beginnings of all packets that ever arrived at the next hop.
    arrived: HashSet<[u8; 32]>,
    twice: usize,
}

impl World {
    fn start(&mut self) {
        let node = self.network.start(2, self.listen, self.port, &self.config);
        self.node = Some(node);
    }

    /// SIGKILL.
    fn kill(&mut self) {
        drop(self.node.take());
    }

    /// What has come to the next hop since the last look: how many that were not there before.
    fn look(&mut self) -> usize {
        self.sender.receive();
        let mut fresh = 0;
        for packet in self.receiver.receive() {
            let beginning = packet[..32].try_into().unwrap();
            match self.arrived.insert(beginning) {
                true => fresh += 1,
                false => self.twice += 1,
            }
        }
        fresh
    }

    /// A fresh packet through the node to its next hop.
    fn packet(&mut self) -> [u8; PACKET_BYTES] {
        let state = self.sender.state.as_ref().unwrap();
        // Longer than the wait before a kill, so that packets are held then.
        let hop = |address| {
            let mut nodes = state.consensus().nodes().iter();
            let node = nodes
                .find(|node| node.addresses.contains(&address))
                .unwrap();
            PathHop {
                public_key: node.epoch_key,
                node: node.index,
                delay_us: 5_000,
            }
        };
        let path = [hop(self.listen), hop(self.receiver.address)];
        let mut body = [7; BODY_BYTES];
        body[..CHECK_BYTES].fill(0);
        let mut packet = [0; PACKET_BYTES];
        wrap(&mut self.rng, &path, &Terminal::Drop, &body, &mut packet).unwrap();
        packet
    }

    /// Sends packets in bursts that the node's socket has room for, looking at what comes.
    fn send(&mut self, packets: &[[u8; PACKET_BYTES]]) -> usize {
        let mut fresh = 0;
        for burst in packets.chunks(BURST) {
            for packet in burst {
                self.sender.send(packet, EPOCH, self.listen);
            }
            // A slow machine's node takes two or three thousand a second where its code is measured for coverage.
            std::thread::sleep(Duration::from_millis(10));
            fresh += self.look();
        }
        fresh
    }

    /// Until nothing new has come for a while: the node has been through all that waits at its socket.
    fn settle(&mut self) {
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_secs(2) {
            if self.look() > 0 {
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The first session with the node.
    fn connect(&mut self) {
        let (until, public) = (Instant::now() + PATIENCE, self.public.clone().unwrap());
        while !self.sender.is_connected() {
            self.sender.connect(&public, self.listen);
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(2));
                self.look();
                if self.sender.is_connected() {
                    return;
                }
            }
            assert!(Instant::now() < until, "the node does not answer");
        }
    }

    /// Sends fresh packets until one gets through.
    fn first(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let packet = self.packet();
            self.sender.send(&packet, EPOCH, self.listen);
            std::thread::sleep(Duration::from_millis(2));
            if self.look() > 0 {
                return;
            }
            assert!(Instant::now() < until, "the node forwards nothing");
        }
    }

    fn rejected(&mut self, reason: &str) -> u64 {
        let (node, network) = (self.node.as_mut().unwrap(), &self.network);
        let status = node.await_status(network, "a status", |_| true);
        status.rejected_by.get(reason).copied().unwrap_or(0)
    }
}

fn world(port: &'static str, socket: &std::path::Path) -> World {
    let network = Network::new(3_600_000, None);
    let udp = UdpSocket::bind("127.3.2.1:0").unwrap();
    let listen = udp.local_addr().unwrap();
    drop(udp);
    let config = format!(
        "[keys]\nvault = true\nloader = {socket:?}\n[worker]\nmax_pps = 20000\npool_frames = 4096\n\
         [cover]\nloop_interval_ms = 0\ndrop_interval_ms = 0\n"
    );
    World {
        network,
        listen,
        config,
        port,
        sender: Neighbour::new("127.3.1.1", Role::Gateway, 1),
        receiver: Neighbour::new("127.3.3.1", Role::Mix, 3),
        node: None,
        public: None,
        rng: ChaCha20Rng::seed_from_u64(7),
        arrived: HashSet::new(),
        twice: 0,
    }
}

/// Opens the network, with the node between the two that are played.
fn open(world: &mut World) {
    world.start();
    world.sender.follow(&world.network.store);
    world.receiver.follow(&world.network.store);
    let nodes = std::slice::from_mut(world.node.as_mut().unwrap());
    world.network.open_with(nodes, 2);
    let until = Instant::now() + PATIENCE;
    while world.sender.state.is_none() || world.receiver.state.is_none() {
        world.sender.follow(&world.network.store);
        world.receiver.follow(&world.network.store);
        std::thread::sleep(Duration::from_millis(20));
        assert!(Instant::now() < until, "no document");
    }
    let state = world.sender.state.clone().unwrap();
    let layer_of = |address| {
        let mut nodes = state.consensus().nodes().iter();
        let node = nodes.find(|node| node.addresses.contains(&address));
        node.unwrap().layer
    };
    if layer_of(world.listen) == 2 {
        // The node was dealt the other layer: the mix sends, the gateway receives.
        std::mem::swap(&mut world.sender, &mut world.receiver);
    }
    let mut nodes = state.consensus().nodes().iter();
    let node = nodes.find(|node| node.addresses.contains(&world.listen));
    let LinkKey { x25519, kem } = node.unwrap().link.clone();
    world.public = Some(Arc::new(LinkPublic { x25519, kem }));
}

fn killed_under_load(port: &'static str, kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (socket, heard) = (folder.path().join("mixctld"), Heard::default());
    let mut mixctld_handle = Some(mixctld(socket.clone(), &heard));
    let mut world = world(port, &socket);
    open(&mut world);
    let mut sent: Vec<[u8; PACKET_BYTES]> = Vec::new();
    let mut times = Vec::new();
    for kill in 0..=kills {
        if kill > 0 {
            let (begun, told) = (Instant::now(), world.sender.told.len());
            world.start();
            // The neighbour before it sends on, under a session of which it knows nothing, until it is told.
            world.first();
            times.push(begun.elapsed());
            assert!(
                world.sender.told.len() > told,
                "forwarded, and nobody was told"
            );
            // All that it ever got comes again, from a real neighbour over a new session. What it never took, because
            // it was killed meanwhile, may get through now, once.
            let again = sent.clone();
            let fresh = world.send(&again);
            assert_eq!(world.twice, 0, "after {kill} kills");
            println!(
                "kill {kill}: {} again, {fresh} of them not taken before",
                again.len()
            );
        } else {
            world.connect();
            world.first();
        }
        let packets: Vec<_> = (0..PACKETS).map(|_| world.packet()).collect();
        sent.extend(&packets);
        let (mut through, until) = (world.send(&packets), Instant::now() + PATIENCE);
        while through == 0 {
            assert!(
                Instant::now() < until,
                "nothing gets through after {kill} kills"
            );
            std::thread::sleep(Duration::from_millis(5));
            through = world.look();
        }
        if kill % 3 == 1 {
            // mixctld goes, and takes all that it had with it; the node brings it to the next one.
            drop(mixctld_handle.take());
            let before = heard.0.load(Ordering::Relaxed);
            mixctld_handle = Some(mixctld(socket.clone(), &heard));
            let until = Instant::now() + PATIENCE;
            while heard.0.load(Ordering::Relaxed) == before {
                assert!(
                    Instant::now() < until,
                    "the node does not come back to mixctld"
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if kill < kills {
            // In the middle of the load.
            let packets: Vec<_> = (0..PACKETS).map(|_| world.packet()).collect();
            sent.extend(&packets);
            let (before, after) = packets.split_at(PACKETS / (kill % 3 + 2));
            world.send(before);
            let (held, after) = after.split_at(BURST);
            for packet in held {
                world.sender.send(packet, EPOCH, world.listen);
            }
            std::thread::sleep(Duration::from_micros(300 * (kill % 10) as u64));
            world.kill();
            world.send(after);
        }
    }
    // Now the node has taken all there ever was: nothing of it gets through again, and that is why.
    world.send(&sent);
    world.settle();
    let before = world.rejected("replay");
    let arrived = world.arrived.len();
    world.send(&sent);
    let until = Instant::now() + PATIENCE;
    let mut refused = 0;
    // A datagram may be lost on the way even here.
    while refused * 100 < sent.len() as u64 * 99 {
        assert!(
            Instant::now() < until,
            "{refused} of {} refused",
            sent.len()
        );
        refused = world.rejected("replay") - before;
    }
    world.look();
    assert_eq!((world.twice, world.arrived.len()), (0, arrived));
    times.sort();
    let ms = |time: &Duration| time.as_millis();
    println!(
        "{port}: killed {kills} times under load; {} packets played again: 0 accepted ({refused} refused as replays); \
         from exec to the first packet forwarded: median {} ms, longest {} ms",
        sent.len(),
        ms(&times[times.len() / 2]),
        ms(times.last().unwrap()),
    );
}

#[test]
fn a_node_killed_ten_times_under_load_takes_no_packet_twice_on_plain_ports() {
    killed_under_load("plain", KILLS);
}

#[test]
#[ignore = "takes minutes: all that was ever sent comes again after every kill"]
fn a_node_killed_fifty_times_under_load_takes_no_packet_twice() {
    killed_under_load("plain", KILLS_AT_NIGHT);
}

#[test]
fn a_node_killed_ten_times_under_load_takes_no_packet_twice_on_uring_ports() {
    match uring_available() {
        Ok(()) => killed_under_load("uring", KILLS),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}
