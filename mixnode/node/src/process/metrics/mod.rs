//! The management address: `/metrics`, `/healthz` and `/readyz` on loopback. Coarse on purpose: no label names a peer, a
//! client or a path.

mod exposition;
mod families;
mod listener;
mod standing;
mod usage;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

pub use listener::{CONNECTIONS_MAX, DEADLINE, Listener};
pub use standing::Standing;
pub use usage::Usage;

use crate::handshake::HandshakeCounters;
use crate::process::measuring::Measured;
use crate::process::sandbox::Confinement;
use crate::process::status::Collector;
use crate::process::unix_ms;
use families::Scrape;
use handover::protocol::Mode;
use standing::Watch;

/// What a scrape shows beside the counters.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The port in use.
    pub port: &'static str,
    /// The scalar multiplication's backend.
    pub lanes: &'static str,
    /// Where the epoch keys came from at the start: `new`, `kept`, `returned`.
    pub keys_origin: &'static str,
    /// What the node gave up.
    pub confinement: Confinement,
    /// Below this anonymity the operator is warned.
    pub floor_bits: f64,
    /// The XDP front end, if packets come through it.
    pub xdp: Option<XdpFacts>,
}

/// What the loader and the kernel said of the fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpFacts {
    /// The interface's name.
    pub interface: String,
    /// How the program runs.
    pub mode: Mode,
    /// Whether the driver reads and writes packet memory itself.
    pub zero_copy: bool,
}

impl XdpFacts {
    /// `native` or `generic`.
    pub fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }

    /// `no`, or `unverified`: the driver took it, but no NIC that does was at hand when this was made.
    pub fn zero_copy_name(&self) -> &'static str {
        if self.zero_copy { "unverified" } else { "no" }
    }
}

/// Where a scrape reads.
pub struct Sources {
    /// The workers' counters.
    pub collector: Collector,
    /// The handshake thread's.
    pub handshakes: Mutex<HandshakeCounters>,
    /// What is known beside counters.
    pub facts: ArcSwap<Facts>,
    measured: Mutex<Measured>,
    watch: Mutex<Watch>,
    started_unix_ms: u64,
}

impl Sources {
    /// Sources of a node that starts now.
    pub fn new(collector: Collector, facts: Facts) -> Sources {
        Sources {
            collector,
            handshakes: Mutex::new(HandshakeCounters::default()),
            measured: Mutex::new(Measured::new(facts.floor_bits)),
            facts: ArcSwap::from_pointee(facts),
            watch: Mutex::new(Watch::new()),
            started_unix_ms: unix_ms(),
        }
    }

    /// When the node started, milliseconds since the Unix epoch.
    pub fn started_unix_ms(&self) -> u64 {
        self.started_unix_ms
    }

    /// Takes down how the node stands; to be called about once a second, or the node counts as stuck.
    pub fn watch(&self, standing: Standing) {
        let counters = self.collector.counters();
        let loops = counters.iter().map(|worker| worker.loop_returned).sum();
        let turns = counters.iter().map(|worker| worker.turns);
        self.watched().look(Instant::now(), standing, turns, loops);
    }

    /// How the node stood when it was last taken down.
    pub fn standing(&self) -> Standing {
        *self.watched().standing()
    }

    /// Whether control loop and workers move.
    ///
    /// # Errors
    /// What stands still, and what to do.
    pub fn health(&self) -> Result<(), String> {
        self.watched().health(Instant::now())
    }

    /// What is missing for a packet that came now to be forwarded; nothing if it would be.
    pub fn missing(&self) -> Vec<String> {
        self.watched().missing(Instant::now())
    }

    /// The exposition text, with what the process takes of the machine.
    pub fn render(&self, usage: Option<&Usage>) -> String {
        let handshakes = *self
            .handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let facts = self.facts.load();
        let (standing, is_ready) = {
            let watch = self.watched();
            (*watch.standing(), watch.missing(Instant::now()).is_empty())
        };
        let (found, anonymity) = {
            let measured = self.measured();
            (measured.found(), measured.anonymity())
        };
        self.collector.for_scrape(|counters, totals| {
            families::render(&Scrape {
                counters,
                totals,
                handshakes: &handshakes,
                facts: &facts,
                standing: &standing,
                is_ready,
                found: &found,
                anonymity: &anonymity,
                usage,
            })
        })
    }

    /// What was measured so far.
    pub(super) fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
