//! Whose handshakes are answered: those of the nodes that a consensus in force lists, and at a gateway strangers' too; and
//! who waits in which queue for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::fair::Class;
use super::reached::Reached;
use crate::keys::epoch::EpochState;
use crate::path::half_open::Whose;

/// Static keys and addresses of one epoch's nodes, sorted.
#[derive(Clone)]
struct Listed {
    epoch: u32,
    keys: Arc<[[u8; 32]]>,
    addresses: Arc<[IpAddr]>,
}

impl Listed {
    fn of(state: &EpochState) -> Listed {
        let nodes = state.consensus().nodes();
        let mut keys: Vec<_> = nodes.iter().map(|node| node.link.x25519).collect();
        keys.sort_unstable();
        let addresses = nodes.iter().flat_map(|node| &node.addresses);
        let mut addresses: Vec<_> = addresses.map(|address| address.ip()).collect();
        addresses.sort_unstable();
        Listed {
            epoch: state.epoch(),
            keys: keys.into(),
            addresses: addresses.into(),
        }
    }
}

/// What the workers know of the consensus and the handshaker asks. Holds no epoch's state: their keys die on time.
pub struct Members {
    strangers: bool,
    epochs: ArcSwap<Vec<Listed>>,
    /// Where the attached clients of all workers are, and how many at each: one that attaches to another worker counts
    /// twice for a moment. Touched when one comes, moves or goes, and twice for an initiation with its cookie.
    clients: Mutex<HashMap<SocketAddr, u32>>,
    reached: Reached,
}

impl Members {
    /// Nobody is listed yet; `strangers`: whether others are answered too, as by a gateway.
    pub fn new(strangers: bool) -> Members {
        Members {
            strangers,
            epochs: ArcSwap::default(),
            clients: Mutex::default(),
            reached: Reached::default(),
        }
    }

    /// Takes an epoch up: its nodes are members until two epochs later. Each worker tells of it; the first one counts.
    pub fn learn(&self, state: &EpochState) {
        let epoch = state.epoch();
        let mut told = None;
        self.epochs.rcu(|known| {
            if known.iter().any(|listed| listed.epoch == epoch) {
                return Arc::clone(known);
            }
            let listed = told.get_or_insert_with(|| Listed::of(state));
            let newest = known.iter().map(|listed| listed.epoch).max();
            let newest = newest.unwrap_or(epoch).max(epoch);
            let all = known.iter().chain([&*listed]).cloned();
            let in_force = |listed: &Listed| listed.epoch.saturating_add(2) >= newest;
            Arc::new(all.filter(in_force).collect())
        });
    }

    /// Whether this is the static key of a node of an epoch in force.
    pub fn lists(&self, key: &[u8; 32]) -> bool {
        let epochs = self.epochs.load();
        let mut epochs = epochs.iter();
        epochs.any(|listed| listed.keys.binary_search(key).is_ok())
    }

    /// Whether a node of an epoch in force has this address.
    pub fn is_at(&self, address: &IpAddr) -> bool {
        let epochs = self.epochs.load();
        let mut epochs = epochs.iter();
        epochs.any(|listed| listed.addresses.binary_search(address).is_ok())
    }

    /// In whose queue an initiation waits that comes from this address, as its cookie has shown.
    pub fn class_of(&self, source: &SocketAddr) -> Class {
        if self.is_at(&source.ip()) {
            Class::Member
        } else if self.clients().contains_key(source) {
            Class::Client
        } else {
            Class::Stranger
        }
    }

    /// Among whose the session lies that was answered there, until its first frame comes; `is_listed`: by its key.
    pub fn whose(&self, is_listed: bool, source: &SocketAddr) -> Whose {
        if is_listed {
            Whose::Member
        } else if self.clients().contains_key(source) {
            Whose::Client
        } else {
            Whose::Stranger
        }
    }

    /// An attached client has proved this address.
    pub fn client_at(&self, address: SocketAddr) {
        *self.clients().entry(address).or_default() += 1;
    }

    /// An attached client has gone from this address.
    pub fn client_gone(&self, address: SocketAddr) {
        let mut clients = self.clients();
        if let Some(count) = clients.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&address);
            }
        }
    }

    /// Who panics while it holds this leaves nothing half done.
    fn clients(&self) -> MutexGuard<'_, HashMap<SocketAddr, u32>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of them answered lately.
    pub fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Whether strangers are answered.
    pub fn welcomes_strangers(&self) -> bool {
        self.strangers
    }
}
