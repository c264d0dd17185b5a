//! Epochs: a node's keys for each, and what is in force for one.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use directory::{Consensus, EpochKey, Parameters};
use rand_core::CryptoRng;
use sphinx::EpochSecret;

use crate::keys::replay::{ReplayTable, tags_for};

/// Keys are made for the current epoch and this many after it, so that a consensus made during an epoch has those
/// of the next two.
const KEYS_AHEAD: u32 = 2;

/// The secrets of a node, by epoch. They live in memory alone.
#[derive(Default)]
pub struct KeyRing {
    secrets: BTreeMap<u32, Arc<EpochSecret>>,
}

impl KeyRing {
    /// Makes the keys that are missing for `epoch` and those after it, and forgets those no longer accepted. Says
    /// whether there are new ones, which then have to be published.
    pub fn advance<R: CryptoRng + ?Sized>(&mut self, epoch: u32, rng: &mut R) -> bool {
        self.secrets.retain(|of, _| of.saturating_add(1) >= epoch);
        let mut fresh = false;
        for of in epoch..=epoch.saturating_add(KEYS_AHEAD) {
            self.secrets.entry(of).or_insert_with(|| {
                fresh = true;
                Arc::new(EpochSecret::generate(rng))
            });
        }
        fresh
    }

    /// The public halves from `epoch` on, as a descriptor lists them.
    pub fn public(&self, epoch: u32) -> Vec<EpochKey> {
        self.secrets
            .range(epoch..)
            .map(|(of, secret)| EpochKey {
                epoch: *of,
                public_key: *secret.public_key(),
            })
            .collect()
    }

    /// The secret of `epoch`.
    pub fn secret(&self, epoch: u32) -> Option<&Arc<EpochSecret>> {
        self.secrets.get(&epoch)
    }
}

/// This node's part in an epoch.
pub struct OwnPart {
    /// Its index in the consensus.
    pub index: u16,
    /// Its layer; 0 for a gateway.
    pub layer: u8,
    /// Opens packets wrapped to it.
    pub secret: Arc<EpochSecret>,
    /// Remembers them. Dies with the key.
    pub replay: ReplayTable,
}

/// One epoch, as all workers of a node share it. Dropped by the last of them when its key is no longer accepted.
pub struct EpochState {
    consensus: Consensus,
    document: Vec<u8>,
    own: Option<OwnPart>,
    by_link_key: HashMap<[u8; 32], u16>,
}

impl EpochState {
    /// Puts together what is in force for the consensus' epoch. `document` is the signed, encoded consensus that
    /// clients fetch. A node that the consensus does not list, or lists with a key that is not in `keys` (made
    /// before a restart), sits the epoch out.
    ///
    /// # Errors
    /// If there is no memory for the replay table.
    pub fn new<R: CryptoRng + ?Sized>(
        consensus: Consensus,
        document: Vec<u8>,
        identity: &[u8; 32],
        keys: &KeyRing,
        max_pps: u32,
        rng: &mut R,
    ) -> io::Result<EpochState> {
        let epoch = consensus.epoch();
        let own = match (consensus.find(identity), keys.secret(epoch)) {
            (Some(node), Some(secret)) if node.key_at(epoch) == Some(secret.public_key()) => {
                let mut replay_secret = zeroize::Zeroizing::new([0; 16]);
                rng.fill_bytes(&mut *replay_secret);
                let tags = tags_for(max_pps, key_life_ms(consensus.parameters()));
                Some(OwnPart {
                    index: node.index,
                    layer: node.layer,
                    secret: Arc::clone(secret),
                    replay: ReplayTable::new(tags, &replay_secret)?,
                })
            }
            _ => None,
        };
        let by_link_key = consensus
            .nodes()
            .iter()
            .map(|node| (node.link.x25519, node.index))
            .collect();
        Ok(EpochState {
            consensus,
            document,
            own,
            by_link_key,
        })
    }

    /// The consensus in force.
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Its epoch.
    pub fn epoch(&self) -> u32 {
        self.consensus.epoch()
    }

    /// The signed document, encoded.
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// This node's part, if it has one.
    pub fn own(&self) -> Option<&OwnPart> {
        self.own.as_ref()
    }

    /// Index of the node with this static link key.
    pub fn node_of(&self, link_key: &[u8; 32]) -> Option<u16> {
        self.by_link_key.get(link_key).copied()
    }

    /// Layer of the neighbour with this static link key; `None` for a client.
    pub fn layer_of(&self, link_key: &[u8; 32]) -> Option<u8> {
        self.consensus
            .node(self.node_of(link_key)?)
            .map(|node| node.layer)
    }
}

/// How long a key is accepted: its epoch and the next.
pub fn key_life_ms(parameters: &Parameters) -> u64 {
    2 * parameters.epoch_ms
}
