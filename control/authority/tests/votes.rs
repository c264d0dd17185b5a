//! Votes and how they are passed on: every honest authority ends with the same ones, whatever a minority does.

use authority::relay::{Outcome, ROUNDS, Relay, RelayError, RelayedVote};
use authority::vote::{Entry, SignedVote, Vote, VoteError};
use directory::{Authorities, FLAG_PAUSED, Identity, Parameters};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const NETWORK: [u8; 16] = [3; 16];
const EPOCH: u32 = 9;

fn key(number: u8) -> Identity {
    Identity::from_bytes(&[number; 32])
}

fn authorities(count: u8) -> Authorities {
    Authorities::new((0..count).map(|number| key(number).public()).collect()).unwrap()
}

/// A vote of that authority; `variant` tells two of one author apart.
fn vote(number: u8, variant: u8) -> Vote {
    Vote {
        authority: key(number).public(),
        network: NETWORK,
        generation: 0,
        method: 1,
        epoch: EPOCH,
        previous: [1; 32],
        parameters: Parameters {
            genesis_unix_ms: 1_700_000_000_000,
            epoch_ms: 1_200_000,
            mean_delay_us: 50_000,
            client_rate_pps: 20,
            layers: 3,
        },
        commit: [variant; 32],
        reveal: Some([5; 32]),
        nodes: vec![
            Entry {
                identity: [1; 32],
                digest: [2; 32],
                flags: 0,
                weight: 10,
            },
            Entry {
                identity: [2; 32],
                digest: [3; 32],
                flags: FLAG_PAUSED,
                weight: 20,
            },
        ],
    }
}

fn signed(number: u8, variant: u8) -> SignedVote {
    vote(number, variant).sign(&key(number)).unwrap()
}

fn relay(count: u8) -> Relay {
    Relay::new(authorities(count), NETWORK, 0, EPOCH)
}

/// The bytes of a vote that exactly these authorities passed on.
fn relayed(vote: &SignedVote, by: &[u8], count: u8) -> RelayedVote {
    // Signatures are taken from relayed votes that each authority would itself send.
    let mut parts: Vec<([u8; 32], Vec<u8>)> = by
        .iter()
        .map(|&number| {
            let own = countersignature(vote, number);
            (key(number).public(), own)
        })
        .collect();
    parts.sort();
    let mut bytes = b"FXN1".to_vec();
    bytes.extend_from_slice(&(vote.bytes().len() as u32).to_be_bytes());
    bytes.extend_from_slice(vote.bytes());
    bytes.push(parts.len() as u8);
    for (authority, signature) in parts {
        bytes.extend_from_slice(&authority);
        bytes.extend_from_slice(&signature);
    }
    RelayedVote::verify(&bytes, &authorities(count)).unwrap()
}

fn countersignature(vote: &SignedVote, number: u8) -> Vec<u8> {
    let context = b"fogmix relayed vote, version 1\0\0";
    key(number).sign(context, &vote.digest()).to_vec()
}

#[test]
fn a_vote_survives_signing_and_verification() {
    let vote = signed(1, 7);
    let read = SignedVote::verify(vote.bytes()).unwrap();
    assert_eq!(read, vote);
    assert_eq!(read.vote(), &self::vote(1, 7));
    assert_eq!(vote.bytes().len(), 247 + 2 * 69);
}

#[test]
fn a_vote_altered_in_any_byte_is_refused() {
    let vote = signed(1, 7);
    for position in 0..vote.bytes().len() {
        let mut altered = vote.bytes().to_vec();
        altered[position] ^= 1;
        assert!(SignedVote::verify(&altered).is_err(), "byte {position}");
    }
    assert!(SignedVote::verify(&[vote.bytes(), &[0]].concat()).is_err());
}

#[test]
fn a_vote_out_of_bounds_or_under_another_key_is_not_signed() {
    let with = |change: &dyn Fn(&mut Vote)| {
        let mut vote = vote(1, 0);
        change(&mut vote);
        vote.sign(&key(1))
    };
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|vote| vote.nodes.reverse()).is_err());
    assert!(with(&|vote| vote.nodes[0].flags = 4).is_err());
    assert!(with(&|vote| vote.nodes[0].weight = 0).is_err());
    assert!(with(&|vote| vote.nodes[1] = vote.nodes[0]).is_err());
    assert!(with(&|vote| vote.parameters.layers = 9).is_err());
    assert_eq!(vote(1, 0).sign(&key(2)).unwrap_err(), VoteError::Author);
}

#[test]
fn a_relayed_vote_altered_in_any_byte_is_refused() {
    let bytes = relayed(&signed(1, 0), &[1, 2], 3).encode();
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 1;
        let read = RelayedVote::verify(&altered, &authorities(3));
        assert!(read.is_err(), "byte {position}");
    }
}

#[test]
fn each_reason_not_to_take_a_vote() {
    let ours = key(0);
    let mut relay = relay(3);
    let mut refused = |round, vote: RelayedVote| relay.take(round, vote, &ours).unwrap_err();
    // Of an authority that is in no set of this network; its relay signature would not verify either.
    let stranger = RelayedVote::verify(&relayed(&signed(4, 0), &[4], 5).encode(), &authorities(3));
    assert_eq!(stranger.unwrap_err(), RelayError::Unknown);
    let outside = relayed(&signed(4, 0), &[1], 5);
    assert_eq!(refused(1, outside), RelayError::Unknown);
    let newer = Vote {
        generation: 1,
        ..vote(1, 0)
    };
    let newer = newer.sign(&key(1)).unwrap();
    assert_eq!(refused(1, relayed(&newer, &[1], 3)), RelayError::Unknown);
    assert_eq!(
        refused(1, relayed(&signed(1, 0), &[2], 3)),
        RelayError::Author
    );
    let (signatures, round) = (1, 2);
    assert_eq!(
        refused(2, relayed(&signed(1, 0), &[1], 3)),
        RelayError::Late { signatures, round }
    );
    assert_eq!(
        refused(ROUNDS + 1, relayed(&signed(1, 0), &[0, 1, 2], 3)),
        RelayError::Over
    );
    for elsewhere in [
        Vote {
            epoch: EPOCH + 1,
            ..vote(1, 0)
        },
        Vote {
            network: [4; 16],
            ..vote(1, 0)
        },
    ] {
        let vote = elsewhere.sign(&key(1)).unwrap();
        assert_eq!(refused(1, relayed(&vote, &[1], 3)), RelayError::Elsewhere);
    }
    assert_eq!(relay.finish(), Outcome::default());
}

#[test]
fn a_third_vote_of_a_liar_is_neither_kept_nor_passed_on() {
    let mut relay = relay(3);
    let ours = key(0);
    for variant in 0..2 {
        let passed = relay
            .take(1, relayed(&signed(1, variant), &[1], 3), &ours)
            .unwrap();
        assert!(passed.is_some());
        let again = relay
            .take(1, relayed(&signed(1, variant), &[1], 3), &ours)
            .unwrap();
        assert_eq!(again, None, "passed on once");
    }
    let third = relay
        .take(1, relayed(&signed(1, 2), &[1], 3), &ours)
        .unwrap();
    assert_eq!(third, None);
    let outcome = relay.finish();
    assert_eq!(outcome.votes, []);
    assert_eq!(outcome.evidence.len(), 1);
}

/// Honest authorities 0…n−f−1 against f liars that act as one: they sign up to three votes each, know everything that
/// honest ones send, and give anyone any vote with any of the signatures they have, in any round.
fn contest(count: u8, liars: u8, rounds: u8, rng: &mut ChaCha20Rng) -> Vec<Outcome> {
    let honest = count - liars;
    let mut relays: Vec<_> = (0..honest).map(|_| relay(count)).collect();
    let mut inboxes: Vec<Vec<RelayedVote>> = vec![Vec::new(); usize::from(honest)];
    let mut sent: Vec<RelayedVote> = Vec::new();
    for number in 0..honest {
        let own = relays[usize::from(number)]
            .begin(signed(number, 0), &key(number))
            .unwrap();
        sent.push(own);
    }
    let lies: Vec<SignedVote> = (honest..count)
        .flat_map(|number| (0..3).map(move |variant| signed(number, variant)))
        .collect();
    // Which honest authorities signed a liar's vote so far: the liars can use those signatures.
    let mut signers: Vec<Vec<u8>> = vec![Vec::new(); lies.len()];
    for round in 1..=rounds {
        inboxes
            .iter_mut()
            .for_each(|inbox| inbox.extend(sent.iter().cloned()));
        sent.clear();
        for (lie, signers) in lies.iter().zip(&signers) {
            for inbox in &mut inboxes {
                if rng.next_u32().is_multiple_of(3) {
                    let by: Vec<u8> = (honest..count)
                        .chain(signers.iter().copied())
                        .filter(|_| !rng.next_u32().is_multiple_of(4))
                        .collect();
                    if !by.is_empty() {
                        inbox.push(relayed(lie, &by, count));
                    }
                }
            }
        }
        for number in 0..honest {
            for vote in core::mem::take(&mut inboxes[usize::from(number)]) {
                let taken = relays[usize::from(number)].take(round, vote, &key(number));
                if let Ok(Some(passed)) = taken {
                    if let Some(at) = lies.iter().position(|lie| lie == passed.vote()) {
                        signers[at].push(number);
                    }
                    sent.push(passed);
                }
            }
        }
    }
    relays.into_iter().map(Relay::finish).collect()
}

/// Whether all honest authorities count the same votes.
fn agree(outcomes: &[Outcome]) -> bool {
    outcomes
        .iter()
        .all(|outcome| outcome.votes == outcomes[0].votes)
}

#[test]
fn a_minority_of_liars_can_not_make_honest_authorities_count_different_votes() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut excluded = 0;
    for (count, liars, contests) in [(3, 1, 60), (4, 1, 40), (5, 2, 100)] {
        for _ in 0..contests {
            let outcomes = contest(count, liars, ROUNDS, &mut rng);
            assert!(agree(&outcomes));
            // What honest authorities said always counts.
            let honest = usize::from(count - liars);
            assert!(outcomes[0].votes.len() >= honest);
            excluded += outcomes[0].evidence.len();
        }
    }
    assert!(excluded > 0, "no liar was ever caught");
}

#[test]
fn one_round_less_is_not_enough() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let split = (0..200).any(|_| !agree(&contest(5, 2, ROUNDS - 1, &mut rng)));
    assert!(split, "the liars of this test never reach anything");
}

#[test]
#[ignore = "writes the committed fuzz corpus"]
fn write_the_fuzz_corpus() {
    let corpus =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/fuzz/corpus/votes");
    std::fs::create_dir_all(&corpus).unwrap();
    let one = signed(1, 0);
    // What is signed, without the signature: the oracle looks past it.
    let unsigned = &one.bytes()[..one.bytes().len() - 64];
    std::fs::write(corpus.join("vote"), unsigned).unwrap();
    std::fs::write(corpus.join("relayed"), relayed(&one, &[1, 2], 3).encode()).unwrap();
}
