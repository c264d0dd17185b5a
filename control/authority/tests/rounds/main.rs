//! The rounds of several authorities, some of whom lie, are late or say nothing: deterministic, under one clock.

#[path = "../network/mod.rs"]
mod network;
mod world;

use authority::relay::Relay;
use authority::round::{News, Record, Refusal};
use directory::Chain;
use network::{chain_of, vote_of};
use world::{EPOCH_MS, Kind, PARAMETERS, ROUND_MS, World, key, names};

use Kind::{Honest, Late, Lying, Silent};

#[test]
fn one_three_and_five_authorities_make_the_same_document_every_epoch() {
    for count in [1, 3, 5] {
        let mut world = World::new(&vec![Honest; count], 1);
        for _ in 0..4 {
            world.run_epochs(1);
            assert_eq!(world.agreed(), 6, "{count} authorities");
        }
        let news: Vec<_> = world.authorities.iter().flat_map(|one| &one.news).collect();
        let good = |news: &&&News| matches!(news, News::Published { .. });
        assert_eq!(news.iter().filter(good).count(), news.len(), "{news:?}");
    }
}

#[test]
fn as_many_as_are_tolerated_may_be_silent_late_or_lying_and_the_rest_agree() {
    let patterns: &[&[Kind]] = &[
        &[Honest, Honest, Silent],
        &[Honest, Late, Honest],
        &[Lying, Honest, Honest],
        &[Honest, Silent, Honest, Late, Honest],
        &[Lying, Honest, Honest, Lying, Honest],
        &[Honest, Lying, Late, Honest, Honest],
        &[Silent, Honest, Honest, Honest, Lying],
        &[Late, Honest, Honest, Late, Honest],
    ];
    for (seed, kinds) in (0..).zip(patterns) {
        let mut world = World::new(kinds, seed);
        for _ in 0..5 {
            world.run_epochs(1);
            assert!(world.agreed() >= 5, "{kinds:?}");
        }
        for authority in world.authorities.iter().filter(|one| one.kind == Honest) {
            assert!(
                authority.signed.values().all(|digests| digests.len() == 1),
                "{kinds:?}"
            );
        }
    }
}

#[test]
fn who_signs_two_votes_is_shown_and_named_and_its_vote_counts_nowhere() {
    let mut world = World::new(&[Honest, Lying, Honest], 7);
    world.run_epochs(6);
    world.agreed();
    let shown: Vec<_> = world
        .authorities
        .iter()
        .filter(|one| one.kind == Honest)
        .collect();
    for authority in shown {
        assert!(!authority.evidence.is_empty());
        let liar = world::key(1).public();
        assert!(authority.evidence.iter().all(|(_, author)| *author == liar));
        let mut named = authority
            .news
            .iter()
            .filter(|news| matches!(news, News::Equivocation { .. }));
        assert!(named.all(|news| names(&news.to_string(), 1)));
    }
}

#[test]
fn without_a_quorum_there_is_no_document_and_the_next_follows_the_last() {
    let mut world = World::new(&[Honest, Honest, Honest], 3);
    world.run_epochs(2);
    world.agreed();
    let before = *world.authorities[0]
        .rounds
        .newest()
        .unwrap()
        .consensus
        .digest();
    for number in [1, 2] {
        world.authorities[number].kind = Silent;
    }
    world.run_epochs(1);
    assert_eq!(world.newest()[0].1.unwrap().1, before);
    let told = |news: &News| matches!(news, News::NoDocument { .. });
    assert!(world.authorities[0].news.iter().any(told));
    for number in [1, 2] {
        world.authorities[number].kind = Honest;
    }
    world.run_epochs(1);
    world.agreed();
    let newest = world.authorities[0].rounds.newest().unwrap();
    assert_eq!(newest.consensus.head().previous.digest, before);
}

#[test]
fn an_authority_that_returns_takes_the_newest_document_over_and_votes_again() {
    let mut world = World::new(&[Honest, Honest, Silent], 4);
    world.run_epochs(3);
    world.agreed();
    world.authorities[2].kind = Honest;
    world.restart(2);
    world.run_epochs(1);
    world.agreed();
    let taken = |news: &News| matches!(news, News::TakenOver(_));
    assert!(world.authorities[2].news.iter().any(taken));
    world.run_epochs(1);
    world.agreed();
    assert!(
        world.authorities[2].signed.contains_key(&5),
        "{:?}",
        world.authorities[2].signed
    );
}

#[test]
fn who_starts_between_vote_and_document_signs_nothing_and_takes_it_over() {
    let mut world = World::new(&[Honest, Honest, Honest], 5);
    world.run_epochs(1);
    world.run_until(world.now_ms + 17 * ROUND_MS);
    world.restart(1);
    world.run_epochs(1);
    world.agreed();
    assert!(!world.authorities[1].signed.contains_key(&2));
    world.run_epochs(1);
    world.agreed();
    assert!(world.authorities[1].signed.contains_key(&3));
}

#[test]
fn who_stood_still_when_votes_were_due_gives_none_and_signs_nothing_that_others_do_not() {
    // Up to the second round, the third, and the end of them.
    for until_ms in [172, 182, 195] {
        let mut world = World::new(&[Honest, Honest, Honest], 5);
        world.run_epochs(1);
        let start_ms = world.now_ms;
        world.run_until(start_ms + 155 * ROUND_MS / 10);
        world.stopped.insert(1);
        world.run_until(start_ms + until_ms * ROUND_MS / 10);
        world.stopped.clear();
        world.run_until(start_ms + EPOCH_MS);
        world.agreed();
        let [stood, other] = [1, 0].map(|number| world.authorities[number].signed.get(&2));
        assert!(stood.is_none() || stood == other, "{until_ms}");
        let said = |news: &News| news.to_string().contains("stood still");
        assert!(world.authorities[1].news.iter().any(said), "{until_ms}");
        world.run_epochs(1);
        world.agreed();
        assert!(world.authorities[1].signed.contains_key(&3));
    }
}

#[test]
fn who_stood_still_between_vote_and_count_signs_only_what_all_votes_make() {
    // From moments at which it has given its own vote and has none, one or both of the others'.
    let (mut signed, mut told) = (0, 0);
    for after_ms in (0..ROUND_MS / 2).step_by(5) {
        let mut world = World::new(&[Honest, Honest, Honest], 5);
        world.run_epochs(1);
        let start_ms = world.now_ms;
        world.run_until(start_ms + 16 * ROUND_MS + 5 + after_ms);
        world.stopped.insert(1);
        world.run_until(start_ms + 19 * ROUND_MS + 20);
        world.stopped.clear();
        world.run_until(start_ms + EPOCH_MS);
        world.agreed();
        let [stood, other] = [1, 0].map(|number| world.authorities[number].signed.get(&2));
        assert!(stood.is_none() || stood == other, "{after_ms}");
        let said = |news: &News| news.to_string().contains("stood still");
        assert_eq!(
            world.authorities[1].news.iter().any(said),
            stood.is_none(),
            "{after_ms}"
        );
        match stood {
            Some(_) => signed += 1,
            None => told += 1,
        }
        world.run_epochs(1);
        world.agreed();
        assert!(world.authorities[1].signed.contains_key(&3));
    }
    assert!(signed > 0 && told > 0, "{signed} {told}");
}

#[test]
fn whose_clock_was_ahead_when_it_began_votes_once_it_is_set_right() {
    let mut world = World::new(&[Honest, Honest, Honest], 5);
    world.run_epochs(1);
    world.authorities[1].ahead_ms = 100 * EPOCH_MS as i64;
    world.restart(1);
    world.run_until(world.now_ms + 2 * ROUND_MS);
    world.authorities[1].ahead_ms = 0;
    world.run_epochs(1);
    world.agreed();
    assert!(world.authorities[1].signed.contains_key(&2));
}

#[test]
fn who_can_not_write_down_what_it_signs_does_not_sign_and_has_the_others_document() {
    let mut world = World::new(&[Honest, Honest, Honest], 5);
    world.run_epochs(1);
    world.full.insert(1);
    world.run_epochs(1);
    world.agreed();
    assert!(!world.authorities[1].signed.contains_key(&2));
    world.full.clear();
    world.run_epochs(1);
    world.agreed();
    assert!(world.authorities[1].signed.contains_key(&3));
    // For a lone one nobody else signs: it tries again as long as it takes.
    let mut world = World::new(&[Honest], 5);
    world.full.insert(0);
    world.run_until(world.now_ms + 20 * ROUND_MS);
    assert!(world.authorities[0].rounds.newest().is_none());
    world.full.clear();
    world.run_until(world.now_ms + 2 * ROUND_MS);
    assert!(world.authorities[0].rounds.newest().is_some());
}

#[test]
fn a_second_digest_is_never_signed_for_an_epoch() {
    let mut world = World::new(&[Honest, Honest, Honest], 6);
    world.run_epochs(1);
    // Its disk says that it signed something else for the document that is made now.
    let digest = [9; 32];
    world.authorities[0].record = Some(Record { epoch: 2, digest });
    world.restart(0);
    world.run_epochs(1);
    world.agreed();
    assert!(!world.authorities[0].signed.contains_key(&2));
    let said = |news: &News| news.to_string().contains("was signed here before");
    assert!(world.authorities[0].news.iter().any(said));
}

#[test]
fn an_authority_whose_clock_is_off_sits_out_and_no_liar_talks_a_right_clock_out() {
    let mut world = World::new(&[Honest, Honest, Honest], 8);
    world.authorities[2].ahead_ms = 40;
    world.run_epochs(2);
    world.agreed();
    let sat_out = |world: &World, number: usize| {
        let mut news = world.authorities[number].news.iter();
        news.any(|news| matches!(news, News::SatOut { why, .. } if why.contains("clock")))
    };
    assert!(sat_out(&world, 2));
    assert!(!sat_out(&world, 0) && !sat_out(&world, 1));
}

#[test]
fn a_node_that_reached_one_authority_alone_is_listed_by_all() {
    let mut world = World::new(&[Honest, Honest, Honest], 9);
    world.uploaded.insert(3, vec![1]);
    world.run_epochs(1);
    assert_eq!(world.agreed(), 6);
    // Who could not pull fetches what the others list when it counts.
    world.deaf_to_listings.insert(0);
    world.run_epochs(1);
    assert_eq!(world.agreed(), 6);
    assert!(world.authorities[0].signed.contains_key(&2));
}

#[test]
fn proofs_that_a_mix_did_not_bring_are_counted_for_as_long_as_it_is_listed() {
    // Of this world's mixes, 2 to 5, one brings its own.
    let mut world = World::new(&[Honest, Honest, Honest], 10);
    world.proving.insert(2);
    world.run_epochs(1);
    let counts = |world: &World| -> Vec<u32> {
        let missed = world.authorities[0].rounds.missed_proofs();
        missed.values().copied().collect()
    };
    // Whoever is new could not choose: it would not have been dealt.
    assert_eq!(counts(&world), []);
    world.run_epochs(2);
    world.agreed();
    assert_eq!(counts(&world), [2; 3], "three mixes, two documents");
    world.uploaded.insert(5, vec![]);
    // What it uploaded last has the key of one more epoch.
    world.run_epochs(2);
    assert_eq!(counts(&world), [4; 2]);
    // Where nobody brings any, nobody chose: the document before was late to all.
    world.proving.clear();
    world.run_epochs(2);
    assert_eq!(counts(&world), [4; 2]);
}

#[test]
fn descriptors_are_shown_to_strangers_when_the_votes_about_them_have_begun() {
    let world = World::new(&[Honest], 11);
    let rounds = &world.authorities[0].rounds;
    let votes_ms = world.now_ms + EPOCH_MS + 16 * ROUND_MS;
    assert!(!rounds.shows(2, votes_ms - 1) && rounds.shows(2, votes_ms));
    assert!(rounds.shows(1, votes_ms - 1) && !rounds.shows(3, votes_ms));
}

/// A vote of authority `number` of `chain` about the document of `epoch`, as it sends it.
fn vote(chain: &Chain, number: usize, epoch: u32) -> Vec<u8> {
    let (own, set) = (key(number), chain.at(epoch).unwrap());
    let authorities = set.authorities().unwrap();
    let mut relay = Relay::new(authorities, *chain.network(), set.generation, epoch);
    let vote = vote_of(&own, chain, None, epoch, &[], &[]);
    relay.begin(vote, &own).unwrap().encode()
}

#[test]
fn a_vote_before_its_hour_is_to_be_sent_again_and_one_that_is_over_is_not() {
    let mut world = World::new(&[Honest, Silent, Silent], 10);
    let start_ms = world.now_ms;
    let (vote_1, vote_2) = (vote(&world.chain, 1, 1), vote(&world.chain, 1, 2));
    for (rounds, of_1, of_2) in [
        (14, Err(Refusal::Early), Err(Refusal::Early)),
        (16, Ok(()), Err(Refusal::Early)),
        (21, Err(Refusal::Epoch), Err(Refusal::Early)),
        (33, Err(Refusal::Epoch), Err(Refusal::Early)),
        (32 + 16, Err(Refusal::Epoch), Ok(())),
    ] {
        world.run_until(start_ms + rounds * ROUND_MS);
        let now_ms = world.now_ms;
        let mut said = |vote: &[u8]| {
            let heard = world.authorities[0].rounds.relayed(vote, now_ms);
            heard.map(drop)
        };
        assert_eq!(said(&vote_1), of_1, "{rounds}");
        assert_eq!(said(&vote_2), of_2, "{rounds}");
    }
    let passes = [Refusal::Early, Refusal::Unknown].map(|refusal| refusal.passes());
    assert_eq!((passes, Refusal::Epoch.passes()), ([true; 2], false));
}

#[test]
fn a_vote_of_a_set_that_is_not_known_here_yet_is_to_be_sent_again() {
    let mut world = World::new(&[Honest, Silent, Silent], 11);
    world.run_until(world.now_ms + 16 * ROUND_MS);
    // Authority 3 comes in place of 2; who has heard of that is ahead of this one.
    let mut ahead = world.chain.clone();
    let mut members = ahead.sets()[0].set().members.clone();
    members.retain(|member| member.key != key(2).public());
    let new = chain_of(PARAMETERS, &[key(3)]);
    members.extend(new.sets()[0].set().members.clone());
    let mut next = ahead.propose(1, members).unwrap();
    [0, 1, 3].iter().for_each(|number| next.sign(&key(*number)));
    ahead.extend(next).unwrap();
    let votes = [1, 3].map(|number| vote(&ahead, number, 1));
    let heard = |world: &mut World| {
        let (rounds, now_ms) = (&mut world.authorities[0].rounds, world.now_ms);
        let said = votes.each_ref().map(|vote| rounds.relayed(vote, now_ms));
        said.map(|said| said.map(drop))
    };
    assert_eq!(heard(&mut world), [Err(Refusal::Unknown); 2]);
    // It learns of the set in the middle of the rounds, and makes the document with those who sign it.
    world.authorities[0].rounds.follow(ahead.clone()).unwrap();
    world.run_until(world.now_ms + 10);
    assert_eq!(heard(&mut world), [Ok(()); 2]);
}
