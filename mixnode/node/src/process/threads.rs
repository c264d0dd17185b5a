//! Everything that runs beside the control loop: workers, handshakes, metrics.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use directory::{Parameters, Role};
use handover::protocol::NodeState;
use link::LinkKeys;
use rand_core::SeedableRng;
use sphinx::Generator;
use sphinx::lanes::Lanes;

use super::describe::{describe, longest_loop};
use super::fast_path::{FastPath, nodes, peers};
use super::mixctld::{KEYS_OF_THIS_PROCESS, Link};
use super::notices::Notices;
use super::seat::{Start, Way, settings};
use super::{MEAN_DELAY_US, NodeError, pool_frames, system, unix_ms};
use crate::assembly::Assembly;
use crate::handshake::{self, Handshaker, Members};
use crate::keys::epoch::EpochState;
use crate::loader_link::Loader;
use crate::path::epochs::EPOCH_SLOTS;
use crate::path::mail::{Mail, Mailbox};
use crate::process::config::Config;
use crate::process::follower::Follower;
use crate::process::metrics::{Facts, Listener, Sources, Standing};
use crate::process::sandbox::{self, Calls, Confinement};
use crate::process::status::{Collector, NodeStatus, XdpStatus};
use handover::status::NodeStatus as Described;
use port::{EventFd, Exclusive, Resolved, SocketOptions, socket};

/// How long the workers may take to map their memory and set up their ports.
const READY_PATIENCE: Duration = Duration::from_secs(120);

/// What is opened before the node gives up its rights.
pub(super) struct Opened {
    pub exclusive: Exclusive,
    pub resolved: Resolved,
    pub link_keys: LinkKeys,
    /// By worker.
    sockets: Vec<UdpSocket>,
    assembly: Assembly,
    metrics: Option<Listener>,
}

impl Opened {
    pub fn open(
        config: &Config,
        exclusive: Exclusive,
        resolved: Resolved,
        link_keys: LinkKeys,
    ) -> Result<Opened, NodeError> {
        let count = config.worker.count.max(1);
        let (mut sockets, mut events) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let event = EventFd::new().map_err(system("no event descriptor"))?;
            events.push(Arc::new(event));
            let options = SocketOptions {
                shared: count > 1,
                ..SocketOptions::new(exclusive.address())
            };
            sockets.push(socket::open(&options).map_err(system("can't open the UDP socket"))?);
        }
        let metrics = config.metrics.listen.map(|address| {
            Listener::bind(address).map_err(|error| NodeError::Metrics { address, error })
        });
        Ok(Opened {
            exclusive,
            resolved,
            link_keys,
            sockets,
            assembly: Assembly::new(events, config.node.role == Role::Gateway)
                .map_err(system("no memory for the counters"))?,
            metrics: metrics.transpose()?,
        })
    }
}

pub(super) fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, NodeError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(system("can't start a thread"))
}

/// What is remembered of an epoch.
struct Known {
    epoch: u32,
    /// This node's layer, if it is in the consensus.
    layer: Option<u8>,
    /// The others and their shares of the traffic, packets a second.
    nodes: Vec<(IpAddr, u32)>,
}

/// Everything that runs beside the control loop.
pub(super) struct Threads {
    mailboxes: Vec<Mailbox>,
    /// Letters that did not fit yet, by worker: epochs must not be lost.
    pending: Vec<Vec<Arc<EpochState>>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    services: Vec<JoinHandle<()>>,
    /// One message a worker: its port exists.
    readiness: Receiver<()>,
    /// Ends workers without further draining.
    halt: Arc<AtomicBool>,
    /// Ends handshakes and metrics.
    end: Arc<AtomicBool>,
    sources: Arc<Sources>,
    address: SocketAddr,
    fast_path: Option<FastPath>,
    keeper: Option<JoinHandle<()>>,
    loader: Option<Loader>,
    /// The loader knows the nodes of the newest epoch.
    peers_told: bool,
    /// Held until the workers have ended.
    exclusive: Option<Exclusive>,
    /// The newest epochs, as many as packets may be of.
    known: VecDeque<Known>,
    /// The last epoch in which it serves, as the clients were told.
    said_until: Option<u32>,
    /// What the handshaker knows of other nodes.
    pub members: Arc<Members>,
}

impl Threads {
    /// Starts them all, but for that of the link to the loader, which runs. [`Threads::seal`] must follow.
    pub fn start(
        config: &Config,
        opened: Opened,
        link: Option<Link>,
        confinement: Confinement,
        parameters: Option<&Parameters>,
        rng: &mut Generator,
    ) -> Result<Threads, NodeError> {
        let lanes = Lanes::from_env_or_detect();
        let Assembly {
            mailboxes,
            requests,
            members,
            seats,
        } = opened.assembly;
        let published = seats.iter().map(|seat| Arc::clone(&seat.published));
        let collector = Collector::new(published.collect())
            .map_err(|error| NodeError::Worker(error.to_string()))?;
        let address = opened.exclusive.address();
        let mean_delay_us = parameters.map_or(MEAN_DELAY_US, |parameters| parameters.mean_delay_us);
        let frames = pool_frames(config, mean_delay_us);
        let (loader, keeper, keys_origin) = match link {
            Some(Link {
                loader,
                keeper,
                keys_origin,
            }) => (Some(loader), Some(keeper), keys_origin),
            None => (None, None, KEYS_OF_THIS_PROCESS),
        };
        let mut fast_path = match (&opened.resolved, loader.clone()) {
            (Resolved::Xsk, Some(loader)) => Some(FastPath::open(config, address, frames, loader)?),
            _ => None,
        };
        let facts = Facts {
            port: opened.resolved.name(),
            lanes: lanes.name(),
            keys_origin,
            confinement,
            floor_bits: config.anonymity.floor_bits,
            xdp: fast_path.as_ref().map(FastPath::facts),
        };
        let memories = fast_path
            .as_mut()
            .map(|fast_path| std::mem::take(&mut fast_path.workers))
            .unwrap_or_default();
        let (ready, readiness) = bounded(mailboxes.len());
        let mut threads = Threads {
            pending: mailboxes.iter().map(|_| Vec::new()).collect(),
            mailboxes,
            workers: Vec::new(),
            services: Vec::new(),
            readiness,
            halt: Arc::new(AtomicBool::new(false)),
            end: Arc::new(AtomicBool::new(false)),
            sources: Arc::new(Sources::new(collector, facts)),
            exclusive: None,
            address,
            fast_path,
            keeper,
            loader,
            peers_told: true,
            known: VecDeque::new(),
            said_until: None,
            members: Arc::clone(&members),
        };
        let mut handshaker = Handshaker::new(opened.link_keys, members, Generator::from_rng(rng));
        if let Some(fast_path) = &threads.fast_path {
            handshaker = handshaker.with_indices(Box::new(fast_path.loader.clone()));
        }
        let (boxes, end) = (threads.mailboxes.clone(), Arc::clone(&threads.end));
        let sources = Arc::clone(&threads.sources);
        threads.spawn("handshake", move || {
            let counters = &sources.handshakes;
            handshake::thread::run(handshaker, &requests, &boxes, counters, &end);
        })?;
        if let Some(listener) = opened.metrics {
            let (sources, end) = (Arc::clone(&threads.sources), Arc::clone(&threads.end));
            threads.spawn("metrics", move || listener.serve(&sources, &end))?;
        }
        let mut memories = memories.into_iter();
        for (socket, seat) in opened.sockets.into_iter().zip(seats) {
            let number = seat.number;
            let begin = Start {
                seat,
                settings: settings(config, frames, address),
                lanes,
                rng: Generator::from_rng(rng),
                pin: config.worker.pin,
                busy_poll_ns: u64::from(config.worker.busy_poll_us) * 1_000,
                halt: Arc::clone(&threads.halt),
                loader: threads
                    .fast_path
                    .as_ref()
                    .map(|fast_path| fast_path.loader.clone()),
                ready: ready.clone(),
            };
            let way = match (&threads.fast_path, memories.next()) {
                (Some(fast_path), Some(memory)) => Way::Xsk {
                    memory,
                    interface_index: fast_path.opened.interface_index,
                    mac: fast_path.opened.mac,
                    routes: Arc::clone(&fast_path.routes),
                },
                _ if opened.resolved == Resolved::Uring => Way::Uring,
                _ => Way::Plain,
            };
            let handle = start(&format!("worker-{number}"), move || begin.work(socket, way))?;
            threads.workers.push(handle);
        }
        threads.exclusive = Some(opened.exclusive);
        Ok(threads)
    }

    /// Waits for the workers' ports, then takes from every thread the system calls that it won't need.
    pub fn seal(&mut self, config: &Config) -> Result<(), NodeError> {
        let until = Instant::now() + READY_PATIENCE;
        for _ in 0..self.workers.len() {
            match self.readiness.recv_deadline(until) {
                Ok(()) => {}
                // A worker that failed says why.
                Err(RecvTimeoutError::Disconnected) => self.check()?,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(NodeError::Worker("its port does not come up".to_owned()));
                }
            }
        }
        if let Some(fast_path) = &mut self.fast_path {
            fast_path.ready()?;
            fast_path.announce();
        }
        let facts = self.facts();
        let calls = Calls {
            loader: self.keeper.is_some(),
        };
        let confinement = sandbox::seal(config.sandbox.mode, calls, facts.confinement)?;
        self.sources.facts.store(Arc::new(Facts {
            confinement,
            xdp: self.fast_path.as_ref().map(FastPath::facts),
            ..Facts::clone(&facts)
        }));
        Ok(())
    }

    /// What is known of this node beside its counters.
    pub fn facts(&self) -> Arc<Facts> {
        self.sources.facts.load_full()
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), NodeError> {
        self.services.push(start(name, run)?);
        Ok(())
    }

    /// Gives an epoch to all workers, and those before it to whose mailbox was full then.
    pub fn install(&mut self, state: Option<Arc<EpochState>>) {
        if let Some(state) = state {
            match state.own() {
                Some(own) => {
                    tracing::info!(epoch = state.epoch(), layer = own.layer, "joins the epoch")
                }
                None => tracing::info!(
                    epoch = state.epoch(),
                    "sits the epoch out: the document lets this node wait, or does not list its key"
                ),
            }
            self.pending
                .iter_mut()
                .for_each(|letters| letters.push(Arc::clone(&state)));
            self.sources.measured().install(&state);
            // Not the state itself: its keys die on time only if nobody here keeps them alive.
            self.known.push_back(Known {
                epoch: state.epoch(),
                layer: state.own().map(|own| own.layer),
                nodes: nodes(&state, self.address),
            });
            if self.known.len() > EPOCH_SLOTS {
                self.known.pop_front();
            }
            self.peers_told = false;
        }
        if let Some(fast_path) = &self.fast_path
            && !self.peers_told
        {
            let peers = peers(self.known.iter().flat_map(|known| &known.nodes));
            self.peers_told = fast_path.loader.peers(peers);
        }
        for (mailbox, letters) in self.mailboxes.iter().zip(&mut self.pending) {
            letters.retain(|state| !mailbox.post(Mail::Epoch(Arc::clone(state))));
        }
    }

    /// Reports a worker that ended by itself.
    pub fn check(&mut self) -> Result<(), NodeError> {
        let Some(ended) = self.workers.iter().position(JoinHandle::is_finished) else {
            return Ok(());
        };
        match self.workers.swap_remove(ended).join() {
            Ok(Ok(())) => Err(NodeError::Worker("without being asked".to_owned())),
            Ok(Err(error)) => Err(NodeError::System {
                what: "a worker failed",
                error,
            }),
            Err(_) => Err(NodeError::Worker("it panicked".to_owned())),
        }
    }

    /// Tells probes and scrapes how the node stands; to be called about once a second.
    pub fn watch(&self, config: &Config, follower: &Follower, is_draining: bool) {
        let now_ms = unix_ms();
        let epoch = follower.epoch_at(now_ms);
        let known = self.known.iter().find(|known| known.epoch == epoch);
        let newest = self.known.iter().map(|known| known.epoch).max();
        let age = |epoch| {
            let began_ms = follower.parameters()?.epoch_starts_ms(epoch);
            Some(Duration::from_millis(now_ms.saturating_sub(began_ms)))
        };
        self.sources.watch(Standing {
            epoch,
            has_document: known.is_some(),
            is_listed: known.is_some_and(|known| known.layer.is_some()),
            document_age: newest.and_then(age),
            is_elsewhere: follower.is_elsewhere(),
            is_draining,
            loop_interval: Duration::from_millis(config.cover.loop_interval_ms.into()),
            loop_time: follower.parameters().map_or(Duration::ZERO, longest_loop),
        });
    }

    /// Takes note of what became of loops, and once a second (`too`) of how many packets those that left could have been.
    pub fn measure(&self, too: bool) {
        super::measuring::look(&self.sources, self.members.reached(), &self.mailboxes, too);
    }

    /// Logs what has changed since the last look.
    pub fn notice(&self, notices: &mut Notices) {
        let counters = self.sources.collector.counters();
        let rejected = |reason| counters.iter().map(|worker| worker.rejected(reason)).sum();
        let peers = || self.members.reached().peers();
        notices.look(Instant::now(), &self.sources.standing(), rejected, peers);
    }

    /// What the node says of itself, of the time since this was called last.
    pub fn describe(&self) -> Described {
        let joined = self.known.iter().map(|known| (known.epoch, known.layer));
        describe(&self.sources, self.sources.missing(), joined)
    }

    /// Does what an operator wants by way of mixctld, which is told how the node is: nothing, or to leave the network. To
    /// be called about once a second.
    pub fn leave(&mut self, follower: &mut Follower, described: &Described) {
        let Some(loader) = &self.loader else {
            return;
        };
        let now_ms = unix_ms();
        if loader.node().is_drain_wanted() && !follower.is_leaving() {
            tracing::info!(
                "leaves the network, as mixctl drain asked: the next documents let this node carry nothing; a restart brings it back"
            );
            follower.leave(now_ms);
        }
        if let Some(epoch) = follower.serves_until()
            && self.said_until != Some(epoch)
        {
            let mailboxes = self.mailboxes.iter();
            let full = mailboxes.filter(|mailbox| !mailbox.post(Mail::Leaving { epoch }));
            // Who heard it twice says it longer.
            if full.count() == 0 {
                self.said_until = Some(epoch);
            }
        }
        let is_ready = described.not_ready.is_empty();
        loader
            .node()
            .set_state(match (follower.is_leaving(), is_ready) {
                (true, _) if follower.is_drained(now_ms) => NodeState::Drained,
                (true, _) => NodeState::Draining,
                (false, true) => NodeState::Ready,
                (false, false) => NodeState::Waiting,
            });
        loader.node().set_status(described.clone());
    }

    /// How often each worker has turned.
    pub fn turns(&self) -> impl Iterator<Item = u64> + use<> {
        let counters = self.sources.collector.counters();
        counters.into_iter().map(|worker| worker.turns)
    }

    /// What the node does, in a line of words.
    pub fn summary(&self, follower: &Follower) -> String {
        match follower.serves_until() {
            Some(_) if follower.is_drained(unix_ms()) => {
                return "drained: nothing is on its way here any more; a restart brings it back"
                    .to_owned();
            }
            Some(epoch) => return format!("leaves: serves in epoch {epoch} last"),
            None => {}
        }
        let epoch = self.sources.standing().epoch;
        let known = self.known.iter().find(|known| known.epoch == epoch);
        let missing = self.sources.missing();
        match known.and_then(|known| known.layer) {
            _ if !missing.is_empty() => format!("not ready: {}", missing.join("; ")),
            Some(layer) => format!("forwards in layer {layer} of epoch {epoch}"),
            None => "starts".to_owned(),
        }
    }

    /// Prints one status line.
    pub fn status(&self, config: &Config, follower: &Follower, described: Described) {
        let epoch = follower.epoch_at(unix_ms());
        let known = self.known.iter().find(|known| known.epoch == epoch);
        let facts = self.facts();
        let base = NodeStatus {
            port: facts.port.to_owned(),
            lanes: facts.lanes.to_owned(),
            sandbox: facts.confinement,
            xdp: facts.xdp.as_ref().map(XdpStatus::new),
            role: config.node.role.to_string(),
            epoch,
            layer: known.and_then(|known| known.layer),
            told: Some(Box::new(described)),
            ..NodeStatus::default()
        };
        let status = self
            .sources
            .collector
            .for_status(|counters, recent| base.count(counters, recent));
        if let Ok(line) = serde_json::to_string(&status) {
            use io::Write;
            // A reader that went away must not end the node.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// Drains for at most `patience`, then ends every thread.
    pub fn finish(&mut self, patience: Duration) {
        for mailbox in &self.mailboxes {
            let _ = mailbox.post(Mail::Drain);
        }
        let until = Instant::now() + patience;
        while Instant::now() < until && !self.workers.iter().all(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(5));
        }
        self.halt.store(true, Ordering::Release);
        self.mailboxes.iter().for_each(Mailbox::wake);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        // The follower has a way to its thread too: the connection ends all the same, and the loader forgets this node.
        // Before the handshakes, which may wait for a loader that stands still.
        if let Some(loader) = self.loader.take() {
            loader.end();
        }
        self.end.store(true, Ordering::Release);
        for service in self.services.drain(..) {
            let _ = service.join();
        }
        self.exclusive = None;
        self.fast_path = None;
        let _ = self.keeper.take().map(JoinHandle::join);
        tracing::info!("stopped");
    }
}
