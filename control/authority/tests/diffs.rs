//! Diffs lead from one document to the next and nowhere else; reports have their effect.

mod network;

use std::collections::BTreeMap;

use directory::{
    Consensus, Diff, DiffError, Identity, Mark, Report, ReportError, Role, SignedConsensus,
    SignedReport,
};
use network::{Member, authority, document, node, nodes, vote_of};
use proptest::prelude::*;

/// What a document becomes by changes to its nodes, without proofs: diffs do not look at them.
fn changed(base: &Consensus, changes: &[(u16, u8, u32)]) -> Consensus {
    let mut head = base.head().clone();
    head.epoch += 1;
    head.beacon[0] ^= 1;
    let mut records: Vec<_> = base
        .nodes()
        .iter()
        .map(|node| node.record.clone())
        .collect();
    for (at, what, value) in changes {
        let at = usize::from(*at) % records.len();
        let record = &mut records[at];
        match what {
            0 => record.weight = (*value).max(1),
            1 => record.epoch_key = [*value as u8; 32],
            2 => record.vrf_proof = Some([*value as u8; 80]),
            3 => record.layer = directory::WAITING,
            4 => record.operator = format!("operator {value}"),
            5 => record.vrf_since = *value,
            6 => record.identity = [*value as u8; 32],
            _ => {
                records.remove(at);
            }
        }
        if records.is_empty() {
            break;
        }
    }
    records.sort_unstable_by_key(|record| record.identity);
    records.dedup_by_key(|record| record.identity);
    Consensus::new(head, records).unwrap()
}

fn signed(consensus: &Consensus) -> SignedConsensus {
    SignedConsensus::sign(consensus, &Identity::from_bytes(&[7; 32]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_diff_applied_to_its_base_is_its_target(
        changes in proptest::collection::vec((any::<u16>(), 0u8..8, any::<u32>()), 0..12),
    ) {
        let base = document(None, 0, &nodes(2, 6)).1;
        let target = changed(&base, &changes);
        let diff = Diff::between(&base, &target, &signed(&target)).unwrap();
        let bytes = diff.encode();
        prop_assert!(bytes.len() <= directory::DIFF_BYTES_MAX);
        let read = Diff::decode(&bytes).unwrap();
        prop_assert_eq!(&read, &diff);
        prop_assert_eq!(read.apply(&base).unwrap().encode(), signed(&target).encode());
        if target.digest() != base.digest() {
            prop_assert_eq!(read.apply(&target), Err(DiffError::Base));
        }
    }
}

#[test]
fn a_diff_altered_in_any_byte_or_cut_short_leads_to_no_document() {
    let members = nodes(1, 3);
    let base = document(None, 0, &members).1;
    let (target_signed, target) = document(Some(&base), 1, &members[..3]);
    let bytes = Diff::between(&base, &target, &target_signed)
        .unwrap()
        .encode();
    let held = directory::Held {
        documents: &[&base],
        ..directory::Held::default()
    };
    let taken = |bytes: &[u8]| {
        let applied = Diff::decode(bytes).ok()?.apply(&base).ok()?;
        applied.verify(authority().chain(), &held).ok()
    };
    assert_eq!(taken(&bytes), Some(target));
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 0x10;
        assert_eq!(taken(&altered), None, "byte {position}");
        assert_eq!(taken(&bytes[..position]), None, "{position} bytes");
    }
    assert_eq!(taken(&[bytes, vec![0]].concat()), None);
}

#[test]
fn a_diff_that_does_not_lead_where_it_says_says_which_rule_it_breaks() {
    let members = nodes(1, 3);
    let base = document(None, 0, &members).1;
    let (later, target) = document(Some(&base), 1, &members);
    let bytes = Diff::between(&base, &target, &later).unwrap().encode();
    let apply = |bytes: &[u8]| Diff::decode(bytes).unwrap().apply(&base);
    let mut elsewhere = bytes.clone();
    elsewhere[4] ^= 1;
    assert_eq!(apply(&elsewhere), Err(DiffError::Base));
    let mut wrong = bytes.clone();
    wrong[36] ^= 1;
    assert_eq!(apply(&wrong), Err(DiffError::Target));
    // One node fewer in the list of those kept, the last: a mix, with its proof.
    let entry = 2 + 1 + 32 + 4 + 1 + 1;
    let last = base.nodes().last().unwrap();
    let entry = entry + if last.vrf_proof.is_some() { 80 } else { 0 };
    let signatures = 1 + 96;
    let kept: usize = target
        .nodes()
        .iter()
        .map(|node| 41 + node.vrf_proof.map_or(0, |_| 80))
        .sum();
    let mut fewer = bytes.clone();
    let end = fewer.len() - signatures;
    fewer.drain(end - entry..end);
    let count = bytes.len() - signatures - kept - 1;
    assert_eq!(fewer[count], 4);
    fewer[count] = 3;
    assert_eq!(apply(&fewer), Err(DiffError::Nodes));
    assert_eq!(
        Diff::between(&base, &base, &later),
        None,
        "signed is another"
    );
}

/// The table of the specification: the sizes of documents and diffs.
#[test]
fn the_specification_names_the_sizes_of_diffs() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../directory/SPEC.md");
    let page = std::fs::read_to_string(page).unwrap();
    let grouped = |number: usize| match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{},{:03}", number / 1_000, number % 1_000),
        _ => format!(
            "{},{:03},{:03}",
            number / 1_000_000,
            number / 1_000 % 1_000,
            number % 1_000
        ),
    };
    let mut lines = Vec::new();
    for (mixes, gateways) in [(9, 3), (80, 20), (850, 150)] {
        let mut members = nodes(gateways, mixes);
        // Names of one length.
        for (number, member) in members.iter_mut().enumerate() {
            member.operator = format!("operator-{number:04}");
        }
        let records: Vec<_> = members
            .iter()
            .map(|member| {
                let mut record = directory::Record::new(member, 0).unwrap();
                record.vrf_proof = (record.role == Role::Mix).then_some([1; 80]);
                record.layer = u8::from(record.role == Role::Mix);
                record
            })
            .collect();
        let mut records = records;
        records.sort_unstable_by_key(|record| record.identity);
        let mut head = directory::Head::bare(network::PARAMETERS, 0);
        head.parts = vec![directory::Part::default(); 1];
        head.parts[0].commit = Some([1; 32]);
        head.parts[0].reveal = Some([1; 32]);
        let base = Consensus::new(head.clone(), records.clone()).unwrap();
        head.epoch = 1;
        records
            .iter_mut()
            .for_each(|record| record.epoch_key = [3; 32]);
        let target = Consensus::new(head, records).unwrap();
        let diff = Diff::between(&base, &target, &signed(&target)).unwrap();
        let line = format!(
            "| {} | {} | {} |",
            grouped(usize::from(mixes + gateways)),
            grouped(signed(&target).encode().len()),
            grouped(diff.encode().len())
        );
        println!("{line}");
        lines.push(line);
    }
    assert!(lines.iter().all(|line| page.contains(line)), "{lines:?}");
}

fn report(of: &Member, consensus: &Consensus, silent: &[[u8; 32]]) -> SignedReport {
    let mark = |node: &directory::Node| match silent.contains(&node.identity) {
        true => Mark::Unreachable,
        false => Mark::NotMine,
    };
    let report = Report {
        network: consensus.head().network,
        identity: of.identity.public(),
        epoch: consensus.epoch(),
        marks: consensus.nodes().iter().map(mark).collect(),
    };
    report.sign(&of.identity).unwrap()
}

/// Whom the authority lists in the document after `first`, given these reports.
fn listed(first: &Consensus, members: &[Member], reports: &[SignedReport]) -> Vec<[u8; 32]> {
    let before = first.as_previous();
    let descriptors: Vec<_> = members.iter().map(|one| one.signed(1, &before)).collect();
    let key = Identity::from_bytes(&[7; 32]);
    let chain = authority().chain().clone();
    let vote = vote_of(&key, &chain, Some(first), 1, &descriptors, reports);
    let nodes = vote.vote().nodes.iter();
    nodes.map(|entry| entry.identity).collect()
}

#[test]
fn a_report_survives_signing_and_one_that_is_altered_or_not_its_authors_is_refused() {
    let members = nodes(1, 4);
    let consensus = document(None, 0, &members).1;
    let silent = members[2].identity.public();
    let signed = report(&members[1], &consensus, &[silent]);
    let read = SignedReport::verify(signed.bytes()).unwrap();
    assert_eq!(read, signed);
    assert_eq!(read.digest(), signed.digest());
    let mut bytes = signed.bytes().to_vec();
    for position in 0..bytes.len() {
        bytes[position] ^= 4;
        assert!(SignedReport::verify(&bytes).is_err(), "byte {position}");
        bytes[position] ^= 4;
    }
    let foreign = Report::clone(&signed).sign(&members[2].identity);
    assert_eq!(foreign, Err(ReportError::Identity));
    let mut long = Report::clone(&signed);
    long.marks = vec![Mark::NotMine; 2_049];
    let long = long.sign(&members[1].identity);
    assert!(matches!(long, Err(ReportError::Decode(_))));
}

#[test]
fn who_most_operators_of_the_layer_before_did_not_reach_is_not_listed() {
    // Four operators a layer.
    let members = nodes(4, 12);
    let first = document(None, 0, &members).1;
    let by_identity: BTreeMap<[u8; 32], &Member> = members
        .iter()
        .map(|member| (member.identity.public(), member))
        .collect();
    let listed = |reports: &[SignedReport]| listed(&first, &members, reports);
    let silent: Vec<[u8; 32]> = first.layer(2).map(|node| node.identity).collect();
    let of_layer = |layer, silent: &[[u8; 32]]| -> Vec<SignedReport> {
        let nodes = first.layer(layer);
        nodes
            .map(|node| report(by_identity[&node.identity], &first, silent))
            .collect()
    };
    assert_eq!(listed(&[]).len(), 16);
    let three = of_layer(1, &silent[..1])[..3].to_vec();
    let left = listed(&three);
    assert_eq!(left.len(), 15);
    assert!(!left.contains(&silent[0]));
    // Two of four are not more than half, and those of another layer have no say.
    assert_eq!(listed(&three[..2]).len(), 16);
    assert_eq!(listed(&of_layer(3, &silent[..1])).len(), 16);
    // However many they name, a quarter of the mixes goes.
    assert_eq!(listed(&of_layer(1, &silent)).len(), 16 - 3);
    // Of another epoch or network, or by nobody who is in the document.
    let mut old = Report::clone(&three[0]);
    old.epoch = 7;
    let mut strange = Report::clone(&three[1]);
    strange.network = [9; 16];
    let outsider = node(90, Role::Mix);
    let mut reports = vec![three[2].clone(), report(&outsider, &first, &silent[..1])];
    reports.push(
        old.clone()
            .sign(&by_identity[&old.identity].identity)
            .unwrap(),
    );
    let key = &by_identity[&strange.identity].identity;
    reports.push(strange.clone().sign(key).unwrap());
    assert_eq!(listed(&reports).len(), 16);
}

#[test]
fn an_operator_has_one_voice_however_many_nodes_it_runs() {
    let mut members = nodes(4, 12);
    // All mixes are of two operators.
    for (number, member) in members.iter_mut().enumerate().skip(4) {
        member.operator = format!("operator-{}", number % 2);
    }
    let first = document(None, 0, &members).1;
    let silent: Vec<[u8; 32]> = first.layer(2).map(|node| node.identity).collect();
    let reports: Vec<_> = members
        .iter()
        .map(|member| report(member, &first, &silent))
        .collect();
    let listed = listed(&first, &members, &reports);
    assert_eq!(listed.len(), 16, "two voices are fewer than three");
}
