//! The daemon beside a node: the loader of the XDP front end, which keeps the node's keys, and the follower of the network,
//! until a signal ends both.

use std::io::{ErrorKind, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use loader::{Keeping, Loader, Options, Store};
use program::manager::Manager;

use crate::api::{Api, Door, Log, Pulse, Witness};
use crate::config::{DirectoryConfig, HttpConfig};
use crate::exit::{self, Failure};
use crate::follower::Follower;
pub use crate::follower::check;

/// Descriptors of a loader: its connections, a node's queues and packet memory while it hands them over, maps, and room;
/// and of the API: its connections.
const DESCRIPTORS: u64 = 320;

/// The service manager as the loader's store.
struct Kept(Arc<Manager>);

impl Store for Kept {
    fn keep(&mut self, name: &str, memory: BorrowedFd<'_>) {
        self.0.keep(name, memory);
    }

    fn forget(&mut self, name: &str) {
        self.0.forget(name);
    }
}

/// What a loader starts from.
pub struct Loading {
    /// Its places and its node.
    pub options: Options,
    /// What it keeps of a node's keys. The service manager, if there is one, takes the place of its store.
    pub keeping: Keeping,
    /// Whether it loads the program; otherwise it keeps keys alone.
    pub xdp: bool,
}

impl Loading {
    fn start(self, manager: Option<&Arc<Manager>>) -> Result<Loader, Failure> {
        let mut keeping = self.keeping;
        if let Some(manager) = manager {
            keeping.store = Some(Box::new(Kept(Arc::clone(manager))));
        }
        let loader = match self.xdp {
            true => Loader::new(self.options, keeping)?,
            false => Loader::without_xdp(self.options, keeping)?,
        };
        let pulse = manager.and_then(|manager| Some((Arc::clone(manager), manager.alive_every()?)));
        Ok(match pulse {
            Some((manager, every)) => loader.beating(every, move || manager.alive()),
            None => loader,
        })
    }
}

/// Waits for a signal; meanwhile the service manager hears that the process lives.
fn wait(stopped: &mut UnixStream, manager: Option<&Manager>) -> Result<(), Failure> {
    stopped.set_read_timeout(manager.and_then(Manager::alive_every))?;
    loop {
        match (stopped.read(&mut [0]), manager) {
            (Err(error), Some(manager)) if error.kind() == ErrorKind::WouldBlock => manager.alive(),
            (Err(error), _) if error.kind() == ErrorKind::Interrupted => {}
            (outcome, _) => return Ok(outcome.map(|_| ())?),
        }
    }
}

/// Runs a loader, a follower, or both until SIGTERM or SIGINT. What the loader attached stays. With `http` the follower's
/// knowledge is told to who asks.
///
/// # Errors
/// The loader's; what the follower needs at its start is not there; no memory or descriptors for the signals.
pub fn run(
    loading: Option<Loading>,
    directory: Option<&DirectoryConfig>,
    http: Option<&HttpConfig>,
) -> Result<(), Failure> {
    program::limits::descriptors(DESCRIPTORS)
        .map_err(|error| Failure::new(exit::OS, error.to_string()))?;
    program::signals::pass_over_hangups()?;
    let (stop, mut stopped) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    let manager = Manager::find().map(Arc::new);
    let witness = Witness::default();
    let xdp = loading.as_ref().filter(|loading| loading.xdp);
    let xdp = xdp.map(|loading| loading.options.socket.clone());
    let loader = match loading {
        Some(loading) => {
            let socket = loading.options.socket.clone();
            let loader = loading.start(manager.as_ref())?;
            let heard = witness.clone();
            let loader = loader.telling(move |status| heard.hear(Instant::now(), status));
            Some((loader, socket))
        }
        None => None,
    };
    // Held to the end: with it the socket goes.
    let mut door = None;
    if let Some(config) = directory {
        let follower = Follower::new(config)?;
        if let Some(http) = http {
            let open = door.insert(Door::open(http)?);
            let dashboard = open.dashboard();
            if let Some(listen) = http.listen {
                program::say!(
                    "mixctld: dashboard at {listen}; mixctl dashboard says how to get there"
                );
            }
            open.serve(Api {
                dashboard,
                past: Log::default(),
                pulse: Pulse::default(),
                board: follower.board(),
                witness,
                inhabitants: Vec::new(),
                loader: xdp,
                node: http.node_metrics,
            })?;
            program::say!("mixctld: answering at {}", http.socket.display());
        }
        follower.start()?;
        program::say!(
            "mixctld: following the network into {}",
            config.folder.display()
        );
    }
    if let Some(manager) = &manager {
        manager.ready();
        manager.status(match (&loader, directory) {
            (Some(_), Some(_)) => "serves the node here, and follows the network for it",
            (Some(_), None) => "serves the node here",
            (None, _) => "follows the network",
        });
    }
    let Some((loader, socket)) = loader else {
        tracing::info!(version = ::directory::version(), "started");
        wait(&mut stopped, manager.as_deref())?;
        tracing::info!("stopped");
        return Ok(());
    };
    program::say!("mixctld: listening at {}", socket.display());
    tracing::info!(
        version = ::directory::version(),
        socket = %socket.display(),
        "started"
    );
    let served = loader.run(stopped.into());
    if let Some(manager) = &manager {
        manager.stopping();
    }
    served?;
    tracing::info!("stopped; what is attached stays");
    Ok(())
}
