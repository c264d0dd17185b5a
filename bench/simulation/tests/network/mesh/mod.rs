//! A small network of the production code on a simulated one, with bare clients: no thread, no clock, one seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use authority::Authority;
use directory::{
    Consensus, Head, Held, Identity, Parameters, Path, Role, SignedConsensus, SignedDescriptor,
    WAITING,
};
use link::ClientKeys;
use mixnode::path::core::Settings;
use mixnode::path::counters::Counters;
use port::SimPort;
use port::sim::{Conditions, Network};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use simulation::{Node, Place};
use sphinx::{BODY_BYTES, DestinationTag, PACKET_BYTES, Terminal, wrap};

mod client;
mod kept;

pub use client::{Client, Got, attached};
use kept::Kept;

/// Wall clock of the first instant.
const GENESIS_MS: u64 = 1_700_000_000_000;
pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

pub struct Shape {
    pub layers: u8,
    pub mixes: usize,
    pub gateways: usize,
    pub workers: u8,
    pub epoch_ms: u64,
    pub mean_delay_us: u32,
    pub max_pps: u32,
    pub conditions: Conditions,
    pub settings: Settings,
    /// Whether nodes find their keys again when they are restarted.
    pub keys_are_kept: bool,
}

/// One mix a layer, two gateways, no cover, no faults.
pub fn shape() -> Shape {
    Shape {
        layers: 1,
        mixes: 1,
        gateways: 2,
        workers: 1,
        epoch_ms: 600_000,
        mean_delay_us: 10_000,
        max_pps: 1_000,
        conditions: Conditions {
            delay_ns: MS,
            ..Conditions::default()
        },
        settings: Settings {
            number: 0,
            workers: 1,
            pool_frames: 1_024,
            sessions_max: 256,
            clients_max: 32,
            client_queue_frames: 64,
            client_rate_max_pps: 1_000,
            loop_interval_ns: 0,
            drop_interval_ns: 0,
            capacity_pps: 0,
            loss: 0.0,
            ipv6: false,
        },
        keys_are_kept: false,
    }
}

pub struct Mesh {
    pub network: Network,
    pub nodes: Vec<Node<SimPort>>,
    pub authority: Authority,
    pub consensus: Consensus,
    /// By node and the epoch they are meant for.
    descriptors: BTreeMap<([u8; 32], u32), SignedDescriptor>,
    /// The document of now.
    document: Vec<u8>,
    settings: Settings,
    max_pps: u32,
    /// What outlives each node, by number.
    places: Vec<(Place, Option<Kept>)>,
    is_copied: bool,
    pub rng: ChaCha20Rng,
    pub now_ns: u64,
    /// How far the wall clock is ahead.
    pub ahead_ms: u64,
}

pub fn address(node: usize, worker: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, node as u8 + 1, 1], 9_000 + u16::from(worker)))
}

impl Mesh {
    pub fn new(shape: &Shape, seed: u64) -> Mesh {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let network = Network::new(seed, shape.conditions);
        let parameters = Parameters {
            genesis_unix_ms: GENESIS_MS,
            epoch_ms: shape.epoch_ms,
            mean_delay_us: shape.mean_delay_us,
            client_rate_pps: 100,
            layers: shape.layers,
        };
        let authority = Authority::found(Identity::generate(&mut rng), parameters).unwrap();
        let gateways = (0..shape.gateways).map(|_| Role::Gateway);
        let roles = gateways.chain((0..shape.mixes * usize::from(shape.layers)).map(|_| Role::Mix));
        let mut mesh = Mesh {
            consensus: Consensus::new(Head::bare(parameters, 0), Vec::new()).unwrap(),
            descriptors: BTreeMap::new(),
            document: Vec::new(),
            settings: shape.settings,
            max_pps: shape.max_pps,
            places: Vec::new(),
            is_copied: false,
            network,
            nodes: Vec::new(),
            authority,
            rng,
            now_ns: 0,
            ahead_ms: 0,
        };
        for (number, role) in roles.enumerate() {
            let addresses = (0..shape.workers).map(|worker| address(number, worker));
            let operator = format!("operator {number}");
            let place = Place::new(role, operator, addresses.collect(), &mut mesh.rng);
            let kept = shape.keys_are_kept.then(|| Kept::new(place.identity()));
            mesh.places.push((place, kept));
            let node = mesh.start(number);
            mesh.nodes.push(node);
        }
        mesh.turn_epoch(0);
        mesh.run(2 * SECOND);
        mesh
    }

    fn start(&mut self, number: usize) -> Node<SimPort> {
        let (place, kept) = &self.places[number];
        let chain = self.authority.chain();
        let (settings, network, rng) = (&self.settings, &self.network, &mut self.rng);
        let started = Node::simulated(place, chain, settings, self.max_pps, network, rng);
        let mut node = started.unwrap();
        if let Some(kept) = kept {
            node.follower.keep_keys_in(kept.vault(), self.now_ns);
        }
        node
    }

    /// Starts a second node with what lies on the first one's disk, at another address; its number.
    pub fn copy(&mut self, number: usize) -> usize {
        let elsewhere = vec![address(100, 0)];
        let own = std::mem::replace(&mut self.places[number].0.addresses, elsewhere);
        let node = self.start(number);
        self.places[number].0.addresses = own;
        self.nodes.push(node);
        self.is_copied = true;
        self.nodes.len() - 1
    }

    /// Kills a node, and starts it again a while later: what it held and its sessions are gone.
    pub fn restart(&mut self, number: usize, away_ns: u64) {
        drop(self.nodes.remove(number));
        self.run(away_ns);
        let mut node = self.start(number);
        let clocks = node.clocks(self.now_ns, self.unix_ms());
        let (consensus, document) = (self.consensus.clone(), self.document.clone());
        let taken = node
            .follower
            .take_up(consensus, document, clocks, &mut node.rng);
        node.install(&taken.unwrap()).unwrap();
        self.nodes.insert(number, node);
    }

    /// What a node begins handshakes with: with it a client does what the node does not.
    pub fn key_of(&self, number: usize) -> ClientKeys {
        let keys: &ClientKeys = self.places[number].0.link_keys().as_ref();
        ClientKeys::from_bytes(&keys.to_bytes())
    }

    pub fn unix_ms(&self) -> u64 {
        GENESIS_MS + self.now_ns / MS + self.ahead_ms
    }

    /// Signs the document of `epoch` and gives it to every node.
    pub fn turn_epoch(&mut self, epoch: u32) {
        let (now_ns, unix_ms) = (self.now_ns, self.unix_ms());
        for node in &mut self.nodes {
            let clocks = node.clocks(now_ns, unix_ms);
            if let Some(descriptor) = node.follower.describe(clocks, &mut node.rng) {
                let of = descriptor.epoch_keys[0].epoch;
                self.descriptors
                    .insert((descriptor.identity, of), descriptor);
            }
        }
        let meant = self.descriptors.values().filter(|one| one.is_for(epoch));
        let descriptors: Vec<_> = meant.cloned().collect();
        // That of no nodes, which there is before the first, is none.
        let known = Some(&self.consensus).filter(|known| !known.nodes().is_empty());
        let before = known.filter(|known| known.epoch() < epoch);
        let made = self.authority.make(before, epoch, &descriptors);
        let document: SignedConsensus = made.unwrap();
        let consensus = document
            .verify(self.authority.chain(), &Held::default())
            .unwrap();
        for node in &mut self.nodes {
            let clocks = node.clocks(now_ns, unix_ms);
            let state = node
                .follower
                .take_up(consensus.clone(), document.encode(), clocks, &mut node.rng)
                .unwrap();
            let listed = consensus.find(&node.identity);
            let has_place = listed.is_some_and(|listed| listed.layer != WAITING);
            assert!(self.is_copied || state.own().is_some() == has_place);
            node.install(&state).unwrap();
        }
        self.consensus = consensus;
        self.document = document.encode();
    }

    /// Runs everything for so long.
    pub fn run(&mut self, span_ns: u64) {
        let until_ns = self.now_ns + span_ns;
        loop {
            let unix_ms = self.unix_ms();
            let now_ns = self.now_ns;
            let due = self
                .nodes
                .iter_mut()
                .filter_map(|node| node.step(now_ns, unix_ms).unwrap())
                .min();
            let next = due.into_iter().chain(self.network.next_arrival_ns()).min();
            self.now_ns = next.unwrap_or(u64::MAX).clamp(self.now_ns, until_ns);
            self.network.advance(self.now_ns, |_| ());
            if self.now_ns >= until_ns {
                return;
            }
        }
    }

    /// Takes a node out: it runs no more, and no later document lists it.
    pub fn remove(&mut self, number: usize) {
        let node = self.nodes.remove(number);
        self.places.remove(number);
        self.descriptors
            .retain(|(identity, _), _| *identity != node.identity);
    }

    pub fn index_of(&self, number: usize) -> u16 {
        self.consensus
            .find(&self.nodes[number].identity)
            .unwrap()
            .index
    }

    /// A node of this mesh that is a mix.
    pub fn a_mix(&self) -> usize {
        self.nodes
            .iter()
            .position(|node| node.role == Role::Mix)
            .unwrap()
    }

    pub fn counters(&self, number: usize) -> Counters {
        self.nodes[number].counters()
    }

    /// A path from one gateway of this mesh to another; every delay is `delay_us`.
    pub fn path(&mut self, entry: usize, exit: usize, delay_us: u32) -> Path {
        let (entry, exit) = (self.index_of(entry), self.index_of(exit));
        let mut path = directory::select_path(&self.consensus, &mut self.rng, entry, exit).unwrap();
        let hops = path.len() - 1;
        path.iter_mut()
            .take(hops)
            .for_each(|hop| hop.delay_us = delay_us);
        path
    }

    pub fn packet(
        &mut self,
        path: &Path,
        terminal: &Terminal,
        body: &[u8; BODY_BYTES],
    ) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        wrap(&mut self.rng, path, terminal, body, &mut packet).unwrap();
        packet
    }

    /// A packet for the client with this tag.
    pub fn packet_for(
        &mut self,
        destination: DestinationTag,
        (entry, exit): (usize, usize),
        delay_us: u32,
        body: &[u8; BODY_BYTES],
    ) -> [u8; PACKET_BYTES] {
        let path = self.path(entry, exit, delay_us);
        let mut id = [0; 8];
        self.rng.fill_bytes(&mut id);
        self.packet(&path, &Terminal::Deliver { destination, id }, body)
    }
}
