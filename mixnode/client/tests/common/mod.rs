//! A network in memory for clients: real handshakes, frames and Sphinx layers, all nodes in one place, simulated
//! time, and loss, duplication and delays drawn from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use arrayvec::ArrayVec;
use directory::gateway::{Control, LATEST};
use directory::{
    Authorities, Authority, Consensus, Descriptor, EpochKey, Identity as NodeIdentity, LinkKey,
    Parameters, Role, SignedConsensus,
};
use fog::{Client, Event};
use link::{
    Arrival, DATAGRAM_BYTES, Datagram, Kind, LinkKeys, OpenJob, Responder, Response, SealJob,
    Session,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::{Command, Engine, EpochSecret, Job, PACKET_BYTES};

pub const GENESIS_MS: u64 = 1_800_000_000_000;
const LINK_DELAY_NS: u64 = 200_000;
const QUEUE_MAX: usize = 512;

type Boxed = Box<[u8; DATAGRAM_BYTES]>;

/// What a network is like.
#[derive(Clone, Copy)]
pub struct Conditions {
    pub loss: f64,
    pub duplicates: f64,
    pub mean_delay_us: u32,
    pub rate_pps: u32,
    pub epoch_ms: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicates: 0.0,
            mean_delay_us: 20_000,
            rate_pps: 100,
            epoch_ms: 1_200_000,
        }
    }
}

struct Gateway {
    responder: Responder,
    sessions: BTreeMap<u32, (Session, usize)>,
    /// Destination tag → session index, rate.
    attached: BTreeMap<[u8; 16], (u32, u32)>,
    queues: BTreeMap<[u8; 16], VecDeque<Box<[u8; 1200]>>>,
    kinds: BTreeMap<[u8; 16], VecDeque<Kind>>,
}

enum Happening {
    /// A client's slot, if it is still the same run of the client.
    Slot(usize, u32),
    ToGateway(usize, usize, Boxed),
    ToClient(usize, Boxed),
    Deliver([u8; 32], [u8; 16], Box<[u8; 1200]>),
    Down([u8; 32], [u8; 16], u32),
}

/// A client and what was seen of it.
pub struct Seat {
    pub client: Option<Client>,
    run: u32,
    pub events: Vec<Event>,
    /// Departures on the wire, ns.
    pub departures: Vec<u64>,
}

pub struct Network {
    pub now_ns: u64,
    pub authority: Authority,
    pub descriptors: Vec<Descriptor>,
    pub seats: Vec<Seat>,
    /// Identities of mixes that swallow everything.
    pub dead: Vec<[u8; 32]>,
    pub rng: ChaCha20Rng,
    conditions: Conditions,
    secrets: BTreeMap<([u8; 32], u32), EpochSecret>,
    consensuses: BTreeMap<u32, (Consensus, Vec<u8>)>,
    gateways: BTreeMap<[u8; 32], Gateway>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    engine: Engine,
    sessions: u32,
}

impl Network {
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let parameters = Parameters {
            genesis_unix_ms: GENESIS_MS,
            epoch_ms: conditions.epoch_ms,
            mean_delay_us: conditions.mean_delay_us,
            client_rate_pps: conditions.rate_pps,
            layers: 3,
        };
        let authority = Authority::new(NodeIdentity::generate(&mut rng), parameters).unwrap();
        let mut network = Self {
            now_ns: 1,
            authority,
            descriptors: Vec::new(),
            seats: Vec::new(),
            dead: Vec::new(),
            rng,
            conditions,
            secrets: BTreeMap::new(),
            consensuses: BTreeMap::new(),
            gateways: BTreeMap::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            engine: Engine::new(Lanes::Portable, parameters.delay_max_us()),
            sessions: 1,
        };
        for node in 0..8u8 {
            network.add_node(node);
        }
        network
    }

    fn add_node(&mut self, node: u8) {
        let identity = NodeIdentity::generate(&mut self.rng).public();
        let link = LinkKeys::generate(&mut self.rng);
        let public = link.public();
        let epoch_keys = vec![];
        let role = if node < 2 { Role::Gateway } else { Role::Mix };
        self.descriptors.push(Descriptor {
            identity,
            role,
            operator: format!("operator-{node}"),
            addresses: vec![SocketAddr::from(([10, node, 0, 1], 9_000))],
            link: LinkKey {
                x25519: public.x25519,
                kem: public.kem,
            },
            epoch_keys,
            capacity_pps: 1_000,
            vrf_key: [node; 32],
            vrf_proof: None,
            published_unix_ms: GENESIS_MS,
        });
        if role == Role::Gateway {
            self.gateways.insert(
                identity,
                Gateway {
                    responder: Responder::new(link),
                    sessions: BTreeMap::new(),
                    attached: BTreeMap::new(),
                    queues: BTreeMap::new(),
                    kinds: BTreeMap::new(),
                },
            );
        }
    }

    pub fn authorities(&self) -> Authorities {
        self.authority.authorities().unwrap()
    }

    pub fn unix_ms(&self) -> u64 {
        GENESIS_MS + self.now_ns / 1_000_000
    }

    pub fn consensus(&mut self, epoch: u32) -> (Consensus, Vec<u8>) {
        if let Some(known) = self.consensuses.get(&epoch) {
            return known.clone();
        }
        let mut descriptors = self.descriptors.clone();
        for descriptor in &mut descriptors {
            for epoch in [epoch, epoch + 1] {
                let key = (descriptor.identity, epoch);
                let rng = &mut self.rng;
                let secret = self
                    .secrets
                    .entry(key)
                    .or_insert_with(|| EpochSecret::generate(rng));
                descriptor.epoch_keys.push(EpochKey {
                    epoch,
                    public_key: *secret.public_key(),
                });
            }
        }
        let signed: SignedConsensus = self.authority.sign(epoch, descriptors).unwrap();
        let consensus = signed.verify(&self.authorities(), None).unwrap();
        self.consensuses
            .insert(epoch, (consensus.clone(), signed.encode()));
        (consensus, signed.encode())
    }

    pub fn gateway(&self, number: usize) -> [u8; 32] {
        self.descriptors[number].identity
    }

    /// Seats a client; the number names it.
    pub fn join(&mut self, client: Client) -> usize {
        let seat = self.seats.len();
        self.seats.push(Seat {
            client: None,
            run: 0,
            events: Vec::new(),
            departures: Vec::new(),
        });
        self.restart(seat, client);
        seat
    }

    /// The client dies: nothing of it is left but its storage.
    pub fn kill(&mut self, seat: usize) {
        self.seats[seat].client = None;
        self.seats[seat].run += 1;
    }

    pub fn restart(&mut self, seat: usize, client: Client) {
        self.kill(seat);
        let (deadline, run) = (client.deadline(), self.seats[seat].run);
        self.seats[seat].client = Some(client);
        self.push(deadline, Happening::Slot(seat, run));
    }

    fn push(&mut self, at_ns: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((at_ns, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    fn chance(&mut self, probability: f64) -> bool {
        (self.rng.next_u64() >> 11) as f64 / ((1u64 << 53) as f64) < probability
    }

    /// Runs until `done` says so or `until_ns` has come; whether it was done.
    pub fn run(&mut self, until_ns: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        while let Some(Reverse((at_ns, sequence))) = self.queue.peek().copied() {
            if at_ns > until_ns {
                break;
            }
            self.queue.pop();
            self.now_ns = self.now_ns.max(at_ns);
            let happening = self.happenings.remove(&sequence).unwrap();
            self.step(happening);
            if done(self) {
                return true;
            }
        }
        self.now_ns = self.now_ns.max(until_ns);
        false
    }

    fn step(&mut self, happening: Happening) {
        let (now_ns, unix_ms) = (self.now_ns, self.unix_ms());
        match happening {
            Happening::Slot(seat, run) => {
                if self.seats[seat].run != run {
                    return;
                }
                let client = self.seats[seat].client.as_mut().unwrap();
                let sent = client.transmit(now_ns, unix_ms);
                let deadline = client.deadline();
                self.push(deadline, Happening::Slot(seat, run));
                if let Some((to, datagram)) = sent {
                    self.seats[seat].departures.push(now_ns);
                    let gateway = self
                        .descriptors
                        .iter()
                        .position(|descriptor| descriptor.addresses[0] == to)
                        .unwrap();
                    for _ in 0..1 + usize::from(self.chance(self.conditions.duplicates)) {
                        if !self.chance(self.conditions.loss) {
                            let datagram = Box::new(datagram);
                            self.push(
                                now_ns + LINK_DELAY_NS,
                                Happening::ToGateway(gateway, seat, datagram),
                            );
                        }
                    }
                }
                self.collect(seat);
            }
            Happening::ToGateway(gateway, seat, datagram) => {
                let identity = self.gateway(gateway);
                self.at_gateway(&identity, seat, datagram);
            }
            Happening::ToClient(seat, mut datagram) => {
                if let Some(client) = self.seats[seat].client.as_mut() {
                    client.receive(now_ns, unix_ms, &mut datagram);
                }
                self.collect(seat);
            }
            Happening::Deliver(gateway, destination, content) => {
                self.enqueue(&gateway, &destination, Kind::Delivery, content);
            }
            Happening::Down(gateway, destination, index) => {
                self.down_slot(&gateway, &destination, index);
            }
        }
    }

    fn collect(&mut self, seat: usize) {
        let seat = &mut self.seats[seat];
        if let Some(client) = &mut seat.client {
            while let Some(event) = client.event() {
                seat.events.push(event);
            }
        }
    }

    fn enqueue(
        &mut self,
        gateway: &[u8; 32],
        destination: &[u8; 16],
        kind: Kind,
        content: Box<[u8; 1200]>,
    ) {
        let gateway = self.gateways.get_mut(gateway).unwrap();
        if gateway.attached.contains_key(destination) {
            let queue = gateway.queues.entry(*destination).or_default();
            if queue.len() < QUEUE_MAX {
                queue.push_back(content);
                gateway
                    .kinds
                    .entry(*destination)
                    .or_default()
                    .push_back(kind);
            }
        }
    }

    fn down_the_link(&mut self, seat: usize, datagram: Boxed) {
        for _ in 0..1 + usize::from(self.chance(self.conditions.duplicates)) {
            if !self.chance(self.conditions.loss) {
                let at = self.now_ns + LINK_DELAY_NS;
                self.push(at, Happening::ToClient(seat, datagram.clone()));
            }
        }
    }

    /// One slot of the gateway's Poisson stream to a client.
    fn down_slot(&mut self, identity: &[u8; 32], destination: &[u8; 16], index: u32) {
        let gateway = self.gateways.get_mut(identity).unwrap();
        let Some((attached, rate_pps)) = gateway.attached.get(destination).copied() else {
            return;
        };
        if attached != index {
            return;
        }
        let next = gateway.queues.entry(*destination).or_default().pop_front();
        let kind = gateway.kinds.entry(*destination).or_default().pop_front();
        let content = next.unwrap_or_else(|| Box::new([0; 1200]));
        let (session, seat) = gateway.sessions.get_mut(&index).unwrap();
        let seat = *seat;
        let mut datagram = Box::new([0; DATAGRAM_BYTES]);
        datagram[link::CONTENT_OFFSET..link::CONTENT_OFFSET + 1200].copy_from_slice(&content[..]);
        let counter = session.send.next_counter().unwrap();
        link::seal_batch(&mut [SealJob {
            session: session.send.key(),
            counter,
            kind: kind.unwrap_or(Kind::Cover),
            epoch: 0,
            datagram: &mut datagram,
        }]);
        self.down_the_link(seat, datagram);
        let uniform = ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let gap_ns = (-uniform.ln() * 1e9 / f64::from(rate_pps)) as u64;
        self.push(
            self.now_ns + gap_ns,
            Happening::Down(*identity, *destination, index),
        );
    }

    fn at_gateway(&mut self, identity: &[u8; 32], seat: usize, mut datagram: Boxed) {
        let (now_ns, unix_ms) = (self.now_ns, self.unix_ms());
        let gateway = self.gateways.get_mut(identity).unwrap();
        match link::peek(&datagram[..]).unwrap() {
            Datagram::Initiation { .. } => {
                self.sessions += 1;
                let arrival = Arrival {
                    source: SocketAddr::from(([10, 9, 9, 9], 1_000 + seat as u16)),
                    unix_ms,
                    now_ns,
                    under_load: false,
                };
                let index = self.sessions;
                let response = gateway
                    .responder
                    .respond(&datagram, &arrival, index, &mut self.rng);
                if let Ok(Response::Accepted { reply, session }) = response {
                    gateway.sessions.insert(index, (*session, seat));
                    self.down_the_link(seat, reply);
                }
            }
            Datagram::Data {
                receiver_index,
                counter,
            } => {
                let Some((session, _)) = gateway.sessions.get_mut(&receiver_index) else {
                    return;
                };
                if session.receive.check(counter).is_err() {
                    return;
                }
                let mut verdicts = ArrayVec::new();
                let job = OpenJob {
                    session: session.receive.key(),
                    datagram: &mut datagram,
                };
                link::open_batch(&mut [job], &mut verdicts);
                let opened = verdicts[0].expect("frames are not forged here");
                session.receive.admit(opened.counter).unwrap();
                let destination = link::destination_tag(&session.peer);
                let content: [u8; 1200] = *datagram[link::CONTENT_OFFSET..].first_chunk().unwrap();
                match opened.kind {
                    Kind::Sphinx => self.mix(identity, opened.epoch, content),
                    Kind::Control => self.control(identity, destination, receiver_index, &content),
                    Kind::Delivery | Kind::Cover => {}
                }
            }
            other => panic!("a client sent {other:?}"),
        }
    }

    fn control(
        &mut self,
        identity: &[u8; 32],
        destination: [u8; 16],
        index: u32,
        content: &[u8; 1200],
    ) {
        let now = self.authority.parameters().epoch_at(self.unix_ms());
        let answer = match Control::decode(content).expect("a client's control frames are sound") {
            Control::Attach { rate_pps } => {
                let gateway = self.gateways.get_mut(identity).unwrap();
                let known = gateway.attached.insert(destination, (index, rate_pps));
                if known.is_none_or(|(attached, _)| attached != index) {
                    self.push(
                        self.now_ns + 1,
                        Happening::Down(*identity, destination, index),
                    );
                }
                Control::Attached { rate_pps }
            }
            Control::Fetch { epoch, chunk } => {
                let epoch = if epoch == LATEST { now } else { epoch };
                let middle =
                    self.authority.parameters().epoch_starts_ms(now) + self.conditions.epoch_ms / 2;
                if epoch <= now || (epoch == now + 1 && self.unix_ms() >= middle) {
                    let (_, document) = self.consensus(epoch);
                    Control::chunk_of(epoch, &document, chunk)
                } else {
                    Control::chunk_of(epoch, &[], chunk)
                }
            }
            other => panic!("a client sent {other:?}"),
        };
        let mut content = Box::new([0; 1200]);
        answer.encode(&mut content);
        self.enqueue(identity, &destination, Kind::Control, content);
    }

    /// Takes a packet through all its hops at once; what it becomes happens after the sum of its delays.
    fn mix(&mut self, entry: &[u8; 32], epoch_bits: u8, mut packet: [u8; PACKET_BYTES]) {
        let now = self.authority.parameters().epoch_at(self.unix_ms());
        let Some(epoch) = [Some(now), now.checked_sub(1)]
            .into_iter()
            .flatten()
            .find(|epoch| epoch % 4 == u32::from(epoch_bits))
        else {
            panic!("a client sent a packet of a dead epoch");
        };
        let (consensus, _) = self.consensus(epoch);
        let mut node = *entry;
        let mut delay_ns = 0;
        loop {
            if self.dead.contains(&node) {
                return;
            }
            let secret = &self.secrets[&(node, epoch)];
            let mut verdicts = ArrayVec::new();
            let mut jobs = [Job {
                packet: &mut packet,
                secret,
            }];
            self.engine
                .unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
            let unwrapped = verdicts[0].expect("a client's packets are sound");
            delay_ns += u64::from(unwrapped.delay_us) * 1_000 + LINK_DELAY_NS;
            match unwrapped.command {
                Command::Forward { next } => {
                    let from = consensus.find(&node).unwrap().layer;
                    assert!(consensus.may_forward(from, next), "the layer graph");
                    if self.chance(self.conditions.loss) {
                        return;
                    }
                    node = consensus.node(next).unwrap().identity;
                }
                Command::Deliver { destination, id } => {
                    let mut content = Box::new([0; 1200]);
                    content[..8].copy_from_slice(&id);
                    content[8..904].copy_from_slice(&packet[sphinx::HEADER_BYTES..]);
                    let at = self.now_ns + delay_ns;
                    self.push(at, Happening::Deliver(node, destination, content));
                    return;
                }
                Command::Loop { .. } | Command::Drop => return,
            }
        }
    }
}
