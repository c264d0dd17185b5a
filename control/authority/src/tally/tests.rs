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
fn previous(count: u8) -> Ground {
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
    Ground {
        generation: 0,
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
        let mut parts = result.parts.iter();
        parts.find(|(key, _)| *key == authority).unwrap().1
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
        let mut parts = result.parts.into_iter();
        let part = parts.find(|(key, _)| *key == authority).unwrap().1;
        part.commit.is_some()
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
