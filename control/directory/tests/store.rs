//! The store folder and the authority that works on it.

mod network;

use std::fs;

use directory::Role;
use directory::store::{Store, hex};
use network::{PARAMETERS, authority, node};

#[test]
fn an_authority_publishes_this_epoch_at_once_and_the_next_from_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    let authority = authority();
    store
        .publish_authorities(&authority.authorities().unwrap())
        .unwrap();
    for number in 0..4 {
        let role = if number == 0 {
            Role::Gateway
        } else {
            Role::Mix
        };
        let (identity, descriptor) = node(number, role);
        store.publish_descriptor(&descriptor, &identity).unwrap();
    }
    let start = PARAMETERS.genesis_unix_ms;
    assert_eq!(authority.turn(&store, start).unwrap(), [0]);
    assert!(authority.turn(&store, start + 29_999).unwrap().is_empty());
    assert_eq!(authority.turn(&store, start + 30_000).unwrap(), [1]);
    assert!(authority.turn(&store, start + 60_000).unwrap().is_empty());
    let keys = store.read_authorities().unwrap().unwrap();
    let (epoch, document) = store.latest().unwrap().unwrap();
    assert_eq!(epoch, 1);
    assert_eq!(document.verify(&keys, Some(0)).unwrap().nodes().len(), 4);
}

#[test]
fn documents_long_over_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    let document = authority().sign(0, []).unwrap();
    for epoch in 0..20 {
        store.publish_consensus(epoch, &document).unwrap();
    }
    assert!(store.read_consensus(10).unwrap().is_none());
    assert!(store.read_consensus(11).unwrap().is_some());
    assert_eq!(
        fs::read_dir(folder.path().join("consensus"))
            .unwrap()
            .count(),
        9
    );
}

#[test]
fn files_that_do_not_verify_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    assert!(store.read_authorities().unwrap().is_none());
    assert!(store.latest().unwrap().is_none());
    let (identity, descriptor) = node(1, Role::Mix);
    store.publish_descriptor(&descriptor, &identity).unwrap();
    let descriptors = folder.path().join("descriptors");
    let name = hex(&descriptor.identity);
    fs::write(descriptors.join("junk"), b"junk").unwrap();
    fs::write(descriptors.join("huge"), vec![0; 1 << 20]).unwrap();
    // A copy under another node's name would let one node stand for two.
    fs::copy(descriptors.join(&name), descriptors.join("0".repeat(64))).unwrap();
    assert_eq!(store.read_descriptors().unwrap(), [descriptor]);
    fs::write(folder.path().join("consensus/5"), b"junk").unwrap();
    assert!(store.latest().is_err());
}
