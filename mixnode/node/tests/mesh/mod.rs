//! A small network of the production code on a simulated one, with bare clients: no thread, no clock, one seed.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrayvec::ArrayVec;
use crossbeam::channel::Receiver;
use directory::{
    Authority, Consensus, Descriptor, Identity, LinkKey, Parameters, Path, Role, SignedConsensus,
};
use link::{
    CONTENT_OFFSET, ClientKeys, DATAGRAM_BYTES, Initiator, Kind, LinkKeys, LinkPublic, OpenJob,
    SealJob, Session, TimestampSource, destination_tag, open_batch, seal_batch,
};
use mixnode::core::{Core, Settings, Shared};
use mixnode::counters::{Counters, Published};
use mixnode::follower::{Follower, Profile};
use mixnode::handshake::{Handshaker, Request, thread::queue};
use mixnode::mail::{Mail, Mailbox};
use mixnode::pool::FramePool;
use mixnode::port::sim::{Conditions, Endpoint, Network};
use mixnode::port::{EventFd, SimPort};
use mixnode::worker::Worker;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::{BODY_BYTES, DestinationTag, PACKET_BYTES, Terminal, wrap};

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
            loss: 0.0,
            ipv6: false,
        },
    }
}

pub struct Node {
    pub role: Role,
    pub identity: [u8; 32],
    pub workers: Vec<Worker<SimPort>>,
    pub mailboxes: Vec<Mailbox>,
    pub handshaker: Handshaker<ChaCha20Rng>,
    pub requests: Receiver<Request>,
    pub follower: Follower,
    pub rng: ChaCha20Rng,
}

pub struct Mesh {
    pub network: Network,
    pub nodes: Vec<Node>,
    pub authority: Authority,
    pub parameters: Parameters,
    pub consensus: Consensus,
    descriptors: BTreeMap<[u8; 32], Descriptor>,
    pub rng: ChaCha20Rng,
    pub now_ns: u64,
}

pub fn address(node: usize, worker: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, node as u8 + 1, 1], 9_000 + u16::from(worker)))
}

impl Node {
    fn start(
        number: usize,
        role: Role,
        shape: &Shape,
        network: &Network,
        rng: &mut ChaCha20Rng,
    ) -> Node {
        let (sender, requests) = queue();
        let events: Vec<_> = (0..shape.workers)
            .map(|_| Arc::new(EventFd::new().unwrap()))
            .collect();
        let mailboxes: Vec<_> = events
            .iter()
            .map(|event| Mailbox::new(Arc::clone(event)))
            .collect();
        let attachments = Arc::new(AtomicU64::new(1));
        let shared = Shared {
            mailboxes: mailboxes.clone(),
            handshakes: sender,
            attachments,
        };
        let clients_max = if role == Role::Gateway {
            shape.settings.clients_max
        } else {
            0
        };
        let workers = (0u8..)
            .zip(events)
            .map(|(worker, event)| {
                let settings = Settings {
                    number: worker,
                    workers: shape.workers,
                    clients_max,
                    ..shape.settings
                };
                let pool = FramePool::new(settings.pool_frames).unwrap();
                let endpoint = network.open(address(number, worker), 4_096).unwrap();
                let port = SimPort::new(endpoint, event, &pool);
                let lanes = Lanes::from_env_or_detect();
                let core = Core::new(
                    settings,
                    shared.clone(),
                    pool,
                    lanes,
                    ChaCha20Rng::from_rng(rng),
                    0,
                )
                .unwrap();
                Worker::new(core, port, Published::new().unwrap())
            })
            .collect();
        let identity = Identity::generate(rng);
        let link = LinkKeys::generate(rng);
        let public = link.public();
        let profile = Profile {
            role,
            operator: format!("operator {number}"),
            addresses: vec![address(number, 0)],
            link: LinkKey {
                x25519: public.x25519,
                kem: public.kem,
            },
            capacity_pps: 1_000,
            vrf_key: [0; 32],
        };
        Node {
            role,
            identity: identity.public(),
            workers,
            mailboxes,
            handshaker: Handshaker::new(link, ChaCha20Rng::from_rng(rng)),
            requests,
            follower: Follower::new(identity, profile, shape.max_pps),
            rng: ChaCha20Rng::from_rng(rng),
        }
    }

    pub fn handshakes(&mut self, now_ns: u64, unix_ms: u64) {
        let boxes = self.mailboxes.clone();
        let mut post = |worker: u8, mail| boxes[usize::from(worker)].post(mail);
        while let Ok(request) = self.requests.try_recv() {
            self.handshaker
                .handle(request, self.requests.len(), now_ns, unix_ms, &mut post);
        }
        self.handshaker.poll(now_ns, unix_ms, &mut post);
    }

    fn step(&mut self, now_ns: u64, unix_ms: u64) -> Option<u64> {
        for _ in 0..1_000 {
            let mut next: Option<u64> = None;
            for worker in &mut self.workers {
                let due = worker.turn(now_ns, unix_ms);
                assert!(worker.counters().is_conserved(), "{:?}", worker.counters());
                next = next.into_iter().chain(due).min();
            }
            self.handshakes(now_ns, unix_ms);
            let next = next.into_iter().chain(self.handshaker.deadline_ns()).min();
            let mail = self.mailboxes.iter().any(|mailbox| !mailbox.is_empty());
            if !mail && next.is_none_or(|next| next > now_ns) {
                return next;
            }
        }
        panic!("a node is never done at {now_ns}");
    }

    /// Sums of all workers.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.workers
            .iter()
            .for_each(|worker| sum.add(worker.counters()));
        sum
    }
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
        let authority = Authority::new(Identity::generate(&mut rng), parameters).unwrap();
        let gateways = (0..shape.gateways).map(|_| Role::Gateway);
        let roles = gateways.chain((0..shape.mixes * usize::from(shape.layers)).map(|_| Role::Mix));
        let nodes: Vec<Node> = roles
            .enumerate()
            .map(|(number, role)| Node::start(number, role, shape, &network, &mut rng))
            .collect();
        let mut mesh = Mesh {
            consensus: Consensus::new(parameters, 0, [0; 32], Vec::new()).unwrap(),
            descriptors: BTreeMap::new(),
            network,
            nodes,
            authority,
            parameters,
            rng,
            now_ns: 0,
        };
        mesh.turn_epoch(0);
        mesh.run(2 * SECOND);
        mesh
    }

    pub fn unix_ms(&self) -> u64 {
        GENESIS_MS + self.now_ns / MS
    }

    /// Signs the document of `epoch` and gives it to every node.
    pub fn turn_epoch(&mut self, epoch: u32) {
        let unix_ms = self.unix_ms();
        for node in &mut self.nodes {
            if let Some(descriptor) = node.follower.describe(unix_ms, &mut node.rng) {
                self.descriptors.insert(descriptor.identity, descriptor);
            }
        }
        let descriptors = self.descriptors.values().cloned();
        let document: SignedConsensus = self.authority.sign(epoch, descriptors).unwrap();
        let consensus = document
            .verify(&self.authority.authorities().unwrap(), None)
            .unwrap();
        for node in &mut self.nodes {
            let state = node
                .follower
                .take_up(consensus.clone(), document.encode(), &mut node.rng)
                .unwrap();
            assert_eq!(
                state.own().is_some(),
                consensus.find(&node.identity).is_some()
            );
            for mailbox in &node.mailboxes {
                assert!(mailbox.post(Mail::Epoch(Arc::clone(&state))));
            }
        }
        self.consensus = consensus;
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
                .filter_map(|node| node.step(now_ns, unix_ms))
                .min();
            let next = due.into_iter().chain(self.network.next_arrival_ns()).min();
            self.now_ns = next.unwrap_or(u64::MAX).clamp(self.now_ns, until_ns);
            self.network.advance(self.now_ns, |_| ());
            if self.now_ns >= until_ns {
                return;
            }
        }
    }

    /// Number of the node in this mesh that has this index in the consensus.
    pub fn number_of(&self, index: u16) -> usize {
        let identity = self.consensus.node(index).unwrap().identity;
        self.nodes
            .iter()
            .position(|node| node.identity == identity)
            .unwrap()
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

/// A client that does only what it is told.
pub struct Client {
    pub endpoint: Endpoint,
    pub keys: ClientKeys,
    pub gateway: usize,
    pub worker: u8,
    pub session: Option<Session>,
    initiator: Option<Initiator>,
    timestamps: TimestampSource,
}

/// What a client got: kind and content.
pub type Got = (Kind, [u8; PACKET_BYTES]);

impl Client {
    pub fn new(mesh: &mut Mesh, number: u8, gateway: usize) -> Client {
        let keys = ClientKeys::generate(&mut mesh.rng);
        Client::with_keys(mesh, number, gateway, keys)
    }

    pub fn with_keys(mesh: &Mesh, number: u8, gateway: usize, keys: ClientKeys) -> Client {
        let endpoint = mesh
            .network
            .open(SocketAddr::from(([192, 168, 0, number], 5_000)), 4_096)
            .unwrap();
        Client {
            endpoint,
            keys,
            gateway,
            worker: 0,
            session: None,
            initiator: None,
            timestamps: TimestampSource::default(),
        }
    }

    pub fn tag(&self) -> DestinationTag {
        destination_tag(self.keys.public_key())
    }

    fn destination(&self) -> SocketAddr {
        address(self.gateway, self.worker)
    }

    pub fn initiate(&mut self, mesh: &mut Mesh) {
        let node = mesh
            .consensus
            .find(&mesh.nodes[self.gateway].identity)
            .unwrap();
        let remote = LinkPublic {
            x25519: node.link.x25519,
            kem: node.link.kem.clone(),
        };
        let timestamp_ms = self.timestamps.next(mesh.unix_ms());
        let index = mesh.rng.next_u32();
        let (initiator, datagram) = Initiator::start(
            &self.keys,
            &remote,
            index,
            timestamp_ms,
            None,
            &mut mesh.rng,
        )
        .unwrap();
        self.initiator = Some(initiator);
        self.endpoint.send(self.destination(), &datagram);
    }

    /// Opens a session; says whether the gateway answered.
    pub fn connect(&mut self, mesh: &mut Mesh) -> bool {
        self.initiate(mesh);
        mesh.run(20 * MS);
        let mut datagram = [0; DATAGRAM_BYTES];
        while self.endpoint.receive(&mut datagram).is_some() {
            if let Some(Ok(session)) = self
                .initiator
                .as_mut()
                .map(|one| one.finish(&datagram, mesh.now_ns))
            {
                self.session = Some(session);
                return true;
            }
        }
        false
    }

    pub fn attach(&mut self, mesh: &mut Mesh, rate_pps: u32) {
        let mut content = [0; PACKET_BYTES];
        directory::gateway::Control::Attach { rate_pps }.encode(&mut content);
        self.send(mesh, Kind::Control, &content);
        mesh.run(20 * MS);
    }

    /// Seals a frame without sending it.
    pub fn seal(
        &mut self,
        epoch: u32,
        kind: Kind,
        content: &[u8; PACKET_BYTES],
    ) -> [u8; DATAGRAM_BYTES] {
        let session = self.session.as_mut().unwrap();
        let counter = session.send.next_counter().unwrap();
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[CONTENT_OFFSET..CONTENT_OFFSET + PACKET_BYTES].copy_from_slice(content);
        let epoch = (epoch % 4) as u8;
        let key = session.send.key();
        seal_batch(&mut [SealJob {
            session: key,
            counter,
            kind,
            epoch,
            datagram: &mut datagram,
        }]);
        datagram
    }

    pub fn send(&mut self, mesh: &Mesh, kind: Kind, content: &[u8; PACKET_BYTES]) {
        let datagram = self.seal(mesh.consensus.epoch(), kind, content);
        self.endpoint.send(self.destination(), &datagram);
    }

    /// Opens everything that came.
    pub fn receive(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        let mut datagram = [0; DATAGRAM_BYTES];
        while let Some((_, length)) = self.endpoint.receive(&mut datagram) {
            assert_eq!(length, DATAGRAM_BYTES);
            let Some(session) = &self.session else {
                continue;
            };
            let mut verdicts = ArrayVec::new();
            let session = session.receive.key();
            open_batch(
                &mut [OpenJob {
                    session,
                    datagram: &mut datagram,
                }],
                &mut verdicts,
            );
            if let Some(Ok(opened)) = verdicts.pop() {
                let mut content = [0; PACKET_BYTES];
                content.copy_from_slice(&datagram[CONTENT_OFFSET..CONTENT_OFFSET + PACKET_BYTES]);
                all.push((opened.kind, content));
            }
        }
        all
    }

    /// Bodies delivered.
    pub fn deliveries(&mut self) -> Vec<[u8; BODY_BYTES]> {
        let deliveries = self
            .receive()
            .into_iter()
            .filter(|(kind, _)| *kind == Kind::Delivery);
        deliveries
            .map(|(_, content)| content[8..8 + BODY_BYTES].try_into().unwrap())
            .collect()
    }
}

/// A client with a session, attached to its gateway.
pub fn attached(mesh: &mut Mesh, number: u8, gateway: usize, rate_pps: u32) -> Client {
    let mut client = Client::new(mesh, number, gateway);
    assert!(client.connect(mesh));
    client.attach(mesh, rate_pps);
    client
}
