//! More sealed bodies than are taken.

use super::*;
use crate::transfer::incoming::peer::OWN_MANIFESTS;
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

#[test]
fn attack_key_requests_of_strangers_are_answered_from_a_budget_of_their_own() {
    let mut bob = Bob::new(16, 0);
    let ask = |bob: &mut Bob| {
        let surbs = vec![bob.surb(), bob.surb()];
        bob.take_sealed(&Sealed::KeyRequest {
            wanted: 3,
            epoch: EPOCH,
            surbs,
        });
        std::iter::from_fn(|| bob.reply()).count() as u32
    };
    let flood = 2 * KEY_ANSWERS_AT_ONCE;
    let given: u32 = (0..flood).map(|_| ask(&mut bob)).sum();
    println!("{given} of {} answers were given at once", 2 * flood);
    assert_eq!(given, KEY_ANSWERS_AT_ONCE);
    assert_eq!(bob.incoming.keys_withheld, u64::from(2 * flood - given));
    // As time passes there are others, and no more than an epoch has.
    let epoch_ns = 1_200_000 * 1_000_000;
    bob.now_ns += 3 * epoch_ns / u64::from(KEY_ANSWERS_AN_EPOCH);
    let later: Vec<u32> = (0..3).map(|_| ask(&mut bob)).collect();
    assert_eq!(later.iter().sum::<u32>(), 2, "{later:?}");
}

#[test]
fn attack_who_takes_every_look_at_the_disk_leaves_each_other_session_its_own() {
    let mut bob = Bob::new(23, 1 << 20);
    let (mut alice, mut mallory) = (bob.session(), bob.session());
    bob.start(&alice);
    bob.start(&mallory);
    let (mut number, mut taken) = (0, [0, 0]);
    // A minute in which she is always first, and opens no file for good.
    for second in 1..=60 {
        for _ in 0..40 {
            number += 1;
            let of_flood = manifest(number, 100);
            bob.take(&packet(&mut mallory, &[Field::Manifest(of_flood.clone())]));
            taken[0] += u32::from(bob.incoming.files.remove(&of_flood.transfer).is_some());
        }
        let wanted = manifest(1_000_000 + taken[1], 100);
        bob.take(&packet(&mut alice, &[Field::Manifest(wanted.clone())]));
        taken[1] += u32::from(bob.incoming.files.contains_key(&wanted.transfer));
        bob.now_ns = second * PAUSE_NS;
    }
    println!(
        "in a minute a flood of 2,400 manifests had {taken:?} looks, and one session beside it"
    );
    assert_eq!(taken[1], 3);
    let all = MANIFESTS.0 + 120 + OWN_MANIFESTS.0;
    assert!(taken[0] <= all, "{taken:?}");
}
