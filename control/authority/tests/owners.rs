//! What belongs to a node that misses documents, say for its host is being mended, stays its own for a while.

mod network;

use std::collections::BTreeMap;

use authority::admission::{Admission, Admitted};
use authority::ballot::Ballot;
use authority::claims::{KEPT_EPOCHS, OWNERS_BYTES_MAX, Owners};
use directory::{
    Consensus, Descriptor, Head, Identity, NODES_MAX, Previous, Record, Role, SignedDescriptor,
};
use network::{Member, PARAMETERS, authority, consensus, document, node, nodes};

/// Whom an authority with this memory would list in the document of `epoch` that follows `previous`.
fn listed(
    (previous, epoch): (Option<&Consensus>, u32),
    members: &[Member],
    admission: &Admission,
    owners: &Owners,
) -> Vec<[u8; 32]> {
    let authority = authority();
    let before = previous.map_or_else(Previous::default, Consensus::as_previous);
    let signed: Vec<SignedDescriptor> = members
        .iter()
        .map(|one| one.signed(epoch, &before))
        .collect();
    let ballot = Ballot {
        chain: authority.chain(),
        previous,
        epoch,
        admission,
        descriptors: &signed,
        reports: &[],
        owners,
    };
    let vote = ballot.vote(&Identity::from_bytes(&[7; 32])).unwrap();
    vote.vote().nodes.iter().map(|node| node.identity).collect()
}

#[test]
fn who_misses_documents_keeps_keys_and_address_for_a_day_and_no_longer() {
    let honest = nodes(2, 6);
    let victim = honest[3].identity.public();
    let first = consensus(honest.clone());
    let without: Vec<Member> = honest
        .iter()
        .filter(|one| one.identity.public() != victim)
        .cloned()
        .collect();
    let second = document(Some(&first), 1, &without).1;
    let mut owners = Owners::default();
    owners.learn(&first);
    owners.learn(&second);
    type Take = fn(&mut Descriptor, &Descriptor);
    let takes: [Take; 3] = [
        |thief, victim| thief.link = victim.link.clone(),
        |thief, victim| thief.addresses = victim.addresses.clone(),
        |thief, victim| thief.vrf_key = victim.vrf_key,
    ];
    for take in takes {
        let mut thief = node(90, Role::Mix);
        take(&mut thief, &honest[3]);
        let mut members = without.clone();
        members.push(thief.clone());
        let thief = thief.identity.public();
        let open = Admission::Open;
        let at = |epoch| listed((Some(&second), epoch), &members, &open, &owners);
        assert!(!at(2).contains(&thief));
        assert_eq!(at(2).len(), without.len(), "nobody else is left out");
        assert!(!at(KEPT_EPOCHS).contains(&thief));
        assert!(at(KEPT_EPOCHS + 1).contains(&thief));
        // The victim itself returns, whatever the thief says meanwhile.
        members.push(honest[3].clone());
        let back = listed((Some(&second), 2), &members, &open, &owners);
        assert!(back.contains(&victim) && !back.contains(&thief));
    }
}

#[test]
fn what_a_node_gave_up_itself_or_what_is_admitted_no_more_holds_back_nobody() {
    let honest = nodes(1, 4);
    let first = consensus(honest.clone());
    // One moves and leaves its address behind.
    let mut moved = honest.clone();
    moved[2].addresses = vec!["10.200.0.1:9000".parse().unwrap()];
    let second = document(Some(&first), 1, &moved).1;
    let mut owners = Owners::default();
    // In whatever order they come.
    owners.learn(&second);
    owners.learn(&first);
    let mut next = node(90, Role::Mix);
    next.addresses = honest[2].addresses.clone();
    let mut members = moved.clone();
    members.push(next.clone());
    let third = (Some(&second), 2);
    let all = listed(third, &members, &Admission::Open, &owners);
    assert_eq!(all.len(), members.len());
    // A host is set up anew: its old identity is off the list, its address is the new one's.
    let mut heir = node(91, Role::Mix);
    heir.addresses = honest[4].addresses.clone();
    let gone = honest[4].identity.public();
    members.retain(|one| one.identity.public() != gone);
    let empty = document(Some(&second), 2, &members).1;
    owners.learn(&empty);
    members.push(heir.clone());
    let heir = heir.identity.public();
    let admitted = |member: &Member| {
        let of = Admitted {
            role: member.role,
            operator: member.operator.clone(),
            weight_max: 1_000,
            paused: false,
        };
        (member.identity.public(), of)
    };
    let mut list: BTreeMap<_, _> = members.iter().map(admitted).collect();
    list.insert(gone, admitted(&honest[4]).1);
    let fourth = (Some(&empty), 3);
    let kept = listed(fourth, &members, &Admission::List(list.clone()), &owners);
    assert!(!kept.contains(&heir));
    list.remove(&gone);
    let freed = listed(fourth, &members, &Admission::List(list), &owners);
    assert!(freed.contains(&heir));
}

#[test]
fn what_is_remembered_outlives_a_restart_and_has_one_encoding() {
    let honest = nodes(2, 6);
    let victim = honest[3].identity.public();
    let first = consensus(honest.clone());
    let rest: Vec<Member> = honest
        .iter()
        .filter(|one| one.identity.public() != victim)
        .cloned()
        .collect();
    let second = document(Some(&first), 1, &rest).1;
    let mut owners = Owners::default();
    owners.learn(&first);
    owners.learn(&second);
    let bytes = owners.encode();
    let kept = Owners::decode(&bytes).unwrap();
    assert_eq!(kept, owners);
    // Of a machine that began with the second document alone.
    let mut begun = Owners::default();
    begun.learn(&second);
    let mut thief = node(90, Role::Mix);
    thief.addresses = honest[3].addresses.clone();
    let mut members = rest.clone();
    members.push(thief.clone());
    let takes = |owners: &Owners| {
        let listed = listed((Some(&second), 2), &members, &Admission::Open, owners);
        listed.contains(&thief.identity.public())
    };
    assert!(takes(&begun));
    begun.join(kept);
    assert!(!takes(&begun));
    assert_eq!(begun, owners);

    for length in 0..bytes.len() {
        assert!(Owners::decode(&bytes[..length]).is_err(), "{length}");
    }
    assert!(Owners::decode(&[&bytes[..], &[0]].concat()).is_err());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        // What a bit makes of it is something else or nothing, and never has two encodings.
        if let Ok(other) = Owners::decode(&flipped) {
            assert_eq!(other.encode(), flipped);
            assert_ne!(other, owners);
        }
    }
    let mut over = bytes.clone();
    over[4..6].copy_from_slice(&u16::MAX.to_be_bytes());
    assert!(Owners::decode(&over).is_err());
}

#[test]
fn what_is_remembered_is_bounded_and_the_newest_stays() {
    let template = Record::new(&node(1, Role::Mix), 0).unwrap();
    let full = |epoch: u32| {
        let record = |number: usize| {
            let mut record = template.clone();
            let number = u32::try_from(number).unwrap();
            let key = directory::beacon::commit(&[0; 32], epoch, &{
                let mut bytes = [0; 32];
                bytes[..4].copy_from_slice(&number.to_be_bytes());
                bytes
            });
            record.identity = key;
            record.link.x25519 = key;
            record
        };
        let mut records: Vec<Record> = (0..NODES_MAX).map(record).collect();
        records.sort_unstable_by_key(|record| record.identity);
        Consensus::new(Head::bare(PARAMETERS, epoch), records).unwrap()
    };
    let mut owners = Owners::default();
    for epoch in 1..=4 {
        owners.learn(&full(epoch));
        assert_eq!(owners.count(), NODES_MAX * epoch.min(2) as usize);
        assert!(owners.encode().len() <= OWNERS_BYTES_MAX);
    }
}

#[test]
#[ignore = "writes the committed fuzz corpus"]
fn write_the_fuzz_corpus() {
    let corpus =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/fuzz/corpus/votes");
    let mut owners = Owners::default();
    owners.learn(&consensus(nodes(1, 2)));
    std::fs::write(corpus.join("owners"), owners.encode()).unwrap();
}
