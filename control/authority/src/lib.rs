//! An authority: collects descriptors, deals mixes to layers, signs one document an epoch.
//!
//! With one authority the beacon is a keyed hash of the epoch, which it could choose by choosing its
//! key; commit-reveal among several takes its place later. Mixes are ordered by a hash of beacon and
//! identity; a node can grind its identity against beacons it can foresee, which the verifiable random
//! function (RFC 9381) will end. The document's types are final for both.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
#[allow(clippy::panic)] // An oracle speaks by panicking.
pub mod fuzz;
pub mod relay;
pub mod tally;
pub mod vote;

use std::collections::BTreeMap;

use directory::{
    Authorities, Consensus, ConsensusError, DecodeError, Descriptor, Identity, NODES_MAX,
    Parameters, Role, SignedConsensus,
};

const BEACON_CONTEXT: &str = "fogmix authority beacon v1";
const DEAL_CONTEXT: &str = "fogmix layer dealing order v1";

/// A signing authority of a network.
#[derive(Debug)]
pub struct Authority {
    key: Identity,
    parameters: Parameters,
}

impl Authority {
    /// An authority with `key` for a network with `parameters`.
    ///
    /// # Errors
    /// A parameter out of its bounds.
    pub fn new(key: Identity, parameters: Parameters) -> Result<Self, DecodeError> {
        parameters.check()?;
        Ok(Self { key, parameters })
    }

    /// The network's parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// This authority alone, as clients and nodes know it.
    ///
    /// # Errors
    /// Never with one key; the type's constructor checks.
    pub fn authorities(&self) -> Result<Authorities, DecodeError> {
        Authorities::new(vec![self.key.public()])
    }

    /// The beacon of `epoch`: the same whenever this authority is asked, so that a restart can't make
    /// two documents for one epoch differ in their dealing.
    pub fn beacon(&self, epoch: u32) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(BEACON_CONTEXT);
        hasher.update(self.key.to_bytes().as_slice());
        hasher.update(&epoch.to_be_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Makes and signs the document of `epoch` from those descriptors that have a key for it. Of two
    /// with one identity the later published counts.
    ///
    /// # Errors
    /// The nodes break a rule; more than the limit of them are left out, not refused.
    pub fn sign(
        &self,
        epoch: u32,
        descriptors: impl IntoIterator<Item = Descriptor>,
    ) -> Result<SignedConsensus, ConsensusError> {
        let mut newest: BTreeMap<[u8; 32], Descriptor> = BTreeMap::new();
        for mut descriptor in descriptors {
            if descriptor.key_at(epoch).is_none() {
                continue;
            }
            descriptor
                .epoch_keys
                .retain(|key| key.epoch == epoch || Some(key.epoch) == epoch.checked_add(1));
            match newest.get(&descriptor.identity) {
                Some(held) if held.published_unix_ms >= descriptor.published_unix_ms => {}
                _ => {
                    newest.insert(descriptor.identity, descriptor);
                }
            }
        }
        let beacon = self.beacon(epoch);
        let layers = deal(&newest, &beacon, self.parameters.layers);
        let nodes = newest
            .into_values()
            .take(NODES_MAX)
            .map(|descriptor| {
                let layer = layers.get(&descriptor.identity).copied().unwrap_or(0);
                (layer, descriptor)
            })
            .collect();
        let consensus = Consensus::new(self.parameters, epoch, beacon, nodes)?;
        Ok(SignedConsensus::sign(&consensus, &self.key))
    }
}

/// Mixes in order of a hash under the beacon, dealt to the layers in turn.
fn deal(
    nodes: &BTreeMap<[u8; 32], Descriptor>,
    beacon: &[u8; 32],
    layers: u8,
) -> BTreeMap<[u8; 32], u8> {
    let mut mixes: Vec<([u8; 32], [u8; 32])> = nodes
        .values()
        .take(NODES_MAX)
        .filter(|node| node.role == Role::Mix)
        .map(|node| {
            let mut hasher = blake3::Hasher::new_derive_key(DEAL_CONTEXT);
            hasher.update(beacon);
            hasher.update(&node.identity);
            (*hasher.finalize().as_bytes(), node.identity)
        })
        .collect();
    mixes.sort_unstable();
    mixes
        .into_iter()
        .zip((1..=layers).cycle())
        .map(|((_, identity), layer)| (identity, layer))
        .collect()
}
