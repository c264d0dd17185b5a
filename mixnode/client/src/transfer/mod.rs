//! File transfer, a [`Service`]: sends files to others and takes those that others send.
//!
//! Formats end to end are described where they are written: `sealed` (what is sealed to a recipient's X25519 key
//! alone), `session` (user data under X25519 and ML-KEM-768 together) and `content` (what travels inside).

use std::collections::{BTreeMap, VecDeque};

use directory::Parameters;
use sphinx::{BODY_BYTES, REPLY_BYTES};

use crate::address::Address;
use crate::carrier::{Letter, Packets, Reply, Service, Token};
use crate::event::Event;
use crate::identity::{Identity, KEM_KEY_BYTES};
use crate::store::{Source, Storage};

mod bucket;
#[cfg(test)]
mod clocks;
mod content;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
#[allow(clippy::panic)] // An oracle speaks by panicking.
pub mod fuzz;
mod incoming;
mod losses;
mod outgoing;
mod ranges;
mod round_trip;
mod sealed;
mod session;
mod used;

pub use content::{CHUNK_BYTES, Manifest, TransferId};
pub use incoming::Received;
pub use outgoing::{Failure, Phase, TransferStats};

use content::Answer;
use incoming::Incoming;
use outgoing::{Outgoing, Purpose};

/// Earlier transfers that a new one says are given up, and how often it says so: of what gets lost each time a part file
/// stays with the recipient, until that is forgotten.
const GIVEN_UP_MAX: usize = 4;
const GIVEN_UP_COPIES: usize = 4;

/// All transfers of one user, both ways.
pub(crate) struct Transfers {
    identity: Identity,
    outgoing: BTreeMap<TransferId, Outgoing>,
    last_served: Option<TransferId>,
    reported: BTreeMap<TransferId, (Phase, u32)>,
    /// None for who only sends: nobody's body is opened then, and nothing is answered.
    incoming: Option<Incoming>,
    events: VecDeque<Event>,
}

impl Transfers {
    /// No transfer yet, in a network with these parameters. Without a `storage` nothing is received.
    pub(crate) fn new(
        identity: Identity,
        storage: Option<Box<dyn Storage>>,
        parameters: &Parameters,
    ) -> Self {
        let network = (parameters.mean_delay_us, parameters.epoch_ms);
        Self {
            identity,
            outgoing: BTreeMap::new(),
            last_served: None,
            reported: BTreeMap::new(),
            incoming: storage.map(|storage| Incoming::new(storage, network)),
            events: VecDeque::new(),
        }
    }

    /// Whose transfers these are.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Starts to send a file. `key`: the recipient's ML-KEM key if it was fetched before; `pace`: slots for letters
    /// a second and the network's mean delay, µs.
    pub(crate) fn send(
        &mut self,
        address: Address,
        manifest: Manifest,
        source: Box<dyn Source>,
        key: Option<Box<[u8; KEM_KEY_BYTES]>>,
        pace: (f64, u32),
    ) {
        let transfer = manifest.transfer;
        let outgoing = Outgoing::new(address, manifest, source, key, pace);
        self.outgoing.insert(transfer, outgoing);
        self.report(transfer);
    }

    /// Has the recipient of a transfer told that earlier ones to him are given up.
    pub(crate) fn give_up(&mut self, transfer: &TransferId, earlier: &[TransferId]) {
        if let Some(outgoing) = self.outgoing.get_mut(transfer) {
            let told = earlier.iter().take(GIVEN_UP_MAX);
            let told: Vec<TransferId> = told.copied().collect();
            outgoing.given_up = told.repeat(GIVEN_UP_COPIES).into();
        }
    }

    /// What happened next.
    pub(crate) fn event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        event.or_else(|| {
            let incoming = self.incoming.as_mut()?;
            incoming.events.pop_front().map(Event::Received)
        })
    }

    /// A transfer that this user sends.
    pub(crate) fn outgoing(&self, transfer: &TransferId) -> Option<&Outgoing> {
        self.outgoing.get(transfer)
    }

    /// Sends nothing more of a transfer, and forgets it.
    pub(crate) fn withdraw(&mut self, transfer: &TransferId) {
        self.outgoing.remove(transfer);
        self.reported.remove(transfer);
    }

    /// Answers to key requests that were not given, since the start.
    pub(crate) fn keys_withheld(&self) -> u64 {
        self.incoming
            .as_ref()
            .map_or(0, |incoming| incoming.keys_withheld)
    }

    /// The files that are arriving, each with the number of its chunks that are here.
    pub(crate) fn receiving(&self) -> impl Iterator<Item = (&Manifest, u32)> {
        self.incoming.iter().flat_map(Incoming::open_files)
    }

    /// Tells of a transfer whose phase or progress has changed.
    fn report(&mut self, transfer: TransferId) {
        let Some(outgoing) = self.outgoing.get(&transfer) else {
            return;
        };
        let (chunks, total) = outgoing.progress();
        let phase = outgoing.phase().clone();
        let now = (phase.clone(), chunks);
        if self.reported.get(&transfer) != Some(&now) {
            self.reported.insert(transfer, now);
            self.events.push_back(Event::Sending {
                transfer,
                phase,
                chunks,
                total,
                loss: outgoing.stats.loss,
            });
        }
    }
}

impl Service for Transfers {
    fn tick(&mut self, now_ns: u64, epoch: Option<u32>) {
        match (&mut self.incoming, epoch) {
            (Some(incoming), Some(epoch)) => incoming.tick(now_ns, epoch),
            (Some(incoming), None) => incoming.finish_files(now_ns),
            (None, _) => {}
        }
    }

    fn reply(&mut self, now_ns: u64, packets: &Packets<'_>) -> Option<Reply> {
        let incoming = self.incoming.as_mut()?;
        incoming.next_reply(&self.identity, now_ns, &|surb| packets.use_of(surb))
    }

    /// Data of one transfer, in turn.
    fn letter(&mut self, now_ns: u64, packets: &mut Packets<'_>) -> Option<Letter> {
        let last = self.last_served;
        let mut order: Vec<TransferId> = self.outgoing.keys().copied().collect();
        let after = order.partition_point(|transfer| Some(*transfer) <= last);
        order.rotate_left(after);
        for transfer in order {
            let Some(outgoing) = self.outgoing.get_mut(&transfer) else {
                continue;
            };
            let Address {
                gateway,
                destination,
                ..
            } = outgoing.address;
            if !packets.reaches(&gateway) {
                continue;
            }
            outgoing.at_turn = packets.is_at_turn(&transfer);
            let mut rng = packets.generator();
            let now = (now_ns, packets.epoch_of(&transfer));
            let mut surbs = |purpose: Purpose, count| {
                let token = purpose.token(transfer);
                match purpose {
                    Purpose::Key => packets.reply_blocks(&gateway, token, count),
                    Purpose::Ack { .. } => packets.lasting_blocks(&gateway, token, count),
                }
            };
            let body = outgoing.next(now, &mut surbs, &mut rng);
            self.report(transfer);
            if let Some(body) = body {
                self.last_served = Some(transfer);
                return Some(Letter {
                    gateway,
                    destination,
                    body,
                });
            }
        }
        None
    }

    fn on_body(&mut self, body: &[u8; BODY_BYTES], now_ns: u64) -> bool {
        self.incoming
            .as_mut()
            .is_some_and(|incoming| incoming.receive(&self.identity, body, now_ns))
    }

    fn on_reply(&mut self, token: Token, plaintext: &[u8; REPLY_BYTES], now_ns: u64) {
        let transfer = token.conversation;
        let Some(outgoing) = self.outgoing.get_mut(&transfer) else {
            return;
        };
        match (Answer::decode(plaintext), Purpose::of(token)) {
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
