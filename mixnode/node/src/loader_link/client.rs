//! The thread that keeps the connection to the loader, and the handle through which the others reach it.
//!
//! The loader can be restarted at any time: packets go on, because sockets and maps outlive it. Meanwhile no receiver
//! index can be let in, so no handshake is answered; its sender tries again. The thread connects again ten times a
//! second, and tells the new loader what is in use.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::connection::{Connection, LoaderError};
use super::indices::Indices;
use handover::protocol::{ADDRESSES_MAX, Peer, Request};

/// Commands that may wait: a burst of sessions that end, beside the handshakes of one thread.
pub const QUEUE_COMMANDS: usize = 4096;
/// Time between attempts to reach a loader that is gone, and between looks whether it is.
const RECONNECT: Duration = Duration::from_millis(100);
/// How long a handshake waits for its index. Longer than the connection's patience: that ends first.
const ADMIT_PATIENCE: Duration = Duration::from_secs(10);

/// What the thread is asked.
enum Command {
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
}

impl Loader {
    /// A handle, and what runs behind it: give that a thread. `connection` is the one that has opened the sockets of
    /// the node at `address`, `path` where the loader is found again.
    pub fn new(connection: Connection, path: PathBuf, address: SocketAddr) -> (Loader, Keeper) {
        let (commands, queue) = bounded(QUEUE_COMMANDS);
        let keeper = Keeper {
            connection: Some(connection),
            path,
            address,
            queue,
            indices: BTreeMap::new(),
            peers: Vec::new(),
            tried: Instant::now(),
            complaint: String::new(),
        };
        (Loader { commands }, keeper)
    }

    /// Says that the rings are filled, so that packets are steered to the sockets.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn ready(&self) -> Result<(), LoaderError> {
        let (done, answer) = bounded(1);
        let gone = || LoaderError::Lost(std::io::ErrorKind::NotConnected.into());
        self.commands
            .send(Command::Ready { done })
            .map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
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
    address: SocketAddr,
    queue: Receiver<Command>,
    /// Let in so far, and whose they are: what a new loader is told.
    indices: BTreeMap<u32, Option<IpAddr>>,
    peers: Vec<Peer>,
    /// When a connection was last tried or looked at.
    tried: Instant,
    /// What was last logged about it, so that it is logged once.
    complaint: String,
}

impl Keeper {
    /// Serves commands until every [`Loader`] is gone.
    pub fn run(mut self) {
        loop {
            match self.queue.recv_timeout(RECONNECT) {
                Ok(command) => self.serve(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.tried.elapsed() >= RECONNECT {
                self.tried = Instant::now();
                self.look();
            }
        }
    }

    fn serve(&mut self, command: Command) {
        match command {
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
                    None => Err(LoaderError::Lost(std::io::ErrorKind::NotConnected.into())),
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
                self.connection = None;
                tracing::warn!(%error, "the loader is gone: packets go on, new sessions wait for its return");
                None
            }
        }
    }

    /// Notices a loader that is gone, and looks for a new one.
    fn look(&mut self) {
        if self.connection.as_ref().is_some_and(Connection::is_lost) {
            self.connection = None;
            tracing::warn!("the loader is gone: packets go on, new sessions wait for its return");
        }
        if self.connection.is_some() {
            return;
        }
        let back = Connection::connect(&self.path).and_then(|connection| {
            let indices = self.indices.iter().map(|(&index, &source)| (index, source));
            connection.resume(self.address, indices)?;
            Ok(connection)
        });
        match back {
            Ok(connection) => {
                self.connection = Some(connection);
                self.complaint.clear();
                tracing::info!(indices = self.indices.len(), "the loader is back");
                self.tell_peers();
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
