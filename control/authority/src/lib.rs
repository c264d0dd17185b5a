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
use std::net::SocketAddr;

use directory::{
    Authorities, Consensus, ConsensusError, DecodeError, Descriptor, Identity, NODES_MAX,
    Parameters, Role, SignedConsensus,
};

const BEACON_CONTEXT: &str = "fogmix authority beacon v1";
const DEAL_CONTEXT: &str = "fogmix layer dealing order v1";

/// A node weighs at most so many medians of its role.
pub const CAPACITY_MEDIANS: u32 = 4;

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

    /// Makes and signs the document of `epoch` from those descriptors that have a key for it, without a document
    /// before it. See [`Authority::sign_after`].
    ///
    /// # Errors
    /// As for [`Authority::sign_after`].
    pub fn sign(
        &self,
        epoch: u32,
        descriptors: impl IntoIterator<Item = Descriptor>,
    ) -> Result<SignedConsensus, ConsensusError> {
        self.sign_after(None, epoch, descriptors)
    }

    /// Makes and signs the document of `epoch` from those descriptors that have a key for it. Of two
    /// with one identity the later published counts. A descriptor is believed no more than it has to be: a
    /// link key, VRF key or address belongs to one identity, the one that has it in the document
    /// `before`; of two that are new to it neither gets in. And nobody's capacity counts for more than
    /// [`CAPACITY_MEDIANS`] times the median of its role.
    ///
    /// # Errors
    /// The nodes break a rule; more than the limit of them are left out, not refused.
    pub fn sign_after(
        &self,
        before: Option<&Consensus>,
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
        refuse_duplicates(&mut newest, before);
        cap_capacities(&mut newest);
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

/// What belongs to one node alone.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Link([u8; 32]),
    Vrf([u8; 32]),
    Address(SocketAddr),
}

fn claims(node: &Descriptor) -> impl Iterator<Item = Claim> {
    let addresses = node.addresses.iter().copied().map(Claim::Address);
    [Claim::Link(node.link.x25519), Claim::Vrf(node.vrf_key)]
        .into_iter()
        .chain(addresses)
}

/// Takes out who claims what is another's. Whose link key somebody else names would be silenced: packets for both go to
/// the one that the last of them says.
fn refuse_duplicates(nodes: &mut BTreeMap<[u8; 32], Descriptor>, before: Option<&Consensus>) {
    let mut owners: BTreeMap<Claim, [u8; 32]> = BTreeMap::new();
    for node in before.into_iter().flat_map(Consensus::nodes) {
        owners.extend(claims(node).map(|claim| (claim, node.identity)));
    }
    let mut claimants: BTreeMap<Claim, u32> = BTreeMap::new();
    for claim in nodes.values().flat_map(claims) {
        *claimants.entry(claim).or_default() += 1;
    }
    nodes.retain(|identity, node| {
        claims(node).all(|claim| match owners.get(&claim) {
            Some(owner) => owner == identity,
            None => claimants.get(&claim).is_none_or(|count| *count == 1),
        })
    });
}

/// Holds every capacity below a multiple of its role's median, of two middle ones the lower.
fn cap_capacities(nodes: &mut BTreeMap<[u8; 32], Descriptor>) {
    for role in [Role::Mix, Role::Gateway] {
        let of_role = nodes.values().filter(|node| node.role == role);
        let mut capacities: Vec<u32> = of_role.map(|node| node.capacity_pps).collect();
        capacities.sort_unstable();
        let middle = capacities.len().saturating_sub(1) / 2;
        let Some(median) = capacities.get(middle) else {
            continue;
        };
        let most = median.saturating_mul(CAPACITY_MEDIANS);
        for node in nodes.values_mut().filter(|node| node.role == role) {
            node.capacity_pps = node.capacity_pps.min(most);
        }
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
