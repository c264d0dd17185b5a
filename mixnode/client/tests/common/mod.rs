//! A network in memory for clients: real handshakes, frames and Sphinx layers, all nodes in one place, simulated
//! time, and loss, duplication and delays drawn from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use authority::Authority;
use directory::beacon::layer_input;
use directory::vrf::VrfSecret;
use directory::{
    Chain, Consensus, Descriptor, EpochKey, Held, Identity as NodeIdentity, LinkKey, Parameters,
    Previous, Role, SignedConsensus,
};
use fog::{Client, Event};
use link::{DATAGRAM_BYTES, Kind, LinkKeys, Responder, Session};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::{Engine, EpochSecret};

pub const GENESIS_MS: u64 = 1_800_000_000_000;
const LINK_DELAY_NS: u64 = 200_000;
const QUEUE_MAX: usize = 512;

pub type Boxed = Box<[u8; DATAGRAM_BYTES]>;
/// Gateway, mailbox, and what is delivered there.
type Delivery = ([u8; 32], [u8; 16], Box<[u8; 1200]>);

mod gateway;

/// What a network is like.
#[derive(Clone, Copy)]
pub struct Conditions {
    pub loss: f64,
    pub duplicates: f64,
    pub mean_delay_us: u32,
    pub rate_pps: u32,
    pub epoch_ms: u64,
    /// Each of another operator.
    pub gateways: u8,
    /// The Unix time at which this network's clock starts.
    pub genesis_ms: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicates: 0.0,
            mean_delay_us: 20_000,
            rate_pps: 100,
            epoch_ms: 1_200_000,
            gateways: 2,
            genesis_ms: GENESIS_MS,
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
    /// Takes what arrives for a client that is not of this network's clock.
    pub outside: Option<Sender<Boxed>>,
    run: u32,
    pub events: Vec<Event>,
    /// Departures on the wire, ns.
    pub departures: Vec<u64>,
    /// When the epoch of its packets changed, ns, and to which, modulo 4.
    pub turns: Vec<(u64, u8)>,
}

/// What a gateway does that neither hands a document over nor says that it has none.
#[allow(dead_code)] // Not every test file that shares this module needs it.
#[derive(Clone, Copy, Debug)]
pub enum Stall {
    /// It says nothing.
    Silent,
    /// It hands over all parts but the first, again and again.
    Endless,
    /// It hands over bytes that are no document.
    Forged,
}

pub struct Network {
    pub now_ns: u64,
    pub authority: Authority,
    authority_key: NodeIdentity,
    pub descriptors: Vec<Descriptor>,
    /// Of each descriptor the keys that sign and prove.
    owners: Vec<(NodeIdentity, VrfSecret)>,
    pub seats: Vec<Seat>,
    /// Identities of mixes that swallow everything.
    pub dead: Vec<[u8; 32]>,
    /// Initiations that clients sent.
    pub initiations: u64,
    /// Gateways that hear and say nothing.
    pub silent: Vec<[u8; 32]>,
    /// Gateways that have no room for attachments.
    pub full: Vec<[u8; 32]>,
    /// What gateways grant at most, packets a second.
    pub grants_pps: u32,
    /// Gateways that are in no document from this epoch on.
    pub gone: Vec<([u8; 32], u32)>,
    /// Attach frames and Sphinx packets that came from clients, by gateway.
    pub attaches: BTreeMap<[u8; 32], u64>,
    pub packets: BTreeMap<[u8; 32], u64>,
    /// Parts of documents that clients asked for, by gateway.
    pub fetched: BTreeMap<[u8; 32], u64>,
    /// The epoch that the authorities made no document for.
    pub missing: Option<u32>,
    /// A gateway that says it has no document of an epoch from this one on.
    pub withholds: Vec<([u8; 32], u32)>,
    /// A gateway that is asked for the document of an epoch from this one on, and what it does.
    pub stalls: Vec<([u8; 32], u32, Stall)>,
    /// What gateways hand over as the chain of authority sets.
    pub handed_chain: Vec<u8>,
    /// Packets of the epoch before that of now, by gateway.
    pub old_packets: BTreeMap<[u8; 32], u64>,
    /// Packets that ended in a mailbox, by the seat that sent them.
    pub mailed: BTreeMap<(usize, [u8; 16]), u64>,
    /// Mailboxes of which gateways keep what they deliver, and what they have kept.
    pub recorded: Vec<[u8; 16]>,
    kept: Vec<Delivery>,
    pub rng: ChaCha20Rng,
    conditions: Conditions,
    secrets: BTreeMap<([u8; 32], u32), EpochSecret>,
    consensuses: BTreeMap<u32, (Consensus, Vec<u8>)>,
    gateways: BTreeMap<[u8; 32], Gateway>,
    gateway_keys: BTreeMap<[u8; 32], LinkKeys>,
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
            genesis_unix_ms: conditions.genesis_ms,
            epoch_ms: conditions.epoch_ms,
            mean_delay_us: conditions.mean_delay_us,
            client_rate_pps: conditions.rate_pps,
            layers: 3,
        };
        let key = NodeIdentity::generate(&mut rng);
        let authority_key = NodeIdentity::from_bytes(&key.to_bytes());
        let authority = Authority::found(key, parameters).unwrap();
        let mut network = Self {
            now_ns: 1,
            handed_chain: authority.chain().encode(),
            authority_key,
            authority,
            descriptors: Vec::new(),
            owners: Vec::new(),
            seats: Vec::new(),
            dead: Vec::new(),
            initiations: 0,
            silent: Vec::new(),
            full: Vec::new(),
            grants_pps: u32::MAX,
            gone: Vec::new(),
            attaches: BTreeMap::new(),
            packets: BTreeMap::new(),
            fetched: BTreeMap::new(),
            missing: None,
            withholds: Vec::new(),
            stalls: Vec::new(),
            old_packets: BTreeMap::new(),
            mailed: BTreeMap::new(),
            recorded: Vec::new(),
            kept: Vec::new(),
            rng,
            conditions,
            secrets: BTreeMap::new(),
            consensuses: BTreeMap::new(),
            gateways: BTreeMap::new(),
            gateway_keys: BTreeMap::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            engine: Engine::new(Lanes::detect(), parameters.delay_max_us()),
            sessions: 1,
        };
        for node in 0..conditions.gateways + 6 {
            network.add_node(node);
        }
        network
    }

    fn add_node(&mut self, node: u8) {
        let (owner, vrf) = (
            NodeIdentity::generate(&mut self.rng),
            VrfSecret::generate(&mut self.rng),
        );
        let (identity, vrf_key) = (owner.public(), vrf.public());
        self.owners.push((owner, vrf));
        let link = LinkKeys::generate(&mut self.rng);
        let public = link.public();
        let epoch_keys = vec![];
        let role = match node < self.conditions.gateways {
            true => Role::Gateway,
            false => Role::Mix,
        };
        self.descriptors.push(Descriptor {
            network: *self.authority.chain().network(),
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
            vrf_key,
            vrf_proof: None,
            flags: 0,
            published_unix_ms: self.conditions.genesis_ms,
        });
        if role == Role::Gateway {
            self.gateway_keys.insert(identity, link.clone());
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

    /// The gateway loses all that it keeps in memory.
    #[allow(dead_code)] // Not every test file that shares this module needs it.
    pub fn restart_gateway(&mut self, number: usize) {
        let identity = self.gateway(number);
        let keys = self.gateway_keys[&identity].clone();
        let gateway = self.gateways.get_mut(&identity).unwrap();
        gateway.responder = Responder::new(keys);
        gateway.sessions.clear();
        gateway.attached.clear();
    }

    /// The authority is of a new set from this epoch on, as gateways know.
    #[allow(dead_code)] // Not every test file that shares this module needs it.
    pub fn rotate(&mut self, first_epoch: u32) {
        let mut chain = self.authorities();
        let members = chain.sets()[0].set().members.clone();
        let mut next = chain.propose(first_epoch, members).unwrap();
        next.sign(&self.authority_key);
        chain.extend(next).unwrap();
        self.handed_chain = chain.encode();
        let key = NodeIdentity::from_bytes(&self.authority_key.to_bytes());
        self.authority = Authority::of(key, chain);
    }

    pub fn authorities(&self) -> Chain {
        self.authority.chain().clone()
    }

    pub fn unix_ms(&self) -> u64 {
        self.conditions.genesis_ms + self.now_ns / 1_000_000
    }

    /// The signed document of an epoch.
    #[allow(dead_code)] // Not every test file that shares this module needs it.
    pub fn document(&mut self, epoch: u32) -> SignedConsensus {
        SignedConsensus::decode(&self.consensus(epoch).1).unwrap()
    }

    pub fn consensus(&mut self, epoch: u32) -> (Consensus, Vec<u8>) {
        if let Some(known) = self.consensuses.get(&epoch) {
            return known.clone();
        }
        // It follows the newest that was made before, if that is of an earlier epoch.
        let before = self.consensuses.range(..epoch).next_back();
        let before = before.map(|(_, (consensus, _))| consensus.clone());
        let previous = before
            .as_ref()
            .map_or_else(Previous::default, Consensus::as_previous);
        let input = layer_input(self.authority.chain().network(), epoch, &previous.beacon);
        let mut signed = Vec::new();
        for (descriptor, (owner, vrf)) in self.descriptors.iter().zip(&self.owners) {
            let left =
                |(who, from): &([u8; 32], u32)| *who == descriptor.identity && epoch >= *from;
            if self.gone.iter().any(left) {
                continue;
            }
            let mut descriptor = descriptor.clone();
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
            if descriptor.role == Role::Mix {
                descriptor.vrf_proof = Some(vrf.prove(&input).unwrap());
            }
            signed.push(descriptor.sign(owner).unwrap());
        }
        let made = self.authority.make(before.as_ref(), epoch, &signed);
        let signed: SignedConsensus = made.unwrap();
        let consensus = signed
            .verify(self.authority.chain(), &Held::default())
            .unwrap();
        self.consensuses
            .insert(epoch, (consensus.clone(), signed.encode()));
        (consensus, signed.encode())
    }

    pub fn gateway(&self, number: usize) -> [u8; 32] {
        self.descriptors[number].identity
    }

    /// Seats a client; the number names it.
    pub fn join(&mut self, client: Client) -> usize {
        let seat = self.seat(None);
        self.restart(seat, client);
        seat
    }

    /// A seat for a client elsewhere, whose datagrams come by [`Network::arrives`].
    #[allow(dead_code)]
    pub fn seat(&mut self, outside: Option<Sender<Boxed>>) -> usize {
        self.seats.push(Seat {
            client: None,
            outside,
            run: 0,
            events: Vec::new(),
            departures: Vec::new(),
            turns: Vec::new(),
        });
        self.seats.len() - 1
    }

    /// A datagram of a client elsewhere arrives at its gateway.
    #[allow(dead_code)]
    pub fn arrives(&mut self, gateway: usize, seat: usize, datagram: Boxed) {
        let identity = self.gateway(gateway);
        self.at_gateway(&identity, seat, datagram);
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
                    client.receive(now_ns, &mut datagram);
                } else if let Some(outside) = &self.seats[seat].outside {
                    let _ = outside.send(datagram);
                    return;
                }
                self.collect(seat);
            }
            Happening::Deliver(gateway, destination, content) => {
                let delivery = (gateway, destination, content.clone());
                // What a client never got is not played again when it comes.
                if self.enqueue(&gateway, &destination, Kind::Delivery, content)
                    && self.recorded.contains(&destination)
                {
                    self.kept.push(delivery);
                }
            }
            Happening::Down(gateway, destination, index) => {
                self.down_slot(&gateway, &destination, index);
            }
        }
    }

    /// Gateways deliver again all that they have kept; how much that is.
    #[allow(dead_code)] // Not every test file that shares this module needs it.
    pub fn deliver_again(&mut self) -> usize {
        for (gateway, destination, content) in self.kept.clone() {
            self.enqueue(&gateway, &destination, Kind::Delivery, content);
        }
        self.kept.len()
    }

    fn collect(&mut self, seat: usize) {
        let seat = &mut self.seats[seat];
        if let Some(client) = &mut seat.client {
            while let Some(event) = client.event() {
                seat.events.push(event);
            }
        }
    }
}
