//! The authority's work on its folder.

#[path = "../../authority/tests/network/mod.rs"]
mod network;

use control::authority::turn;
use directory::store::Store;
use directory::{Held, Previous};
use network::{PARAMETERS, authority, nodes};

#[test]
fn an_authority_publishes_this_epoch_at_once_and_the_next_when_nodes_have_proved_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    let authority = authority();
    let describe = |epoch, previous: &Previous| {
        for member in nodes(1, 3) {
            let descriptor = member.signed(epoch, previous);
            store.publish_descriptor(&descriptor).unwrap();
        }
    };
    describe(0, &Previous::default());
    let start = PARAMETERS.genesis_unix_ms;
    assert_eq!(turn(&authority, &store, start).unwrap(), [0]);
    assert!(turn(&authority, &store, start + 29_999).unwrap().is_empty());
    // Nobody has proved for the next one.
    assert!(turn(&authority, &store, start + 44_999).unwrap().is_empty());
    let first = store.read_consensus(0).unwrap().unwrap();
    let first = first.verify(authority.chain(), &Held::default()).unwrap();
    describe(1, &first.as_previous());
    assert!(turn(&authority, &store, start + 29_999).unwrap().is_empty());
    assert_eq!(turn(&authority, &store, start + 30_000).unwrap(), [1]);
    assert!(turn(&authority, &store, start + 60_000).unwrap().is_empty());
    // Who has not said anything new keeps nobody waiting for long.
    assert!(
        turn(&authority, &store, start + 104_999)
            .unwrap()
            .is_empty()
    );
    let (epoch, document) = store.newest_first().unwrap().next().unwrap();
    let document = document.unwrap();
    assert_eq!(epoch, 1);
    let held = Held {
        documents: &[&first],
        ..Held::default()
    };
    let second = document.verify(authority.chain(), &held).unwrap();
    assert_eq!(second.nodes().len(), 4);
    assert_eq!(second.head().previous, first.as_previous());
    assert_eq!(second.layer(1).count(), 1);
    assert_eq!(turn(&authority, &store, start + 105_000).unwrap(), [2]);
}
