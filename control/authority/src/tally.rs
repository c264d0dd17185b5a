//! What follows from the votes: who is listed with which weight, the parameters, the beacon. A pure function, so that
//! all who hold the same votes come to the same result, whatever order those came in.

use std::collections::BTreeMap;

use directory::beacon::{beacon, commit};
use directory::{
    Authorities, Chain, Consensus, DecodeError, FLAG_LEAVING, FLAG_PAUSED, Parameters, Part,
};

use crate::vote::{Entry, Vote};

/// The newest way to compute a document that is known here: the one of this crate.
pub const METHOD: u8 = 1;
/// So many documents, the one that shows it among them, take no commitment of who did not reveal what it had committed
/// to.
pub const EXCLUDED_DOCUMENTS: u32 = 3;

/// What the document before says of an authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it committed to there.
    pub commit: Option<[u8; 32]>,
    /// Up to and with this epoch its commitments are left out; 0 for never.
    pub excluded_until: u32,
}

/// What votes are counted against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Which network.
    pub network: [u8; 16],
    /// Generation of the authority set whose votes count.
    pub generation: u16,
    /// Digest of the document before; zero before the first.
    pub digest: [u8; 32],
    /// Its epoch; 0 before the first.
    pub epoch: u32,
    /// Its beacon; zero before the first.
    pub beacon: [u8; 32],
    /// Its parameters; before the first those of the network's founding.
    pub parameters: Parameters,
    /// By authority; one that is not here never committed.
    pub standings: BTreeMap<[u8; 32], Standing>,
}

impl Ground {
    /// What votes about the document that follows `previous` are counted against; without one, a network's first.
    ///
    /// # Errors
    /// A set of `chain` that can't be one: never with a chain that was checked.
    pub fn after(
        previous: Option<&Consensus>,
        chain: &Chain,
        epoch: u32,
    ) -> Result<Ground, DecodeError> {
        let generation = chain.at(epoch).map_or(0, |set| set.generation);
        let mut ground = Ground {
            network: *chain.network(),
            generation,
            digest: [0; 32],
            epoch: 0,
            beacon: [0; 32],
            parameters: *chain.parameters(),
            standings: BTreeMap::new(),
        };
        if let Some(previous) = previous {
            let head = previous.head();
            ground.digest = *previous.digest();
            ground.epoch = head.epoch;
            ground.beacon = head.beacon;
            ground.parameters = head.parameters;
            if let Some(set) = chain.generation(head.generation) {
                let authorities = set.authorities()?;
                let keys = authorities.keys().iter().copied();
                let standings = head.parts.iter().map(|part| Standing {
                    commit: part.commit,
                    excluded_until: part.excluded_until,
                });
                ground.standings = keys.zip(standings).collect();
            }
        }
        Ok(ground)
    }
}

/// What the votes make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The newest way to compute a document that a quorum knows.
    pub method: u8,
    /// The parameters in force.
    pub parameters: Parameters,
    /// The new beacon.
    pub beacon: [u8; 32],
    /// Every authority of the set with what the document says of it, ascending.
    pub parts: Vec<([u8; 32], Part)>,
    /// Who is listed, ascending by identity.
    pub nodes: Vec<Entry>,
}

/// Why no document can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TallyError {
    /// Too few votes came through.
    #[error("{votes} votes came through, {quorum} are needed")]
    Votes {
        /// How many.
        votes: usize,
        /// How many are needed.
        quorum: usize,
    },
    /// Too few of them follow the document that this authority holds.
    #[error("{votes} votes follow the document that is held here, {quorum} are needed")]
    Previous {
        /// How many.
        votes: usize,
        /// How many are needed.
        quorum: usize,
    },
}

/// Counts the votes about the document of `epoch`, at most one of each authority of the set.
///
/// Only votes that follow the same document as this authority count: what the others list rests on something else.
///
/// # Errors
/// Too few votes.
pub fn tally(
    authorities: &Authorities,
    ground: &Ground,
    epoch: u32,
    votes: &[Vote],
) -> Result<Tally, TallyError> {
    let quorum = authorities.quorum();
    // By author: one vote each, in an order that does not depend on how they came.
    let votes: BTreeMap<_, _> = votes
        .iter()
        .filter(|vote| {
            (vote.network, vote.generation, vote.epoch)
                == (ground.network, ground.generation, epoch)
        })
        .filter(|vote| authorities.keys().binary_search(&vote.authority).is_ok())
        .map(|vote| (vote.authority, vote))
        .collect();
    if votes.len() < quorum {
        let votes = votes.len();
        return Err(TallyError::Votes { votes, quorum });
    }
    let votes: BTreeMap<_, _> = votes
        .into_iter()
        .filter(|(_, vote)| vote.previous == ground.digest)
        .collect();
    if votes.len() < quorum {
        let votes = votes.len();
        return Err(TallyError::Previous { votes, quorum });
    }
    let parts: Vec<_> = authorities
        .keys()
        .iter()
        .map(|authority| {
            let vote = votes.get(authority).copied();
            (*authority, part(authority, vote, ground, epoch))
        })
        .collect();
    let reveals: Vec<_> = parts
        .iter()
        .filter_map(|(authority, part)| Some((*authority, part.reveal?)))
        .collect();
    Ok(Tally {
        method: method(&votes, quorum),
        parameters: parameters(&votes, &ground.parameters, quorum),
        beacon: beacon(&ground.network, epoch, &ground.beacon, &reveals),
        parts,
        nodes: nodes(&votes, quorum),
    })
}

type Votes<'a> = BTreeMap<[u8; 32], &'a Vote>;

/// The highest method that a quorum has reached.
fn method(votes: &Votes<'_>, quorum: usize) -> u8 {
    let mut methods: Vec<u8> = votes.values().map(|vote| vote.method).collect();
    methods.sort_unstable_by(|a, b| b.cmp(a));
    methods.get(quorum - 1).copied().unwrap_or(0)
}

/// Those of before, unless a quorum wants the same others. Genesis and length of an epoch never change: the arithmetic of
/// epochs hangs on them.
fn parameters(votes: &Votes<'_>, before: &Parameters, quorum: usize) -> Parameters {
    let wanted = |parameters: &&Parameters| {
        let same = votes
            .values()
            .filter(|vote| vote.parameters == **parameters);
        same.count() >= quorum
    };
    let agreed = votes.values().map(|vote| &vote.parameters).find(wanted);
    let fixed = |parameters: &&Parameters| {
        (parameters.genesis_unix_ms, parameters.epoch_ms)
            == (before.genesis_unix_ms, before.epoch_ms)
    };
    *agreed.filter(fixed).unwrap_or(before)
}

fn part(authority: &[u8; 32], vote: Option<&Vote>, ground: &Ground, epoch: u32) -> Part {
    let standing = ground.standings.get(authority).copied();
    let Standing {
        commit: committed,
        excluded_until,
    } = standing.unwrap_or_default();
    let reveal = vote
        .and_then(|vote| vote.reveal)
        .filter(|reveal| committed == Some(commit(authority, ground.epoch, reveal)));
    // An authority that is down looks like one that did not like its value: both wait.
    let excluded_until = match committed.is_some() && reveal.is_none() {
        true => epoch.saturating_add(EXCLUDED_DOCUMENTS - 1),
        false => excluded_until,
    };
    Part {
        commit: vote
            .map(|vote| vote.commit)
            .filter(|_| epoch > excluded_until || excluded_until == 0),
        reveal,
        excluded_until,
    }
}

/// Whom a quorum lists with the same descriptor.
fn nodes(votes: &Votes<'_>, quorum: usize) -> Vec<Entry> {
    let mut listed: BTreeMap<([u8; 32], [u8; 32]), Vec<&Entry>> = BTreeMap::new();
    for entry in votes.values().flat_map(|vote| &vote.nodes) {
        let key = (entry.identity, entry.digest);
        listed.entry(key).or_default().push(entry);
    }
    listed
        .into_iter()
        .filter(|(_, entries)| entries.len() >= quorum)
        .map(|((identity, digest), entries)| {
            let mut weights: Vec<u32> = entries.iter().map(|entry| entry.weight).collect();
            weights.sort_unstable();
            let flags = [FLAG_LEAVING, FLAG_PAUSED]
                .into_iter()
                .filter(|flag| {
                    let set = entries.iter().filter(|entry| entry.flags & flag != 0);
                    set.count() >= quorum
                })
                .fold(0, |flags, flag| flags | flag);
            Entry {
                identity,
                digest,
                flags,
                // The low median: of an even number the smaller of the two in the middle.
                weight: weights.get((weights.len() - 1) / 2).copied().unwrap_or(1),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
