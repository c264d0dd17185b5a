//! What belongs to one node alone: link key, VRF key, every address with its port.
//!
//! Whose link key somebody else names would be silenced, for packets for both go to the one that the last of them says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use directory::{Consensus, Descriptor, Record};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Link([u8; 32]),
    Vrf([u8; 32]),
    Address(SocketAddr),
}

/// A node that claims things.
pub(crate) trait Claimant {
    /// Its identity, link key, VRF key and addresses.
    fn parts(&self) -> (&[u8; 32], &[u8; 32], &[u8; 32], &[SocketAddr]);
}

impl Claimant for Descriptor {
    fn parts(&self) -> (&[u8; 32], &[u8; 32], &[u8; 32], &[SocketAddr]) {
        let link = &self.link.x25519;
        (&self.identity, link, &self.vrf_key, &self.addresses)
    }
}

impl Claimant for Record {
    fn parts(&self) -> (&[u8; 32], &[u8; 32], &[u8; 32], &[SocketAddr]) {
        let link = &self.link.x25519;
        (&self.identity, link, &self.vrf_key, &self.addresses)
    }
}

fn claims(node: &impl Claimant) -> impl Iterator<Item = Claim> {
    let (_, link, vrf, addresses) = node.parts();
    let addresses = addresses.iter().copied().map(Claim::Address);
    [Claim::Link(*link), Claim::Vrf(*vrf)]
        .into_iter()
        .chain(addresses)
}

/// Says of each node whether it claims nothing that is another's: who has it in the document before keeps it, of two that
/// are new to it neither gets it.
pub(crate) fn are_own<'a, C: Claimant + 'a>(
    nodes: impl Iterator<Item = &'a C> + Clone,
    before: Option<&Consensus>,
) -> Vec<bool> {
    let mut owners: BTreeMap<Claim, [u8; 32]> = BTreeMap::new();
    for node in before.into_iter().flat_map(Consensus::nodes) {
        owners.extend(claims(&node.record).map(|claim| (claim, node.identity)));
    }
    let mut claimants: BTreeMap<Claim, u32> = BTreeMap::new();
    for claim in nodes.clone().flat_map(claims) {
        *claimants.entry(claim).or_default() += 1;
    }
    let is_own = |node: &C| {
        let (identity, ..) = node.parts();
        claims(node).all(|claim| match owners.get(&claim) {
            Some(owner) => owner == identity,
            None => claimants.get(&claim).is_none_or(|count| *count == 1),
        })
    };
    nodes.map(is_own).collect()
}
