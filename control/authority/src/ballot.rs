//! What an authority votes: which nodes it would list, with which flags and weights. A pure function of what it holds.

use std::collections::BTreeMap;

use directory::beacon::{commit, reveal};
use directory::{
    Chain, Consensus, DecodeError, Descriptor, FLAG_PAUSED, Identity, NODES_MAX, Role,
    SignedDescriptor, SignedReport,
};

use crate::admission::{Admission, OPEN_PREFIX_NODES_MAX, prefix};
use crate::claims::{Owners, are_own_and_were};
use crate::reports::unreachable;
use crate::tally::{Ground, METHOD};
use crate::vote::{Entry, SignedVote, Vote, VoteError};

/// A node weighs at most so many medians of its role.
pub const CAPACITY_MEDIANS: u32 = 4;

/// What an authority votes upon.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// The authorities of the network.
    pub chain: &'a Chain,
    /// The document that the new one follows; none before a network's first.
    pub previous: Option<&'a Consensus>,
    /// The epoch of the new one.
    pub epoch: u32,
    /// Whom it lists.
    pub admission: &'a Admission,
    /// What nodes say of themselves. Of two of one identity the newest `published` counts, then the smallest digest.
    pub descriptors: &'a [SignedDescriptor],
    /// What nodes of the previous document say of whom they reached; others are passed over.
    pub reports: &'a [SignedReport],
    /// Who had what in documents before the previous one.
    pub owners: &'a Owners,
}

impl Ballot<'_> {
    /// The vote of the authority with this key.
    ///
    /// # Errors
    /// A field out of its bounds: never with a chain that was checked.
    pub fn vote(&self, key: &Identity) -> Result<SignedVote, VoteError> {
        let ground = Ground::after(self.previous, self.chain, self.epoch)?;
        let authority = key.public();
        let next = reveal(key, &ground.network, self.epoch);
        let standing = ground.standings.get(&authority);
        let committed = standing.is_some_and(|standing| standing.commit.is_some());
        let vote = Vote {
            authority,
            network: ground.network,
            generation: ground.generation,
            method: METHOD,
            epoch: self.epoch,
            previous: ground.digest,
            parameters: ground.parameters,
            commit: commit(&authority, self.epoch, &next),
            reveal: committed.then(|| reveal(key, &ground.network, ground.epoch)),
            nodes: self.entries()?,
        };
        vote.sign(key)
    }

    /// Whom it lists, ascending by identity.
    fn entries(&self) -> Result<Vec<Entry>, DecodeError> {
        let network = self.chain.network();
        let silent = unreachable(self.previous, network, self.reports);
        let mut newest: BTreeMap<[u8; 32], (&SignedDescriptor, [u8; 32])> = BTreeMap::new();
        for one in self.descriptors {
            let admitted = self.admission.check(one, self.chain, self.epoch).is_ok();
            if !admitted || silent.contains(&one.identity) {
                continue;
            }
            let digest = one.digest();
            let rank = |of: &SignedDescriptor, digest| {
                (of.published_unix_ms, core::cmp::Reverse::<[u8; 32]>(digest))
            };
            match newest.get(&one.identity) {
                Some((held, known)) if rank(held, *known) >= rank(one, digest) => {}
                _ => {
                    newest.insert(one.identity, (one, digest));
                }
            }
        }
        let own = are_own_and_were(
            newest.values().map(|(one, _)| one.descriptor()),
            self.previous,
            (self.owners, self.epoch),
            |identity| self.admission.knows(identity),
        );
        let mut listed: Vec<(&Descriptor, [u8; 32])> = newest
            .values()
            .zip(own)
            .filter(|(_, own)| *own)
            .map(|((one, digest), _)| (one.descriptor(), *digest))
            .collect();
        // Who is in the network already comes before who wants in.
        let is_new = |node: &Descriptor| {
            let before = self.previous.and_then(|before| before.find(&node.identity));
            before.is_none()
        };
        listed.sort_by_key(|(node, _)| is_new(node));
        if *self.admission == Admission::Open {
            thin_prefixes(&mut listed);
        }
        listed.truncate(NODES_MAX);
        listed.sort_unstable_by_key(|(node, _)| node.identity);
        let most = [Role::Mix, Role::Gateway].map(|role| weight_max(&listed, role));
        let entry = |(node, digest): &(&Descriptor, [u8; 32])| {
            let admitted = self.admission.of(&node.identity);
            let [mix, gateway] = most;
            let of_role = match node.role {
                Role::Mix => mix,
                Role::Gateway => gateway,
            };
            let paused = admitted.is_some_and(|admitted| admitted.paused);
            let agreed = admitted.map_or(u32::MAX, |admitted| admitted.weight_max);
            Entry {
                identity: node.identity,
                digest: *digest,
                flags: node.flags | if paused { FLAG_PAUSED } else { 0 },
                weight: node.capacity_pps.min(of_role).min(agreed).max(1),
            }
        };
        Ok(listed.iter().map(entry).collect())
    }
}

/// Of nodes that share a prefix the first few stay.
fn thin_prefixes(nodes: &mut Vec<(&Descriptor, [u8; 32])>) {
    let mut counts: BTreeMap<(bool, u128), usize> = BTreeMap::new();
    nodes.retain(|(node, _)| {
        let mut prefixes: Vec<_> = node.addresses.iter().map(|a| prefix(a.ip())).collect();
        prefixes.dedup();
        let has_room = |prefix| {
            counts
                .get(prefix)
                .is_none_or(|n| *n < OPEN_PREFIX_NODES_MAX)
        };
        let stays = prefixes.iter().all(has_room);
        if stays {
            for prefix in prefixes {
                *counts.entry(prefix).or_default() += 1;
            }
        }
        stays
    });
}

/// What a node of `role` weighs at most: a multiple of the median, of two middle ones the lower.
fn weight_max(nodes: &[(&Descriptor, [u8; 32])], role: Role) -> u32 {
    let of_role = nodes.iter().filter(|(node, _)| node.role == role);
    let mut capacities: Vec<u32> = of_role.map(|(node, _)| node.capacity_pps).collect();
    capacities.sort_unstable();
    let middle = capacities.len().saturating_sub(1) / 2;
    capacities
        .get(middle)
        .map_or(u32::MAX, |median| median.saturating_mul(CAPACITY_MEDIANS))
}
