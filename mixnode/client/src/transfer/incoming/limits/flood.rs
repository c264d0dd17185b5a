//! More sealed bodies than are taken.

use super::*;
use crate::transfer::used::AT_ONCE;

#[test]
fn a_flood_of_sealed_bodies_costs_newcomers_a_while_and_sessions_nothing() {
    let mut bob = Bob::new(17, 1 << 20);
    let mut alice = bob.session();
    bob.start(&alice);
    // Marked as a flood's bodies are, without their cryptography.
    let (used, storage) = (&mut bob.incoming.used, &mut *bob.incoming.storage);
    let taken = (0..2 * AT_ONCE)
        .filter(|number| {
            let what = number.to_le_bytes();
            used.insert(EPOCH, &what, bob.now_ns, storage).unwrap()
        })
        .count();
    // The start of a session are two bodies and its name.
    assert_eq!(taken as u32, AT_ONCE - 3);
    let carol = bob.session();
    bob.start(&carol);
    assert_eq!(bob.incoming.peers.len(), 1, "no room for another session");
    let surb = Field::Surb(Box::new(bob.surb()));
    bob.take(&packet(
        &mut alice,
        &[Field::Manifest(manifest(1, 100)), surb],
    ));
    assert!(bob.reply().is_some(), "the known one goes on");
    bob.now_ns += PAUSE_NS;
    bob.start(&carol);
    assert_eq!(bob.incoming.peers.len(), 2, "a while later there is");
}
