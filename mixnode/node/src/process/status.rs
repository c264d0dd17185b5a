//! Status: what a node says of itself, gathered from its workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::path::counters::{Counters, Distributions, FastPath, Published};
use crate::path::loops::Fate;
use crate::path::reason::Reason;
use crate::process::metrics::XdpFacts;
use crate::process::sandbox::Confinement;

/// A snapshot of a node: one JSON line a second with `--status-lines`. No peers, no clients, no paths in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// `uring`, `plain` or `xsk`.
    pub port: String,
    /// The fast path, with port `xsk`.
    pub xdp: Option<XdpStatus>,
    /// Backend of the scalar multiplications.
    pub lanes: String,
    /// What the node gave up.
    pub sandbox: Confinement,
    /// Mix or gateway.
    pub role: String,
    /// The epoch of now.
    pub epoch: u32,
    /// The node's layer in it; none while it sits out.
    pub layer: Option<u8>,
    /// Datagrams received since the start.
    pub received: u64,
    /// Frames this node made.
    pub generated: u64,
    /// Datagrams sent.
    pub transmitted: u64,
    /// Frames that ended here as they should.
    pub absorbed: u64,
    /// Packets held now.
    pub held: u64,
    /// Frames dropped, all reasons.
    pub rejected: u64,
    /// Frames dropped, by reason; those that never happened are left out.
    pub rejected_by: BTreeMap<String, u64>,
    /// Loop packets sent.
    pub loop_sent: u64,
    /// Loop packets that came back.
    pub loop_returned: u64,
    /// Share of loop packets given up among those whose fate is known; none before the first.
    pub loop_loss: Option<f64>,
    /// Median round trip of loop packets in the last second, microseconds.
    pub loop_p50_us: u64,
    /// Median lateness of releases in the last second, microseconds.
    pub lateness_p50_us: u64,
    /// 99th percentile of it.
    pub lateness_p99_us: u64,
    /// Clients attached.
    pub clients: u64,
    /// Sessions open.
    pub sessions: u64,
    /// What mixctld is told, or would be.
    pub told: Option<Box<handover::status::NodeStatus>>,
}

/// What a node says of its fast path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct XdpStatus {
    /// The interface's name.
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
    /// `no` or `unverified`.
    pub zero_copy: String,
    /// Datagrams that came through the kernel's socket.
    pub received_through_kernel: u64,
    /// Datagrams that came that way and were more than may.
    pub kernel_limited: u64,
    /// Datagrams that left through it.
    pub transmitted_through_kernel: u64,
    /// Packets lost to a full receive ring.
    pub ring_full: u64,
    /// Times the kernel found no frame to receive into.
    pub fill_empty: u64,
    /// Packets steered here that are no datagrams to this node.
    pub foreign: u64,
    /// Entries of rings that make no sense.
    pub corrupt: u64,
}

impl XdpStatus {
    /// Nothing counted yet.
    pub fn new(facts: &XdpFacts) -> XdpStatus {
        XdpStatus {
            interface: facts.interface.clone(),
            mode: facts.mode_name().to_owned(),
            zero_copy: facts.zero_copy_name().to_owned(),
            ..XdpStatus::default()
        }
    }

    fn count(&mut self, counts: &FastPath) {
        self.received_through_kernel = counts.received_through_kernel;
        self.kernel_limited = counts.kernel_limited;
        self.transmitted_through_kernel = counts.transmitted_through_kernel;
        self.ring_full = counts.ring_full;
        self.fill_empty = counts.fill_empty;
        self.foreign = counts.foreign;
        self.corrupt = counts.corrupt;
    }
}

/// Gathers what workers publish, for status lines and scrapes alike.
pub struct Collector {
    published: Vec<Arc<Published>>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Since the last status line.
    recent: Distributions,
    /// Since mixctld was told last.
    untold: Distributions,
    /// Since the start.
    totals: Distributions,
    scratch: Distributions,
}

impl Collector {
    /// A collector of these workers.
    ///
    /// # Errors
    /// As [`Distributions::new`].
    pub fn new(published: Vec<Arc<Published>>) -> Result<Collector, hdrhistogram::CreationError> {
        let inner = Inner {
            recent: Distributions::new()?,
            untold: Distributions::new()?,
            totals: Distributions::new()?,
            scratch: Distributions::new()?,
        };
        Ok(Collector {
            published,
            inner: Mutex::new(inner),
        })
    }

    /// Sums of all workers and the distributions since the last status.
    pub fn for_status<T>(&self, read: impl FnOnce(&Counters, &Distributions) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = gather(&self.published, &mut inner);
        let result = read(&sum, &inner.recent);
        inner.recent.reset();
        result
    }

    /// Each worker's counters and the distributions since it was last told.
    pub fn for_mixctld<T>(&self, read: impl FnOnce(&[Counters], &Distributions) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        gather(&self.published, &mut inner);
        let result = read(&self.counters(), &inner.untold);
        inner.untold.reset();
        result
    }

    /// Sums of all workers and the distributions since the start.
    pub fn for_scrape<T>(&self, read: impl FnOnce(&Counters, &Distributions) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = gather(&self.published, &mut inner);
        read(&sum, &inner.totals)
    }

    /// What became of loops since the last call, in the order it was known.
    pub fn fates(&self) -> Vec<Fate> {
        let mut fates = Vec::new();
        let workers = self.published.iter();
        workers.for_each(|worker| worker.take_fates(&mut fates));
        fates.sort_by_key(|fate| fate.decided_ns);
        fates
    }

    /// Each worker's counters.
    pub fn counters(&self) -> Vec<Counters> {
        let workers = self.published.iter();
        workers.map(|worker| worker.counters()).collect()
    }
}

fn gather(published: &[Arc<Published>], inner: &mut Inner) -> Counters {
    let mut sum = Counters::default();
    for worker in published {
        sum.add(&worker.scrape(&mut inner.scratch));
    }
    inner.recent.add(&inner.scratch);
    inner.untold.add(&inner.scratch);
    inner.totals.add(&inner.scratch);
    inner.scratch.reset();
    sum
}

impl NodeStatus {
    /// Fills in what the workers counted.
    pub fn count(mut self, counters: &Counters, recent: &Distributions) -> NodeStatus {
        if let Some(xdp) = &mut self.xdp {
            xdp.count(&counters.fast_path);
        }
        self.received = counters.received;
        self.generated = counters.generated;
        self.transmitted = counters.transmitted;
        self.absorbed = counters.absorbed;
        self.held = counters.held;
        self.rejected = counters.rejected_total();
        self.rejected_by = Reason::ALL
            .iter()
            .filter(|reason| counters.rejected(**reason) > 0)
            .map(|reason| (reason.name().to_owned(), counters.rejected(*reason)))
            .collect();
        self.loop_sent = counters.loop_sent;
        self.loop_returned = counters.loop_returned;
        let known = counters.loop_returned + counters.loop_lost;
        let lost = counters.loop_lost.saturating_sub(counters.loop_late);
        self.loop_loss = (known > 0).then(|| lost as f64 / known as f64);
        self.loop_p50_us = recent.loop_us.value_at_quantile(0.5);
        self.lateness_p50_us = recent.lateness_us.value_at_quantile(0.5);
        self.lateness_p99_us = recent.lateness_us.value_at_quantile(0.99);
        self.clients = counters.clients;
        self.sessions = counters.sessions;
        self
    }
}
