//! A whole node: threads for the workers, one for handshakes, and the loop that follows the directory.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use directory::store::Store;
use directory::{LinkKey, Parameters, Role};
use link::LinkKeys;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::lanes::Lanes;

use crate::config::{Config, ConfigError};
use crate::core::{Core, Settings, Shared};
use crate::counters::Published;
use crate::epochs::EPOCH_SLOTS;
use crate::exit;
use crate::follower::{Follower, Profile};
use crate::handshake::{self, HandshakeCounters, Handshaker};
use crate::keys::{self, KeyError};
use crate::mail::{Mail, Mailbox};
use crate::metrics::{self, Facts};
use crate::pool::FramePool;
use crate::port::{
    EventFd, Exclusive, ExclusiveError, PlainPort, Port, PortParts, Resolved, SocketOptions,
    UringPort, UringUnavailable, monotonic_ns, socket,
};
use crate::status::{Collector, NodeStatus};
use crate::worker::Worker;

/// Pause between rounds of the control loop.
const ROUND: Duration = Duration::from_millis(50);
/// Rounds between status lines.
const STATUS_ROUNDS: u32 = 20;
/// Mean delay assumed for the pool's size while no document tells it, microseconds.
const MEAN_DELAY_US: u32 = 100_000;
/// Frames beside those that are delayed: the port's rings and a burst.
const RING_FRAMES: u64 = 2048;
/// Sessions of one worker beside its clients': neighbours with several workers, old sessions while rekeying.
const NODE_SESSIONS: usize = 4096;
/// Longest drain at a stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Why a node did not start or ended early.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The UDP address can't be had.
    #[error(transparent)]
    Address(#[from] ExclusiveError),
    /// io_uring was asked for by name.
    #[error("[node] port = \"uring\": {0}; or use port = \"plain\"")]
    Uring(#[from] UringUnavailable),
    /// A key file.
    #[error("{}: {}", .0, .0.remedy())]
    Keys(#[from] KeyError),
    /// The operating system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        error: io::Error,
    },
    /// A thread ended by itself.
    #[error("a worker ended: {0}")]
    Worker(String),
}

impl NodeError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        let of_io = |error: &io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => exit::PERMISSION,
            _ => exit::OS,
        };
        match self {
            NodeError::Config(_)
            | NodeError::Keys(KeyError::Length { .. } | KeyError::Mode { .. }) => exit::CONFIG,
            NodeError::Keys(KeyError::Io { error, .. }) | NodeError::System { error, .. } => {
                of_io(error)
            }
            NodeError::Address(ExclusiveError::Permission(_)) => exit::PERMISSION,
            NodeError::Address(_) | NodeError::Uring(_) | NodeError::Worker(_) => exit::OS,
        }
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> NodeError {
    move |error| NodeError::System { what, error }
}

/// The wall clock in milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

fn system_rng() -> Result<ChaCha20Rng, NodeError> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| NodeError::System {
        what: "no randomness",
        error: io::Error::other(error.to_string()),
    })?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

/// Bytes of all replay tables that may live at once, under the default epoch or a known one.
pub fn replay_bytes(max_pps: u32, epoch_ms: u64) -> u64 {
    crate::replay::table_bytes(max_pps, 2 * epoch_ms).saturating_mul(EPOCH_SLOTS as u64 - 1)
}

/// Frames of one worker's pool.
pub fn pool_frames(config: &Config, mean_delay_us: u32) -> u32 {
    let worker = &config.worker;
    if worker.pool_frames != 0 {
        return worker.pool_frames;
    }
    let share = u64::from(worker.max_pps).div_ceil(u64::from(worker.count.max(1)));
    let delayed = share * u64::from(mean_delay_us) * 3 / 2 / 1_000_000;
    let frames = delayed + RING_FRAMES;
    u32::try_from(frames)
        .unwrap_or(crate::pool::FRAMES_MAX)
        .min(crate::pool::FRAMES_MAX)
}

/// Runs a node until `stop` is set, then drains it: nothing new is taken, what is held leaves in its time.
///
/// # Errors
/// [`NodeError`], worded for the operator; [`NodeError::exit_code`] for the process.
pub fn run(config: Config, stop: &Arc<AtomicBool>) -> Result<(), NodeError> {
    let mut rng = system_rng()?;
    let keys = keys::load_or_create(&config.node.state_dir, &mut rng)?;
    let store = Store::create(&config.network.directory)
        .map_err(system("can't use the directory folder"))?;
    let Some(listen) = config.node.listen.first().copied() else {
        return Err(NodeError::Worker("no address to listen on".to_owned()));
    };
    let exclusive = Exclusive::acquire(listen)?;
    let resolved = config.node.port.resolve()?;
    if let Resolved::Plain(Some(reason)) = &resolved {
        tracing::warn!(%reason, "running on the plain port");
    }
    let profile = Profile {
        role: config.node.role,
        operator: config.node.operator.clone(),
        addresses: vec![exclusive.address()],
        link: link_key(&keys.link),
        capacity_pps: config.node.capacity_pps,
        vrf_key: keys.vrf_public,
    };
    let mut follower = Follower::new(keys.identity, profile, config.worker.max_pps);
    let first = follower
        .turn(&store, unix_ms(), &mut rng)
        .map_err(system("can't use the directory folder"))?;

    let mut threads = Threads::start(
        &config,
        &resolved,
        &exclusive,
        keys.link,
        follower.parameters(),
        &mut rng,
    )?;
    tracing::info!(
        version = directory::version(),
        address = %exclusive.address(),
        role = %config.node.role,
        port = threads.facts.port,
        lanes = threads.facts.lanes,
        workers = config.worker.count,
        "started"
    );
    threads.install(first);
    let outcome = control(&config, &mut follower, &store, &mut threads, stop, &mut rng);
    let drain = follower.parameters().map_or(Duration::ZERO, |parameters| {
        Duration::from_micros(parameters.delay_max_us().into()) + Duration::from_secs(1)
    });
    threads.finish(if outcome.is_ok() {
        drain.min(DRAIN_MAX)
    } else {
        Duration::ZERO
    });
    if config.status_lines {
        threads.status(&config, &follower);
    }
    outcome
}

/// Follows the directory and prints status until `stop`.
fn control(
    config: &Config,
    follower: &mut Follower,
    store: &Store,
    threads: &mut Threads,
    stop: &Arc<AtomicBool>,
    rng: &mut ChaCha20Rng,
) -> Result<(), NodeError> {
    let mut round = 0u32;
    while !stop.load(Ordering::Acquire) {
        match follower.turn(store, unix_ms(), rng) {
            Ok(states) => threads.install(states),
            // The folder may come back; packets of the epochs in force go on.
            Err(error) if round.is_multiple_of(STATUS_ROUNDS) => {
                tracing::error!(%error, "can't use the directory folder");
            }
            Err(_) => {}
        }
        threads.check()?;
        if config.status_lines && round.is_multiple_of(STATUS_ROUNDS) {
            threads.status(config, follower);
        }
        round = round.wrapping_add(1);
        thread::sleep(ROUND);
    }
    Ok(())
}

fn link_key(keys: &LinkKeys) -> LinkKey {
    let public = keys.public();
    LinkKey {
        x25519: public.x25519,
        kem: public.kem,
    }
}

/// Everything that runs beside the control loop.
struct Threads {
    mailboxes: Vec<Mailbox>,
    /// Letters that did not fit yet, by worker: epochs must not be lost.
    pending: Vec<Vec<Arc<crate::epoch::EpochState>>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    services: Vec<JoinHandle<()>>,
    /// Ends workers without further draining.
    halt: Arc<AtomicBool>,
    /// Ends handshakes and metrics.
    end: Arc<AtomicBool>,
    collector: Arc<Collector>,
    facts: Facts,
    own: Option<(u32, Option<u8>)>,
    states: Vec<Arc<crate::epoch::EpochState>>,
}

impl Threads {
    fn start(
        config: &Config,
        resolved: &Resolved,
        exclusive: &Exclusive,
        link_keys: LinkKeys,
        parameters: Option<&Parameters>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Threads, NodeError> {
        let count = config.worker.count.max(1);
        let lanes = Lanes::from_env_or_detect();
        let mut mailboxes = Vec::new();
        let mut published = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..count {
            let event = EventFd::new().map_err(system("no event descriptor"))?;
            mailboxes.push(Mailbox::new(Arc::new(event)));
            published.push(Published::new().map_err(|error| NodeError::Worker(error.to_string()))?);
            let options = SocketOptions {
                shared: count > 1,
                ..SocketOptions::new(exclusive.address())
            };
            sockets.push(socket::open(&options).map_err(system("can't open the UDP socket"))?);
        }
        let (requests, queue) = handshake::thread::queue();
        let shared = Shared {
            mailboxes: mailboxes.clone(),
            handshakes: requests,
            attachments: Arc::new(AtomicU64::new(1)),
        };
        let collector = Collector::new(published.clone())
            .map_err(|error| NodeError::Worker(error.to_string()))?;
        let mut threads = Threads {
            pending: mailboxes.iter().map(|_| Vec::new()).collect(),
            mailboxes,
            workers: Vec::new(),
            services: Vec::new(),
            halt: Arc::new(AtomicBool::new(false)),
            end: Arc::new(AtomicBool::new(false)),
            collector: Arc::new(collector),
            facts: Facts {
                port: if *resolved == Resolved::Uring {
                    "uring"
                } else {
                    "plain"
                },
                lanes: lanes.name(),
            },
            own: None,
            states: Vec::new(),
        };
        let handshaker = Handshaker::new(link_keys, ChaCha20Rng::from_rng(rng));
        let (boxes, end) = (threads.mailboxes.clone(), Arc::clone(&threads.end));
        let counters = Mutex::new(HandshakeCounters::default());
        threads.spawn("handshake", move || {
            handshake::thread::run(handshaker, &queue, &boxes, &counters, unix_ms, &end);
        })?;
        if let Some(address) = config.metrics.listen {
            let listener =
                metrics::bind(address).map_err(system("can't listen on [metrics] listen"))?;
            let (collector, facts) = (Arc::clone(&threads.collector), threads.facts.clone());
            let end = Arc::clone(&threads.end);
            threads.spawn("metrics", move || {
                metrics::serve(&listener, &collector, &facts, &end)
            })?;
        }
        let mean_delay_us = parameters.map_or(MEAN_DELAY_US, |parameters| parameters.mean_delay_us);
        for (number, (socket, published)) in (0u8..).zip(sockets.into_iter().zip(published)) {
            let seat = Seat {
                settings: settings(
                    config,
                    number,
                    pool_frames(config, mean_delay_us),
                    exclusive.address(),
                ),
                shared: shared.clone(),
                published,
                lanes,
                rng: ChaCha20Rng::from_rng(rng),
                pin: config.worker.pin,
                busy_poll_ns: u64::from(config.worker.busy_poll_us) * 1_000,
                halt: Arc::clone(&threads.halt),
            };
            let uring = *resolved == Resolved::Uring;
            let handle = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || seat.work(socket, uring))
                .map_err(system("can't start a worker"))?;
            threads.workers.push(handle);
        }
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), NodeError> {
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(system("can't start a thread"))?;
        self.services.push(handle);
        Ok(())
    }

    /// Gives epochs to all workers, also those whose mailbox was full before.
    fn install(&mut self, states: Vec<Arc<crate::epoch::EpochState>>) {
        for state in states {
            match state.own() {
                Some(own) => {
                    tracing::info!(epoch = state.epoch(), layer = own.layer, "joins the epoch")
                }
                None => tracing::info!(
                    epoch = state.epoch(),
                    "sits the epoch out: it does not list this node's key"
                ),
            }
            self.pending
                .iter_mut()
                .for_each(|letters| letters.push(Arc::clone(&state)));
            self.states.push(state);
        }
        for (mailbox, letters) in self.mailboxes.iter().zip(&mut self.pending) {
            letters.retain(|state| !mailbox.post(Mail::Epoch(Arc::clone(state))));
        }
    }

    /// Reports a worker that ended by itself.
    fn check(&mut self) -> Result<(), NodeError> {
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

    /// Prints one status line.
    fn status(&mut self, config: &Config, follower: &Follower) {
        let epoch = follower.epoch_at(unix_ms());
        // Keys die on time only if nobody here keeps their epoch alive.
        self.states.retain(|state| state.epoch() >= epoch);
        if let Some(state) = self.states.iter().find(|state| state.epoch() == epoch) {
            self.own = Some((epoch, state.own().map(|own| own.layer)));
        }
        let base = NodeStatus {
            port: self.facts.port.to_owned(),
            lanes: self.facts.lanes.to_owned(),
            role: config.node.role.to_string(),
            epoch,
            layer: self
                .own
                .filter(|(of, _)| *of == epoch)
                .and_then(|(_, layer)| layer),
            ..NodeStatus::default()
        };
        let status = self
            .collector
            .for_status(|counters, recent| base.count(counters, recent));
        if let Ok(line) = serde_json::to_string(&status) {
            use io::Write;
            // A reader that went away must not end the node.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// Drains for at most `patience`, then ends every thread.
    fn finish(&mut self, patience: Duration) {
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
        self.end.store(true, Ordering::Release);
        for service in self.services.drain(..) {
            let _ = service.join();
        }
        tracing::info!("stopped");
    }
}

/// The limits of one worker.
fn settings(config: &Config, number: u8, pool_frames: u32, address: SocketAddr) -> Settings {
    let gateway = config.node.role == Role::Gateway;
    let clients_max = if gateway {
        config.gateway.clients_max
    } else {
        0
    };
    Settings {
        number,
        workers: config.worker.count.max(1),
        pool_frames,
        sessions_max: NODE_SESSIONS + 4 * usize::from(clients_max),
        clients_max,
        client_queue_frames: config.gateway.queue_frames as usize,
        client_rate_max_pps: config.gateway.rate_max_pps,
        loop_interval_ns: u64::from(config.cover.loop_interval_ms) * 1_000_000,
        drop_interval_ns: u64::from(config.cover.drop_interval_ms) * 1_000_000,
        loss: config.fault.loss,
        ipv6: address.is_ipv6(),
    }
}

/// What a worker's thread starts from.
struct Seat {
    settings: Settings,
    shared: Shared,
    published: Arc<Published>,
    lanes: Lanes,
    rng: ChaCha20Rng,
    pin: bool,
    busy_poll_ns: u64,
    halt: Arc<AtomicBool>,
}

impl Seat {
    /// Allocates on the worker's own core, then works.
    fn work(self, socket: UdpSocket, uring: bool) -> io::Result<()> {
        if self.pin {
            crate::affinity::pin(usize::from(self.settings.number))?;
        }
        let pool = FramePool::locked(self.settings.pool_frames)?;
        let mailbox = self.shared.mailboxes.get(usize::from(self.settings.number));
        let event = Arc::clone(mailbox.ok_or(io::ErrorKind::InvalidInput)?.event());
        let parts = PortParts { socket, event };
        if uring {
            let port = UringPort::new(parts, &pool)?;
            self.run(pool, port)
        } else {
            let port = PlainPort::new(parts, &pool)?;
            self.run(pool, port)
        }
    }

    fn run<P: Port>(self, pool: FramePool, port: P) -> io::Result<()> {
        let core = Core::new(
            self.settings,
            self.shared,
            pool,
            self.lanes,
            self.rng,
            monotonic_ns(),
        )?;
        let mut worker = Worker::new(core, port, self.published);
        let mut idle_since_ns = None;
        while !self.halt.load(Ordering::Acquire) && !worker.is_drained() {
            let now_ns = monotonic_ns();
            let seen = worker.counters().received;
            let deadline_ns = worker.turn(now_ns, unix_ms());
            if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
                continue;
            }
            if self.busy_poll_ns > 0 {
                if worker.counters().received != seen {
                    idle_since_ns = None;
                }
                let since_ns = *idle_since_ns.get_or_insert(now_ns);
                if now_ns - since_ns < self.busy_poll_ns {
                    std::hint::spin_loop();
                    continue;
                }
            }
            worker.port_mut().wait(deadline_ns)?;
        }
        worker.stop();
        Ok(())
    }
}
