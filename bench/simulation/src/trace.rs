//! What a watcher of every wire sees: one hash over all datagrams, and the departures on chosen wires.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use link::{DATAGRAM_BYTES, Datagram};
use port::sim::{Fate, Network, Traced};

use crate::host::Host;

/// Source and destination.
pub type Wire = (SocketAddr, SocketAddr);

/// What a watcher of all wires learns of one datagram, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it was sent.
    pub sent_ns: u64,
    /// Who sent it.
    pub source: Host,
    /// Whom it is for.
    pub destination: Host,
    /// Whether it is a data frame; others belong to handshakes.
    pub is_data: bool,
    /// When it arrives, if it does.
    pub fate: Fate,
}

type Observer = Box<dyn FnMut(&Observation) + Send>;

#[derive(Default)]
struct Seen {
    hasher: blake3::Hasher,
    datagrams: u64,
    other_sizes: u64,
    hosts: BTreeSet<SocketAddr>,
    departures: BTreeMap<Wire, Vec<u64>>,
    observer: Option<Observer>,
}

/// The watcher; clones share what they saw.
#[derive(Clone, Default)]
pub struct Watcher(Arc<Mutex<Seen>>);

impl Watcher {
    /// Watches all of `network` from now on.
    pub(crate) fn on(network: &Network) -> Watcher {
        let watcher = Watcher::default();
        let seen = watcher.clone();
        network.trace(move |traced| seen.seen().see(traced));
        watcher
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whoever panicked with it left nothing half done that matters to a run already failing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `observer`, in place of an earlier one, with every datagram sent from now on, in order. It must use
    /// neither watcher nor network.
    pub fn observe(&self, observer: impl FnMut(&Observation) + Send + 'static) {
        self.seen().observer = Some(Box::new(observer));
    }

    /// Keeps the times of departure on all wires of `host`.
    pub fn follow(&self, host: SocketAddr) {
        self.seen().hosts.insert(host);
    }

    /// When datagrams left on `wire`, ns: from a followed host all of them, to it data frames alone. What else comes
    /// to it are answers to handshakes, which anyone can tell by their type, and which follow from its own handshakes.
    pub fn departures(&self, wire: Wire) -> Vec<u64> {
        let seen = self.seen();
        seen.departures.get(&wire).cloned().unwrap_or_default()
    }

    /// When `source` sent anything, to whomever, in order.
    pub fn departures_from(&self, source: SocketAddr) -> Vec<u64> {
        let seen = self.seen();
        let wires = seen.departures.iter();
        let wires = wires.filter(|((from, _), _)| *from == source);
        let mut all: Vec<u64> = wires.flat_map(|(_, times)| times).copied().collect();
        all.sort_unstable();
        all
    }

    /// A hash of every datagram so far (time, source, destination, fate, bytes), and how many there were.
    pub fn digest(&self) -> (blake3::Hash, u64) {
        let seen = self.seen();
        (seen.hasher.finalize(), seen.datagrams)
    }

    /// Datagrams that did not have the one size.
    pub fn other_sizes(&self) -> u64 {
        self.seen().other_sizes
    }
}

impl Seen {
    fn see(&mut self, traced: &Traced<'_>) {
        self.datagrams += 1;
        self.other_sizes += u64::from(traced.bytes.len() != DATAGRAM_BYTES);
        let (fate, at_ns) = match traced.fate {
            Fate::Arrives { at_ns } => (0, at_ns),
            Fate::Lost => (1, 0),
            Fate::Partitioned => (2, 0),
        };
        for host in [traced.source, traced.destination] {
            match host.ip() {
                IpAddr::V4(ip) => self.hasher.update(&ip.octets()),
                IpAddr::V6(ip) => self.hasher.update(&ip.octets()),
            };
            self.hasher.update(&host.port().to_le_bytes());
        }
        self.hasher.update(&traced.sent_ns.to_le_bytes());
        self.hasher.update(&[fate]);
        self.hasher.update(&at_ns.to_le_bytes());
        self.hasher.update(traced.bytes);

        let is_data = matches!(link::peek(traced.bytes), Ok(Datagram::Data { .. }));
        let followed = self.hosts.contains(&traced.source)
            || (self.hosts.contains(&traced.destination) && is_data);
        if followed {
            let wire = (traced.source, traced.destination);
            self.departures
                .entry(wire)
                .or_default()
                .push(traced.sent_ns);
        }
        if let Some(observer) = &mut self.observer
            && let (Some(source), Some(destination)) =
                (Host::at(traced.source), Host::at(traced.destination))
        {
            observer(&Observation {
                sent_ns: traced.sent_ns,
                source,
                destination,
                is_data,
                fate: traced.fate,
            });
        }
    }
}
