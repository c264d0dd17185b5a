//! What belongs to one node alone: link key, VRF key, every address with its port.
//!
//! Whose link key somebody else names would be silenced, for packets for both go to the one that the last of them says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use directory::{Consensus, Descriptor, NODES_MAX, Record};

/// Who is not listed any more keeps what it had for so many epochs: a day of those of twenty minutes, so that a host which
/// is mended over night finds its keys and its address free.
pub const KEPT_EPOCHS: u32 = 72;
/// Most nodes that are remembered: those of a full document, and as many that went.
const REMEMBERED_MAX: usize = 2 * NODES_MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// What an authority remembers of the documents that it held: who had what when it was last listed.
///
/// It goes into votes alone, for no two authorities need have held the same documents: what a quorum would list is still
/// computed from the document before. Of a node only what it had last is kept, so what it gave up itself is free.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// By identity: the epoch of the last document that listed it, and what it had there.
    last: BTreeMap<[u8; 32], (u32, Vec<Claim>)>,
}

impl Owners {
    /// Takes a document in; they come in any order.
    pub fn learn(&mut self, document: &Consensus) {
        let epoch = document.epoch();
        for node in document.nodes() {
            let (last, had) = self.last.entry(node.identity).or_default();
            if had.is_empty() || *last < epoch {
                (*last, *had) = (epoch, claims(&node.record).collect());
            }
        }
        let newest = self.last.values().map(|(epoch, _)| *epoch).max();
        let over = newest.unwrap_or(0).saturating_sub(KEPT_EPOCHS);
        self.last.retain(|_, (epoch, _)| *epoch >= over);
        let mut epochs: Vec<u32> = self.last.values().map(|(epoch, _)| *epoch).collect();
        if epochs.len() > REMEMBERED_MAX {
            // Whoever left first goes first, with all that left with it.
            epochs.sort_unstable_by(|a, b| b.cmp(a));
            let stays = epochs.get(REMEMBERED_MAX).map_or(0, |last| last + 1);
            self.last.retain(|_, (epoch, _)| *epoch >= stays);
        }
    }

    /// How many nodes are remembered.
    pub fn count(&self) -> usize {
        self.last.len()
    }

    /// Who has what in the eyes of those that make the document of `epoch`, as far as `counts` says that it may be in the
    /// network at all; what several had, who had it last.
    fn of(
        &self,
        epoch: u32,
        counts: impl Fn(&[u8; 32]) -> bool,
    ) -> impl Iterator<Item = (Claim, [u8; 32])> {
        let counts = |(identity, (last, _)): &(&[u8; 32], &(u32, Vec<Claim>))| {
            last.saturating_add(KEPT_EPOCHS) >= epoch && counts(identity)
        };
        let mut all: Vec<_> = self.last.iter().filter(counts).collect();
        all.sort_by_key(|(_, (last, _))| *last);
        all.into_iter()
            .flat_map(|(identity, (_, had))| had.iter().map(|claim| (*claim, *identity)))
    }
}

/// Says of each node whether it claims nothing that is another's: who has it in the document before keeps it, of two that
/// are new to it neither gets it.
pub(crate) fn are_own<'a, C: Claimant + 'a>(
    nodes: impl Iterator<Item = &'a C> + Clone,
    before: Option<&Consensus>,
) -> Vec<bool> {
    told(nodes, before, BTreeMap::new())
}

/// The same, and who was in a document not long ago and is in none now keeps what it had, as long as it is one that
/// `admitted` knows.
pub(crate) fn are_own_and_were<'a, C: Claimant + 'a>(
    nodes: impl Iterator<Item = &'a C> + Clone,
    before: Option<&Consensus>,
    (owners, epoch): (&Owners, u32),
    admitted: impl Fn(&[u8; 32]) -> bool,
) -> Vec<bool> {
    told(nodes, before, owners.of(epoch, admitted).collect())
}

fn told<'a, C: Claimant + 'a>(
    nodes: impl Iterator<Item = &'a C> + Clone,
    before: Option<&Consensus>,
    mut owners: BTreeMap<Claim, [u8; 32]>,
) -> Vec<bool> {
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
