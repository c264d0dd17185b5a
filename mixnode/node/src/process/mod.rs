//! A whole node: what it opens, what it gives up, its threads, and the loop that follows the directory.

mod arguments;
pub mod config;
mod describe;
mod error;
mod examine;
pub mod exit;
mod fast_path;
pub mod follower;
mod measuring;
pub mod metrics;
mod mixctld;
mod notices;
mod pulse;
pub mod sandbox;
mod seat;
pub mod status;
mod threads;
mod touch;

pub use arguments::Arguments;
pub use error::NodeError;
pub use examine::examine;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use directory::store::Store;
use directory::{LinkKey, Role};
use link::LinkKeys;
use sphinx::Generator;

use crate::keys::epoch::{Clocks, Sizes};
use crate::keys::files;
use crate::path::epochs::EPOCH_SLOTS;
use crate::path::grant::{Budget, RING_FRAMES, queues};
use crate::process::config::Config;
use crate::process::follower::{Follower, Profile};
use crate::process::sandbox::Confinement;
use error::system;
use mixctld::Link;
use notices::Notices;
use port::{Exclusive, Resolved};
use program::manager::Manager;
use pulse::Pulse;
use threads::{Opened, Threads};
use touch::Touching;

/// Pause between rounds of the control loop.
const ROUND: Duration = Duration::from_millis(50);
/// Rounds between status lines.
const STATUS_ROUNDS: u32 = 20;
/// Rounds between looks at what became of loops: one interval of theirs, by default.
const MEASURE_ROUNDS: u32 = 4;
/// Mean delay assumed for the pool's size while no document tells it, microseconds.
const MEAN_DELAY_US: u32 = 100_000;
/// Longest drain at a stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// The wall clock in milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The wall clock, and the one that lifetimes are measured by.
fn clocks() -> Clocks {
    Clocks {
        unix_ms: unix_ms(),
        boot_ns: port::boot_ns(),
    }
}

fn system_rng() -> Result<Generator, NodeError> {
    Generator::seeded(getrandom::fill).map_err(|error| NodeError::System {
        what: "no randomness",
        error: io::Error::other(error.to_string()),
    })
}

/// Bytes of all replay tables that may live at once, under the default epoch or a known one.
pub fn replay_bytes(max_pps: u32, epoch_ms: u64) -> u64 {
    crate::keys::replay::table_bytes(max_pps, 2 * epoch_ms).saturating_mul(EPOCH_SLOTS as u64 - 1)
}

/// Frames of one worker's pool: the sum of what is delayed, what clients may queue, and the port's rings.
pub fn pool_frames(config: &Config, mean_delay_us: u32) -> u32 {
    if config.worker.pool_frames != 0 {
        return config.worker.pool_frames;
    }
    let frames = pool_sum(config, mean_delay_us);
    u32::try_from(frames)
        .unwrap_or(port::pool::FRAMES_MAX)
        .min(port::pool::FRAMES_MAX)
}

/// What a worker's pool has to hold at this mean delay, frames.
pub fn pool_sum(config: &Config, mean_delay_us: u32) -> u64 {
    let worker = &config.worker;
    let share = u64::from(worker.max_pps).div_ceil(u64::from(worker.count.max(1)));
    let delayed = share * u64::from(mean_delay_us) * 3 / 2 / 1_000_000;
    delayed + queued_frames(config) + u64::from(RING_FRAMES)
}

/// Frames that the full queues of a worker's clients take; none at a mix.
pub fn queued_frames(config: &Config) -> u64 {
    match config.node.role {
        Role::Gateway => queues(
            config.gateway.clients_max,
            config.gateway.queue_frames as usize,
        ),
        Role::Mix => 0,
    }
}

/// How a worker's pool is divided.
pub fn budget(config: &Config, mean_delay_us: u32) -> Budget {
    let clients_max = match config.node.role {
        Role::Gateway => config.gateway.clients_max,
        Role::Mix => 0,
    };
    let queue_frames = config.gateway.queue_frames as usize;
    Budget::of(
        pool_frames(config, mean_delay_us),
        clients_max,
        queue_frames,
    )
}

/// A node that has opened all it needs, and given up the rights it needed for that.
pub struct Node {
    config: Config,
    store: Store,
    follower: Follower,
    opened: Opened,
    confinement: Confinement,
    touching: Touching,
    pulse: Pulse,
    rng: Generator,
}

impl Node {
    /// Opens keys, folder, sockets and metrics, then confines the process: see [`sandbox::confine`]. To be called
    /// before any other thread is started, for some of the confinement holds for the calling thread and those it
    /// starts.
    ///
    /// # Errors
    /// [`NodeError`], worded for the operator; [`NodeError::exit_code`] for the process.
    pub fn prepare(config: Config) -> Result<Node, NodeError> {
        examine(&config)?;
        let mut rng = system_rng()?;
        let keys = files::load_or_create(&config.node.state_dir, &mut rng)?;
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
        };
        let sizes = Sizes {
            max_pps: config.worker.max_pps,
            workers: config.worker.count.max(1),
        };
        let follower = Follower::new(keys.identity, keys.vrf, profile, sizes);
        let opened = Opened::open(&config, exclusive, resolved, keys.link)?;
        let mode = config.sandbox.mode;
        if mode != sandbox::Mode::Off {
            sandbox::raise_memory_limit();
            sandbox::lock_memory();
        }
        let available_bytes = touch::available_bytes().filter(|_| !config.tables_as_needed);
        let confinement = sandbox::confine(mode, store.root(), &store.descriptors_path())?;
        Ok(Node {
            config,
            store,
            follower,
            opened,
            confinement,
            touching: Touching::new(available_bytes),
            pulse: Pulse::default(),
            rng,
        })
    }

    /// Tells `manager` how it goes, one found before [`Node::prepare`]: afterwards no socket of that kind can be made.
    #[must_use]
    pub fn under(mut self, manager: Option<Manager>) -> Node {
        self.pulse = Pulse::of(manager);
        self
    }

    /// Runs until `stop` is set, then drains: nothing new is taken, what is held leaves in its time.
    ///
    /// # Errors
    /// As [`Node::prepare`].
    pub fn run(self, stop: &Arc<AtomicBool>) -> Result<(), NodeError> {
        let Node {
            config,
            store,
            mut follower,
            opened,
            confinement,
            mut touching,
            mut pulse,
            mut rng,
        } = self;
        let link = match Link::open(&config, &opened.resolved, &mut follower, stop) {
            Err(NodeError::Stopped) => return Ok(()),
            link => link?,
        };
        follower
            .read_chain(&store)
            .map_err(system("can't use the directory folder"))?;
        let address = opened.exclusive.address();
        let parameters = follower.parameters();
        let mut threads = Threads::start(&config, opened, link, confinement, parameters, &mut rng)?;
        threads.seal(&config)?;
        let facts = threads.facts();
        tracing::info!(
            version = directory::version(),
            %address,
            role = %config.node.role,
            port = facts.port,
            lanes = facts.lanes,
            workers = config.worker.count,
            sandbox = %facts.confinement,
            "started"
        );
        pulse.ready();
        // Nobody is told of this node before packets get past its port: the first round is the loop's.
        let outcome = control(
            &config,
            &mut follower,
            &store,
            (&mut threads, &mut touching, &mut pulse),
            stop,
            &mut rng,
        );
        let drain = follower.parameters().map_or(Duration::ZERO, |parameters| {
            Duration::from_micros(parameters.delay_max_us().into()) + Duration::from_secs(1)
        });
        pulse.stopping();
        threads.watch(&config, &follower, true);
        threads.finish(if outcome.is_ok() {
            drain.min(DRAIN_MAX)
        } else {
            Duration::ZERO
        });
        if config.status_lines {
            threads.status(&config, &follower, threads.describe());
        }
        outcome
    }
}

/// [`Node::prepare`] and [`Node::run`], under the service manager if there is one.
///
/// # Errors
/// As they have.
pub fn run(config: Config, stop: &Arc<AtomicBool>) -> Result<(), NodeError> {
    let manager = Manager::find();
    Node::prepare(config)?.under(manager).run(stop)
}

/// Follows the directory and prints status until `stop`.
fn control(
    config: &Config,
    follower: &mut Follower,
    store: &Store,
    (threads, touching, pulse): (&mut Threads, &mut Touching, &mut Pulse),
    stop: &Arc<AtomicBool>,
    rng: &mut Generator,
) -> Result<(), NodeError> {
    let (mut round, mut notices) = (0u32, Notices::default());
    while !stop.load(Ordering::Acquire) {
        match follower.turn(store, clocks(), rng) {
            Ok(state) => {
                touching.add(state.as_slice());
                threads.install(state);
            }
            // The folder may come back; packets of the epochs in force go on.
            Err(error) if round.is_multiple_of(STATUS_ROUNDS) => {
                tracing::error!(%error, "can't use the directory folder");
            }
            Err(_) => {}
        }
        let now_ms = clocks().unix_ms;
        if follower.is_report_due(now_ms)
            && let Some(report) = follower.report(now_ms, &threads.members.reached().take())
            && let Err(error) = store.publish_report(&report)
        {
            tracing::warn!(%error, "can't publish the report on next hops");
        }
        touching.round();
        threads.check()?;
        pulse.beat(Instant::now(), || threads.turns());
        let is_second = round.is_multiple_of(STATUS_ROUNDS);
        if is_second || round.is_multiple_of(MEASURE_ROUNDS) {
            threads.measure(is_second);
        }
        if is_second {
            threads.watch(config, follower, false);
            threads.notice(&mut notices);
            let described = threads.describe();
            threads.leave(follower, &described);
            pulse.status(threads.summary(follower));
            if config.status_lines {
                threads.status(config, follower, described);
            }
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
