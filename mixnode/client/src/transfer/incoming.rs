//! The recipient's side: sessions that others started, the files in them, and the answers owed.
//!
//! Answers leave in slots of the client's Poisson process, through the reply blocks that came with the data. Several
//! packets share one answer. A chunk is acknowledged once it is flushed to the storage, so that a recipient that is
//! killed and started again never lacks what it acknowledged.

use std::collections::{BTreeMap, VecDeque};

use sphinx::{BODY_BYTES, Surb};

use super::content::{
    Ack, Answer, BITMAP_BYTES_MAX, CHUNK_BYTES, Field, KEY_HALF_BYTES, Manifest, TransferId,
    TransferState, read_content,
};
use super::ranges::Chunks;
use super::sealed::Sealed;
use super::session::{ReceivingSessions, SessionNumber};
use crate::carrier::Reply;
use crate::identity::Identity;
use crate::store::{Finish, Standing, Storage};

#[cfg(test)]
mod limits;

/// Packets that one answer waits for, unless time is up.
const ANSWER_EVERY: u32 = 24;
/// Reply blocks kept a session; the oldest makes room.
const SURBS_MAX: usize = 32;
/// Answers to key requests waiting for a slot; more are not taken.
const KEY_ANSWERS_MAX: usize = 32;
/// Bodies kept that nothing here can open yet: their session's start may be behind them.
const UNKNOWN_MAX: usize = 128;
const UNKNOWN_KEPT_NS: u64 = 30_000_000_000;
/// Chunks kept a session that came before their manifest.
const EARLY_MAX: usize = 64;
/// Files open at a time; the one that was silent longest is let go, and opened again by its next manifest.
const FILES_OPEN_MAX: usize = 64;
/// Files that are done or refused and still remembered here; the storage knows the done ones for ever.
const FILES_OVER_MAX: usize = 1_024;
/// Sessions that answers are kept for.
const PEERS_MAX: usize = 64;

/// What the recipient's side tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A file's manifest arrived: its chunks are taken from now on.
    Started {
        /// The manifest.
        manifest: Manifest,
        /// Chunks that are here already, after a restart.
        chunks: u32,
    },
    /// More chunks are here.
    Progress {
        /// The transfer.
        transfer: TransferId,
        /// Chunks here.
        chunks: u32,
        /// Chunks in all.
        total: u32,
    },
    /// The file is whole, verified and in its place.
    Done {
        /// The manifest.
        manifest: Manifest,
        /// Where it is.
        place: String,
    },
    /// The storage does not work: the packets concerned count as lost.
    Storage(String),
}

/// Transfer, index, data.
type EarlyChunk = (TransferId, u32, Vec<u8>);

#[derive(Default)]
struct Peer {
    surbs: VecDeque<Surb>,
    transfer: Option<TransferId>,
    early: Vec<EarlyChunk>,
    unanswered: u32,
    since_ns: u64,
    /// The highest send number that has arrived.
    highest: u64,
    urgent: bool,
}

enum File {
    Open {
        manifest: Manifest,
        chunks: Chunks,
        generation: u32,
        heard_ns: u64,
    },
    Complete,
    Refused,
}

/// All that arrives for one user.
pub(crate) struct Incoming {
    storage: Box<dyn Storage>,
    sessions: ReceivingSessions,
    peers: BTreeMap<SessionNumber, Peer>,
    files: BTreeMap<TransferId, File>,
    unknown: VecDeque<(u64, Box<[u8; BODY_BYTES]>)>,
    key_answers: VecDeque<(Surb, u8)>,
    answer_delay_ns: u64,
    /// What happened since the client last asked.
    pub(crate) events: VecDeque<Received>,
}

impl Incoming {
    pub(crate) fn new(storage: Box<dyn Storage>, mean_delay_us: u32) -> Self {
        Self {
            storage,
            sessions: ReceivingSessions::default(),
            peers: BTreeMap::new(),
            files: BTreeMap::new(),
            unknown: VecDeque::new(),
            key_answers: VecDeque::new(),
            // Two mean delays gather what mixing has spread, and add little to a round trip of ten.
            answer_delay_ns: (u64::from(mean_delay_us) * 2_000).max(10_000_000),
            events: VecDeque::new(),
        }
    }

    /// Takes a body that the gateway delivered and that answers no reply block of ours. Whether it could be opened:
    /// one that could not is kept for a while, for a session whose start may be behind it.
    pub(crate) fn receive(
        &mut self,
        identity: &Identity,
        body: &[u8; BODY_BYTES],
        now_ns: u64,
    ) -> bool {
        if self.receive_data(body, now_ns) {
            return true;
        }
        match Sealed::open(identity, body) {
            Some(Sealed::KeyRequest { wanted, surbs }) => {
                let halves = [0u8, 1].into_iter().filter(|half| wanted >> half & 1 == 1);
                for (half, surb) in halves.zip(&surbs) {
                    if self.key_answers.len() < KEY_ANSWERS_MAX {
                        self.key_answers.push_back((Surb::from_bytes(surb), half));
                    }
                }
            }
            Some(Sealed::SessionStart {
                half,
                session,
                ephemeral,
                ciphertext,
            }) => {
                let part = (session, half);
                let started = self
                    .sessions
                    .start(identity, part, ephemeral, ciphertext, now_ns);
                if let Some(name) = started {
                    if self.peers.len() >= PEERS_MAX {
                        self.peers.pop_first();
                    }
                    self.peers.insert(name, Peer::default());
                    self.retry_unknown(now_ns);
                }
            }
            None => {
                if self.unknown.len() >= UNKNOWN_MAX {
                    self.unknown.pop_front();
                }
                self.unknown.push_back((now_ns, Box::new(*body)));
                return false;
            }
        }
        true
    }

    fn retry_unknown(&mut self, now_ns: u64) {
        for (arrived_ns, body) in core::mem::take(&mut self.unknown) {
            let fresh = now_ns.saturating_sub(arrived_ns) < UNKNOWN_KEPT_NS;
            if fresh && !self.receive_data(&body, now_ns) {
                self.unknown.push_back((arrived_ns, body));
            }
        }
    }

    fn receive_data(&mut self, body: &[u8; BODY_BYTES], now_ns: u64) -> bool {
        let Some((name, number, content)) = self.sessions.open(body, now_ns) else {
            return false;
        };
        let Some(fields) = read_content(&content) else {
            // Authentic and malformed: the sender's program is broken. Nothing is owed to it.
            return true;
        };
        for field in fields {
            self.take_field(name, field, now_ns);
        }
        let peer = self.peers.entry(name).or_default();
        if peer.unanswered == 0 {
            peer.since_ns = now_ns;
        }
        peer.unanswered += 1;
        peer.highest = peer.highest.max(number);
        true
    }

    fn take_field(&mut self, name: SessionNumber, field: Field, now_ns: u64) {
        match field {
            Field::Surb(surb) => {
                let peer = self.peers.entry(name).or_default();
                if peer.surbs.len() >= SURBS_MAX {
                    peer.surbs.pop_front();
                }
                peer.surbs.push_back(Surb::from_bytes(&surb));
            }
            Field::Manifest(manifest) => {
                let transfer = manifest.transfer;
                self.open_file(manifest, now_ns);
                let peer = self.peers.entry(name).or_default();
                peer.transfer = Some(transfer);
                for chunk in core::mem::take(&mut peer.early) {
                    self.take_chunk(name, chunk, now_ns);
                }
            }
            Field::Chunk {
                transfer,
                index,
                data,
            } => self.take_chunk(name, (transfer, index, data), now_ns),
        }
    }

    /// Makes room among the files of one kind.
    fn make_room(&mut self) {
        let silent = |(transfer, file): (&TransferId, &File)| match file {
            File::Open { heard_ns, .. } => Some((*heard_ns, *transfer)),
            File::Complete | File::Refused => None,
        };
        let open = self.files.iter().filter_map(silent);
        if open.clone().count() >= FILES_OPEN_MAX
            && let Some((_, transfer)) = open.min()
        {
            self.storage.close(&transfer);
            self.files.remove(&transfer);
        }
        let is_over = |file: &File| !matches!(file, File::Open { .. });
        let mut over = self.files.iter().filter(|(_, file)| is_over(file));
        if let Some(transfer) = over.nth(FILES_OVER_MAX).map(|(transfer, _)| *transfer) {
            self.files.remove(&transfer);
        }
    }

    fn open_file(&mut self, manifest: Manifest, now_ns: u64) {
        let transfer = manifest.transfer;
        if self.files.contains_key(&transfer) {
            return;
        }
        self.make_room();
        let Some(total) = manifest.chunks() else {
            self.files.insert(transfer, File::Refused);
            return;
        };
        let file = match self.storage.open(&manifest) {
            Ok(Standing::Partial {
                generation,
                present,
            }) => {
                let mut chunks = Chunks::new(total);
                for index in present {
                    chunks.insert(index);
                }
                self.events.push_back(Received::Started {
                    manifest: manifest.clone(),
                    chunks: chunks.count(),
                });
                File::Open {
                    manifest,
                    chunks,
                    generation,
                    heard_ns: now_ns,
                }
            }
            Ok(Standing::Later) => return,
            Ok(Standing::Complete) => File::Complete,
            Ok(Standing::Refused) => File::Refused,
            Err(error) => return self.storage_failed(&error),
        };
        self.files.insert(transfer, file);
    }

    fn storage_failed(&mut self, error: &std::io::Error) {
        self.events.push_back(Received::Storage(error.to_string()));
    }

    fn take_chunk(&mut self, name: SessionNumber, chunk: EarlyChunk, now_ns: u64) {
        let (transfer, index, data) = chunk;
        match self.files.get_mut(&transfer) {
            None => {
                let peer = self.peers.entry(name).or_default();
                if peer.early.len() < EARLY_MAX {
                    peer.early.push((transfer, index, data));
                }
            }
            Some(File::Open {
                manifest,
                chunks,
                heard_ns,
                ..
            }) => {
                *heard_ns = now_ns;
                let offset = u64::from(index) * CHUNK_BYTES as u64;
                let expected = manifest.size.saturating_sub(offset).min(CHUNK_BYTES as u64);
                let sound = index < chunks.len() && data.len() as u64 == expected;
                if !sound || chunks.contains(index) {
                    return;
                }
                if let Err(error) = self.storage.write(&transfer, index, &data) {
                    return self.storage_failed(&error);
                }
                chunks.insert(index);
                let (chunks, total) = (chunks.count(), chunks.len());
                self.events.push_back(Received::Progress {
                    transfer,
                    chunks,
                    total,
                });
            }
            Some(File::Complete | File::Refused) => {}
        }
    }

    /// Takes a step towards delivering each file that is whole. Called once a slot.
    pub(crate) fn finish_files(&mut self) {
        let whole = |file: &File| matches!(file, File::Open { chunks, .. } if chunks.is_full());
        let ready: Vec<TransferId> = self
            .files
            .iter()
            .filter(|(_, file)| whole(file))
            .map(|(transfer, _)| *transfer)
            .collect();
        for transfer in ready {
            let finished = self.storage.finish(&transfer);
            let Some(file) = self.files.get_mut(&transfer) else {
                continue;
            };
            match finished {
                Ok(Finish::Pending) => {}
                Ok(Finish::Done(place)) => {
                    if let File::Open { manifest, .. } = core::mem::replace(file, File::Complete) {
                        self.events.push_back(Received::Done { manifest, place });
                    }
                    for peer in self.peers.values_mut() {
                        peer.urgent |= peer.transfer == Some(transfer);
                    }
                }
                Ok(Finish::Mismatch(now)) => {
                    if let File::Open {
                        chunks, generation, ..
                    } = file
                    {
                        *chunks = Chunks::new(chunks.len());
                        *generation = now;
                    }
                }
                Err(error) => self.storage_failed(&error),
            }
        }
    }

    /// The answer to put into the slot at `now_ns`, if one is owed. `usable` says whether a reply block can still
    /// travel, from this user's gateway.
    pub(crate) fn next_reply(
        &mut self,
        identity: &Identity,
        now_ns: u64,
        usable: &dyn Fn(&Surb) -> bool,
    ) -> Option<Reply> {
        while let Some((surb, half)) = self.key_answers.pop_front() {
            if usable(&surb) {
                let mut key = Box::new([0; KEY_HALF_BYTES]);
                let (first, second) = identity.kem_public().split_at(KEY_HALF_BYTES);
                key.copy_from_slice(if half == 0 { first } else { second });
                let plaintext = Answer::KeyHalf { half, key }.encode();
                return Some(Reply { surb, plaintext });
            }
        }
        let delay_ns = self.answer_delay_ns;
        let due = |peer: &Peer| {
            let late = now_ns.saturating_sub(peer.since_ns) >= delay_ns;
            let wanted = peer.unanswered >= ANSWER_EVERY || (peer.unanswered > 0 && late);
            !peer.surbs.is_empty() && (peer.urgent || wanted)
        };
        let name = self
            .peers
            .iter()
            .filter(|(_, peer)| due(peer))
            .min_by_key(|(_, peer)| peer.since_ns)
            .map(|(name, _)| *name)?;
        let peer = self.peers.get_mut(&name)?;
        let surb = loop {
            let surb = peer.surbs.pop_front()?;
            if usable(&surb) {
                break surb;
            }
        };
        let ack = self.acknowledge(name)?;
        let plaintext = Answer::Ack(ack).encode();
        let peer = self.peers.get_mut(&name)?;
        (peer.unanswered, peer.urgent) = (0, false);
        Some(Reply { surb, plaintext })
    }

    fn acknowledge(&mut self, name: SessionNumber) -> Option<Ack> {
        let peer = self.peers.get(&name)?;
        let transfer = peer
            .transfer
            .or_else(|| peer.early.first().map(|(transfer, ..)| *transfer))?;
        let mut ack = Ack {
            transfer,
            state: TransferState::Unknown,
            generation: 0,
            base: 0,
            highest: peer.highest,
            bitmap: Vec::new(),
        };
        match self.files.get(&transfer) {
            None => {}
            Some(File::Complete) => ack.state = TransferState::Complete,
            Some(File::Refused) => ack.state = TransferState::Refused,
            Some(File::Open {
                chunks, generation, ..
            }) => {
                if let Err(error) = self.storage.flush(&transfer) {
                    self.storage_failed(&error);
                    return None;
                }
                ack.state = TransferState::Partial;
                ack.generation = *generation;
                ack.base = chunks.base();
                ack.bitmap = chunks.bitmap(BITMAP_BYTES_MAX);
            }
        }
        Some(ack)
    }
}
