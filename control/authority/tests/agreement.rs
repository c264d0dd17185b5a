//! Five authorities and whatever up to two of them do: all honest ones make the same document, every epoch.

mod network;

use std::collections::BTreeMap;

use authority::document::make;
use authority::relay::{ROUNDS, Relay, RelayedVote};
use authority::vote::{SignedVote, Vote};
use directory::{
    Chain, Consensus, ConsensusSignature, Held, Identity, Previous, Role, SignedConsensus,
    SignedDescriptor,
};
use network::{Member, PARAMETERS, chain_of, node, nodes, vote_of};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

const AUTHORITIES: u8 = 5;
const QUORUM: usize = 3;
const EPOCHS: u32 = 200;

fn key(number: u8) -> Identity {
    Identity::from_bytes(&[number; 32])
}

fn chain() -> Chain {
    let keys: Vec<Identity> = (0..AUTHORITIES).map(key).collect();
    chain_of(PARAMETERS, &keys)
}

/// What a faulty authority does in an epoch.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Silent,
    /// One vote, at a round of its choice, to some.
    Late,
    /// Two votes, at rounds of its choice, each to some.
    Equivocating,
}

fn signed(
    members: &[Member],
    chain: &Chain,
    epoch: u32,
    before: &Previous,
) -> Vec<SignedDescriptor> {
    let one = |member: &Member| {
        let mut member = member.clone();
        member.network = *chain.network();
        member.signed(epoch, before)
    };
    members.iter().map(one).collect()
}

/// The vote of an authority that lists these nodes.
fn vote(
    chain: &Chain,
    previous: Option<&Consensus>,
    epoch: u32,
    descriptors: &[SignedDescriptor],
    number: u8,
) -> SignedVote {
    vote_of(&key(number), chain, previous, epoch, descriptors, &[])
}

/// `vote` with its author's relay signature and those of the faulty ones.
fn relayed(chain: &Chain, vote: &SignedVote, faulty: &[u8], epoch: u32) -> RelayedVote {
    let authorities = || chain.at(epoch).unwrap().authorities().unwrap();
    let author = (0..AUTHORITIES).find(|number| key(*number).public() == vote.vote().authority);
    let relay = || Relay::new(authorities(), *chain.network(), 0, epoch);
    let mut passed = relay().begin(vote.clone(), &key(author.unwrap())).unwrap();
    for number in faulty {
        // Each of them passes it on as an honest one would.
        if let Some(further) = relay().take(1, passed.clone(), &key(*number)).unwrap() {
            passed = further;
        }
    }
    passed
}

/// The honest authorities' votes after the rounds.
fn rounds(
    chain: &Chain,
    epoch: u32,
    honest: &[(u8, SignedVote)],
    lies: &[(u8, u8, RelayedVote)],
) -> BTreeMap<u8, Vec<Vote>> {
    let authorities = || chain.at(epoch).unwrap().authorities().unwrap();
    let mut relays: BTreeMap<u8, Relay> = BTreeMap::new();
    // By round: to whom, what.
    let mut post: BTreeMap<u8, Vec<(u8, RelayedVote)>> = BTreeMap::new();
    let all: Vec<u8> = honest.iter().map(|(number, _)| *number).collect();
    for (number, vote) in honest {
        let mut relay = Relay::new(authorities(), *chain.network(), 0, epoch);
        let own = relay.begin(vote.clone(), &key(*number)).unwrap();
        relays.insert(*number, relay);
        let others = all.iter().filter(|other| *other != number);
        post.entry(1)
            .or_default()
            .extend(others.map(|other| (*other, own.clone())));
    }
    for (round, to, lie) in lies {
        post.entry(*round).or_default().push((*to, lie.clone()));
    }
    for round in 1..=ROUNDS {
        for (to, vote) in post.remove(&round).unwrap_or_default() {
            let Some(relay) = relays.get_mut(&to) else {
                continue;
            };
            if let Ok(Some(further)) = relay.take(round, vote, &key(to)) {
                let others = all.iter().filter(|other| **other != to);
                let next = post.entry(round + 1).or_default();
                next.extend(others.map(|other| (*other, further.clone())));
            }
        }
    }
    let counted = |relay: Relay| {
        let outcome = relay.finish();
        outcome.votes.iter().map(|one| one.vote().clone()).collect()
    };
    relays
        .into_iter()
        .map(|(number, relay)| (number, counted(relay)))
        .collect()
}

fn draw(rng: &mut ChaCha20Rng, below: u32) -> u32 {
    rng.next_u32() % below
}

/// What the faulty ones send to whom in which round.
fn lies(
    rng: &mut ChaCha20Rng,
    chain: &Chain,
    previous: Option<&Consensus>,
    epoch: u32,
    descriptors: &[SignedDescriptor],
    faulty: &[(u8, Fault)],
) -> Vec<(u8, u8, RelayedVote)> {
    let mut sent = Vec::new();
    for (number, fault) in faulty {
        let variants = match fault {
            Fault::Silent => 0,
            Fault::Late => 1,
            Fault::Equivocating => 2,
        };
        for variant in 0..variants {
            let hidden = draw(rng, 3) as usize + variant;
            let vote = vote(chain, previous, epoch, &descriptors[hidden..], *number);
            let with = if draw(rng, 2) == 0 { faulty } else { &[] };
            let with: Vec<u8> = with.iter().map(|(number, _)| *number).collect();
            let relayed = relayed(chain, &vote, &with, epoch);
            for to in 0..AUTHORITIES {
                if draw(rng, 2) == 0 {
                    sent.push((1 + draw(rng, 3) as u8, to, relayed.clone()));
                }
            }
        }
    }
    sent
}

#[test]
fn whatever_two_of_five_do_the_honest_ones_make_the_same_bytes_for_200_epochs() {
    let chain = chain();
    let mut rng = network::rng(11);
    let members = nodes(3, 6);
    let mut previous: Option<Consensus> = None;
    for epoch in 0..EPOCHS {
        let before = previous
            .as_ref()
            .map_or_else(Previous::default, Consensus::as_previous);
        let descriptors = signed(&members, &chain, epoch, &before);
        // None, one or two of them, any, each in its own way.
        let first = draw(&mut rng, 5) as u8;
        let second = (first + 1 + draw(&mut rng, 4) as u8) % AUTHORITIES;
        let count = draw(&mut rng, 3) as usize;
        let faulty: Vec<(u8, Fault)> = [first, second][..count]
            .iter()
            .map(|number| {
                let fault = match draw(&mut rng, 3) {
                    0 => Fault::Silent,
                    1 => Fault::Late,
                    _ => Fault::Equivocating,
                };
                (*number, fault)
            })
            .collect();
        let is_honest = |number: &u8| faulty.iter().all(|(bad, _)| bad != number);
        let honest: Vec<(u8, SignedVote)> = (0..AUTHORITIES)
            .filter(is_honest)
            .map(|number| {
                (
                    number,
                    vote(&chain, previous.as_ref(), epoch, &descriptors, number),
                )
            })
            .collect();
        let lies = lies(
            &mut rng,
            &chain,
            previous.as_ref(),
            epoch,
            &descriptors,
            &faulty,
        );
        let by_digest: BTreeMap<_, _> = descriptors
            .iter()
            .map(|one| (one.digest(), one.descriptor()))
            .collect();
        let made: Vec<(u8, Consensus)> = rounds(&chain, epoch, &honest, &lies)
            .into_iter()
            .map(|(number, votes)| {
                let made = make(&chain, previous.as_ref(), epoch, &votes, &by_digest);
                (
                    number,
                    made.unwrap_or_else(|error| panic!("epoch {epoch}, {faulty:?}: {error}")),
                )
            })
            .collect();
        assert!(made.len() >= QUORUM);
        let (_, document) = &made[0];
        for (number, other) in &made {
            assert_eq!(
                other.encode(),
                document.encode(),
                "epoch {epoch}, {number}, {faulty:?}"
            );
        }
        assert_eq!(document.nodes().len(), members.len());
        let signatures: Vec<_> = made
            .iter()
            .map(|(number, made)| ConsensusSignature::sign(made, &key(*number)))
            .collect();
        let signed = SignedConsensus::gathered(document, &signatures);
        let held: Vec<&Consensus> = previous.iter().collect();
        let held = Held {
            documents: &held,
            newer_than: epoch.checked_sub(1),
            now: Some(epoch),
        };
        previous = Some(signed.verify(&chain, &held).unwrap());
    }
}

/// What a document says of nodes, without what follows from the beacon.
fn listed(consensus: &Consensus) -> Vec<([u8; 32], u32, u8, u32)> {
    let nodes = consensus.nodes().iter();
    nodes
        .map(|node| (node.identity, node.weight, node.flags, node.vrf_since))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn votes_of_a_minority_altered_or_missing_leave_the_honest_result_or_none(
        alterations in proptest::collection::vec((0u8..5, 0u8..8, any::<u32>()), 1..=2),
    ) {
        let chain = chain();
        let descriptors = signed(&nodes(2, 4), &chain, 0, &Previous::default());
        let by_digest: BTreeMap<_, _> = descriptors
            .iter()
            .map(|one| (one.digest(), one.descriptor()))
            .collect();
        let mut votes: Vec<Vote> = (0..AUTHORITIES)
            .map(|number| vote(&chain, None, 0, &descriptors, number).vote().clone())
            .collect();
        let honest = make(&chain, None, 0, &votes, &by_digest).unwrap();
        let mut gone = Vec::new();
        for (number, what, value) in alterations {
            let vote = &mut votes[usize::from(number)];
            match what {
                0 => gone.push(vote.authority),
                1 => vote.nodes.clear(),
                2 => vote.nodes.iter_mut().for_each(|node| node.weight = value.max(1)),
                3 => vote.nodes.iter_mut().for_each(|node| node.flags = 3),
                4 => vote.nodes.iter_mut().for_each(|node| node.digest[0] ^= 1),
                5 => vote.parameters.mean_delay_us = value % 1_000 + 1,
                6 => vote.previous = [value as u8; 32],
                _ => (vote.method, vote.reveal) = (value as u8, Some([value as u8; 32])),
            }
        }
        votes.retain(|vote| !gone.contains(&vote.authority));
        if let Ok(made) = make(&chain, None, 0, &votes, &by_digest) {
            prop_assert_eq!(listed(&made), listed(&honest));
            prop_assert_eq!(made.parameters(), honest.parameters());
            prop_assert_eq!(made.head().method, honest.head().method);
        }
    }

    #[test]
    fn no_node_changes_its_layer_by_what_it_says_of_itself(
        capacity in 1u32..,
        address in any::<[u8; 4]>(),
        operator in "[a-z]{1,20}",
        published: u64,
        proof in proptest::option::of(any::<[u8; 32]>()),
    ) {
        let members = nodes(2, 6);
        let mut previous = network::document(None, 0, &members).1;
        for epoch in 1..3 {
            previous = network::document(Some(&previous), epoch, &members).1;
        }
        let layer = |members: &[Member]| {
            let made = network::document(Some(&previous), 3, members).1;
            made.find(&members[4].identity.public()).map(|node| node.layer)
        };
        let honest = layer(&members);
        let mut altered = members.clone();
        let node = &mut altered[4];
        node.capacity_pps = capacity;
        node.addresses = vec![([20, address[1], address[2], address[3]], 9_000).into()];
        node.operator = operator;
        node.published_unix_ms = published;
        prop_assert_eq!(layer(&altered), honest);
        // Another key of its choice is new, and waits.
        if let Some(seed) = proof {
            let mut renewed = members.clone();
            renewed[4].vrf_key = directory::vrf::VrfSecret::from_bytes(&seed).public();
            prop_assert_eq!(layer(&renewed), Some(directory::WAITING));
        }
    }
}

#[test]
fn a_node_of_another_network_is_not_listed() {
    let member = node(1, Role::Mix);
    let chain = chain();
    assert_ne!(member.network, *chain.network());
    let strange = member.signed(0, &Previous::default());
    let listed = vote(&chain, None, 0, &[strange], 0);
    assert!(listed.vote().nodes.is_empty());
}
