//! The authority's work on its folder.

#[path = "../../authority/tests/network/mod.rs"]
mod network;

use control::authority::turn;
use directory::Role;
use directory::store::Store;
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
    assert_eq!(turn(&authority, &store, start).unwrap(), [0]);
    assert!(turn(&authority, &store, start + 29_999).unwrap().is_empty());
    assert_eq!(turn(&authority, &store, start + 30_000).unwrap(), [1]);
    assert!(turn(&authority, &store, start + 60_000).unwrap().is_empty());
    let keys = store.read_authorities().unwrap().unwrap();
    let (epoch, document) = store.latest().unwrap().unwrap();
    assert_eq!(epoch, 1);
    assert_eq!(document.verify(&keys, Some(0)).unwrap().nodes().len(), 4);
}
