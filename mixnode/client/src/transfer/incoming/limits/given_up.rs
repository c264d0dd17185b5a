//! Files that their sender gives up.

use super::*;

#[test]
fn what_its_sender_gives_up_is_forgotten_and_what_was_refused_stays_so() {
    let mut bob = Bob::new(19, 1 << 20);
    let mut session = bob.session();
    bob.start(&session);
    let (open, refused) = (manifest(1, 2 * CHUNK_BYTES as u64), manifest(2, 1 << 30));
    bob.take(&packet(&mut session, &[Field::Manifest(refused.clone())]));
    bob.take(&packet(&mut session, &[Field::Manifest(open.clone())]));
    bob.take(&packet(&mut session, &[chunk(&open, 0)]));
    assert_eq!(bob.open_files(), 1);
    for manifest in [&open, &refused] {
        bob.take(&packet(&mut session, &[Field::GivenUp(manifest.transfer)]));
    }
    assert_eq!(bob.open_files(), 0);
    assert!(bob.incoming.files.contains_key(&refused.transfer));
    // Of the storage nothing is left either: its manifest begins anew.
    bob.take(&packet(&mut session, &[Field::Manifest(open.clone())]));
    let chunks: Vec<u32> = bob
        .incoming
        .open_files()
        .map(|(_, chunks)| chunks)
        .collect();
    assert_eq!(chunks, [0]);
}

#[test]
fn attack_a_packet_that_gives_up_fifty_one_files_takes_no_looks_from_others() {
    let mut bob = Bob::new(22, 1 << 20);
    let (mut alice, mut mallory) = (bob.session(), bob.session());
    bob.start(&alice);
    bob.start(&mallory);
    let none = (0..51).map(|number| Field::GivenUp([number; 16]));
    bob.take(&packet(&mut mallory, &none.collect::<Vec<_>>()));
    bob.take(&packet(&mut alice, &[Field::Manifest(manifest(1, 1))]));
    assert_eq!(bob.open_files(), 1);
}
