//! Documents: one encoding, nothing accepted that was not signed, nothing old, nothing that does not follow.

mod network;

use authority::Authority;
use directory::{
    Bootstrap, BootstrapError, Consensus, ConsensusError, ConsensusSignature, Descriptor,
    DescriptorError, Diff, FLAG_PAUSED, Head, Held, Identity, Mark, Previous, Record, Report, Role,
    SignedConsensus, SignedDescriptor, SignedReport, WAITING,
};
use network::{Member, PARAMETERS, authority, consensus, document, node, nodes};
use proptest::prelude::*;

fn verify(signed: &SignedConsensus) -> Result<Consensus, directory::VerifyError> {
    signed.verify(authority().chain(), &Held::default())
}

#[test]
fn a_descriptor_survives_signing_and_verification() {
    let mut member = node(3, Role::Mix);
    member.addresses.push("[2001:db8::1]:9000".parse().unwrap());
    let signed = member.signed(4, &Previous::default());
    assert!(signed.bytes().len() <= directory::DESCRIPTOR_BYTES_MAX);
    let read = SignedDescriptor::verify(signed.bytes()).unwrap();
    assert_eq!(read, signed);
    assert!(read.key_at(4).is_some() && read.key_at(5).is_some() && read.key_at(6).is_none());
}

#[test]
fn a_descriptor_altered_in_any_bit_is_refused() {
    let signed = node(3, Role::Mix).signed(0, &Previous::default());
    let mut bytes = signed.bytes().to_vec();
    for position in 0..bytes.len() {
        let bit = 1 << (position % 8);
        bytes[position] ^= bit;
        assert!(SignedDescriptor::verify(&bytes).is_err(), "byte {position}");
        bytes[position] ^= bit;
    }
    assert!(SignedDescriptor::verify(&bytes).is_ok());
}

#[test]
fn a_descriptor_of_another_identity_or_out_of_bounds_is_not_signed() {
    let member = node(1, Role::Mix);
    let other = node(2, Role::Mix);
    let forged = member.descriptor.clone().sign(&other.identity);
    assert_eq!(forged, Err(DescriptorError::Identity));
    let refused = |change: fn(&mut Descriptor)| {
        let mut changed = member.descriptor.clone();
        change(&mut changed);
        assert!(matches!(
            changed.sign(&member.identity),
            Err(DescriptorError::Decode(_))
        ));
    };
    refused(|d| d.operator.clear());
    refused(|d| d.operator = "x".repeat(65));
    refused(|d| d.operator = "x".repeat(70_000));
    refused(|d| d.operator = "esc\u{1b}[2J".into());
    refused(|d| d.addresses.clear());
    refused(|d| d.addresses.push("10.9.9.9:1".parse().unwrap()));
    refused(|d| d.addresses = vec!["10.9.9.9:0".parse().unwrap()]);
    refused(|d| d.addresses = vec!["[::ffff:10.9.9.9]:1".parse().unwrap()]);
    refused(|d| d.epoch_keys.clear());
    refused(|d| d.epoch_keys.reverse());
    refused(|d| d.epoch_keys[1].epoch += 1);
    refused(|d| d.capacity_pps = 0);
    refused(|d| d.flags = FLAG_PAUSED);
}

#[test]
fn a_descriptor_that_offers_services_is_refused_until_there_are_some() {
    let member = node(1, Role::Mix);
    let mut bytes = member.descriptor.clone().sign(&member.identity).unwrap();
    let mut forged = bytes.bytes().to_vec();
    let flag = forged.len() - 64 - 8 - 1;
    assert_eq!(forged[flag], 0);
    forged[flag] = 1;
    forged.truncate(forged.len() - 64);
    let context = b"fogmix descriptor, version 2\0\0\0\0";
    let signature = member.identity.sign(context, &forged);
    forged.extend_from_slice(&signature);
    let refused = Err(directory::DecodeError::Field("services flag").into());
    assert_eq!(SignedDescriptor::verify(&forged), refused);
    bytes = SignedDescriptor::verify(bytes.bytes()).unwrap();
    assert_eq!(bytes.flags, 0);
}

#[test]
fn a_consensus_survives_signing_and_verification() {
    let (signed, consensus) = document(None, 1, &nodes(2, 6));
    let again = SignedConsensus::decode(&signed.encode()).unwrap();
    assert_eq!(again, signed);
    assert_eq!(verify(&again).unwrap(), consensus);
    assert_eq!(signed.digest(), *consensus.digest());
    assert_eq!(consensus.epoch(), 1);
    assert_eq!(consensus.nodes().len(), 8);
    assert_eq!(consensus.gateways().count(), 2);
    for layer in 1..=3 {
        assert_eq!(consensus.layer(layer).count(), 2);
    }
    for (position, node) in consensus.nodes().iter().enumerate() {
        assert_eq!(usize::from(node.index), position);
        assert_eq!(consensus.find(&node.identity).unwrap().index, node.index);
        assert_eq!(node.vrf_proof.is_some(), node.role == Role::Mix);
    }
}

#[test]
fn a_consensus_altered_in_any_byte_is_refused() {
    let bytes = document(None, 0, &nodes(1, 1)).0.encode();
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 0x40;
        let verified = SignedConsensus::decode(&altered).map(|signed| verify(&signed));
        assert!(!matches!(verified, Ok(Ok(_))), "byte {position}");
    }
    for length in (0..bytes.len()).step_by(7) {
        assert!(SignedConsensus::decode(&bytes[..length]).is_err());
    }
    assert!(SignedConsensus::decode(&[bytes, vec![0]].concat()).is_err());
}

#[test]
fn a_signature_travels_alone_and_counts_for_its_epoch_and_digest_only() {
    let key = Identity::from_bytes(&[7; 32]);
    let (signed, consensus) = document(None, 1, &nodes(1, 3));
    let network = consensus.head().network;
    let alone = ConsensusSignature::sign(&consensus, &key);
    let bytes = alone.encode();
    assert_eq!(bytes.len(), directory::SIGNATURE_BYTES);
    assert_eq!(ConsensusSignature::decode(&bytes), Ok(alone));
    assert!(alone.holds(&network));
    assert!(!alone.holds(&[9; 16]));
    let other_epoch = ConsensusSignature { epoch: 2, ..alone };
    assert!(!other_epoch.holds(&network));
    assert_eq!(
        SignedConsensus::gathered(&consensus, [&alone, &other_epoch]),
        signed
    );
    for length in 0..bytes.len() {
        assert!(ConsensusSignature::decode(&bytes[..length]).is_err());
    }
}

#[test]
fn nodes_out_of_place_make_no_consensus() {
    let record = |number, role, layer| {
        let mut record = Record::new(&node(number, role), 0).unwrap();
        record.layer = layer;
        record
    };
    let make = |records| Consensus::new(Head::bare(PARAMETERS, 0), records);
    for (number, role, layer) in [(1, Role::Mix, 0), (1, Role::Mix, 4), (2, Role::Gateway, 1)] {
        let made = make(vec![record(number, role, layer)]);
        assert_eq!(made, Err(ConsensusError::Role));
    }
    let mix = record(1, Role::Mix, 1);
    assert_eq!(
        make(vec![mix.clone(), mix.clone()]),
        Err(ConsensusError::Order)
    );
    assert!(make(vec![record(1, Role::Mix, WAITING)]).is_ok());
    assert!(
        Record::new(&node(1, Role::Mix), 2).is_none(),
        "no key of that epoch"
    );
    let mut head = Head::bare(PARAMETERS, 4);
    head.previous = Previous {
        epoch: 4,
        digest: [1; 32],
        beacon: [0; 32],
    };
    let refused = Consensus::new(head, Vec::new());
    assert_eq!(refused, Err(ConsensusError::Predecessor));
}

#[test]
fn the_later_descriptor_of_a_node_counts_and_one_without_the_epochs_key_sits_out() {
    let members = nodes(1, 3);
    let mut newer = members[1].clone();
    newer.published_unix_ms += 1;
    newer.capacity_pps = 77;
    let first = Previous::default();
    let mut signed: Vec<_> = members.iter().map(|one| one.signed(0, &first)).collect();
    signed.insert(0, newer.signed(0, &first));
    signed[4] = members[3].signed(1, &first);
    let consensus = verify(&authority().make(None, 0, &signed).unwrap()).unwrap();
    assert_eq!(consensus.nodes().len(), 3);
    assert_eq!(consensus.find(&newer.identity.public()).unwrap().weight, 77);
    assert!(consensus.find(&members[3].identity.public()).is_none());
}

#[test]
fn epochs_start_and_end_where_arithmetic_says() {
    let start = PARAMETERS.genesis_unix_ms;
    assert_eq!(PARAMETERS.epoch_at(0), 0);
    assert_eq!(PARAMETERS.epoch_at(start + 59_999), 0);
    assert_eq!(PARAMETERS.epoch_at(start + 60_000), 1);
    assert_eq!(PARAMETERS.epoch_starts_ms(2), start + 120_000);
    assert_eq!(PARAMETERS.epoch_ends_ms(2), start + 180_000);
    assert_eq!(PARAMETERS.turn_spread_ms(), 937);
    assert_eq!(PARAMETERS.grace_ms(), 1_406 + 1_000);
    assert_eq!(PARAMETERS.travel_ms(), 1_000);
    let slow = directory::Parameters {
        mean_delay_us: 60_000_000,
        ..PARAMETERS
    };
    assert_eq!(slow.grace_ms(), 60_000, "the next epoch's end comes first");
    assert_eq!(PARAMETERS.epoch_at(u64::MAX), u32::MAX);
}

#[test]
fn a_packet_may_only_move_to_the_next_layer() {
    let consensus = consensus(nodes(2, 6));
    for from in (0..=5u8).chain([WAITING]) {
        for node in consensus.nodes() {
            let next = [1, 2, 3, 0].get(usize::from(from));
            assert_eq!(
                consensus.may_forward(from, node.index),
                next == Some(&node.layer)
            );
        }
        assert!(!consensus.may_forward(from, 8));
    }
    assert_eq!(consensus.next_layer(WAITING), WAITING);
}

#[test]
fn a_bootstrap_file_round_trips_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let bootstrap = Bootstrap {
        chain: authority.chain().clone(),
        consensus: Some(document(None, 0, &nodes(1, 3)).0),
    };
    let path = folder.path().join("network");
    bootstrap.write(&path).unwrap();
    let read = Bootstrap::read(&path).unwrap();
    assert_eq!(read, bootstrap);
    assert_eq!(read.verify().unwrap().nodes().len(), 4);
    read.check_network(authority.chain()).unwrap();
    // Another authority's chain in the file: nothing verifies.
    let stranger = Authority::found(Identity::from_bytes(&[8; 32]), PARAMETERS).unwrap();
    let forged = Bootstrap {
        chain: stranger.chain().clone(),
        ..bootstrap.clone()
    };
    assert!(forged.verify().is_err());
    let other = forged.check_network(authority.chain());
    assert_eq!(other, Err(BootstrapError::OtherNetwork));
    // Of a network that is being founded: a chain and no document.
    let founding = Bootstrap {
        consensus: None,
        ..bootstrap
    };
    let bytes = founding.encode();
    assert_eq!(Bootstrap::decode(&bytes), Ok(founding.clone()));
    assert_eq!(founding.verify(), Err(BootstrapError::Founding));
    assert!(Bootstrap::decode(&[bytes, vec![0]].concat()).is_err());
}

/// Reproducible seeds for the fuzz target: `cargo test -p authority --test documents -- --ignored corpus`.
#[test]
#[ignore = "writes the committed fuzz corpus"]
fn write_the_fuzz_corpus() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../bench/fuzz/corpus/documents"
    );
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(format!("{folder}/{name}"), bytes).unwrap();
    let mut members = nodes(1, 2);
    members[0]
        .addresses
        .push("[2001:db8::1]:9000".parse().unwrap());
    let (signed, consensus) = document(None, 0, &members);
    let (later_signed, later) = document(Some(&consensus), 1, &members[1..]);
    write("consensus", &consensus.encode());
    write("signed-consensus", &signed.encode());
    let bytes = members[1].signed(0, &Previous::default());
    write("descriptor", bytes.bytes());
    write(
        "descriptor-unsigned",
        &bytes.bytes()[..bytes.bytes().len() - 64],
    );
    let key = Identity::from_bytes(&[7; 32]);
    write(
        "signature",
        &ConsensusSignature::sign(&consensus, &key).encode(),
    );
    let diff = Diff::between(&consensus, &later, &later_signed).unwrap();
    write("diff", &diff.encode());
    let report = Report {
        network: consensus.head().network,
        identity: members[1].identity.public(),
        epoch: 0,
        marks: vec![Mark::NotMine, Mark::Reachable, Mark::Unreachable],
    };
    let report = report.sign(&members[1].identity).unwrap();
    write("report", report.bytes());
    write(
        "report-unsigned",
        &report.bytes()[..report.bytes().len() - 64],
    );
    let chain = authority().chain().clone();
    let founding = Bootstrap {
        chain: chain.clone(),
        consensus: None,
    };
    write("bootstrap-founding", &founding.encode());
    let bootstrap = Bootstrap {
        chain,
        consensus: Some(document(None, 0, &nodes(1, 0)).0),
    };
    write("bootstrap", &bootstrap.encode());
}

proptest! {
    #[test]
    fn no_decoder_panics_on_arbitrary_bytes(bytes: Vec<u8>, kind in 0usize..7) {
        let magic: &[u8] = [b"FXD2", b"FXC2", b"FXS2", b"FXB2", b"FXG1", b"FXU1", b"FXR1"][kind];
        let bytes = [magic, &bytes].concat();
        let _ = SignedDescriptor::verify(&bytes);
        let _ = Bootstrap::decode(&bytes);
        let _ = ConsensusSignature::decode(&bytes);
        let _ = Diff::decode(&bytes);
        let _ = SignedReport::verify(&bytes);
        if let Ok(signed) = SignedConsensus::decode(&bytes) {
            let _ = verify(&signed);
        }
    }
}

#[test]
fn a_descriptor_that_names_another_nodes_link_key_address_or_vrf_key_silences_nobody() {
    let honest = nodes(2, 6);
    let before = consensus(honest.clone());
    type Take = fn(&mut Descriptor, &Descriptor);
    let takes: [Take; 3] = [
        |thief, victim| thief.link = victim.link.clone(),
        |thief, victim| thief.addresses = victim.addresses.clone(),
        |thief, victim| thief.vrf_key = victim.vrf_key,
    ];
    let made = |before: Option<&Consensus>, members: &[Member]| document(before, 1, members).1;
    for take in takes {
        let victim = &honest[3];
        let mut thief = node(90, Role::Mix);
        take(&mut thief, victim);
        let mut members = honest.clone();
        members.push(thief.clone());
        let victim = victim.identity.public();
        let thief = thief.identity.public();
        // Who has it keeps it, also while it does not publish.
        let document = made(Some(&before), &members);
        assert!(document.find(&victim).is_some());
        assert!(document.find(&thief).is_none());
        assert_eq!(document.nodes().len(), honest.len());
        let absent = members.iter().filter(|one| one.identity.public() != victim);
        let absent: Vec<Member> = absent.cloned().collect();
        assert!(made(Some(&before), &absent).find(&thief).is_none());
        // Of two that are new neither gets in.
        let document = made(None, &members);
        assert!(document.find(&victim).is_none());
        assert!(document.find(&thief).is_none());
        assert_eq!(document.nodes().len(), honest.len() - 1);
    }
}

#[test]
fn a_document_with_one_link_key_twice_is_none() {
    let mut twice = nodes(1, 3);
    twice[1].link = twice[2].link.clone();
    let mut records: Vec<_> = twice
        .iter()
        .map(|one| Record::new(one, 0).unwrap())
        .collect();
    records.sort_unstable_by_key(|record| record.identity);
    let refused = Consensus::new(Head::bare(PARAMETERS, 0), records);
    assert_eq!(refused, Err(ConsensusError::Duplicate));
}

#[test]
fn a_capacity_of_four_billion_weighs_four_medians() {
    let mut boasting = nodes(2, 9);
    for number in [0, 2, 5] {
        boasting[number].capacity_pps = u32::MAX;
    }
    let consensus = consensus(boasting);
    // Gateways 1,000 and 4,294,967,295: the lower median is 1,000.
    let most = consensus.nodes().iter().map(|node| node.weight).max();
    assert_eq!(most, Some(4_000));
    let layer: u32 = consensus.layer(1).map(|node| node.weight).sum();
    assert!(layer <= 3 * 4_000);
}
