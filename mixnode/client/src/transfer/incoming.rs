//! The recipient's side: sessions that others started, the files in them, and the answers owed.
//!
//! Answers leave in slots of the client's Poisson process, through the reply blocks that came with the data. Several
//! packets share one answer. A chunk is acknowledged once it is flushed to the storage, so that a recipient that is
//! killed and started again never lacks what it acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use sphinx::{BODY_BYTES, Surb};

use super::bucket::Bucket;
use super::content::{CHUNK_BYTES, Field, Manifest, TransferId, read_content};
use super::ranges::Chunks;
use super::sealed::Sealed;
use super::session::{Half, ReceivingSessions, SessionNumber};
use super::used::Used;
use crate::identity::Identity;
use crate::store::{Finish, Standing, Storage};

mod answers;
mod blocks;
#[cfg(test)]
mod limits;
mod peer;
mod room;
mod trouble;

use blocks::UsedBlocks;
use peer::{EarlyChunk, Peer};
use trouble::Trouble;

/// Reply blocks kept a session; the oldest makes room.
const SURBS_MAX: usize = 32;
/// Answers to key requests waiting for a slot; more are not taken.
const KEY_ANSWERS_MAX: usize = 32;
/// Of them so many are given at once and in an epoch's length, evenly: whoever has the address can ask, and each answer
/// shows him a slot of this client's. Two to a correspondent, so that two thousand can write for the first time.
const KEY_ANSWERS_AT_ONCE: u32 = 64;
const KEY_ANSWERS_AN_EPOCH: u32 = 4_096;
/// Bodies kept that nothing here can open yet: their session's start may be behind them.
const UNKNOWN_MAX: usize = 128;
const UNKNOWN_KEPT_NS: u64 = 30_000_000_000;
/// Chunks kept a session that came before their manifest.
const EARLY_MAX: usize = 64;
/// Files open at a time; one that lacks something is let go for another, and opened again by its next manifest. Each
/// keeps the session of its newest chunk, so that no more sessions are kept, and new sessions, which anybody can start,
/// push out only others of strangers.
const FILES_OPEN_MAX: usize = 32;
/// Sessions that answers are kept for.
#[cfg(test)]
const PEERS_MAX: usize = FILES_OPEN_MAX + super::session::STRANGERS_MAX;
/// Files that are done or refused and still remembered here; the storage knows the done ones for longer.
const FILES_OVER_MAX: usize = 1_024;
/// Manifests of new files at once, and the nanoseconds until there may be another: each is a look at the disk.
const MANIFESTS: (u32, u64) = (32, 500_000_000);

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
        place: PathBuf,
    },
    /// A file can't be stored, or can again: told once a change. Its sender is told to wait.
    Storage(String),
}

struct OpenFile {
    manifest: Manifest,
    chunks: Chunks,
    generation: u32,
    heard_ns: u64,
    /// The session of the newest chunk.
    peer: Option<SessionNumber>,
    trouble: Option<Trouble>,
}

impl OpenFile {
    /// Nothing of it is here any more.
    fn begin_anew(&mut self, generation: u32) {
        self.chunks = Chunks::new(self.chunks.len());
        self.generation = generation;
    }
}

enum File {
    Open(OpenFile),
    Complete,
    Refused,
}

/// All that arrives for one user.
pub(crate) struct Incoming {
    storage: Box<dyn Storage>,
    used: Used,
    blocks: UsedBlocks,
    sessions: ReceivingSessions,
    /// One a session.
    peers: BTreeMap<SessionNumber, Peer>,
    files: BTreeMap<TransferId, File>,
    manifests: Bucket,
    /// What is wrong with storage as a whole.
    trouble: Option<Trouble>,
    unknown: VecDeque<(u64, Box<[u8; BODY_BYTES]>)>,
    key_answers: VecDeque<(Surb, u8)>,
    key_budget: Bucket,
    /// Answers to key requests that were not given, for want of budget or room.
    pub(crate) keys_withheld: u64,
    answer_delay_ns: u64,
    /// What happened since the client last asked.
    pub(crate) events: VecDeque<Received>,
}

impl Incoming {
    /// Nothing has arrived yet, but for what the storage knows. Of the network its mean delay, µs, and the length of an
    /// epoch, ms.
    pub(crate) fn new(
        mut storage: Box<dyn Storage>,
        (mean_delay_us, epoch_ms): (u32, u64),
    ) -> Self {
        Self {
            used: Used::load(&mut *storage, epoch_ms),
            blocks: UsedBlocks::load(&mut *storage),
            storage,
            sessions: ReceivingSessions::default(),
            peers: BTreeMap::new(),
            files: BTreeMap::new(),
            manifests: Bucket::new(MANIFESTS),
            trouble: None,
            unknown: VecDeque::new(),
            key_answers: VecDeque::new(),
            key_budget: Bucket::over_an_epoch(
                (KEY_ANSWERS_AT_ONCE, KEY_ANSWERS_AN_EPOCH),
                epoch_ms,
            ),
            keys_withheld: 0,
            // Two mean delays gather what mixing has spread, and add little to a round trip of ten.
            answer_delay_ns: (u64::from(mean_delay_us) * 2_000).max(10_000_000),
            events: VecDeque::new(),
        }
    }

    /// The files that are arriving, each with the number of its chunks that are here.
    pub(crate) fn open_files(&self) -> impl Iterator<Item = (&Manifest, u32)> {
        self.files.values().filter_map(|file| match file {
            File::Open(open) => Some((&open.manifest, open.chunks.count())),
            File::Complete | File::Refused => None,
        })
    }

    /// Time passes: takes a step towards delivering each file that is whole.
    pub(crate) fn tick(&mut self, now_ns: u64, epoch: u32) {
        self.used.turn(epoch, &mut *self.storage);
        self.blocks.turn(epoch);
        self.finish_files(now_ns);
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
        let Some(sealed) = Sealed::open(identity, body) else {
            if self.unknown.len() >= UNKNOWN_MAX {
                self.unknown.pop_front();
            }
            self.unknown.push_back((now_ns, Box::new(*body)));
            return false;
        };
        // Once, by its ephemeral key, which is drawn for it alone.
        if self.uses(sealed.epoch(), &body[..32], now_ns) {
            self.take_sealed(identity, sealed, now_ns);
        }
        true
    }

    fn take_sealed(&mut self, identity: &Identity, sealed: Sealed, now_ns: u64) {
        match sealed {
            Sealed::KeyRequest { wanted, surbs, .. } => {
                let halves = [0u8, 1].into_iter().filter(|half| wanted >> half & 1 == 1);
                for (half, surb) in halves.zip(&surbs) {
                    let has_room = self.key_answers.len() < KEY_ANSWERS_MAX;
                    if has_room && self.key_budget.take(now_ns) {
                        self.key_answers.push_back((Surb::from_bytes(surb), half));
                    } else {
                        // Who asked asks again.
                        self.keys_withheld += 1;
                    }
                }
            }
            Sealed::SessionStart {
                half,
                epoch,
                session,
                ephemeral,
                ciphertext,
            } => self.take_half(
                identity,
                Half {
                    half,
                    epoch,
                    session,
                    ephemeral,
                    ciphertext,
                },
                now_ns,
            ),
        }
    }

    fn take_half(&mut self, identity: &Identity, half: Half, now_ns: u64) {
        let (epoch, session) = (half.epoch, half.session);
        if self.used.contains(epoch, &session) {
            return;
        }
        let Some(halves) = self.sessions.pair(half) else {
            return;
        };
        if !self.uses(epoch, &session, now_ns) {
            return;
        }
        let kept: BTreeSet<SessionNumber> = self
            .files
            .values()
            .filter_map(|file| match file {
                File::Open(open) => open.peer,
                File::Complete | File::Refused => None,
            })
            .collect();
        let keeps = |name| kept.contains(&name);
        let started = self.sessions.start(identity, &halves, &keeps, now_ns);
        if let Some((name, gone)) = started {
            if let Some(gone) = gone {
                self.peers.remove(&gone);
            }
            self.peers.insert(name, Peer::new(now_ns));
            self.retry_unknown(now_ns);
        }
    }

    /// Uses something that may be used once; `false` if it must not be taken.
    fn uses(&mut self, epoch: u32, what: &[u8], now_ns: u64) -> bool {
        match self.used.insert(epoch, what, now_ns, &mut *self.storage) {
            Ok(first) => first,
            Err(error) => {
                self.storage_failed(&error, now_ns);
                false
            }
        }
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
        if let Some(peer) = self.peers.get_mut(&name) {
            if peer.unanswered == 0 {
                peer.since_ns = now_ns;
            }
            peer.unanswered += 1;
            peer.received += 1;
            peer.highest = peer.highest.max(number);
        }
        true
    }

    fn take_field(&mut self, name: SessionNumber, field: Field, now_ns: u64) {
        match field {
            Field::Surb(surb) => {
                if let Some(peer) = self.peers.get_mut(&name) {
                    if peer.surbs.len() >= SURBS_MAX {
                        peer.surbs.pop_front();
                    }
                    peer.surbs.push_back(Surb::from_bytes(&surb));
                }
            }
            Field::Manifest(manifest) => {
                let transfer = manifest.transfer;
                self.open_file(name, manifest, now_ns);
                if let Some(peer) = self.peers.get_mut(&name) {
                    peer.transfer = Some(transfer);
                    for chunk in core::mem::take(&mut peer.early) {
                        self.take_chunk(name, chunk, now_ns);
                    }
                }
            }
            Field::Chunk {
                transfer,
                index,
                data,
            } => self.take_chunk(name, (transfer, index, data), now_ns),
            Field::GivenUp(transfer) => self.give_up(name, &transfer, now_ns),
        }
    }

    /// Nothing more of a file comes: what is there of it goes, unless that is all. Only its sender knows the transfer.
    fn give_up(&mut self, name: SessionNumber, transfer: &TransferId, now_ns: u64) {
        let is_over = self.files.get(transfer);
        let is_over = is_over.is_some_and(|file| !matches!(file, File::Open(_)));
        // A look at the disk, as a manifest is.
        if !is_over && self.may_look(name, now_ns) {
            self.files.remove(transfer);
            self.storage.discard(transfer);
        }
    }

    /// Whether the disk may be looked at for this session.
    fn may_look(&mut self, name: SessionNumber, now_ns: u64) -> bool {
        let own = |peer: &mut Peer| peer.manifests.take(now_ns);
        self.manifests.take(now_ns) || self.peers.get_mut(&name).is_some_and(own)
    }

    fn open_file(&mut self, name: SessionNumber, manifest: Manifest, now_ns: u64) {
        let transfer = manifest.transfer;
        if self.files.contains_key(&transfer)
            || self.trouble.as_ref().is_some_and(|t| !t.is_over(now_ns))
            || !self.may_look(name, now_ns)
            || !self.make_room()
        {
            return;
        }
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
                File::Open(OpenFile {
                    manifest,
                    chunks,
                    generation,
                    heard_ns: now_ns,
                    peer: None,
                    trouble: None,
                })
            }
            Ok(Standing::Complete) => File::Complete,
            Ok(Standing::Refused) => File::Refused,
            Err(error) => return self.storage_failed(&error, now_ns),
        };
        self.trouble = None;
        self.files.insert(transfer, file);
    }

    /// Storage as a whole fails: new files wait.
    fn storage_failed(&mut self, error: &std::io::Error, now_ns: u64) {
        let tells = Trouble::strike(&mut self.trouble, error, now_ns);
        self.events.extend(tells.map(Received::Storage));
    }

    fn take_chunk(&mut self, name: SessionNumber, chunk: EarlyChunk, now_ns: u64) {
        let (transfer, index, data) = chunk;
        match self.files.get_mut(&transfer) {
            None => {
                if let Some(peer) = self.peers.get_mut(&name)
                    && peer.early.len() < EARLY_MAX
                {
                    peer.early.push((transfer, index, data));
                }
            }
            Some(File::Open(open)) => {
                open.heard_ns = now_ns;
                let offset = u64::from(index) * CHUNK_BYTES as u64;
                let left = open.manifest.size.saturating_sub(offset);
                let sound =
                    index < open.chunks.len() && data.len() as u64 == left.min(CHUNK_BYTES as u64);
                let waits = open.trouble.as_ref().is_some_and(|t| !t.is_over(now_ns));
                if !sound || waits || open.chunks.contains(index) {
                    return;
                }
                let lost = self.storage.lost(&transfer);
                if let Ok(Some(generation)) = lost {
                    open.begin_anew(generation);
                    let name = program::visible(&open.manifest.name);
                    self.events.push_back(Received::Storage(format!(
                        "\"{name}\": what was here of it was removed: its sender begins anew"
                    )));
                }
                let written = lost.and_then(|_| self.storage.write(&transfer, index, &data));
                let told = Trouble::follow(&mut open.trouble, &written, &open.manifest, now_ns);
                self.events.extend(told.map(Received::Storage));
                if written.is_err() {
                    return;
                }
                open.peer = Some(name);
                open.chunks.insert(index);
                let (chunks, total) = (open.chunks.count(), open.chunks.len());
                self.events.push_back(Received::Progress {
                    transfer,
                    chunks,
                    total,
                });
            }
            Some(File::Complete | File::Refused) => {}
        }
    }

    /// Takes a step towards delivering each file that is whole; one whose last step has failed waits.
    pub(crate) fn finish_files(&mut self, now_ns: u64) {
        let ready = |file: &File| match file {
            File::Open(open) => {
                let waits = open.trouble.as_ref().is_some_and(|t| !t.is_over(now_ns));
                open.chunks.is_full() && !waits
            }
            File::Complete | File::Refused => false,
        };
        let ready: Vec<TransferId> = self
            .files
            .iter()
            .filter(|(_, file)| ready(file))
            .map(|(transfer, _)| *transfer)
            .collect();
        for transfer in ready {
            let finished = self.storage.finish(&transfer);
            let Some(file) = self.files.get_mut(&transfer) else {
                continue;
            };
            let File::Open(open) = file else { continue };
            // Steps that go well up to the one that fails again are no end of the trouble.
            if !matches!(finished, Ok(Finish::Pending)) {
                let told = Trouble::follow(&mut open.trouble, &finished, &open.manifest, now_ns);
                self.events.extend(told.map(Received::Storage));
            }
            match finished {
                Ok(Finish::Pending) | Err(_) => {}
                Ok(Finish::Done(place)) => {
                    if let File::Open(open) = core::mem::replace(file, File::Complete) {
                        let manifest = open.manifest;
                        self.events.push_back(Received::Done { manifest, place });
                    }
                    for peer in self.peers.values_mut() {
                        peer.urgent |= peer.transfer == Some(transfer);
                    }
                }
                Ok(Finish::Mismatch(generation)) => open.begin_anew(generation),
            }
        }
    }
}
