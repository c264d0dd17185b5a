//! What a watcher of every wire sees: one hash over all datagrams, and the departures on chosen wires.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use link::{DATAGRAM_BYTES, Datagram};
use port::sim::{Fate, Network, Traced};

/// Source and destination.
pub type Wire = (SocketAddr, SocketAddr);

#[derive(Default)]
struct Seen {
    hasher: blake3::Hasher,
    datagrams: u64,
    other_sizes: u64,
    hosts: BTreeSet<SocketAddr>,
    departures: BTreeMap<Wire, Vec<u64>>,
}

/// The watcher; clones share what they saw.
#[derive(Clone, Default)]
pub struct Watcher(Arc<Mutex<Seen>>);

impl Watcher {
    /// Watches all of `network` from now on.
    pub fn on(network: &Network) -> Watcher {
        let watcher = Watcher::default();
        let seen = Arc::clone(&watcher.0);
        network.trace(move |traced| seen.lock().unwrap().see(traced));
        watcher
    }

    /// Keeps the times of departure on all wires of `host`.
    pub fn follow(&self, host: SocketAddr) {
        self.0.lock().unwrap().hosts.insert(host);
    }

    /// When datagrams left on `wire`, ns: from a followed host all of them, to it data frames alone. What else comes
    /// to it are answers to handshakes, which anyone can tell by their type, and which follow from its own handshakes.
    pub fn departures(&self, wire: Wire) -> Vec<u64> {
        let seen = self.0.lock().unwrap();
        seen.departures.get(&wire).cloned().unwrap_or_default()
    }

    /// A hash of every datagram so far (time, source, destination, fate, bytes), and how many there were.
    pub fn digest(&self) -> (blake3::Hash, u64) {
        let seen = self.0.lock().unwrap();
        (seen.hasher.finalize(), seen.datagrams)
    }

    /// Datagrams that did not have the one size.
    pub fn other_sizes(&self) -> u64 {
        self.0.lock().unwrap().other_sizes
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
            let SocketAddr::V4(host) = host else {
                panic!("the simulation has IPv4 hosts alone");
            };
            self.hasher.update(&host.ip().octets());
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
    }
}
