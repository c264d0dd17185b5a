//! A disk that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::Disk;
use super::*;
use crate::transfer::content::TransferState;

#[test]
fn a_full_disk_is_told_once_the_sender_waits_and_goes_on_when_there_is_room() {
    let mut bob = Bob::new(16, 1 << 20);
    let full = Arc::new(AtomicBool::new(true));
    let disk = Disk::new(Arc::clone(&full), 1);
    bob.incoming = Incoming::new(Box::new(disk), (1_000, 1_200_000));
    bob.incoming.tick(0, EPOCH);
    let mut alice = bob.session();
    bob.start(&alice);
    let manifest = manifest(1, 2_000 * CHUNK_BYTES as u64);
    let mut state = |bob: &mut Bob, index: u32| {
        let surb = Field::Surb(Box::new(bob.surb()));
        let fields = [Field::Manifest(manifest.clone()), surb];
        bob.take(&packet(&mut alice, &fields));
        bob.take(&packet(&mut alice, &[chunk(&manifest, index)]));
        match Answer::decode(&bob.reply().unwrap().plaintext) {
            Some(Answer::Ack(ack)) => (ack.state, ack.base),
            _ => panic!("no acknowledgement"),
        }
    };
    let told = |bob: &mut Bob| {
        let events = std::mem::take(&mut bob.incoming.events);
        let storage = |event: &&Received| matches!(event, Received::Storage(_));
        events.iter().filter(storage).count()
    };
    for index in 0..1_000 {
        state(&mut bob, index);
    }
    assert_eq!(told(&mut bob), 1);
    bob.now_ns += 100 * PAUSE_NS;
    // Tried again, and failed again: no news.
    state(&mut bob, 0);
    assert_eq!(told(&mut bob), 0);
    full.store(false, Ordering::Relaxed);
    bob.now_ns += 100 * PAUSE_NS;
    assert_eq!(state(&mut bob, 0), (TransferState::Partial, 1));
    assert_eq!(told(&mut bob), 1);
}
