//! What follows from the votes: who is listed with which weight, the parameters, the beacon. A pure function, so that
//! all who hold the same votes come to the same result, whatever order those came in.

use std::collections::BTreeMap;

use directory::beacon::{beacon, commit};
use directory::{Authorities, Parameters};

use crate::vote::{Entry, FLAG_LEAVING, FLAG_PAUSED, Vote};

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
pub struct Previous {
    /// Which network.
    pub network: [u8; 16],
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

/// What a document says of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its key.
    pub authority: [u8; 32],
    /// What it commits to for the next document.
    pub commit: Option<[u8; 32]>,
    /// The value whose commitment stood in the document before.
    pub reveal: Option<[u8; 32]>,
    /// See [`Standing::excluded_until`].
    pub excluded_until: u32,
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
    /// Every authority of the set, ascending.
    pub parts: Vec<Part>,
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
    previous: &Previous,
    epoch: u32,
    votes: &[Vote],
) -> Result<Tally, TallyError> {
    let quorum = authorities.quorum();
    // By author: one vote each, in an order that does not depend on how they came.
    let votes: BTreeMap<_, _> = votes
        .iter()
        .filter(|vote| vote.network == previous.network && vote.epoch == epoch)
        .filter(|vote| authorities.keys().binary_search(&vote.authority).is_ok())
        .map(|vote| (vote.authority, vote))
        .collect();
    if votes.len() < quorum {
        let votes = votes.len();
        return Err(TallyError::Votes { votes, quorum });
    }
    let votes: BTreeMap<_, _> = votes
        .into_iter()
        .filter(|(_, vote)| vote.previous == previous.digest)
        .collect();
    if votes.len() < quorum {
        let votes = votes.len();
        return Err(TallyError::Previous { votes, quorum });
    }
    let parts: Vec<Part> = authorities
        .keys()
        .iter()
        .map(|authority| part(authority, votes.get(authority).copied(), previous, epoch))
        .collect();
    let reveals: Vec<_> = parts
        .iter()
        .filter_map(|part| Some((part.authority, part.reveal?)))
        .collect();
    Ok(Tally {
        method: method(&votes, quorum),
        parameters: parameters(&votes, &previous.parameters, quorum),
        beacon: beacon(&previous.network, epoch, &previous.beacon, &reveals),
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

fn part(authority: &[u8; 32], vote: Option<&Vote>, previous: &Previous, epoch: u32) -> Part {
    let standing = previous.standings.get(authority).copied();
    let Standing {
        commit: committed,
        excluded_until,
    } = standing.unwrap_or_default();
    let reveal = vote
        .and_then(|vote| vote.reveal)
        .filter(|reveal| committed == Some(commit(authority, previous.epoch, reveal)));
    // An authority that is down looks like one that did not like its value: both wait.
    let excluded_until = match committed.is_some() && reveal.is_none() {
        true => epoch.saturating_add(EXCLUDED_DOCUMENTS - 1),
        false => excluded_until,
    };
    Part {
        authority: *authority,
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
mod tests {
    use super::*;
    use directory::Identity;
    use directory::beacon::reveal;

    const NETWORK: [u8; 16] = [3; 16];

    fn key(number: u8) -> Identity {
        Identity::from_bytes(&[number; 32])
    }

    fn set(count: u8) -> Authorities {
        Authorities::new((0..count).map(|number| key(number).public()).collect()).unwrap()
    }

    fn founding() -> Parameters {
        Parameters {
            genesis_unix_ms: 1_700_000_000_000,
            epoch_ms: 1_200_000,
            mean_delay_us: 50_000,
            client_rate_pps: 20,
            layers: 3,
        }
    }

    /// The document of epoch 4, in which all of `count` authorities committed.
    fn previous(count: u8) -> Previous {
        let standings = (0..count).map(|number| {
            let authority = key(number).public();
            let value = reveal(&key(number), &NETWORK, 4);
            let commit = Some(commit(&authority, 4, &value));
            let excluded_until = 0;
            (
                authority,
                Standing {
                    commit,
                    excluded_until,
                },
            )
        });
        Previous {
            network: NETWORK,
            digest: [7; 32],
            epoch: 4,
            beacon: [8; 32],
            parameters: founding(),
            standings: standings.collect(),
        }
    }

    fn entry(number: u8, weight: u32) -> Entry {
        Entry {
            identity: [number; 32],
            digest: [100 + number; 32],
            flags: 0,
            weight,
        }
    }

    fn vote(number: u8, nodes: &[Entry]) -> Vote {
        let authority = key(number).public();
        let next = reveal(&key(number), &NETWORK, 5);
        Vote {
            authority,
            network: NETWORK,
            generation: 0,
            method: 1,
            epoch: 5,
            previous: [7; 32],
            parameters: founding(),
            commit: commit(&authority, 5, &next),
            reveal: Some(reveal(&key(number), &NETWORK, 4)),
            nodes: nodes.to_vec(),
        }
    }

    fn count(votes: &[Vote], of: u8) -> Result<Tally, TallyError> {
        tally(&set(of), &previous(of), 5, votes)
    }

    #[test]
    fn a_node_is_listed_where_a_quorum_of_all_lists_the_same_descriptor() {
        let other = Entry {
            digest: [200; 32],
            ..entry(2, 10)
        };
        let votes = [
            vote(0, &[entry(1, 10), entry(2, 10), entry(3, 10)]),
            vote(1, &[entry(1, 30), other]),
            vote(2, &[entry(1, 20), entry(3, 40)]),
        ];
        let nodes = count(&votes, 3).unwrap().nodes;
        assert_eq!(nodes, [entry(1, 20), entry(3, 10)]);
        // Two votes of five are no quorum, however many came.
        assert_eq!(
            count(
                &[
                    vote(0, &[entry(1, 1)]),
                    vote(1, &[entry(1, 1)]),
                    vote(2, &[])
                ],
                5
            )
            .unwrap()
            .nodes,
            []
        );
    }

    #[test]
    fn a_flag_counts_where_a_quorum_sets_it() {
        let with = |flags| Entry {
            flags,
            ..entry(1, 10)
        };
        let votes = [
            vote(0, &[with(FLAG_LEAVING | FLAG_PAUSED)]),
            vote(1, &[with(FLAG_LEAVING)]),
            vote(2, &[with(0)]),
        ];
        assert_eq!(count(&votes, 3).unwrap().nodes, [with(FLAG_LEAVING)]);
    }

    #[test]
    fn too_few_votes_or_too_few_that_follow_the_same_document_make_none() {
        let (votes, quorum) = (1, 2);
        assert_eq!(
            count(&[vote(0, &[])], 3),
            Err(TallyError::Votes { votes, quorum })
        );
        let mut elsewhere = vote(1, &[]);
        elsewhere.previous = [9; 32];
        assert_eq!(
            count(&[vote(0, &[]), elsewhere], 3),
            Err(TallyError::Previous { votes, quorum })
        );
        // Of another epoch or network, of a stranger, or a second of the same author: not a vote.
        let mut late = vote(1, &[]);
        late.epoch = 6;
        let mut strange = vote(2, &[]);
        strange.network = [1; 16];
        let all = [vote(0, &[]), vote(0, &[]), late, strange, vote(9, &[])];
        assert_eq!(count(&all, 3), Err(TallyError::Votes { votes, quorum }));
    }

    #[test]
    fn parameters_change_by_a_quorum_and_never_the_epochs() {
        let with = |number, change: &dyn Fn(&mut Parameters)| {
            let mut vote = vote(number, &[]);
            change(&mut vote.parameters);
            vote
        };
        let slower = |parameters: &mut Parameters| parameters.mean_delay_us = 90_000;
        let longer = |parameters: &mut Parameters| parameters.epoch_ms = 600_000;
        let same = |_: &mut Parameters| {};
        let mean = |votes: &[Vote]| count(votes, 3).unwrap().parameters;
        assert_eq!(
            mean(&[with(0, &slower), with(1, &same), with(2, &same)]),
            founding()
        );
        let changed = mean(&[with(0, &slower), with(1, &slower), with(2, &same)]);
        assert_eq!(changed.mean_delay_us, 90_000);
        assert_eq!(
            mean(&[with(0, &longer), with(1, &longer), with(2, &longer)]),
            founding()
        );
    }

    #[test]
    fn the_method_is_the_newest_that_a_quorum_knows() {
        let with = |number, method| Vote {
            method,
            ..vote(number, &[])
        };
        let method = |votes: &[Vote]| count(votes, 3).unwrap().method;
        assert_eq!(method(&[with(0, 1), with(1, 2), with(2, 3)]), 2);
        assert_eq!(method(&[with(0, 1), with(1, 3)]), 1);
    }

    #[test]
    fn only_values_that_were_committed_to_enter_the_beacon_and_who_holds_one_back_waits() {
        let mut liar = vote(1, &[]);
        liar.reveal = Some([1; 32]);
        let mut silent = vote(2, &[]);
        silent.reveal = None;
        let result = count(&[vote(0, &[]), liar, silent], 3).unwrap();
        let value = reveal(&key(0), &NETWORK, 4);
        let alone = [(key(0).public(), value)];
        assert_eq!(result.beacon, beacon(&NETWORK, 5, &[8; 32], &alone));
        let part = |number: u8| {
            let authority = key(number).public();
            *result
                .parts
                .iter()
                .find(|part| part.authority == authority)
                .unwrap()
        };
        assert_eq!((part(0).reveal, part(0).excluded_until), (Some(value), 0));
        assert!(part(0).commit.is_some());
        for number in [1, 2] {
            let part = part(number);
            assert_eq!(
                (part.commit, part.reveal, part.excluded_until),
                (None, None, 7)
            );
        }
        // It commits again when the three documents are over.
        let mut later = previous(3);
        let waits = Standing {
            commit: None,
            excluded_until: 7,
        };
        later.standings.insert(key(1).public(), waits);
        let commits = |epoch| {
            let votes: Vec<_> = (0..3)
                .map(|number| Vote {
                    epoch,
                    ..vote(number, &[])
                })
                .collect();
            let result = tally(&set(3), &later, epoch, &votes).unwrap();
            let authority = key(1).public();
            let part = result
                .parts
                .into_iter()
                .find(|part| part.authority == authority);
            part.unwrap().commit.is_some()
        };
        assert!(!commits(7));
        assert!(commits(8));
    }

    #[test]
    fn the_order_of_votes_does_not_count() {
        let votes = [
            vote(0, &[entry(1, 10), entry(2, 5)]),
            vote(1, &[entry(1, 30)]),
            vote(2, &[entry(1, 20), entry(2, 7)]),
        ];
        let [a, b, c] = votes.clone();
        let one = count(&votes, 3).unwrap();
        assert_eq!(one, count(&[c.clone(), a.clone(), b.clone()], 3).unwrap());
        assert_eq!(one, count(&[b, c, a], 3).unwrap());
    }
}
