//! Every file that comes from outside, in every hostile shape: each is refused by whoever reads it, and says why.

mod network;

use authority::relay::{RELAYED_BYTES_MAX, Relay, RelayError, RelayedVote};
use authority::vote::{SignedVote, VOTE_BYTES_MAX};
use directory::authority_set::{CHAIN_BYTES_MAX, Member, SET_BYTES_MAX, SignedSet};
use directory::{
    Authorities, BOOTSTRAP_BYTES_MAX, Bootstrap, CONSENSUS_BYTES_MAX, Chain, Consensus,
    ConsensusSignature, DESCRIPTOR_BYTES_MAX, DIFF_BYTES_MAX, Diff, Head, Held, Identity, Mark,
    Previous, REPORT_BYTES_MAX, Report, SIGNATURE_BYTES, SignedConsensus, SignedDescriptor,
    SignedReport, VerifyError,
};
use network::{PARAMETERS, authority, chain_of, document, nodes, vote_of};

type Read = Box<dyn Fn(&[u8]) -> Result<(), String>>;

/// One kind of file.
struct Kind {
    name: &'static str,
    /// A sound one.
    good: Vec<u8>,
    bytes_max: usize,
    /// Reads one to the end, as whoever takes it does.
    read: Read,
}

fn kind<E: ToString>(
    name: &'static str,
    good: Vec<u8>,
    bytes_max: usize,
    read: impl Fn(&[u8]) -> Result<(), E> + 'static,
) -> Kind {
    Kind {
        name,
        good,
        bytes_max,
        read: Box::new(move |bytes| read(bytes).map_err(|error| error.to_string())),
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

/// The key of the networks' only authority.
fn key() -> Identity {
    Identity::from_bytes(&[7; 32])
}

fn relayed(vote: SignedVote, authorities: &Authorities, by: &Identity) -> Vec<u8> {
    let about = vote.vote();
    let (network, generation, epoch) = (about.network, about.generation, about.epoch);
    let mut relay = Relay::new(authorities.clone(), network, generation, epoch);
    relay.begin(vote, by).unwrap().encode()
}

fn kinds() -> Vec<Kind> {
    let members = nodes(1, 3);
    let chain = authority().chain().clone();
    let authorities = chain.at(0).unwrap().authorities().unwrap();
    let descriptor = members[1].signed(0, &Previous::default());
    let (first_signed, first) = document(None, 0, &members);
    let (second_signed, second) = document(Some(&first), 1, &members);
    let report = Report {
        network: *chain.network(),
        identity: members[1].identity.public(),
        epoch: 0,
        marks: vec![Mark::Unreachable; 4],
    };
    let report = report.sign(&members[1].identity).unwrap();
    let described = std::slice::from_ref(&descriptor);
    let vote = vote_of(&key(), &chain, None, 0, described, &[]);
    let signature = ConsensusSignature::sign(&first, &key());
    let diff = Diff::between(&first, &second, &second_signed).unwrap();
    let bootstrap = Bootstrap {
        chain: chain.clone(),
        consensus: Some(first_signed.clone()),
    };
    let of_chain = chain.clone();
    let verify = move |signed: SignedConsensus, held: &[&Consensus]| {
        let held = Held {
            documents: held,
            ..Held::default()
        };
        let verified = signed.verify(&of_chain, &held);
        verified.map(|_| ()).map_err(|error| error.to_string())
    };
    let (verify_whole, verify_diff) = (verify.clone(), verify);
    let (network, set) = (*chain.network(), chain.sets()[0].clone());
    vec![
        kind(
            "descriptor",
            descriptor.bytes().to_vec(),
            DESCRIPTOR_BYTES_MAX,
            |bytes| SignedDescriptor::verify(bytes).map(|_| ()),
        ),
        kind(
            "report",
            report.bytes().to_vec(),
            REPORT_BYTES_MAX,
            |bytes| SignedReport::verify(bytes).map(|_| ()),
        ),
        kind("vote", vote.bytes().to_vec(), VOTE_BYTES_MAX, |bytes| {
            SignedVote::verify(bytes).map(|_| ())
        }),
        kind(
            "relayed vote",
            relayed(vote, &authorities, &key()),
            RELAYED_BYTES_MAX,
            move |bytes| RelayedVote::verify(bytes, &authorities).map(|_| ()),
        ),
        kind(
            "consensus",
            first_signed.encode(),
            CONSENSUS_BYTES_MAX,
            move |bytes| {
                let signed = SignedConsensus::decode(bytes).map_err(text)?;
                verify_whole(signed, &[])
            },
        ),
        kind(
            "signature",
            signature.encode(),
            SIGNATURE_BYTES,
            move |bytes| {
                let one = ConsensusSignature::decode(bytes).map_err(text)?;
                let holds = one.holds(&network);
                holds.then_some(()).ok_or_else(|| "signature".to_owned())
            },
        ),
        kind("diff", diff.encode(), DIFF_BYTES_MAX, move |bytes| {
            let diff = Diff::decode(bytes).map_err(text)?;
            let signed = diff.apply(&first).map_err(text)?;
            verify_diff(signed, &[&first])
        }),
        kind("authority set", set.encode(), SET_BYTES_MAX, |bytes| {
            let set = SignedSet::decode(bytes).map_err(text)?;
            Chain::found(set).map(|_| ()).map_err(text)
        }),
        kind("chain", chain.encode(), CHAIN_BYTES_MAX, |bytes| {
            Chain::decode(bytes).map(|_| ())
        }),
        kind(
            "bootstrap file",
            bootstrap.encode(),
            BOOTSTRAP_BYTES_MAX,
            |bytes| Bootstrap::decode(bytes)?.verify().map(|_| ()),
        ),
    ]
}

#[test]
fn a_file_cut_anywhere_flipped_anywhere_or_too_long_is_refused_with_a_word() {
    for kind in kinds() {
        let (name, good) = (kind.name, &kind.good);
        assert_eq!((kind.read)(good), Ok(()), "{name}");
        assert!(good.len() <= kind.bytes_max, "{name}");
        for length in 0..good.len() {
            let refused = (kind.read)(&good[..length]);
            assert!(refused.is_err(), "{name} of {length} bytes");
        }
        let mut bytes = good.clone();
        for position in 0..bytes.len() {
            let bit = 1 << (position % 8);
            bytes[position] ^= bit;
            let refused = (kind.read)(&bytes);
            assert!(refused.is_err(), "{name}, byte {position}");
            bytes[position] ^= bit;
        }
        bytes.push(0);
        assert!((kind.read)(&bytes).is_err(), "{name} and a byte more");
        bytes.resize(kind.bytes_max + 1, 0);
        let word = (kind.read)(&bytes).unwrap_err();
        // A signature alone has one size.
        let expected = match name {
            "signature" => "bytes after the end",
            _ => "larger than",
        };
        assert!(word.contains(expected), "{name}: {word}");
    }
}

#[test]
fn what_is_one_kind_is_no_other() {
    let kinds = kinds();
    for kind in &kinds {
        for other in kinds.iter().filter(|other| other.name != kind.name) {
            let refused = (kind.read)(&other.good);
            assert!(refused.is_err(), "{} as {}", other.name, kind.name);
        }
    }
}

/// Authorities 1, 2, 3 found a network; from epoch 10 on 4 is there in place of 1.
fn grown() -> (Vec<Identity>, Chain) {
    let keys: Vec<Identity> = (1..=4).map(|n| Identity::from_bytes(&[n; 32])).collect();
    let mut chain = chain_of(PARAMETERS, &keys[..3]);
    let member = |(number, key): (u8, &Identity)| Member {
        key: key.public(),
        address: ([127, 0, 0, number], 7_070).into(),
    };
    let members = (1..).zip(&keys).skip(1).map(member).collect();
    let mut next = chain.propose(10, members).unwrap();
    keys[1..].iter().for_each(|key| next.sign(key));
    chain.extend(next).unwrap();
    (keys, chain)
}

#[test]
fn an_authority_that_was_removed_signs_and_votes_for_nobody() {
    let (keys, chain) = grown();
    let made = |generation: u16, epoch: u32| {
        let mut head = Head::bare(PARAMETERS, epoch);
        head.network = *chain.network();
        head.generation = generation;
        head.parts = vec![Default::default(); 3];
        head.beacon = directory::beacon::beacon(&head.network, epoch, &head.previous.beacon, &[]);
        Consensus::new(head, Vec::new()).unwrap()
    };
    let refusal = |generation: u16, epoch: u32, by: &[usize]| {
        let document = made(generation, epoch);
        let signatures: Vec<_> = by
            .iter()
            .map(|number| ConsensusSignature::sign(&document, &keys[*number]))
            .collect();
        let signed = SignedConsensus::gathered(&document, signatures.iter());
        signed.verify(&chain, &Held::default()).err()
    };
    assert_eq!(refusal(0, 9, &[0, 1]), None);
    assert_eq!(refusal(1, 10, &[1, 3]), None);
    // Its signature is one too few, and its set is over.
    let (valid, quorum) = (1, 2);
    let few = Some(VerifyError::Signatures { valid, quorum });
    assert_eq!(refusal(1, 10, &[0, 1]), few);
    assert_eq!(refusal(0, 10, &[0, 1]), Some(VerifyError::Generation(0)));
    // Nor may the newcomer before its time.
    assert_eq!(refusal(0, 9, &[3, 1]), few);

    let authorities = |epoch: u32| chain.at(epoch).unwrap().authorities().unwrap();
    let vote = vote_of(&keys[0], &chain, None, 9, &[], &[]);
    let bytes = relayed(vote, &authorities(9), &keys[0]);
    assert!(RelayedVote::verify(&bytes, &authorities(9)).is_ok());
    let gone = RelayedVote::verify(&bytes, &authorities(10));
    assert_eq!(gone.unwrap_err(), RelayError::Unknown);
}
