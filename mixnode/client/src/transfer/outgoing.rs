//! The sender's side of one transfer: fetch the recipient's key, start a session, send chunks, take acknowledgements.
//!
//! Nothing is sent because of an event: when the client's Poisson process has a slot, it asks [`Outgoing::next`] what
//! to put in. Every packet is new: its own send number, path and keys. What is lost is found by `repair`.
//!
//! A recipient that says nothing for long may be gone. The sender then only probes, at growing intervals, and starts
//! a new session with the first probe and every fourth after it, for a recipient that was restarted has forgotten the
//! old one.

use std::collections::{BTreeMap, VecDeque};

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sphinx::{BODY_BYTES, SURB_BYTES};

use super::content::{
    Ack, BITMAP_BYTES_MAX, CHUNK_BYTES, Field, KEY_HALF_BYTES, Manifest, SURB_FIELD_BYTES,
    TransferId, TransferState, write_content,
};
use super::losses::Losses;
use super::ranges::Chunks;
use super::round_trip::RoundTrip;
use super::session::{CONTENT_BYTES, SendingSession};
use crate::address::Address;
use crate::carrier::Token;
use crate::histogram::Latency;
use crate::identity::KEM_KEY_BYTES;
use crate::store::Source;

#[cfg(test)]
mod limits;
mod repair;
mod setup;

use setup::Setup;

/// Chunks sent before the recipient has said anything.
const UNCONFIRMED_MAX: u32 = 32;
/// Chunks in flight, beyond what rate and timeout need.
const IN_FLIGHT_MIN: usize = 64;
/// How far ahead of the first missing chunk a bitmap reaches, with a margin.
const AHEAD_MAX: u32 = BITMAP_BYTES_MAX as u32 * 8 - 512;
/// How often a recipient may start over.
const GENERATIONS_MAX: u32 = 3;
/// Send numbers whose departure is remembered for round-trip times.
const DEPARTURES_MAX: usize = 8_192;

/// What a reply block was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Halves of the recipient's ML-KEM key.
    Key,
    /// Acknowledgements of packets of this session of the transfer.
    Ack { serial: u32 },
}

impl Purpose {
    /// What stands for it while the reply is on its way. Serials start with 1.
    pub(crate) fn token(self, transfer: TransferId) -> Token {
        let part = match self {
            Self::Key => 0,
            Self::Ack { serial } => serial,
        };
        Token {
            conversation: transfer,
            part,
        }
    }

    pub(crate) fn of(token: Token) -> Self {
        match token.part {
            0 => Self::Key,
            serial => Self::Ack { serial },
        }
    }
}

/// Makes so many reply blocks; `None` while no path can be selected.
pub(crate) type SurbMaker<'a> = &'a mut dyn FnMut(Purpose, usize) -> Option<Vec<[u8; SURB_BYTES]>>;

/// Where a transfer stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The recipient's ML-KEM key is being fetched.
    FetchingKey,
    /// The recipient has not answered (yet, or for a while).
    Waiting,
    /// Chunks flow.
    Sending,
    /// All of the file is looked at: it may have changed.
    Checking,
    /// The recipient can't store the file now; it is sent on when it can.
    Paused,
    /// The recipient verified the whole file.
    Complete,
    /// It will not arrive, because.
    Failed(Failure),
}

/// Why a transfer failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The key that came back is not the one the address names.
    #[error("the recipient's ML-KEM key does not have the hash that the address names")]
    KeyMismatch,
    /// The address has no sound key.
    #[error("the address holds a key that cannot be used")]
    BadKey,
    /// The recipient does not take the file.
    #[error("the recipient refused the file: it is too large, or there is no room")]
    Refused,
    /// The file can't be read any more.
    #[error("the file can't be read: {0}")]
    Source(String),
    /// The file is not what it was when it was announced.
    #[error("the file changed while it was sent")]
    Changed,
    /// What was sent is what was announced, and yet not what the recipient has.
    #[error("the recipient's disk does not keep what it is given")]
    Corrupted,
    /// The file has more chunks than indices.
    #[error("the file is too large")]
    TooLarge,
}

/// Counts of one transfer.
#[derive(Clone, Debug, Default)]
pub struct TransferStats {
    /// Packets sent for it, of all kinds.
    pub packets: u64,
    /// Chunks sent again.
    pub retransmitted: u64,
    /// Share of its packets that got lost lately, 0 to 1, as the recipient's counts tell.
    pub loss: f64,
    /// Packets there and back, by what was remembered of their departure; the recipient's wait for more packets to
    /// answer together is part of it.
    pub round_trip: Latency,
}

struct InFlight {
    sent_ns: u64,
    attempts: u32,
}

/// One file on its way.
pub(crate) struct Outgoing {
    pub(crate) address: Address,
    pub(crate) manifest: Manifest,
    phase: Phase,
    pub(crate) stats: TransferStats,
    source: Box<dyn Source>,
    /// The recipient has something else than was announced: all of the file is to be looked at.
    doubted: bool,
    /// Earlier transfers to this recipient that are given up, as often as it is said yet.
    pub(crate) given_up: VecDeque<TransferId>,
    /// The last question whether it has changed is not answered yet.
    is_checking: bool,
    rate_pps: f64,

    key: Option<Box<[u8; KEM_KEY_BYTES]>>,
    key_halves: [Option<Box<[u8; KEY_HALF_BYTES]>>; 2],
    /// A whole key that arrived and was checked, for the cache; taken by the client.
    pub(crate) fetched_key: Option<Box<[u8; KEM_KEY_BYTES]>>,

    session: Option<SendingSession>,
    serial: u32,
    setup: VecDeque<Setup>,
    /// Key requests left of this round of trying.
    requests: usize,
    tries: u32,
    probe_ns: u64,
    early: u32,

    acked: Chunks,
    generation: u32,
    in_flight: BTreeMap<u32, InFlight>,
    timeline: VecDeque<(u64, u32)>,
    lost: VecDeque<u32>,
    next_new: u32,

    trip: RoundTrip,
    /// Times between the newest packet that an answer covers and the answer: without the wait for a reply block.
    answers: RoundTrip,
    /// Packets of reply blocks since the last answer.
    asked: u32,
    losses: Losses,
    expecting_ns: Option<u64>,
    surb_ns: u64,
    since_surb: u32,
    /// Reply blocks are of two epochs, so that every second one is of no use yet, or to nobody any more. Where a packet has
    /// room for one alone, it does not show of which.
    pub(crate) at_turn: bool,
    /// When the packets of this session left, from this send number on that no acknowledgement has covered yet.
    departures: VecDeque<u64>,
    departures_from: u64,
}

impl Outgoing {
    /// A transfer that has not sent anything yet. `key`: the recipient's ML-KEM key, if cached.
    pub(crate) fn new(
        address: Address,
        manifest: Manifest,
        source: Box<dyn Source>,
        key: Option<Box<[u8; KEM_KEY_BYTES]>>,
        (rate_pps, mean_delay_us): (f64, u32),
    ) -> Self {
        let key = key.filter(|key| *blake3::hash(&key[..]).as_bytes() == address.kem_hash);
        let chunks = manifest.chunks();
        let phase = match (chunks, &key) {
            (None, _) => Phase::Failed(Failure::TooLarge),
            (_, None) => Phase::FetchingKey,
            _ => Phase::Waiting,
        };
        Self {
            address,
            phase,
            stats: TransferStats::default(),
            source,
            doubted: false,
            given_up: VecDeque::new(),
            is_checking: false,
            rate_pps,
            key,
            key_halves: [None, None],
            fetched_key: None,
            session: None,
            serial: 0,
            setup: VecDeque::new(),
            requests: 0,
            tries: 0,
            probe_ns: 0,
            early: 0,
            acked: Chunks::new(chunks.unwrap_or(0)),
            generation: 0,
            in_flight: BTreeMap::new(),
            timeline: VecDeque::new(),
            lost: VecDeque::new(),
            next_new: 0,
            trip: RoundTrip::new(mean_delay_us),
            answers: RoundTrip::new(mean_delay_us),
            asked: 0,
            losses: Losses::default(),
            expecting_ns: None,
            surb_ns: 0,
            since_surb: 0,
            at_turn: false,
            departures: VecDeque::new(),
            departures_from: 0,
            manifest,
        }
    }

    /// Chunks acknowledged, of all.
    pub(crate) fn progress(&self) -> (u32, u32) {
        (self.acked.count(), self.acked.len())
    }

    /// Where it stands, for others.
    pub(crate) fn phase(&self) -> &Phase {
        if self.is_checking && !self.is_over() {
            return &Phase::Checking;
        }
        &self.phase
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Complete | Phase::Failed(_))
    }

    /// What to put into the slot at `now_ns`: a body for the recipient, if there is something to send. `epoch` is what it
    /// names to him.
    pub(crate) fn next<R: CryptoRng + ?Sized>(
        &mut self,
        (now_ns, epoch): (u64, u32),
        surbs: SurbMaker<'_>,
        rng: &mut R,
    ) -> Option<[u8; BODY_BYTES]> {
        if self.is_over() || !self.is_as_announced() {
            return None;
        }
        let body = if self.key.is_none() {
            self.next_key_request((now_ns, epoch), surbs, rng)
        } else {
            if self.is_silent(now_ns) {
                self.phase = Phase::Waiting;
                (self.tries, self.probe_ns) = (0, 0);
                self.early = UNCONFIRMED_MAX;
                self.session = None;
            }
            if self.session.is_none() {
                self.start_session(epoch, rng)?;
            }
            match self.phase {
                Phase::Sending => self.next_while_sending(now_ns, surbs),
                Phase::Paused => self.next_while_paused(now_ns, surbs),
                _ => self.next_while_waiting((now_ns, epoch), surbs, rng),
            }
        };
        self.stats.packets += u64::from(body.is_some());
        body
    }

    /// Manifest and reply blocks: asks for an acknowledgement.
    fn send_intro(&mut self, now_ns: u64, surbs: SurbMaker<'_>) -> Option<[u8; BODY_BYTES]> {
        let mut fields = vec![Field::Manifest(self.manifest.clone())];
        let room = CONTENT_BYTES - self.manifest.field_bytes();
        let serial = self.serial;
        let blocks = surbs(Purpose::Ack { serial }, room / SURB_FIELD_BYTES)?;
        fields.extend(blocks.into_iter().map(|surb| Field::Surb(Box::new(surb))));
        self.since_surb = 0;
        self.surb_ns = now_ns;
        self.asked = self.asked.saturating_add(1);
        self.send_fields(&fields, now_ns)
    }

    /// Says of an earlier transfer that it is given up.
    fn send_given_up(&mut self, now_ns: u64) -> Option<[u8; BODY_BYTES]> {
        let transfer = self.given_up.pop_front()?;
        self.since_surb = self.since_surb.saturating_add(1);
        self.send_fields(&[Field::GivenUp(transfer)], now_ns)
    }

    fn send_new(&mut self, now_ns: u64) -> Option<[u8; BODY_BYTES]> {
        let index = self.acked.next_missing(self.next_new);
        if index >= self.acked.len() {
            return None;
        }
        self.next_new = index + 1;
        if self.next_new >= self.acked.len() {
            // Reply blocks for the tail, in the next slot.
            self.since_surb = u32::MAX;
        }
        self.send_chunk(index, 1, now_ns)
    }

    fn send_chunk(&mut self, index: u32, attempts: u32, now_ns: u64) -> Option<[u8; BODY_BYTES]> {
        let offset = u64::from(index) * CHUNK_BYTES as u64;
        let left = self.manifest.size.saturating_sub(offset);
        let mut data = vec![0; left.min(CHUNK_BYTES as u64) as usize];
        if let Err(error) = self.source.read(offset, &mut data) {
            self.phase = Phase::Failed(Failure::Source(error.to_string()));
            return None;
        }
        let flight = InFlight {
            sent_ns: now_ns,
            attempts,
        };
        self.in_flight.insert(index, flight);
        self.timeline.push_back((now_ns, index));
        self.since_surb = self.since_surb.saturating_add(1);
        let transfer = self.manifest.transfer;
        let chunk = Field::Chunk {
            transfer,
            index,
            data,
        };
        self.send_fields(&[chunk], now_ns)
    }

    fn send_fields(&mut self, fields: &[Field], now_ns: u64) -> Option<[u8; BODY_BYTES]> {
        let mut content = [0; CONTENT_BYTES];
        write_content(fields, &mut content);
        let (_, body) = self.session.as_mut()?.seal(&content);
        self.departures.push_back(now_ns);
        if self.departures.len() > DEPARTURES_MAX {
            self.departures.pop_front();
            self.departures_from += 1;
        }
        self.expecting_ns.get_or_insert(now_ns);
        Some(body)
    }

    /// Takes an acknowledgement that came through a reply block of session `serial`.
    pub(crate) fn on_ack(&mut self, ack: &Ack, serial: u32, now_ns: u64) {
        if self.is_over() || ack.transfer != self.manifest.transfer {
            return;
        }
        match ack.state {
            TransferState::Complete => {
                let base = self.acked.len();
                self.acked.merge(base, &[], |_| {});
                self.phase = Phase::Complete;
                return;
            }
            TransferState::Refused => {
                self.phase = Phase::Failed(Failure::Refused);
                return;
            }
            TransferState::Unknown | TransferState::Partial | TransferState::Paused => {}
        }
        if ack.generation < self.generation {
            return;
        }
        if ack.generation > self.generation {
            self.start_over(ack.generation);
        }
        if serial == self.serial {
            let heard_ns = self.measure(ack, now_ns);
            let phase = if ack.state == TransferState::Paused {
                Phase::Paused
            } else {
                Phase::Sending
            };
            if self.phase != phase {
                self.phase = phase;
                self.setup.clear();
                self.probe_ns = 0;
            }
            (self.tries, self.asked) = (0, 0);
            self.expecting_ns = None;
            self.merge(ack, now_ns);
            if let Some(heard_ns) = heard_ns {
                self.find_overtaken(heard_ns);
            }
        } else {
            self.merge(ack, now_ns);
        }
        // What is still out expects a later acknowledgement.
        if !self.in_flight.is_empty() && self.expecting_ns.is_none() {
            self.expecting_ns = Some(now_ns);
        }
    }

    /// Whether the file is still what was announced, as far as is known; if not, it is over. While it is looked at nothing
    /// of it is sent.
    fn is_as_announced(&mut self) -> bool {
        let known = self.source.check(&self.manifest, self.doubted);
        self.is_checking = matches!(known, Ok(None));
        let failure = match known {
            Ok(None) => return false,
            Ok(Some(true)) => {
                let is_in_vain = self.generation >= GENERATIONS_MAX;
                let was_doubted = core::mem::take(&mut self.doubted);
                (was_doubted && is_in_vain).then_some(Failure::Corrupted)
            }
            Ok(Some(false)) => Some(Failure::Changed),
            Err(error) => Some(Failure::Source(error.to_string())),
        };
        let is_good = failure.is_none();
        if let Some(failure) = failure {
            self.phase = Phase::Failed(failure);
        }
        is_good
    }

    /// The recipient has started over: what it got was not what the manifest announces. So either it was not sent
    /// so, or the recipient can't keep it. That is found out in the slots to come, and not at the recipient's word: the
    /// file may be large. It is looked at [`GENERATIONS_MAX`] times at most.
    fn start_over(&mut self, generation: u32) {
        self.doubted = true;
        self.generation = generation;
        self.acked = Chunks::new(self.acked.len());
        self.in_flight.clear();
        self.timeline.clear();
        self.lost.clear();
        self.next_new = 0;
    }

    fn merge(&mut self, ack: &Ack, now_ns: u64) {
        let (in_flight, trip) = (&mut self.in_flight, &mut self.trip);
        self.acked.merge(ack.base, &ack.bitmap, |index| {
            if let Some(flight) = in_flight.remove(&index)
                && flight.attempts == 1
            {
                trip.sample(now_ns.saturating_sub(flight.sent_ns));
            }
        });
    }

    /// Takes a round-trip time from the newest packet that the acknowledgement covers. A send number is used once, so
    /// it tells which departure is meant, retransmission or not (what Karn's rule is for); each counts once, so that
    /// an acknowledgement that came late or twice is no measurement. When that packet left.
    fn measure(&mut self, ack: &Ack, now_ns: u64) -> Option<u64> {
        let covered = ack.highest.checked_sub(self.departures_from)?;
        let at = usize::try_from(covered).ok()?;
        let sent_ns = self.departures.get(at).copied()?;
        let elapsed_ns = now_ns.saturating_sub(sent_ns);
        self.stats.round_trip.record_ns(elapsed_ns);
        self.answers.sample(elapsed_ns);
        self.departures.drain(..=at);
        self.departures_from = ack.highest + 1;
        self.losses.count(ack.highest, ack.received);
        self.stats.loss = self.losses.loss();
        Some(sent_ns)
    }
}
