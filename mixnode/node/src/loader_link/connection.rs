//! A node's connection to the loader: questions and answers, one at a time.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use handover::channel::Channel;
use handover::protocol::{
    ADDRESSES_MAX, InterfaceStatus, LIST_MAX, NodeState, Opened, Peer, Refusal, Reply, Request,
};
use handover::vault::Table;
use port::QueueSocket;

use super::kept::Kept;
use crate::keys::vault::VaultMemory;

/// How long the loader may take to answer: what it does takes microseconds, but for sockets that another process is
/// about to give up, which it tries for a second.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Why the loader was of no use.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Nobody there, or not for this user.
    #[error(
        "no loader at {}: {error}: start mixctld with node_user in its [xdp] or [keys], or --node-user, naming this node's user (and \
         --no-xdp where there is no XDP), or correct the loader that [xdp] or [keys] names",
        path.display()
    )]
    Unreachable {
        /// Where it was looked for.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// It said no, why, and what to do.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection broke or the answer did not come.
    #[error("the loader did not answer: {0}: see its log, and start it again")]
    Lost(#[from] io::Error),
    /// An answer of another kind than the question.
    #[error("the loader answered what makes no sense here ({0}): use the mixctld of this version")]
    Senseless(&'static str),
}

/// What is in the way where the path leads to something else than a socket. The kernel says that nobody listens there,
/// and that would be waited for for ever.
fn no_socket(path: &Path) -> Option<io::Error> {
    let found = std::fs::metadata(path).ok()?;
    let text = "this is no socket: name the one of mixctld";
    let error = || io::Error::new(io::ErrorKind::InvalidInput, text);
    (!found.file_type().is_socket()).then(error)
}

/// What the kernel calls "temporarily unavailable" when patience is lost.
fn no_answer(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            let text = format!("it stands still: no answer within {ANSWER_PATIENCE:?}");
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}

/// One worker's part of the packet memory.
#[derive(Debug)]
pub struct WorkerMemory {
    /// The memfd.
    pub memory: OwnedFd,
    /// Sockets that have it as theirs.
    pub sockets: Vec<QueueSocket>,
}

/// What the loader handed over.
#[derive(Debug)]
pub struct Handover {
    /// What it said of it.
    pub opened: Opened,
    /// By worker.
    pub workers: Vec<WorkerMemory>,
}

/// A connection. The loader answers in order, so one question at a time needs no numbers.
#[derive(Debug)]
pub struct Connection {
    channel: Channel,
}

impl Connection {
    /// Connects to the loader at `path`, which has five seconds for that and for every answer.
    ///
    /// # Errors
    /// [`LoaderError::Unreachable`].
    pub fn connect(path: &Path) -> Result<Connection, LoaderError> {
        let unreachable = |error| LoaderError::Unreachable {
            path: path.to_owned(),
            error,
        };
        let channel = Channel::connect_within(path, ANSWER_PATIENCE)
            .map_err(|error| unreachable(no_socket(path).unwrap_or(no_answer(error))))?;
        Ok(Connection { channel })
    }

    /// What is attached where.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn status(&self) -> Result<Vec<InterfaceStatus>, LoaderError> {
        match self.ask(&Request::Status)? {
            (Reply::Status { interfaces }, _) => Ok(interfaces),
            _ => Err(LoaderError::Senseless("no status")),
        }
    }

    /// Asks for the sockets and packet memory of a node at `address`: `frames` of each worker.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn open(
        &self,
        address: SocketAddr,
        frames: &[u32],
        busy_poll: bool,
    ) -> Result<Handover, LoaderError> {
        let request = Request::Open {
            address,
            frames: frames.to_vec(),
            busy_poll,
        };
        let (reply, descriptors) = self.ask(&request)?;
        let Reply::Opened(opened) = reply else {
            return Err(LoaderError::Senseless("no sockets"));
        };
        let sockets: usize = opened.queues.iter().map(Vec::len).sum();
        let empty = opened.queues.iter().any(Vec::is_empty);
        if opened.queues.len() != frames.len()
            || empty
            || descriptors.len() != sockets + frames.len()
        {
            return Err(LoaderError::Senseless("sockets of another number"));
        }
        let mut descriptors: VecDeque<OwnedFd> = descriptors.into();
        let mut workers = Vec::new();
        for queues in &opened.queues {
            let Some(memory) = descriptors.pop_front() else {
                return Err(LoaderError::Senseless("too few descriptors"));
            };
            // Their number was just compared, so none of these is cut short.
            let sockets = queues
                .iter()
                .zip(descriptors.drain(..queues.len().min(descriptors.len())))
                .map(|(&queue, socket)| QueueSocket { queue, socket })
                .collect();
            workers.push(WorkerMemory { memory, sockets });
        }
        Ok(Handover { opened, workers })
    }

    /// Tells a loader that came back of the node that has its sockets still, and of its `indices` with
    /// the sources they belong to.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn resume(
        &self,
        address: SocketAddr,
        mut indices: impl Iterator<Item = (u32, Option<IpAddr>)>,
    ) -> Result<(), LoaderError> {
        let mut part: Vec<_> = indices.by_ref().take(LIST_MAX).collect();
        loop {
            let next: Vec<_> = indices.by_ref().take(LIST_MAX).collect();
            let more = !next.is_empty();
            self.command(&Request::Resume {
                address,
                indices: part,
                more,
            })?;
            if !more {
                return Ok(());
            }
            part = next;
        }
    }

    /// Asks for the vault and the tables of the node with this identity.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn vault(&self, identity: &[u8; 32]) -> Result<VaultMemory, LoaderError> {
        let identity = *identity;
        let (reply, descriptors) = self.ask(&Request::Vault { identity })?;
        let Reply::Vault { tables, origin } = reply else {
            return Err(LoaderError::Senseless("no vault"));
        };
        let count = descriptors.len();
        let mut descriptors = descriptors.into_iter();
        match descriptors.next() {
            Some(memory) if count == tables.len() + 1 => Ok(VaultMemory {
                origin,
                memory,
                tables: tables.into_iter().zip(descriptors).collect(),
            }),
            _ => Err(LoaderError::Senseless("tables of another number")),
        }
    }

    /// Asks for the replay table of an epoch.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn table(&self, table: Table) -> Result<OwnedFd, LoaderError> {
        let (reply, mut descriptors) = self.ask(&Request::Table(table))?;
        match (reply, descriptors.pop(), descriptors.pop()) {
            (Reply::Done, Some(memory), None) => Ok(memory),
            _ => Err(LoaderError::Senseless("no table")),
        }
    }

    /// Brings a loader that came back what the node has kept.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn resume_vault(&self, kept: &Kept) -> Result<(), LoaderError> {
        let tables = kept.tables.values().map(|(table, _)| *table);
        let request = Request::ResumeVault {
            identity: kept.identity,
            tables: tables.collect(),
        };
        let mut descriptors = vec![kept.vault.as_fd()];
        descriptors.extend(kept.tables.values().map(|(_, memory)| memory.as_fd()));
        match self.ask_with(&request, &descriptors)? {
            (Reply::Done, _) => Ok(()),
            _ => Err(LoaderError::Senseless("more than was asked for")),
        }
    }

    /// Tells of the nodes of the consensus, in place of what was told before.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn peers(&self, peers: &[Peer]) -> Result<(), LoaderError> {
        let (first, rest) = peers.split_at(peers.len().min(ADDRESSES_MAX));
        let parts = std::iter::once(first).chain(rest.chunks(ADDRESSES_MAX));
        for (number, part) in parts.enumerate() {
            self.command(&Request::Peers {
                peers: part.to_vec(),
                append: number > 0,
            })?;
        }
        Ok(())
    }

    /// Says how the node is; whether it is to leave the network.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn report(&self, state: NodeState) -> Result<bool, LoaderError> {
        match self.ask(&Request::Report { state })? {
            (Reply::Reported { drain }, _) => Ok(drain),
            _ => Err(LoaderError::Senseless("nothing that answers a report")),
        }
    }

    /// Sends `request`, whose answer is [`Reply::Done`].
    ///
    /// # Errors
    /// [`LoaderError`].
    pub fn command(&self, request: &Request) -> Result<(), LoaderError> {
        match self.ask(request)? {
            (Reply::Done, _) => Ok(()),
            _ => Err(LoaderError::Senseless("more than was asked for")),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), LoaderError> {
        self.ask_with(request, &[])
    }

    fn ask_with(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), LoaderError> {
        self.channel.send(request, descriptors).map_err(no_answer)?;
        match self.channel.receive::<Reply>().map_err(no_answer)? {
            None => Err(LoaderError::Lost(io::ErrorKind::ConnectionReset.into())),
            Some((Reply::Refused(refusal), _)) => Err(LoaderError::Refused(refusal)),
            Some(answer) => Ok(answer),
        }
    }

    /// Whether the loader has closed it. Only between questions: it says nothing unasked.
    pub fn is_lost(&self) -> bool {
        let mut ready = [PollFd::from_borrowed_fd(
            self.channel.as_fd(),
            PollFlags::IN,
        )];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0)
    }
}
