//! Documents: one encoding, nothing accepted that was not signed, nothing old.

mod network;

use authority::Authority;
use directory::{
    Authorities, Bootstrap, Consensus, ConsensusError, Descriptor, DescriptorError, Identity, Role,
    SignedConsensus, VerifyError,
};
use network::{PARAMETERS, authority, consensus, node, nodes};
use proptest::prelude::*;

#[test]
fn a_descriptor_survives_signing_and_verification() {
    let (identity, mut descriptor) = node(3, Role::Mix);
    descriptor
        .addresses
        .push("[2001:db8::1]:9000".parse().unwrap());
    descriptor.vrf_proof = Some([9; 80]);
    let bytes = descriptor.sign(&identity).unwrap();
    assert!(bytes.len() <= directory::DESCRIPTOR_BYTES_MAX);
    assert_eq!(Descriptor::verify(&bytes).unwrap(), descriptor);
}

#[test]
fn a_descriptor_altered_in_any_bit_is_refused() {
    let (identity, descriptor) = node(3, Role::Mix);
    let mut bytes = descriptor.sign(&identity).unwrap();
    for position in 0..bytes.len() {
        let bit = 1 << (position % 8);
        bytes[position] ^= bit;
        assert!(Descriptor::verify(&bytes).is_err(), "byte {position}");
        bytes[position] ^= bit;
    }
    assert!(Descriptor::verify(&bytes).is_ok());
}

#[test]
fn a_descriptor_of_another_identity_or_out_of_bounds_is_not_signed() {
    let (identity, descriptor) = node(1, Role::Mix);
    let (other, _) = node(2, Role::Mix);
    assert_eq!(descriptor.sign(&other), Err(DescriptorError::Identity));
    let refused = |change: fn(&mut Descriptor)| {
        let mut changed = descriptor.clone();
        change(&mut changed);
        assert!(matches!(
            changed.sign(&identity),
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
    refused(|d| d.capacity_pps = 0);
}

#[test]
fn a_consensus_survives_signing_and_verification() {
    let authority = authority();
    let keys = authority.authorities().unwrap();
    let signed = authority.sign(1, nodes(2, 6)).unwrap();
    let again = SignedConsensus::decode(&signed.encode()).unwrap();
    assert_eq!(again, signed);
    let consensus = again.verify(&keys, Some(0)).unwrap();
    assert_eq!(consensus.epoch(), 1);
    assert_eq!(consensus.nodes().len(), 8);
    assert_eq!(consensus.gateways().count(), 2);
    for layer in 1..=3 {
        assert_eq!(consensus.layer(layer).count(), 2);
    }
    for (position, node) in consensus.nodes().iter().enumerate() {
        assert_eq!(usize::from(node.index), position);
        assert_eq!(consensus.find(&node.identity).unwrap().index, node.index);
        let epochs: Vec<_> = node.epoch_keys.iter().map(|key| key.epoch).collect();
        assert_eq!(epochs, [1, 2]);
    }
}

#[test]
fn a_consensus_altered_in_any_byte_is_refused() {
    let authority = authority();
    let keys = authority.authorities().unwrap();
    let bytes = authority.sign(0, nodes(1, 1)).unwrap().encode();
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 0x40;
        let verified = SignedConsensus::decode(&altered).map(|signed| signed.verify(&keys, None));
        assert!(!matches!(verified, Ok(Ok(_))), "byte {position}");
    }
    for length in (0..bytes.len()).step_by(7) {
        assert!(SignedConsensus::decode(&bytes[..length]).is_err());
    }
    assert!(SignedConsensus::decode(&[bytes, vec![0]].concat()).is_err());
}

#[test]
fn an_old_or_rolled_back_consensus_is_refused() {
    let authority = authority();
    let keys = authority.authorities().unwrap();
    let signed = authority.sign(1, nodes(1, 3)).unwrap();
    assert!(signed.verify(&keys, None).is_ok());
    assert!(signed.verify(&keys, Some(0)).is_ok());
    for have in [1, 2] {
        let refusal = VerifyError::RolledBack { epoch: 1, have };
        assert_eq!(signed.verify(&keys, Some(have)), Err(refusal));
    }
}

#[test]
fn a_majority_of_authorities_must_sign() {
    let keys: Vec<_> = (0..3).map(|n| Identity::from_bytes(&[n; 32])).collect();
    let all = Authorities::new(keys.iter().map(Identity::public).collect()).unwrap();
    let document = consensus(nodes(1, 3));
    let mut signed = SignedConsensus::sign(&document, &keys[0]);
    assert_eq!(
        signed.verify(&all, None),
        Err(VerifyError::Signatures {
            valid: 1,
            quorum: 2
        })
    );
    // A stranger's signature, and the same one twice, add nothing.
    let stranger = SignedConsensus::sign(&document, &Identity::from_bytes(&[99; 32]));
    assert!(signed.merge(&stranger));
    assert!(signed.merge(&signed.clone()));
    assert!(signed.verify(&all, None).is_err());
    assert!(signed.merge(&SignedConsensus::sign(&document, &keys[2])));
    assert_eq!(signed.verify(&all, None), Ok(document));
}

#[test]
fn nodes_out_of_place_make_no_consensus() {
    let descriptor = |number, role| {
        let mut descriptor = node(number, role).1;
        descriptor.epoch_keys.truncate(2);
        descriptor
    };
    let make = |nodes| Consensus::new(PARAMETERS, 0, [0; 32], nodes);
    let mix = descriptor(1, Role::Mix);
    let gateway = descriptor(2, Role::Gateway);
    assert_eq!(make(vec![(0, mix.clone())]), Err(ConsensusError::Layer));
    assert_eq!(make(vec![(4, mix.clone())]), Err(ConsensusError::Layer));
    assert_eq!(make(vec![(1, gateway)]), Err(ConsensusError::Layer));
    let twice = vec![(1, mix.clone()), (2, mix.clone())];
    assert_eq!(make(twice), Err(ConsensusError::Order));
    let mut keyless = mix;
    keyless.epoch_keys.remove(0);
    assert_eq!(make(vec![(1, keyless)]), Err(ConsensusError::Keys));
}

#[test]
fn the_later_descriptor_of_a_node_counts_and_one_without_the_epochs_key_sits_out() {
    let mut nodes = nodes(1, 3);
    let mut newer = nodes[1].clone();
    newer.published_unix_ms += 1;
    newer.capacity_pps = 77;
    nodes.insert(0, newer.clone());
    nodes[3].epoch_keys.remove(0);
    let gone = nodes[3].identity;
    let consensus = consensus(nodes);
    assert_eq!(consensus.nodes().len(), 3);
    assert_eq!(consensus.find(&newer.identity).unwrap().capacity_pps, 77);
    assert!(consensus.find(&gone).is_none());
}

#[test]
fn mixes_are_dealt_evenly_and_differently_each_epoch() {
    let authority = authority();
    let keys = authority.authorities().unwrap();
    let layers = |epoch| {
        let document = authority
            .sign(epoch, nodes(2, 30))
            .unwrap()
            .verify(&keys, None)
            .unwrap();
        assert!((1..=3).all(|layer| document.layer(layer).count() == 10));
        document
            .nodes()
            .iter()
            .map(|node| node.layer)
            .collect::<Vec<_>>()
    };
    assert_eq!(layers(0), layers(0));
    assert_ne!(layers(0), layers(1));
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
    for from in 0..=5u8 {
        for node in consensus.nodes() {
            let next = [1, 2, 3, 0].get(usize::from(from));
            assert_eq!(
                consensus.may_forward(from, node.index),
                next == Some(&node.layer)
            );
        }
        assert!(!consensus.may_forward(from, 8));
    }
}

#[test]
fn a_bootstrap_file_round_trips_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let bootstrap = Bootstrap {
        authorities: authority.authorities().unwrap(),
        consensus: authority.sign(0, nodes(1, 3)).unwrap(),
    };
    let path = folder.path().join("network");
    bootstrap.write(&path).unwrap();
    let read = Bootstrap::read(&path).unwrap();
    assert_eq!(read, bootstrap);
    assert_eq!(read.verify().unwrap().nodes().len(), 4);
    // Another authority's key in the file: nothing verifies.
    let stranger = Authority::new(Identity::from_bytes(&[8; 32]), PARAMETERS).unwrap();
    let forged = Bootstrap {
        authorities: stranger.authorities().unwrap(),
        ..bootstrap
    };
    assert!(forged.verify().is_err());
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
    let authority = authority();
    let mut members = nodes(1, 2);
    members[0]
        .addresses
        .push("[2001:db8::1]:9000".parse().unwrap());
    members[1].vrf_proof = Some([3; 80]);
    let signed = authority.sign(0, members).unwrap();
    let authorities = authority.authorities().unwrap();
    write(
        "consensus",
        &signed.verify(&authorities, None).unwrap().encode(),
    );
    write("signed-consensus", &signed.encode());
    let (identity, descriptor) = node(1, Role::Mix);
    let bytes = descriptor.sign(&identity).unwrap();
    write("descriptor", &bytes);
    write("descriptor-fields", &bytes[4..bytes.len() - 64]);
    let consensus = authority.sign(0, nodes(1, 0)).unwrap();
    write(
        "bootstrap",
        &Bootstrap {
            authorities,
            consensus,
        }
        .encode(),
    );
}

proptest! {
    #[test]
    fn no_decoder_panics_on_arbitrary_bytes(bytes: Vec<u8>, kind in 0usize..4) {
        let magic: &[u8] = [b"FXD1", b"FXC1", b"FXS1", b"FXB1"][kind];
        let bytes = [magic, &bytes].concat();
        let _ = Descriptor::verify(&bytes);
        let _ = Bootstrap::decode(&bytes);
        if let Ok(signed) = SignedConsensus::decode(&bytes) {
            let _ = signed.verify(&authority().authorities().unwrap(), None);
        }
    }
}

#[test]
fn a_descriptor_that_names_another_nodes_link_key_address_or_vrf_key_silences_nobody() {
    let authority = authority();
    let honest = nodes(2, 6);
    let before = consensus(honest.clone());
    type Take = fn(&mut Descriptor, &Descriptor);
    let takes: [Take; 3] = [
        |thief, victim| thief.link = victim.link.clone(),
        |thief, victim| thief.addresses = victim.addresses.clone(),
        |thief, victim| thief.vrf_key = victim.vrf_key,
    ];
    let signed = |before: Option<&Consensus>, descriptors: Vec<Descriptor>| {
        let signed = authority.sign_after(before, 0, descriptors).unwrap();
        signed
            .verify(&authority.authorities().unwrap(), None)
            .unwrap()
    };
    for take in takes {
        let victim = &honest[3];
        let (_, mut thief) = node(90, Role::Mix);
        take(&mut thief, victim);
        let mut descriptors = honest.clone();
        descriptors.push(thief.clone());
        // Who has it keeps it, also while it does not publish.
        let document = signed(Some(&before), descriptors.clone());
        assert!(document.find(&victim.identity).is_some());
        assert!(document.find(&thief.identity).is_none());
        assert_eq!(document.nodes().len(), honest.len());
        let absent = descriptors
            .iter()
            .filter(|node| node.identity != victim.identity);
        let document = signed(Some(&before), absent.cloned().collect());
        assert!(document.find(&thief.identity).is_none());
        // Of two that are new neither gets in.
        let document = signed(None, descriptors);
        assert!(document.find(&victim.identity).is_none());
        assert!(document.find(&thief.identity).is_none());
        assert_eq!(document.nodes().len(), honest.len() - 1);
    }
}

#[test]
fn a_document_with_one_link_key_twice_is_none() {
    let mut twice = nodes(1, 3);
    twice[1].link = twice[2].link.clone();
    let mut placed: Vec<_> = twice
        .into_iter()
        .map(|mut node| {
            node.epoch_keys.truncate(2);
            (u8::from(node.role == Role::Mix), node)
        })
        .collect();
    placed.sort_unstable_by_key(|(_, node)| node.identity);
    let refused = Consensus::new(PARAMETERS, 0, [0; 32], placed);
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
    let most = consensus.nodes().iter().map(|node| node.capacity_pps).max();
    assert_eq!(most, Some(4_000));
    let layer: u32 = consensus.layer(1).map(|node| node.capacity_pps).sum();
    assert!(layer <= 3 * 4_000);
}
