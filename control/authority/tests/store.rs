//! The store folder, with an authority's documents in it.

mod network;

use std::fs;

use directory::Role;
use directory::store::{Store, hex};
use network::{authority, node};

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
