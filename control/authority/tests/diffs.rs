//! Diffs lead from one document to the next and nowhere else.

mod network;

use directory::{Consensus, Diff, DiffError, Identity, Role, SignedConsensus};
use network::{authority, document, nodes};
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
