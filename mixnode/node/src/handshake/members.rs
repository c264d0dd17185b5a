//! Whose handshakes are answered: those of the nodes that a consensus in force lists, and at a gateway strangers' too.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::keys::epoch::EpochState;

/// Static keys of one epoch's nodes, sorted.
#[derive(Clone)]
struct Listed {
    epoch: u32,
    keys: Arc<[[u8; 32]]>,
}

/// What the workers know of the consensus and the handshaker asks. Holds no epoch's state: their keys die on time.
pub struct Members {
    strangers: bool,
    epochs: ArcSwap<Vec<Listed>>,
}

impl Members {
    /// Nobody is listed yet; `strangers`: whether others are answered too, as by a gateway.
    pub fn new(strangers: bool) -> Members {
        Members {
            strangers,
            epochs: ArcSwap::default(),
        }
    }

    /// Takes an epoch up: its nodes are members until two epochs later. Each worker tells of it; the first one counts.
    pub fn learn(&self, state: &EpochState) {
        let epoch = state.epoch();
        let mut keys = Vec::new();
        self.epochs.rcu(|known| {
            if known.iter().any(|listed| listed.epoch == epoch) {
                return Arc::clone(known);
            }
            if keys.is_empty() {
                keys.extend(
                    state
                        .consensus()
                        .nodes()
                        .iter()
                        .map(|node| node.link.x25519),
                );
                keys.sort_unstable();
            }
            let newest = known.iter().map(|listed| listed.epoch).max();
            let newest = newest.unwrap_or(epoch).max(epoch);
            let listed = Listed {
                epoch,
                keys: keys.as_slice().into(),
            };
            let all = known.iter().cloned().chain([listed]);
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

    /// Whether strangers are answered.
    pub fn welcomes_strangers(&self) -> bool {
        self.strangers
    }
}
