//! An authority's process: the rounds ([`authority::round`]) with a clock, a disk and the network.
//!
//! Two threads: this one owns the rounds and the disk; the other serves and asks over HTTP and talks to it through one
//! bounded queue. Where that is full, whoever asks is told to come again.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authority::claims::Owners;
use authority::round::{Action, Newest, News, Rounds};
use directory::authority_set::Member;
use directory::store::hex;
use directory::{Chain, Held, SignedConsensus};
use hyper::StatusCode;
use program::manager::Manager;
use serde_json::json;
use tokio::runtime::{Handle, Runtime};

use super::desk::{Desk, Inbound, Question, early, nothing};
use super::disk::Disk;
use super::files::{self, Files};
use super::peers::{Peer, Pull, Told, addresses};
use super::shelf::Shelf;
use crate::clock::unix_ms;
use crate::config::AuthorityConfig;
use crate::exit::{self, Failure};
use crate::http::rooms::Rooms;
use crate::http::{self, Answer};

/// What waits for the authority's thread: every connection has one question at most.
const QUEUE: usize = 1_024;
/// News that `mixctl authority status` shows.
const NEWS_MAX: usize = 32;

/// What makes an authority stop, and read its list of nodes and the network's file again.
pub struct Signals {
    /// Set once.
    pub stop: Arc<AtomicBool>,
    /// Set by each SIGHUP.
    pub reread: Arc<AtomicBool>,
}

/// Runs an authority until it is told to stop.
///
/// # Errors
/// What it needs at its start is not there.
pub fn run(config: &AuthorityConfig, signals: &Signals) -> Result<(), Failure> {
    let now_ms = unix_ms();
    let files = files::read(config)?;
    for doubt in files::doubts(config, &files) {
        tracing::warn!("{doubt}");
    }
    let Files {
        key,
        chain,
        recent,
        admission,
    } = files;
    let own = key.public();
    let disk = Disk::open(&config.state_dir).map_err(|error| of_state(config, &error))?;
    let record = disk.record().map_err(|error| of_state(config, &error))?;
    let newest = newest(&disk, &chain, recent).map_err(|error| of_state(config, &error))?;
    let owners = owners(&disk, &chain).map_err(|error| of_state(config, &error))?;
    let listener = TcpListener::bind(config.listen)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| of_listen(config, &error))?;
    let (questions, inbound) = sync_channel(QUEUE);
    let rooms = Rooms::default();
    let shelf = Arc::new(Mutex::new(Shelf::default()));
    let desk = Desk {
        shelf: Arc::clone(&shelf),
        evidence: disk.evidence.clone(),
        questions: questions.clone(),
    };
    let runtime = start(listener, rooms.clone(), desk)?;
    let mut service = Service {
        rounds: Rounds::new(key, chain, admission, newest, record, now_ms),
        disk,
        shelf,
        rooms,
        questions,
        runtime,
        own: config.listen.ip(),
        peers: Vec::new(),
        members: Vec::new(),
        refused: BTreeMap::new(),
        news: VecDeque::new(),
    };
    service.rounds.remember(owners);
    service.fill_shelf();
    service.tell_rooms();
    program::say!(
        "mixctld: authority {} at http://{}",
        hex(&own),
        config.listen
    );
    tracing::info!(version = directory::version(), listen = %config.listen, "authority started");
    let manager = Manager::find();
    if let Some(manager) = &manager {
        manager.ready();
        manager.status(&format!("an authority, at {}", config.listen));
    }
    let served = service.serve(config, &inbound, signals, manager.as_ref());
    manager.iter().for_each(Manager::stopping);
    served
}

fn start(listener: TcpListener, rooms: Rooms, desk: Desk) -> Result<Handle, Failure> {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Reads evidence, one piece at a time.
        .max_blocking_threads(1)
        .build()?;
    let handle = runtime.handle().clone();
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || runtime.block_on(http::serve(listener, rooms, Arc::new(desk))))?;
    Ok(handle)
}

pub(super) fn of_listen(config: &AuthorityConfig, error: &std::io::Error) -> Failure {
    let (code, remedy) = match error.kind() {
        ErrorKind::AddrNotAvailable => (exit::OS, ": name an address that this host has"),
        ErrorKind::PermissionDenied => (exit::PERMISSION, ": name a port from 1024 on"),
        _ => (exit::OS, ""),
    };
    let listen = config.listen;
    Failure::new(
        code,
        format!("[authority] listen: {listen}: {error}{remedy}"),
    )
}

pub(super) fn of_state(config: &AuthorityConfig, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::PermissionDenied => exit::PERMISSION,
        ErrorKind::InvalidData => exit::CONFIG,
        _ => exit::OS,
    };
    let folder = config.state_dir.display();
    Failure::new(code, format!("[authority] state_dir: {folder}: {error}"))
}

/// The newest document that is held and holds. What is damaged is passed over: the others have it.
fn newest(
    disk: &Disk,
    chain: &Chain,
    recent: Option<SignedConsensus>,
) -> std::io::Result<Option<Newest>> {
    let verified = |signed: SignedConsensus| {
        let consensus = signed.verify(chain, &Held::default());
        let consensus =
            consensus.inspect_err(|error| tracing::warn!(%error, "refused a consensus"));
        let consensus = consensus.ok()?;
        Some(Newest { consensus, signed })
    };
    let mut stored = disk.documents.newest_first()?;
    let stored = stored.find_map(|(epoch, read)| {
        let damaged = |error: &std::io::Error| tracing::warn!(epoch, %error, "passed over a document that is damaged");
        verified(read.inspect_err(damaged).ok()?)
    });
    let recent = recent.and_then(verified);
    let both = stored.into_iter().chain(recent);
    Ok(both.max_by_key(|newest| newest.consensus.epoch()))
}

/// Who had what, as it was written down and as the documents say that are held and hold: who had something keeps it for
/// longer than documents are kept.
fn owners(disk: &Disk, chain: &Chain) -> std::io::Result<Owners> {
    let mut owners = disk.owners().unwrap_or_else(|error| {
        tracing::warn!(%error, "forgot who had which key and address before the documents held");
        Owners::default()
    });
    let read = |epoch| disk.documents.read_consensus(epoch).ok().flatten();
    for signed in disk.documents.epochs()?.into_iter().filter_map(read) {
        if let Ok(document) = signed.verify(chain, &Held::default()) {
            owners.learn(&document);
        }
    }
    Ok(owners)
}

struct Service {
    rounds: Rounds,
    disk: Disk,
    shelf: Arc<Mutex<Shelf>>,
    rooms: Rooms,
    questions: SyncSender<Inbound>,
    runtime: Handle,
    /// Where it listens, and where requests to other authorities come from unless that is everywhere.
    own: IpAddr,
    peers: Vec<Peer>,
    /// Who the peers are.
    members: Vec<Member>,
    refused: BTreeMap<String, u64>,
    /// Newest last.
    news: VecDeque<(u64, String)>,
}

impl Service {
    fn serve(
        &mut self,
        config: &AuthorityConfig,
        inbound: &Receiver<Inbound>,
        signals: &Signals,
        manager: Option<&Manager>,
    ) -> Result<(), Failure> {
        let mut alive =
            manager.and_then(|manager| Some((manager, manager.alive_every()?, Instant::now())));
        let round_ms = self.rounds.parameters().round_ms();
        let tick = Duration::from_millis((round_ms / 16).clamp(5, 200));
        while !signals.stop.load(Ordering::Acquire) {
            if signals.reread.swap(false, Ordering::AcqRel) {
                self.reread(config);
            }
            if let Some((manager, every, due)) = &mut alive
                && Instant::now() >= *due
            {
                manager.alive();
                *due = Instant::now() + *every;
            }
            self.meet_peers();
            let actions = self.rounds.advance(unix_ms());
            self.perform(actions)?;
            match inbound.recv_timeout(tick) {
                Ok(Inbound::Question(question, answer)) => {
                    let said = self.answer(question)?;
                    // Whoever asked may be gone.
                    let _ = answer.send(said);
                }
                Ok(Inbound::Told(from, told)) => self.hear(from, told)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        tracing::info!("authority stopped");
        Ok(())
    }

    fn reread(&mut self, config: &AuthorityConfig) {
        match files::read_admission_again(&config.admission) {
            Ok(admission) => {
                self.rounds.admit(admission);
                tracing::info!("read the list of nodes again");
            }
            Err(failure) => tracing::error!("keeping the list of nodes as it was: {failure}"),
        }
        let read = files::read_network(&config.network).and_then(|(chain, _)| {
            self.rounds
                .follow(chain)
                .map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
            self.fill_shelf();
            Ok(())
        });
        if let Err(failure) = read {
            tracing::error!("keeping the authority sets as they were: {failure}");
        }
    }

    /// Talks to those who are in the set that makes the next document.
    fn meet_peers(&mut self) {
        let members = self.rounds.peers(unix_ms());
        if members == self.members {
            return;
        }
        let within =
            Duration::from_millis(self.rounds.parameters().round_ms().clamp(1_000, 10_000));
        let meet = |member: &Member| {
            let told = self.questions.clone();
            let from = (!self.own.is_unspecified()).then_some(self.own);
            Peer::new(member, from, within, self.runtime.clone(), told)
        };
        self.peers = members.iter().map(meet).collect();
        self.members = members;
        self.tell_rooms();
    }

    fn tell_rooms(&self) {
        let newest = self.rounds.newest().map(|newest| newest.consensus.nodes());
        let nodes = newest
            .into_iter()
            .flatten()
            .flat_map(|node| &node.addresses);
        let nodes = nodes.map(|address| address.ip());
        self.rooms.know(addresses(&self.members, nodes, self.own));
    }

    fn perform(&mut self, actions: Vec<Action>) -> Result<(), Failure> {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::AskTime => self.pull(None, vec![Pull::Time]),
                Action::PullDocument => self.pull(None, vec![Pull::Document]),
                Action::PullDescriptors(epoch) => self.pull(None, vec![Pull::Listing(epoch)]),
                Action::Fetch { from, digest } => self.pull(from, vec![Pull::Descriptor(digest)]),
                Action::Send {
                    message,
                    until_ms,
                    every_ms,
                } => {
                    for peer in &self.peers {
                        peer.send(&message, until_ms, every_ms);
                    }
                }
                Action::Record(record) => match self.disk.write_record(record) {
                    Ok(()) => queue.extend(self.rounds.recorded(record)),
                    // Most likely the disk is full. What the others sign is handed out all the same.
                    Err(error) => {
                        self.rounds.unrecorded(record);
                        let epoch = record.epoch;
                        let why = self.disk.why_unrecorded(&error);
                        self.tell(&News::NotSigned { epoch, why });
                    }
                },
                Action::Publish { epoch, document } => {
                    let signed = SignedConsensus::decode(&document)
                        .map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
                    if let Err(error) = self.disk.documents.publish_consensus(epoch, &signed) {
                        tracing::error!(epoch, %error, "the document could not be stored");
                    }
                    if let Err(error) = self.disk.write_owners(self.rounds.owners()) {
                        tracing::error!(epoch, %error, "who has what could not be stored");
                    }
                    self.fill_shelf();
                    self.tell_rooms();
                }
                Action::Evidence { epoch, author, two } => {
                    if let Err(error) = self.disk.evidence.write(epoch, &author, &two) {
                        tracing::error!(epoch, %error, "evidence could not be stored");
                    }
                }
                Action::Tell(news) => self.tell(&news),
            }
        }
        Ok(())
    }

    fn tell(&mut self, news: &News) {
        match news {
            News::Published { .. } | News::TakenOver(_) => tracing::info!("{news}"),
            News::NotSigned { .. } | News::Equivocation { .. } | News::OtherDigest { .. } => {
                tracing::error!("{news}");
            }
            News::SatOut { .. } | News::NoDocument { .. } => tracing::warn!("{news}"),
        }
        if self.news.len() >= NEWS_MAX {
            self.news.pop_front();
        }
        self.news.push_back((unix_ms(), news.to_string()));
    }

    fn pull(&self, from: Option<[u8; 32]>, pulls: Vec<Pull>) {
        let wanted = |peer: &&Peer| from.is_none_or(|from| from == peer.key);
        for peer in self.peers.iter().filter(wanted) {
            peer.pull(pulls.clone());
        }
    }

    fn hear(&mut self, from: [u8; 32], told: Told) -> Result<(), Failure> {
        let now_ms = unix_ms();
        let heard = match told {
            Told::Ahead(ahead_ms) => {
                self.rounds.time(from, ahead_ms);
                return Ok(());
            }
            Told::Document(bytes) => self.rounds.document(&bytes, now_ms),
            Told::Listing(bytes) => self.rounds.listing(from, &bytes),
            Told::Descriptor(bytes) => self.rounds.pulled(&bytes, now_ms),
        };
        match heard {
            Ok(actions) => self.perform(actions),
            Err(error) => {
                tracing::debug!(authority = hex(&from), %error, "what it answered is not taken");
                Ok(())
            }
        }
    }

    fn answer(&mut self, question: Question) -> Result<Answer, Failure> {
        let now_ms = unix_ms();
        let taken = match question {
            Question::Descriptor(bytes) => self.rounds.descriptor(&bytes, now_ms),
            Question::Report(bytes) => self.rounds.report(&bytes, now_ms),
            Question::Vote(bytes) => self.rounds.relayed(&bytes, now_ms),
            Question::Signature(bytes) => self.rounds.signature(&bytes),
            Question::ByDigest(digest, is_authority) => {
                let Some(held) = self.rounds.by_digest(&digest) else {
                    return Ok(nothing());
                };
                let descriptor = self.rounds.book().by_digest(&digest);
                let first_key = descriptor.and_then(|held| held.epoch_keys.first());
                // Reports are for authorities alone.
                let is_open = first_key.is_some_and(|key| self.rounds.shows(key.epoch, now_ms));
                return Ok(match is_authority || is_open {
                    true => Answer::bytes(held.to_vec()),
                    false => early(),
                });
            }
            Question::Listing(epoch, is_authority) => {
                return Ok(match is_authority || self.rounds.shows(epoch, now_ms) {
                    true => Answer::bytes(self.rounds.list(epoch)),
                    false => early(),
                });
            }
            Question::Status => return Ok(Answer::bytes(self.status().to_string())),
        };
        match taken {
            Ok(actions) => {
                self.perform(actions)?;
                Ok(Answer::word(StatusCode::OK, "taken"))
            }
            Err(refusal) => {
                let word = refusal.to_string();
                let status = match refusal.passes() {
                    true => StatusCode::SERVICE_UNAVAILABLE,
                    false => StatusCode::BAD_REQUEST,
                };
                let answer = Answer::word(status, &word);
                // As many words as there are refusals.
                *self.refused.entry(word).or_default() += 1;
                Ok(answer)
            }
        }
    }

    fn status(&self) -> serde_json::Value {
        let newest = self.rounds.newest();
        let (chain, parameters) = (self.rounds.chain(), self.rounds.parameters());
        let others: Vec<_> = self
            .members
            .iter()
            .map(|one| json!({ "authority": hex(&one.key), "url": format!("http://{}", one.address) }))
            .collect();
        let news: Vec<_> = self
            .news
            .iter()
            .map(|(unix_ms, text)| json!({ "unix_ms": unix_ms, "text": text }))
            .collect();
        let missed: Vec<_> = self
            .rounds
            .missed_proofs()
            .iter()
            .map(|(identity, documents)| {
                let node = newest.and_then(|newest| newest.consensus.find(identity));
                let operator = node.map(|node| node.operator.as_str());
                json!({ "identity": hex(identity), "operator": operator, "documents": documents })
            })
            .collect();
        json!({
            "network": hex(chain.network()),
            "generation": chain.sets().last().map(|set| set.set().generation),
            "epoch": parameters.epoch_at(unix_ms()),
            "document": newest.map(|newest| json!({
                "epoch": newest.consensus.epoch(),
                "digest": hex(newest.consensus.digest()),
                "nodes": newest.consensus.nodes().len(),
            })),
            "others": others,
            "evidence": self.disk.evidence.names().unwrap_or_default(),
            "missed_proofs": missed,
            "refused": self.refused,
            "connections_refused": self.rooms.refused(),
            "news": news,
        })
    }

    fn fill_shelf(&self) {
        Shelf::fill(&self.shelf, self.rounds.chain(), self.rounds.newest());
    }
}
