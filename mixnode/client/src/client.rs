//! The client without its sockets: link to the gateway, Poisson slots, cover, consensus, and all transfers.
//!
//! Every datagram that leaves fills a slot of one Poisson process whose times are drawn from a generator of their
//! own: they are the same whatever the client does. A slot holds, in this order of precedence: a handshake when one
//! is due by time, loop cover (a fixed share), attaching, a part of the next consensus, an answer, data, drop cover.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use directory::Authorities;
use link::control::Control;
use link::{ClientKeys, DATAGRAM_BYTES};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::{BODY_BYTES, DestinationTag, Id, SurbSecret, surb_open};

use crate::address::Address;
use crate::attachment::{Attachment, Frame, Inbound};
use crate::content::{Answer, Manifest, TransferId};
use crate::documents::Documents;
use crate::histogram::Latency;
use crate::identity::{Identity, KEM_KEY_BYTES};
use crate::incoming::{Incoming, Received};
use crate::outgoing::{Failure, Outgoing, Phase, Purpose, TransferStats};
use crate::storage::{Source, Storage};

mod fetch;
mod slots;

use fetch::Fetch;

/// A client that overslept (a suspended laptop) does not make up for more than this.
const BEHIND_MAX_NS: u64 = 1_000_000_000;
/// The gateway's stream is asked to be this much faster than ours: what arrives never queues for long.
const DOWN_FACTOR: f64 = 1.25;
/// The slowest a client may be, slots a second.
pub const RATE_MIN_PPS: f64 = 0.001;

/// What a client is made of.
pub struct Config {
    /// End-to-end keys.
    pub identity: Identity,
    /// Mailbox key at the gateway.
    pub mailbox: ClientKeys,
    /// Ed25519 identity of the gateway.
    pub gateway: [u8; 32],
    /// Whose consensus to believe.
    pub authorities: Authorities,
    /// Slots a second, [`RATE_MIN_PPS`] at least; the network's rate if `None`.
    pub rate_pps: Option<f64>,
    /// Share of slots for loop cover, 0 to 1.
    pub loop_share: f64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The gateway delivers to this client, at this rate.
    Attached {
        /// Packets a second.
        rate_pps: u32,
    },
    /// The consensus of this epoch or of the next was fetched and verified.
    Consensus {
        /// Its epoch.
        epoch: u32,
        /// The document, to be stored.
        document: Vec<u8>,
    },
    /// A recipient's ML-KEM key was fetched and has the hash that its address names.
    Key {
        /// The hash.
        hash: [u8; 32],
        /// The key, to be cached.
        key: Box<[u8; KEM_KEY_BYTES]>,
    },
    /// A transfer's phase or progress changed.
    Sending {
        /// The transfer.
        transfer: TransferId,
        /// Its phase.
        phase: Phase,
        /// Chunks acknowledged.
        chunks: u32,
        /// Chunks in all.
        total: u32,
    },
    /// Something arrived.
    Received(Received),
}

/// Counts and distributions since the client started.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Datagrams sent.
    pub datagrams: u64,
    /// Loop cover sent.
    pub loops_sent: u64,
    /// Loop cover that came back.
    pub loops_back: u64,
    /// Drop cover sent.
    pub drops_sent: u64,
    /// Loop cover there and back.
    pub loop_time: Latency,
}

enum Waiting {
    Loop {
        sent_ns: u64,
    },
    Reply {
        secret: SurbSecret,
        transfer: TransferId,
        purpose: Purpose,
    },
}

/// The client. Drive it with [`Client::transmit`] at [`Client::deadline`] and [`Client::receive`].
pub struct Client {
    identity: Identity,
    destination: DestinationTag,
    gateway: [u8; 32],
    authorities: Authorities,
    loop_share: f64,
    rate_pps: f64,
    rng: ChaCha20Rng,
    slots: ChaCha20Rng,
    slot_ns: u64,

    documents: Documents,
    fetch: Fetch,
    attachment: Attachment,
    prepared: Option<Frame>,

    waiting: HashMap<Id, Waiting>,
    waiting_order: VecDeque<Id>,
    outgoing: BTreeMap<TransferId, Outgoing>,
    last_served: Option<TransferId>,
    reported: BTreeMap<TransferId, (Phase, u32)>,
    incoming: Incoming,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Client {
    /// A client that knows these `documents` and starts its Poisson process at `now_ns`.
    pub fn new(
        config: Config,
        documents: impl Into<Documents>,
        storage: Box<dyn Storage>,
        mut rng: ChaCha20Rng,
        now_ns: u64,
    ) -> Self {
        let documents = documents.into();
        let parameters = *documents.parameters();
        let rate_pps = config
            .rate_pps
            .unwrap_or(f64::from(parameters.client_rate_pps))
            .max(RATE_MIN_PPS);
        // Whole packets a second in an attach frame; the cast saturates.
        let down_pps = (rate_pps * DOWN_FACTOR).ceil() as u32;
        let mut slots = ChaCha20Rng::from_rng(&mut rng);
        let slot_ns = now_ns + gap_ns(&mut slots, rate_pps);
        let destination = link::destination_tag(config.mailbox.public_key());
        Self {
            incoming: Incoming::new(storage, parameters.mean_delay_us),
            identity: config.identity,
            destination,
            gateway: config.gateway,
            authorities: config.authorities,
            loop_share: config.loop_share,
            rate_pps,
            attachment: Attachment::new(config.mailbox, down_pps),
            rng,
            slots,
            slot_ns,
            documents,
            fetch: Fetch::default(),
            prepared: None,
            waiting: HashMap::new(),
            waiting_order: VecDeque::new(),
            outgoing: BTreeMap::new(),
            last_served: None,
            reported: BTreeMap::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// When the next slot is: call [`Client::transmit`] then.
    pub fn deadline(&self) -> u64 {
        self.slot_ns
    }

    /// What happened next, oldest first.
    pub fn event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        self.incoming.events.pop_front().map(Event::Received)
    }

    /// Counts so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Counts of a transfer that this client sends.
    pub fn transfer_stats(&self, transfer: &TransferId) -> Option<&TransferStats> {
        self.outgoing.get(transfer).map(|outgoing| &outgoing.stats)
    }

    /// Whether the gateway has answered the attachment.
    pub fn is_attached(&self) -> bool {
        self.attachment.is_attached()
    }

    /// This client's address.
    pub fn address(&self) -> Address {
        Address {
            gateway: self.gateway,
            destination: self.destination,
            x25519: *self.identity.x25519(),
            kem_hash: *blake3::hash(self.identity.kem_public()).as_bytes(),
        }
    }

    /// Starts to send a file. `key`: the recipient's ML-KEM key if it was fetched before.
    pub fn send(
        &mut self,
        address: Address,
        manifest: Manifest,
        source: Box<dyn Source>,
        key: Option<Box<[u8; KEM_KEY_BYTES]>>,
    ) {
        let mean_delay_us = self.documents.parameters().mean_delay_us;
        let transfer = manifest.transfer;
        let pace = (self.rate_pps, mean_delay_us);
        let outgoing = Outgoing::new(address, manifest, source, key, pace);
        self.outgoing.insert(transfer, outgoing);
        self.report(transfer);
    }

    /// Fills the slot if its time has come: where to send which datagram. A slot without one (no gateway known, no
    /// session yet) passes.
    pub fn transmit(
        &mut self,
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        if now_ns < self.slot_ns {
            return None;
        }
        let from_ns = self.slot_ns.max(now_ns.saturating_sub(BEHIND_MAX_NS));
        self.slot_ns = from_ns + gap_ns(&mut self.slots, self.rate_pps);
        self.prepare(now_ns, unix_ms);
        let node = self.documents.find(&self.gateway, unix_ms)?;
        let address = *node.addresses.first()?;
        let clock = (now_ns, unix_ms);
        let datagram = match self.attachment.handshake(&node.link, clock, &mut self.rng) {
            Some(datagram) => datagram,
            None => self.attachment.seal(self.prepared.take()?, now_ns)?,
        };
        self.stats.datagrams += 1;
        Some((address, datagram))
    }

    /// Builds what the next slot will hold, unless that is done, so that a slot's departure does not show how much
    /// work its content was.
    pub fn prepare(&mut self, now_ns: u64, unix_ms: u64) {
        if self.prepared.is_none() && self.attachment.has_session(now_ns) {
            self.incoming.finish_files();
            self.prepared = Some(self.next_frame(now_ns, unix_ms));
        }
    }

    /// Takes a datagram from the network; what is not from the gateway is passed over.
    pub fn receive(&mut self, now_ns: u64, datagram: &mut [u8; DATAGRAM_BYTES]) {
        match self.attachment.receive(datagram, now_ns) {
            Some(Inbound::Delivery(id, body)) => self.on_delivery(id, body, now_ns),
            Some(Inbound::Control(Control::Attached { rate_pps })) => {
                if self.attachment.attached() {
                    self.events.push_back(Event::Attached { rate_pps });
                }
            }
            Some(Inbound::Control(chunk @ Control::Chunk { .. })) => self.on_chunk(chunk, now_ns),
            Some(Inbound::Control(_)) | None => {}
        }
    }

    fn on_delivery(&mut self, id: Id, mut body: Box<[u8; BODY_BYTES]>, now_ns: u64) {
        match self.waiting.remove(&id) {
            None => self.incoming.receive(&self.identity, &body, now_ns),
            Some(Waiting::Loop { sent_ns }) => {
                self.stats.loops_back += 1;
                self.stats
                    .loop_time
                    .record_ns(now_ns.saturating_sub(sent_ns));
            }
            Some(Waiting::Reply {
                secret,
                transfer,
                purpose,
            }) => {
                let answer = surb_open(&secret, &mut body)
                    .ok()
                    .and_then(|plaintext| Answer::decode(&plaintext));
                let Some(outgoing) = self.outgoing.get_mut(&transfer) else {
                    return;
                };
                match (answer, purpose) {
                    (Some(Answer::Ack(ack)), Purpose::Ack { serial }) => {
                        outgoing.on_ack(&ack, serial, now_ns);
                    }
                    (Some(Answer::KeyHalf { half, key }), Purpose::Key) => {
                        outgoing.on_key_half(half, key);
                        let hash = outgoing.address.kem_hash;
                        if let Some(key) = outgoing.fetched_key.take() {
                            self.events.push_back(Event::Key { hash, key });
                        }
                    }
                    _ => {}
                }
                self.report(transfer);
            }
        }
    }

    /// Tells of a transfer whose phase or progress has changed.
    fn report(&mut self, transfer: TransferId) {
        let Some(outgoing) = self.outgoing.get(&transfer) else {
            return;
        };
        let (chunks, total) = outgoing.progress();
        let phase = outgoing.phase.clone();
        let now = (phase.clone(), chunks);
        if self.reported.get(&transfer) != Some(&now) {
            self.reported.insert(transfer, now);
            self.events.push_back(Event::Sending {
                transfer,
                phase,
                chunks,
                total,
            });
        }
    }

    /// Forgets a transfer that is over.
    pub fn forget(&mut self, transfer: &TransferId) {
        if self.outgoing.get(transfer).is_some_and(Outgoing::is_over) {
            self.outgoing.remove(transfer);
            self.reported.remove(transfer);
        }
    }

    /// Why a transfer failed, if it did.
    pub fn failure(&self, transfer: &TransferId) -> Option<&Failure> {
        match self.outgoing.get(transfer).map(|outgoing| &outgoing.phase) {
            Some(Phase::Failed(failure)) => Some(failure),
            _ => None,
        }
    }
}

/// Uniform in (0, 1]: 53 random bits.
fn unit(rng: &mut ChaCha20Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// An exponential gap between two slots.
fn gap_ns(rng: &mut ChaCha20Rng, rate_pps: f64) -> u64 {
    (-unit(rng).ln() * 1e9 / rate_pps) as u64
}
