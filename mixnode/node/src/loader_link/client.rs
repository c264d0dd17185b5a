//! The thread that keeps the connection to the loader, and the handle through which the others reach it.
//!
//! The loader can be restarted at any time: packets go on, because sockets and maps outlive it. Meanwhile no receiver
//! index can be let in, so no handshake is answered; its sender tries again. The thread connects again ten times a
//! second, and tells the new loader what is in use.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::connection::{Connection, Handover, LoaderError};
use super::indices::Indices;
use super::kept::Kept;
use super::report::Report;
use crate::keys::vault::Tables;
use handover::protocol::{ADDRESSES_MAX, Peer, RefusalKind, Request};
use handover::vault::Table;

/// Commands that may wait: a burst of sessions that end, beside the handshakes of one thread.
pub const QUEUE_COMMANDS: usize = 4096;
/// Time between attempts to reach a loader that is gone, and between looks whether it is.
const RECONNECT: Duration = Duration::from_millis(100);
/// How long a handshake waits for its index. Longer than the connection's patience: that ends first.
const ADMIT_PATIENCE: Duration = Duration::from_secs(15);

/// Time between reports on the node.
const REPORT: Duration = Duration::from_secs(1);
/// How long the table of an epoch waits for a loader that is being restarted.
const TABLE_PATIENCE: Duration = Duration::from_secs(2);

/// What the thread is asked.
enum Command {
    Open {
        address: SocketAddr,
        frames: Vec<u32>,
        busy_poll: bool,
        done: Sender<Result<Handover, LoaderError>>,
    },
    Table {
        table: Table,
        done: Sender<Result<OwnedFd, LoaderError>>,
    },
    Erase {
        epoch: u32,
    },
    Admit {
        index: u32,
        source: IpAddr,
        done: Sender<bool>,
    },
    Forget {
        index: u32,
    },
    Bind {
        index: u32,
        source: IpAddr,
    },
    Peers(Vec<Peer>),
    Refresh(Vec<IpAddr>),
    Ready {
        done: Sender<Result<(), LoaderError>>,
    },
}

/// The way to the thread. When every clone is gone, the thread ends and the loader takes the node's sockets out.
#[derive(Clone, Debug)]
pub struct Loader {
    commands: Sender<Command>,
    report: Arc<Report>,
    end: Arc<AtomicBool>,
}

impl Loader {
    /// A handle, and what runs behind it: give that a thread. `path` is where the loader is found again, `kept` what the
    /// node has of its keys, if they outlive it.
    pub fn new(connection: Connection, path: PathBuf, kept: Option<Kept>) -> (Loader, Keeper) {
        let (commands, queue) = bounded(QUEUE_COMMANDS);
        let keeper = Keeper {
            connection: Some(connection),
            path,
            address: None,
            kept,
            queue,
            indices: BTreeMap::new(),
            peers: Vec::new(),
            tried: Instant::now(),
            complaint: String::new(),
            report: Arc::default(),
            reported: Instant::now(),
            is_mute: false,
            is_undescribed: false,
            end: Arc::default(),
        };
        let loader = Loader {
            commands,
            report: Arc::clone(&keeper.report),
            end: Arc::clone(&keeper.end),
        };
        (loader, keeper)
    }

    /// Asks for the sockets and packet memory of a node at `address`: `frames` of each worker. A loader that comes back
    /// is asked to go on with them.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn open(
        &self,
        address: SocketAddr,
        frames: Vec<u32>,
        busy_poll: bool,
    ) -> Result<Handover, LoaderError> {
        self.ask(|done| Command::Open {
            address,
            frames,
            busy_poll,
            done,
        })
    }

    /// What the loader is told of the node, and what it wants of it.
    pub fn node(&self) -> &Report {
        &self.report
    }

    /// Says that the rings are filled, so that packets are steered to the sockets.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn ready(&self) -> Result<(), LoaderError> {
        self.ask(|done| Command::Ready { done })
    }

    /// Ends the thread, whoever still has a way to it: the loader takes the node's sockets out. Never waits; the thread may
    /// wait for an answer or two still, as long as a connection has patience.
    pub fn end(&self) {
        self.end.store(true, Ordering::Release);
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(Sender<Result<T, LoaderError>>) -> Command,
    ) -> Result<T, LoaderError> {
        let (done, answer) = bounded(1);
        self.commands.send(command(done)).map_err(|_| away())?;
        answer.recv().map_err(|_| away())?
    }

    /// Tells of the nodes of the consensus and their rates; nothing is lost but by a full queue, and then `false`.
    pub fn peers(&self, peers: Vec<Peer>) -> bool {
        self.commands.try_send(Command::Peers(peers)).is_ok()
    }

    /// Has the kernel confirm the link-layer addresses of `next_hops`. Asked again while they are stale, so a full
    /// queue loses nothing.
    pub fn refresh(&self, next_hops: Vec<IpAddr>) {
        let _ = self.commands.try_send(Command::Refresh(next_hops));
    }

    /// Says that who uses `index` has proved to be at `source`: its datagrams are counted there from now on, and those
    /// from elsewhere as strangers'. A full queue changes nothing. Never waits.
    pub fn bind(&self, index: u32, source: IpAddr) {
        let _ = self.commands.try_send(Command::Bind { index, source });
    }

    /// Keeps datagrams of `index` out; `false` if the queue is full: try again later. Never waits.
    pub fn forget(&self, index: u32) -> bool {
        self.commands.try_send(Command::Forget { index }).is_ok()
    }
}

/// There is no loader just now.
fn away() -> LoaderError {
    LoaderError::Lost(io::ErrorKind::NotConnected.into())
}

impl Tables for Loader {
    /// Waits a little for a loader that is being restarted.
    fn make(&mut self, table: Table) -> io::Result<OwnedFd> {
        let until = Instant::now() + TABLE_PATIENCE;
        loop {
            match self.ask(|done| Command::Table { table, done }) {
                Ok(memory) => return Ok(memory),
                Err(LoaderError::Lost(_)) if Instant::now() < until => {
                    std::thread::sleep(RECONNECT);
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn erase(&mut self, epoch: u32) {
        let _ = self.commands.send(Command::Erase { epoch });
    }
}

impl Indices for Loader {
    /// Waits for the loader's answer; a loader that is gone answers at once.
    fn admit(&mut self, index: u32, source: IpAddr) -> bool {
        let (done, answer) = bounded(1);
        let asked = self.commands.try_send(Command::Admit {
            index,
            source,
            done,
        });
        asked.is_ok() && answer.recv_timeout(ADMIT_PATIENCE).unwrap_or(false)
    }

    fn forget(&mut self, index: u32) {
        // Handshakes may wait for the thread, which never waits for them.
        let _ = self.commands.send(Command::Forget { index });
    }
}

/// What keeps the connection.
#[derive(Debug)]
pub struct Keeper {
    connection: Option<Connection>,
    path: PathBuf,
    /// The node's, once it has opened sockets.
    address: Option<SocketAddr>,
    /// Its keys and tables, if they outlive it.
    kept: Option<Kept>,
    queue: Receiver<Command>,
    /// Let in so far, and whose they are: what a new loader is told.
    indices: BTreeMap<u32, Option<IpAddr>>,
    peers: Vec<Peer>,
    /// When a connection was last tried or looked at.
    tried: Instant,
    /// What was last logged about it, so that it is logged once.
    complaint: String,
    report: Arc<Report>,
    /// When the loader was last told.
    reported: Instant,
    /// This loader is of a release that wants no reports.
    is_mute: bool,
    /// It is of one that wants no descriptions.
    is_undescribed: bool,
    /// Set when the thread is to end.
    end: Arc<AtomicBool>,
}

impl Keeper {
    /// Serves commands until it is told to end, or every [`Loader`] is gone.
    pub fn run(mut self) {
        while !self.end.load(Ordering::Acquire) {
            match self.queue.recv_timeout(RECONNECT) {
                Ok(command) => self.serve(command),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.tried.elapsed() >= RECONNECT {
                self.look();
                // From its end on: a loader that stands still takes seconds, and those who ask wait for no other look.
                self.tried = Instant::now();
            }
            if self.reported.elapsed() >= REPORT {
                self.reported = Instant::now();
                self.report();
            }
        }
        // What was asked before is done, unless nobody is there or the one that is stands still: no other is looked for.
        for _ in 0..QUEUE_COMMANDS {
            match self.queue.try_recv() {
                Ok(command) => self.serve(command),
                Err(_) => return,
            }
        }
    }

    fn serve(&mut self, command: Command) {
        match command {
            Command::Open {
                address,
                frames,
                busy_poll,
                done,
            } => {
                let outcome = match &self.connection {
                    Some(connection) => connection.open(address, &frames, busy_poll),
                    None => Err(away()),
                };
                if outcome.is_ok() {
                    self.address = Some(address);
                }
                let _ = done.send(outcome);
            }
            Command::Table { table, done } => {
                let outcome = self.table(table);
                let _ = done.send(outcome);
            }
            Command::Erase { epoch } => {
                // A loader that is away learns of it when it is told what is left.
                if let Some(kept) = &mut self.kept {
                    kept.tables.remove(&epoch);
                    self.ask(|connection| connection.command(&Request::Erase { epoch }));
                }
            }
            Command::Admit {
                index,
                source,
                done,
            } => {
                // Of others it is not known yet whether they are there.
                let member = self.peers.iter().any(|peer| peer.address == source);
                let source = member.then_some(source);
                let request = Request::AddIndex { index, source };
                let admitted = self.ask(|connection| connection.command(&request)) == Some(true);
                if admitted {
                    self.indices.insert(index, source);
                }
                // Who asked may have lost patience: then nobody is told the index, and it must go again.
                if done.send(admitted).is_err() && admitted {
                    self.forget(index);
                }
            }
            Command::Forget { index } => self.forget(index),
            Command::Bind { index, source } => self.bind(index, source),
            Command::Peers(peers) => {
                // Kept for a loader that comes back, whatever this one says.
                self.peers = peers;
                self.tell_peers();
            }
            Command::Refresh(next_hops) => {
                for part in next_hops.chunks(ADDRESSES_MAX) {
                    let next_hops = part.to_vec();
                    self.ask(|connection| connection.command(&Request::Refresh { next_hops }));
                }
            }
            Command::Ready { done } => {
                let outcome = match &self.connection {
                    Some(connection) => connection.command(&Request::Ready),
                    None => Err(away()),
                };
                let _ = done.send(outcome);
            }
        }
    }

    fn bind(&mut self, index: u32, source: IpAddr) {
        // It may be over already.
        let Some(known) = self.indices.get_mut(&index) else {
            return;
        };
        if known.replace(source) != Some(source) {
            let source = Some(source);
            self.ask(|connection| connection.command(&Request::AddIndex { index, source }));
        }
    }

    /// A table from the loader; its descriptor is kept for a loader that comes back.
    fn table(&mut self, table: Table) -> Result<OwnedFd, LoaderError> {
        let connection = self.connection.as_ref().ok_or_else(away)?;
        let memory = connection.table(table)?;
        if let Some(kept) = &mut self.kept {
            kept.tables
                .insert(table.epoch, (table, memory.try_clone()?));
        }
        Ok(memory)
    }

    fn forget(&mut self, index: u32) {
        if self.indices.remove(&index).is_some() {
            self.ask(|connection| connection.command(&Request::RemoveIndex { index }));
        }
    }

    fn tell_peers(&mut self) {
        let peers = std::mem::take(&mut self.peers);
        self.ask(|connection| connection.peers(&peers));
        self.peers = peers;
    }

    /// Asks the loader, if there is one: whether it did it. `None`: there is none (any more).
    fn ask(
        &mut self,
        question: impl FnOnce(&Connection) -> Result<(), LoaderError>,
    ) -> Option<bool> {
        match question(self.connection.as_ref()?) {
            Ok(()) => Some(true),
            Err(error @ LoaderError::Refused(_)) => {
                self.complain("the loader refuses", &error);
                Some(false)
            }
            Err(error) => {
                // What it did or did not do, the next one is told afresh.
                self.lose(Some(&error));
                None
            }
        }
    }

    /// Tells the loader how the node is, and takes what it wants.
    fn report(&mut self) {
        let Some(connection) = self.connection.as_ref().filter(|_| !self.is_mute) else {
            return;
        };
        match connection.report(self.report.state()) {
            Ok(true) => self.report.want_drain(),
            Ok(false) => {}
            Err(LoaderError::Refused(refusal)) => {
                self.is_mute = refusal.kind == RefusalKind::Malformed;
            }
            Err(error) => return self.lose(Some(&error)),
        }
        self.describe();
    }

    /// Tells it the rest.
    fn describe(&mut self) {
        let wanted = !self.is_mute && !self.is_undescribed;
        let (Some(connection), Some(status)) = (
            self.connection.as_ref().filter(|_| wanted),
            self.report.take_status(),
        ) else {
            return;
        };
        match connection.command(&Request::Describe { status }) {
            Ok(()) => {}
            Err(LoaderError::Refused(refusal)) => {
                self.is_undescribed = refusal.kind == RefusalKind::Malformed;
            }
            Err(error) => self.lose(Some(&error)),
        }
    }

    fn lose(&mut self, error: Option<&LoaderError>) {
        self.connection = None;
        let error = error.map(tracing::field::display);
        match self.address {
            Some(_) => tracing::warn!(
                error,
                "the loader is gone: packets go on, new sessions wait for its return"
            ),
            None => tracing::warn!(
                error,
                "mixctld is gone: all goes on, and keys are kept as long as this process lives"
            ),
        }
    }

    /// Notices a loader that is gone, and looks for a new one.
    fn look(&mut self) {
        if self.connection.as_ref().is_some_and(Connection::is_lost) {
            self.lose(None);
        }
        if self.connection.is_some() {
            return;
        }
        let back = Connection::connect(&self.path).and_then(|connection| {
            // Keys first: sockets can be made anew. A loader that takes none, an older one say, is a loader still.
            match self.kept.as_ref().map(|kept| connection.resume_vault(kept)) {
                Some(Err(error @ LoaderError::Refused(_))) => tracing::error!(
                    %error,
                    "the loader does not take the keys back: they end with this process"
                ),
                resumed => resumed.transpose().map(|_| ())?,
            }
            if let Some(address) = self.address {
                let indices = self.indices.iter().map(|(&index, &source)| (index, source));
                connection.resume(address, indices)?;
            }
            Ok(connection)
        });
        match back {
            Ok(connection) => {
                self.connection = Some(connection);
                self.is_mute = false;
                self.is_undescribed = false;
                self.complaint.clear();
                tracing::info!(indices = self.indices.len(), "the loader is back");
                if self.address.is_some() {
                    self.tell_peers();
                }
            }
            Err(error) => {
                self.complain("can't reach the loader, and keep trying", &error);
            }
        }
    }

    /// Says something once: what strangers can cause over and over must not fill the log.
    fn complain(&mut self, what: &str, error: &LoaderError) {
        let complaint = error.to_string();
        if complaint != self.complaint {
            tracing::warn!(error = %complaint, "{what}");
            self.complaint = complaint;
        }
    }
}
