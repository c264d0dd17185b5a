//! What a reader of a consensus refuses, each with a document that q authorities really signed.

mod network;

use directory::beacon::beacon;
use directory::{
    Consensus, ConsensusError, ConsensusSignature, Head, Held, Identity, Previous, Record, Role,
    SignedConsensus, VerifyError, WAITING,
};
use network::{Member as Node, PARAMETERS, authority, chain_of, document, node, nodes};

/// The key of the networks' only authority.
fn key() -> Identity {
    Identity::from_bytes(&[7; 32])
}

/// The documents of epochs 0 to 2 of one network.
fn three(members: &[Node]) -> [Consensus; 3] {
    let first = document(None, 0, members).1;
    let second = document(Some(&first), 1, members).1;
    let third = document(Some(&second), 2, members).1;
    [first, second, third]
}

/// What says a reader that holds these to this document, altered and signed again.
fn refusal(
    held: &[&Consensus],
    of: &Consensus,
    alter: impl Fn(&mut Head, &mut Vec<Record>),
) -> VerifyError {
    let mut head = of.head().clone();
    let mut records: Vec<_> = of.nodes().iter().map(|node| node.record.clone()).collect();
    alter(&mut head, &mut records);
    let forged = SignedConsensus::sign(&Consensus::new(head, records).unwrap(), &key());
    let held = Held {
        documents: held,
        ..Held::default()
    };
    forged.verify(authority().chain(), &held).unwrap_err()
}

/// The same with the beacon that follows from what is revealed.
fn follow(head: &mut Head) {
    let authority = key().public();
    let reveals: Vec<_> = head.parts.iter().filter_map(|part| part.reveal).collect();
    let reveals: Vec<_> = reveals
        .into_iter()
        .map(|value| (authority, value))
        .collect();
    head.beacon = beacon(&head.network, head.epoch, &head.previous.beacon, &reveals);
}

#[test]
fn an_unaltered_document_is_taken() {
    let [first, second, third] = three(&nodes(2, 6));
    for (held, next) in [
        (vec![], &third),
        (vec![&second], &third),
        (vec![&first], &third),
    ] {
        let signed = SignedConsensus::sign(next, &key());
        let held = Held {
            documents: &held,
            newer_than: Some(1),
            now: Some(1),
        };
        assert_eq!(signed.verify(authority().chain(), &held).as_ref(), Ok(next));
    }
}

#[test]
fn a_document_of_another_network_or_generation_or_with_other_epochs_is_refused() {
    let [_, second, _] = three(&nodes(2, 6));
    let mut head = second.head().clone();
    head.network = [9; 16];
    let other = Consensus::new(head, Vec::new()).unwrap();
    let own = SignedConsensus::sign(&other, &key());
    let elsewhere = own.verify(authority().chain(), &Held::default());
    assert!(
        matches!(elsewhere, Err(VerifyError::Signatures { .. })),
        "the network's id is signed too"
    );
    // Who signs it for this network all the same.
    let epoch = other.epoch().to_be_bytes();
    let network = *authority().chain().network();
    let message = [network.as_slice(), &epoch, other.digest()].concat();
    let mut alone = ConsensusSignature::sign(&other, &key());
    alone.signature = key().sign(b"fogmix consensus, version 2\0\0\0\0\0", &message);
    let forged = SignedConsensus::gathered(&other, [&alone]);
    let refused = forged.verify(authority().chain(), &Held::default());
    assert_eq!(refused, Err(VerifyError::Network));
    let generation = refusal(&[], &second, |head, _| head.generation = 1);
    assert_eq!(generation, VerifyError::Generation(1));
    // Outside it says 0, inside 1.
    let mut head = second.head().clone();
    head.generation = 1;
    let inside = Consensus::new(head, Vec::new()).unwrap();
    let mut bytes = SignedConsensus::sign(&inside, &key()).encode();
    assert_eq!(bytes[4..6], [0, 1]);
    bytes[5] = 0;
    let forged = SignedConsensus::decode(&bytes).unwrap();
    let refused = forged.verify(authority().chain(), &Held::default());
    assert_eq!(refused, Err(VerifyError::Generation(1)));
    let genesis = refusal(&[], &second, |head, _| {
        head.parameters.genesis_unix_ms += 1;
    });
    let length = refusal(&[], &second, |head, _| head.parameters.epoch_ms += 1);
    assert_eq!([genesis, length], [VerifyError::Epochs; 2]);
}

#[test]
fn an_old_a_rolled_back_and_an_early_document_are_refused() {
    let [_, second, third] = three(&nodes(2, 6));
    let verify = |of: &Consensus, held: Held<'_>| {
        let signed = SignedConsensus::sign(of, &key());
        signed.verify(authority().chain(), &held)
    };
    for have in [1, 2] {
        let held = Held {
            newer_than: Some(have),
            ..Held::default()
        };
        let refused = VerifyError::RolledBack { epoch: 1, have };
        assert_eq!(verify(&second, held), Err(refused));
    }
    let held = Held {
        now: Some(0),
        ..Held::default()
    };
    assert!(verify(&second, held).is_ok());
    let refused = VerifyError::Early { epoch: 2, now: 0 };
    assert_eq!(verify(&third, held), Err(refused));
}

#[test]
fn a_second_document_of_an_epoch_is_refused_and_the_first_is_no_contradiction_to_itself() {
    let members = nodes(2, 6);
    let [first, second, _] = three(&members);
    let other = document(Some(&first), 1, &members[1..]).1;
    let signed = SignedConsensus::sign(&other, &key());
    let held = Held {
        documents: &[&second],
        ..Held::default()
    };
    let refused = Err(VerifyError::Equivocation(1));
    assert_eq!(signed.verify(authority().chain(), &held), refused);
    let again = SignedConsensus::sign(&second, &key());
    assert!(again.verify(authority().chain(), &held).is_ok());
}

#[test]
fn a_document_whose_previous_is_not_the_one_held_is_refused() {
    let members = nodes(2, 6);
    let [first, second, third] = three(&members);
    let refused = VerifyError::Previous { epoch: 2, held: 1 };
    let alterations: [fn(&mut Previous); 3] = [
        |previous| previous.digest[0] ^= 1,
        |previous| previous.beacon[0] ^= 1,
        |previous| previous.epoch = 0,
    ];
    for alter in alterations {
        let error = refusal(&[&first, &second], &third, |head, _| {
            alter(&mut head.previous);
            follow(head);
        });
        assert_eq!(error, refused);
    }
    // A branch that leaves out what is held, and a network that begins anew.
    let branch = document(Some(&first), 2, &members).1;
    assert_eq!(refusal(&[&second], &branch, |_, _| ()), refused);
    let anew = document(None, 2, &members).1;
    assert_eq!(refusal(&[&second], &anew, |_, _| ()), refused);
}

#[test]
fn a_reveal_that_opens_no_commitment_is_refused() {
    let [_, second, third] = three(&nodes(2, 6));
    let error = refusal(&[&second], &third, |head, _| {
        head.parts[0].reveal = Some([9; 32]);
        follow(head);
    });
    assert_eq!(error, VerifyError::Consensus(ConsensusError::Reveal));
}

#[test]
fn a_key_that_is_younger_than_it_says_is_refused() {
    let members = nodes(2, 6);
    let first = document(None, 0, &members[..7]).1;
    let second = document(Some(&first), 1, &members).1;
    let newcomer = second.find(&members[7].identity.public()).unwrap();
    assert_eq!(newcomer.vrf_since, 1);
    let index = newcomer.index;
    let error = refusal(&[&first], &second, |_, records| {
        records[usize::from(index)].vrf_since = 0;
    });
    assert_eq!(error, VerifyError::Consensus(ConsensusError::Since(index)));
    let error = refusal(&[], &second, |_, records| {
        records[usize::from(index)].vrf_since = 2;
    });
    assert_eq!(error, VerifyError::Consensus(ConsensusError::Since(index)));
}

#[test]
fn a_beacon_a_proof_and_a_layer_that_do_not_recompute_are_refused() {
    let [_, second, third] = three(&nodes(2, 6));
    let invalid = VerifyError::Consensus;
    let parts = refusal(&[], &third, |head, _| head.parts.clear());
    assert_eq!(parts, invalid(ConsensusError::Parts));
    let wrong = refusal(&[], &third, |head, _| head.beacon[0] ^= 1);
    assert_eq!(wrong, invalid(ConsensusError::Beacon));
    let unsaid = refusal(&[&second], &third, |head, _| head.parts[0].reveal = None);
    assert_eq!(unsaid, invalid(ConsensusError::Beacon));
    for node in third.nodes() {
        let at = usize::from(node.index);
        let forged = refusal(&[], &third, |_, records| {
            records[at].vrf_proof = Some([9; 80]);
        });
        assert_eq!(forged, invalid(ConsensusError::Proof(node.index)));
        let placed = refusal(&[], &third, |_, records| records[at].layer = WAITING);
        assert_eq!(placed, invalid(ConsensusError::Layer(node.index)));
    }
    // Two mixes of different layers change places.
    let [a, b] = [1, 2].map(|layer| third.layer(layer).next().unwrap().index);
    let swapped = refusal(&[], &third, |_, records| {
        (records[usize::from(a)].layer, records[usize::from(b)].layer) = (2, 1);
    });
    assert_eq!(swapped, invalid(ConsensusError::Layer(a.min(b))));
}

#[test]
fn a_mix_that_joins_waits_until_its_key_is_older_than_the_beacon() {
    let mut members = nodes(2, 6);
    let late = node(90, Role::Mix);
    let [_, _, mut last] = three(&members);
    members.push(late);
    let late = members[8].identity.public();
    let mut layers = Vec::new();
    for epoch in 3..7 {
        last = document(Some(&last), epoch, &members).1;
        layers.push(last.find(&late).unwrap().layer);
    }
    assert_eq!(layers[..2], [WAITING; 2], "listed first in epoch 3");
    assert!(layers[2..].iter().all(|layer| (1..=3).contains(layer)));
}

#[test]
fn who_does_not_prove_waits_and_layers_stay_even() {
    let members = nodes(2, 9);
    let first = document(None, 0, &members).1;
    let before = first.as_previous();
    let mut signed: Vec<_> = members.iter().map(|one| one.signed(1, &before)).collect();
    // One proves for an earlier beacon, one not at all.
    signed[3] = members[3].signed(1, &Previous::default());
    let mut silent = members[4].signed(1, &before).descriptor().clone();
    silent.vrf_proof = None;
    signed[4] = silent.sign(&members[4].identity).unwrap();
    let made = authority().make(Some(&first), 1, &signed).unwrap();
    let made = made.verify(authority().chain(), &Held::default()).unwrap();
    for number in [3, 4] {
        let node = made.find(&members[number].identity.public()).unwrap();
        assert_eq!((node.layer, node.vrf_proof), (WAITING, None));
    }
    let mut counts = [1, 2, 3].map(|layer| made.layer(layer).count());
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
    assert!(!made.may_forward(WAITING, 0));
}

/// The document of `epoch` after `before`, for which the mixes `withholding` bring no proof.
fn without_proof(
    before: &Consensus,
    epoch: u32,
    members: &[Node],
    withholding: &[Node],
) -> Consensus {
    let previous = before.as_previous();
    let is_silent = |identity: &[u8; 32]| {
        let mut silent = withholding.iter().map(|one| one.identity.public());
        silent.any(|one| one == *identity)
    };
    let says = |member: &Node| {
        let signed = member.signed(epoch, &previous);
        if !is_silent(&member.identity.public()) {
            return signed;
        }
        let mut silent = signed.descriptor().clone();
        silent.vrf_proof = None;
        silent.sign(&member.identity).unwrap()
    };
    let signed: Vec<_> = members.iter().map(says).collect();
    let made = authority().make(Some(before), epoch, &signed).unwrap();
    let held = Held {
        documents: &[before],
        ..Held::default()
    };
    made.verify(authority().chain(), &held).unwrap()
}

/// That mix `number` of `members` waits in `last`, the document of epoch 3, and in the one after, and carries then.
fn waits_in_two_documents(mut last: Consensus, members: &[Node], number: usize) {
    let identity = members[number].identity.public();
    let of = |document: &Consensus| document.find(&identity).unwrap().clone();
    assert_eq!((of(&last).layer, of(&last).vrf_since), (WAITING, 3));
    let anew = last.nodes().iter().filter(|node| node.vrf_since == 3);
    assert_eq!(anew.count(), 1);
    let mut layers = Vec::new();
    for epoch in 4..7 {
        last = document(Some(&last), epoch, members).1;
        layers.push(of(&last).layer);
    }
    assert_eq!(layers[0], WAITING, "after the one without it");
    assert!(layers[1..].iter().all(|layer| (1..=3).contains(layer)));
}

#[test]
fn a_mix_that_withholds_its_proof_waits_two_documents_and_no_reader_takes_it_in_earlier() {
    let members = nodes(2, 7);
    let [_, _, third] = three(&members);
    let last = without_proof(&third, 3, &members, &members[4..5]);
    // A document that lets it off is refused by who holds the one before.
    let index = last.find(&members[4].identity.public()).unwrap().index;
    let error = refusal(&[&third], &last, |_, records| {
        records[usize::from(index)].vrf_since = 0;
    });
    assert_eq!(error, VerifyError::Consensus(ConsensusError::Since(index)));
    waits_in_two_documents(last, &members, 4);
}

#[test]
fn a_mix_with_a_new_key_waits_as_long_as_one_that_withholds_its_proof() {
    let mut members = nodes(2, 7);
    let [_, _, third] = three(&members);
    members[4].use_vrf(2);
    let last = document(Some(&third), 3, &members).1;
    assert!(last.nodes().iter().all(|node| !node.withholds()));
    waits_in_two_documents(last, &members, 4);
}

#[test]
fn where_more_than_half_bring_no_proof_the_document_before_was_late_and_nobody_waits_for_it() {
    let members = nodes(2, 9);
    let [_, _, third] = three(&members);
    // Three that had it in time have all places, once.
    let last = without_proof(&third, 3, &members, &members[2..8]);
    for layer in 1..=3 {
        assert_eq!(last.layer(layer).count(), 1);
    }
    assert!(last.nodes().iter().all(|node| node.vrf_since == 0));
    let next = document(Some(&last), 4, &members).1;
    for layer in 1..=3 {
        assert_eq!(next.layer(layer).count(), 3);
    }
    // A document that lets them wait is refused, as is one that lets less than half of them off.
    let index = last.find(&members[2].identity.public()).unwrap().index;
    let error = refusal(&[&third], &last, |_, records| {
        records[usize::from(index)].vrf_since = 3;
    });
    assert_eq!(error, VerifyError::Consensus(ConsensusError::Since(index)));
    let few = without_proof(&third, 3, &members, &members[2..6]);
    let anew = few.nodes().iter().filter(|node| node.vrf_since == 3);
    assert_eq!(anew.count(), 4);
    // Gateways prove nothing, and who is new could not be early: neither counts.
    let mut grown = members.clone();
    grown.extend((90..95).map(|number| node(number, Role::Mix)));
    let grown_few = without_proof(&third, 3, &grown, &grown[2..6]);
    let anew = grown_few.nodes().iter().filter(|node| node.vrf_since == 3);
    assert_eq!(anew.count(), 4 + 5);
}

#[test]
fn where_all_but_a_few_brought_no_proof_those_who_bring_one_carry_at_once() {
    let members = nodes(2, 3);
    let [_, _, third] = three(&members);
    let last = without_proof(&third, 3, &members, &members[4..5]);
    assert_eq!(last.layer(1).count() + last.layer(2).count(), 2);
    let next = document(Some(&last), 4, &members).1;
    for layer in 1..=3 {
        assert_eq!(next.layer(layer).count(), 1);
    }
}

#[test]
fn a_majority_of_the_set_that_is_in_force_must_sign() {
    let keys: Vec<Identity> = (0..3).map(|n| Identity::from_bytes(&[n; 32])).collect();
    let chain = chain_of(PARAMETERS, &keys);
    let mut head = Head::bare(PARAMETERS, 0);
    head.network = *chain.network();
    head.parts = vec![Default::default(); 3];
    follow(&mut head);
    let consensus = Consensus::new(head, Vec::new()).unwrap();
    let mut signed = SignedConsensus::sign(&consensus, &keys[0]);
    let held = Held::default();
    let (valid, quorum) = (1, 2);
    let refused = Err(VerifyError::Signatures { valid, quorum });
    assert_eq!(signed.verify(&chain, &held), refused);
    // A stranger's signature, and the same one twice, add nothing.
    let stranger = SignedConsensus::sign(&consensus, &Identity::from_bytes(&[99; 32]));
    assert!(signed.merge(&stranger));
    assert!(signed.merge(&signed.clone()));
    assert_eq!(signed.verify(&chain, &held), refused);
    assert!(signed.merge(&SignedConsensus::sign(&consensus, &keys[2])));
    assert_eq!(signed.verify(&chain, &held), Ok(consensus));
    // Nor does one of another network's document of the same bytes: the id is signed too.
    let elsewhere = signed.verify(authority().chain(), &held);
    assert!(matches!(elsewhere, Err(VerifyError::Signatures { .. })));
}

/// The sizes that the specification's table names are the code's.
#[test]
fn the_specification_names_the_sizes_of_the_code() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../directory/SPEC.md");
    let page = std::fs::read_to_string(page).unwrap();
    let grouped = |number: usize| {
        let digits: Vec<char> = number.to_string().chars().rev().collect();
        let groups: Vec<String> = digits
            .chunks(3)
            .map(|group| group.iter().collect())
            .collect();
        groups.join(",").chars().rev().collect::<String>()
    };
    for (magic, bytes_max) in [
        ("FXD2", directory::DESCRIPTOR_BYTES_MAX),
        ("FXC2", directory::CONSENSUS_BYTES_MAX - 491),
        ("FXS2", directory::CONSENSUS_BYTES_MAX),
        ("FXG1", directory::SIGNATURE_BYTES),
        ("FXA1", directory::authority_set::SET_BYTES_MAX),
        ("FXV1", authority::vote::VOTE_BYTES_MAX),
        ("FXN1", authority::relay::RELAYED_BYTES_MAX),
        ("FXB2", directory::BOOTSTRAP_BYTES_MAX),
        ("FXR1", directory::REPORT_BYTES_MAX),
        ("FXU1", directory::DIFF_BYTES_MAX),
    ] {
        let mut lines = page.lines();
        let line = lines.find(|line| line.starts_with(&format!("| {magic} |")));
        let named = format!("| {} |", grouped(bytes_max));
        assert!(line.unwrap().ends_with(&named), "{magic}: {named}");
    }
}
