//! One thread, one poll loop: connections, rights, requests.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use handover::channel::Channel;
use handover::protocol::{ADDRESSES_MAX, Needs, Opened, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketFlags;

use super::leaving::Leaving;
use super::maps::{INDICES_MAX, Indices};
use super::open::{self, Opening};
use super::sockets::{self, Peer};
use super::state::{ConnectionId, Owner, State};
use super::vault::Vaults;
use super::{User, boot_ns, explain, interface};
use crate::error::LoaderError;

/// Connections at a time: a node and a few operators.
const CONNECTIONS_MAX: usize = 64;
/// Between attempts to bind to a queue that is taken.
const BUSY_RETRY: Duration = Duration::from_millis(20);

struct Connection {
    channel: Channel,
    peer: Peer,
    /// Sockets being made or bound for it; its next request waits for them.
    opening: Option<Opening>,
    /// Made and handed over, not yet steered to.
    handed: Option<Opening>,
    /// Receiver indices of a `Resume` that is not all here yet.
    resumed: Indices,
}

/// What a request comes to: at once, or when its sockets are made.
enum Answer {
    Now(Reply),
    /// At once, with descriptors beside it.
    With(Reply, Vec<OwnedFd>),
    Later,
}

/// What is to happen now and then, for as long as the loop turns.
struct Pulse {
    every: Duration,
    next: Instant,
    beat: Box<dyn FnMut() + Send>,
}

pub(super) struct Server {
    listener: OwnedFd,
    state: State,
    vaults: Vaults,
    pub(super) leaving: Leaving,
    node_uid: Option<u32>,
    own_uid: u32,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: ConnectionId,
    pulse: Option<Pulse>,
    /// Sockets are bound when their node is ready: see [`open::binds_late`].
    pub(super) binds_late: bool,
}

impl Server {
    pub fn new(listener: OwnedFd, state: State, vaults: Vaults, node_user: Option<User>) -> Server {
        Server {
            listener,
            state,
            vaults,
            leaving: Leaving::default(),
            node_uid: node_user.map(|user| user.uid),
            own_uid: rustix::process::geteuid().as_raw(),
            connections: BTreeMap::new(),
            next_connection: 1,
            pulse: None,
            binds_late: open::binds_late(),
        }
    }

    /// Has `beat` called about every so often.
    pub fn beat(&mut self, every: Duration, beat: Box<dyn FnMut() + Send>) {
        let next = Instant::now();
        self.pulse = Some(Pulse { every, next, beat });
    }

    /// Serves until `stop` is readable or closed.
    pub fn run(&mut self, stop: &OwnedFd) -> Result<(), LoaderError> {
        loop {
            if let Some(pulse) = &mut self.pulse
                && Instant::now() >= pulse.next
            {
                (pulse.beat)();
                pulse.next = Instant::now() + pulse.every;
            }
            let (stopped, knocked, ready) = self.wait(stop)?;
            if stopped {
                return Ok(());
            }
            // In the order of the connections' ages: a dead node's end is seen before its successor's request.
            for id in ready {
                self.serve(id);
            }
            self.go_on_opening();
            self.state.expire(Instant::now());
            self.vaults.expire(Instant::now(), boot_ns());
            if knocked {
                self.accept();
            }
        }
    }

    /// Waits for something to do: whether to stop, whether somebody knocks, which connections have something.
    fn wait(&self, stop: &OwnedFd) -> Result<(bool, bool, Vec<ConnectionId>), LoaderError> {
        let mut ids = Vec::with_capacity(self.connections.len());
        let mut polled = vec![
            PollFd::new(stop, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let mut timeout = None;
        for (id, connection) in &self.connections {
            // A closed connection is reported whatever is asked for.
            let busy = connection.opening.is_some();
            let events = if busy {
                PollFlags::empty()
            } else {
                PollFlags::IN
            };
            timeout = if busy { Some(BUSY_RETRY) } else { timeout };
            polled.push(PollFd::new(&connection.channel, events));
            ids.push(*id);
        }
        let pulse = self.pulse.as_ref().map(|pulse| pulse.next);
        for deadline in self.state.next_deadline().into_iter().chain(pulse) {
            let left = deadline.saturating_duration_since(Instant::now());
            timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
        }
        if let Some(left) = self.vaults.next_look(Instant::now(), boot_ns()) {
            timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, false, Vec::new())),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let has = |index: usize| {
            polled
                .get(index)
                .is_some_and(|found| !found.revents().is_empty())
        };
        let ready = ids
            .into_iter()
            .enumerate()
            .filter(|(index, _)| has(index + 2));
        Ok((has(0), has(1), ready.map(|(_, id)| id).collect()))
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = rustix::net::accept_with(&self.listener, flags);
        let (socket, peer) = match accepted {
            Ok(socket) => match sockets::peer(socket.as_fd()) {
                Ok(peer) => (socket, peer),
                Err(error) => return tracing::warn!("a connection without credentials: {error}"),
            },
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => return,
            Err(error) => {
                // It stays readable: not to spin while descriptors are short.
                std::thread::sleep(BUSY_RETRY);
                return tracing::warn!("can't accept a connection: {error}");
            }
        };
        if self.connections.len() >= CONNECTIONS_MAX {
            // An operator's connection asks and is done: the oldest that does nothing gives way, so that nobody keeps
            // the others out by holding connections open.
            let Some(idle) = self.oldest_idle() else {
                return tracing::warn!("{CONNECTIONS_MAX} connections: one more is turned away");
            };
            tracing::debug!(
                "{CONNECTIONS_MAX} connections: the oldest that does nothing is closed"
            );
            self.end(idle);
        }
        let connection = Connection {
            channel: Channel::from_socket(socket),
            peer,
            opening: None,
            handed: None,
            resumed: Indices::new(),
        };
        self.connections.insert(self.next_connection, connection);
        self.next_connection += 1;
    }

    /// The oldest connection that has no attachment and is getting none.
    fn oldest_idle(&mut self) -> Option<ConnectionId> {
        let idle =
            |connection: &Connection| connection.opening.is_none() && connection.resumed.is_empty();
        let connections = self.connections.iter();
        let idle = connections.filter(|(_, connection)| idle(connection));
        let idle: Vec<ConnectionId> = idle.map(|(id, _)| *id).collect();
        idle.into_iter().find(|id| !self.is_a_nodes(*id))
    }

    /// Whether a node has sockets or keys by this connection.
    fn is_a_nodes(&mut self, id: ConnectionId) -> bool {
        self.vaults.is_owner(id) || self.state.owned(id).is_some()
    }

    /// Takes one request of a connection, if there is one, and answers it.
    fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if connection.opening.is_some() {
            // Only its end is reported meanwhile.
            return self.end(id);
        }
        let answer = match connection.channel.receive::<Request>() {
            Ok(Some((request, descriptors))) => self.handle(id, request, descriptors),
            Ok(None) => return self.end(id),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return,
                io::ErrorKind::InvalidData => Err(LoaderError::Malformed(error)),
                _ => return self.end(id),
            },
        };
        match answer {
            Ok(Answer::Now(reply)) => self.reply(id, &reply, &[]),
            Ok(Answer::With(reply, descriptors)) => self.reply(id, &reply, &descriptors),
            Ok(Answer::Later) => {}
            Err(error) => self.refuse(id, &error),
        }
    }

    /// Descriptors that nobody asked for are closed when it is done.
    fn handle(
        &mut self,
        id: ConnectionId,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Answer, LoaderError> {
        let connection = self.connections.get_mut(&id).ok_or(LoaderError::NotANode)?;
        let peer = connection.peer;
        let operator = peer.uid == 0 || peer.uid == self.own_uid;
        let allowed = match request.needs() {
            Needs::Nothing => true,
            Needs::Node => operator || Some(peer.uid) == self.node_uid,
            Needs::Operator => operator,
        };
        if !allowed {
            return Err(LoaderError::NotAllowed { uid: peer.uid });
        }
        let done = match request {
            Request::Attach {
                interface,
                port,
                allow_generic,
                capacity_pps,
            } => {
                let attached = self
                    .state
                    .attach(&interface, port, allow_generic, capacity_pps)?;
                tracing::info!("{interface}: the program is attached for UDP port {port}");
                attached
            }
            Request::Detach { interface } => {
                let detached = self.state.detach(&interface)?;
                tracing::info!("{interface}: the program is off");
                detached
            }
            Request::Status => {
                self.state.look()?;
                self.state.status()?
            }
            Request::Stats => self.state.stats()?,
            Request::Open {
                address,
                frames,
                busy_poll,
            } => {
                if self.state.owned(id).is_some() {
                    return Err(LoaderError::AlreadyANode);
                }
                connection.handed = None;
                let interface = self.state.claim(Owner {
                    connection: id,
                    pid: peer.pid,
                    address,
                })?;
                let opening = sockets::receive_queues(&interface.name)
                    .map_err(|error| explain::socket(&interface.name, error))
                    .and_then(|queues| {
                        let (ipv6, late) = (address.is_ipv6(), self.binds_late);
                        Opening::new(interface, queues, frames, ipv6, busy_poll, late)
                    });
                match opening {
                    Ok(opening) => connection.opening = Some(opening),
                    Err(error) => {
                        self.state.ended(id);
                        return Err(error);
                    }
                }
                return Ok(Answer::Later);
            }
            Request::Ready => {
                let mut handed = connection.handed.take().ok_or(LoaderError::NotANode)?;
                handed.ask();
                connection.opening = Some(handed);
                return Ok(Answer::Later);
            }
            Request::Resume {
                address,
                indices,
                more,
            } => {
                connection.resumed.extend(indices);
                let max = INDICES_MAX as usize;
                if connection.resumed.len() > max {
                    connection.resumed.clear();
                    return Err(LoaderError::TooManyIndices { max });
                }
                if !more {
                    let indices = std::mem::take(&mut connection.resumed);
                    let owner = Owner {
                        connection: id,
                        pid: peer.pid,
                        address,
                    };
                    self.state.resume(owner, &indices)?;
                    if let Some((interface, _)) = self.state.owned(id) {
                        tracing::info!("{interface}: its node is back");
                    }
                }
                Reply::Done
            }
            Request::AddIndex { index, source } => {
                self.state.write(id, |maps| maps.add_index(index, source))?;
                Reply::Done
            }
            Request::RemoveIndex { index } => {
                self.state.write(id, |maps| maps.remove_index(index))?;
                Reply::Done
            }
            Request::Peers { peers, append } => {
                self.state
                    .write(id, |maps| maps.set_peers(&peers, append))?;
                Reply::Done
            }
            Request::Refresh { next_hops } => {
                let (name, _) = self.state.owned(id).ok_or(LoaderError::NotANode)?;
                let Some(interface) = interface::named(name)? else {
                    return Err(LoaderError::InterfaceGone {
                        interface: name.clone(),
                    });
                };
                // A refusal is of one next hop, which the node finds unresolved.
                let next_hops = next_hops.get(..ADDRESSES_MAX).unwrap_or(&next_hops);
                if let Err(error) = interface::refresh(interface.index, next_hops) {
                    tracing::debug!("{}: {error}", interface.name);
                }
                Reply::Done
            }
            Request::Vault { identity } => {
                let handed = self.vaults.open(id, peer.pid, identity)?;
                let reply = Reply::Vault {
                    tables: handed.tables,
                    origin: handed.origin,
                };
                return Ok(Answer::With(reply, handed.descriptors));
            }
            Request::Table(table) => {
                let memory = self.vaults.table(id, table)?;
                return Ok(Answer::With(Reply::Done, vec![memory]));
            }
            Request::Erase { epoch } => {
                self.vaults.erase(id, epoch)?;
                Reply::Done
            }
            Request::ResumeVault { identity, tables } => {
                self.vaults
                    .resume(id, peer.pid, identity, &tables, descriptors)?;
                tracing::info!(
                    tables = tables.len(),
                    "a node has brought its keys and replay tables back"
                );
                Reply::Done
            }
            Request::Report { .. } | Request::Describe { .. } if !self.is_a_nodes(id) => {
                return Err(LoaderError::NotANode);
            }
            Request::Report { state } => self.leaving.report(id, state),
            Request::Describe { status } => self.leaving.describe(id, *status)?,
            Request::Drain => self.leaving.drain(),
            Request::Node => self.leaving.node(),
        };
        Ok(Answer::Now(done))
    }

    /// Goes on with sockets being made or bound.
    fn go_on_opening(&mut self) {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let Some(opening) = connection.opening.as_mut() else {
                continue;
            };
            match opening.step() {
                Ok(false) => {}
                Ok(true) if opening.is_asked() => self.steer(id),
                Ok(true) => self.hand_over(id),
                Err(error) => {
                    connection.opening = None;
                    self.state.ended(id);
                    self.refuse(id, &error);
                }
            }
        }
    }

    fn hand_over(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(opening) = connection.opening.take() else {
            return;
        };
        let Some((_, attachment)) = self.state.owned(id) else {
            // Taken off meanwhile.
            return self.refuse(id, &LoaderError::NotANode);
        };
        let interface = opening.interface();
        let opened = Opened {
            interface: interface.name.clone(),
            interface_index: interface.index,
            mac: interface.mac.unwrap_or_default(),
            mode: attachment.mode,
            zero_copy: opening.zero_copy(),
            queues: opening.queues().to_vec(),
            indices_max: attachment.maps.indices_max(),
        };
        let mut descriptors = Vec::new();
        for worker in opening.workers() {
            descriptors.push(worker.memory.as_fd());
            descriptors.extend(worker.sockets.iter().map(|(_, socket)| socket.as_fd()));
        }
        if let Err(error) = connection
            .channel
            .send(&Reply::Opened(opened), &descriptors)
        {
            tracing::warn!("can't hand the sockets over: {error}");
            return self.end(id);
        }
        connection.handed = Some(opening);
    }

    fn steer(&mut self, id: ConnectionId) {
        let connection = self.connections.get_mut(&id);
        let Some(opening) = connection.and_then(|connection| connection.opening.take()) else {
            return;
        };
        if let Err(error) = self.state.steer(id, opening.into_sockets()) {
            return self.refuse(id, &error);
        }
        if let Some((interface, _)) = self.state.owned(id) {
            tracing::info!("{interface}: packets are steered to the node");
        }
        self.reply(id, &Reply::Done, &[]);
    }

    fn refuse(&mut self, id: ConnectionId, error: &LoaderError) {
        tracing::warn!("refused: {error}");
        self.reply(id, &Reply::Refused(error.refusal()), &[]);
    }

    fn reply(&mut self, id: ConnectionId, reply: &Reply, descriptors: &[OwnedFd]) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        // A peer that does not read its replies is as good as gone.
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        if let Err(error) = connection.channel.send(reply, &descriptors) {
            tracing::debug!("can't reply: {error}");
            self.end(id);
        }
    }

    fn end(&mut self, id: ConnectionId) {
        // Sockets first: what the loader still holds of them would keep their queues taken.
        self.connections.remove(&id);
        self.state.ended(id);
        self.vaults.ended(id);
        self.leaving.ended(id);
    }
}
