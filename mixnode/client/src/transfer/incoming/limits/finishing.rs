//! Files whose chunks are all here, and which take a while to be delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::Disk;
use super::*;

/// Recipient with a disk that takes so many steps to deliver a file, and what makes it full.
fn bob(seed: u64, steps: u32) -> (Bob, Arc<AtomicBool>) {
    let mut bob = Bob::new(seed, 0);
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disk::new(Arc::clone(&full), steps);
    bob.incoming = Incoming::new(Box::new(disk), (1_000, 1_200_000));
    bob.incoming.tick(0, EPOCH);
    (bob, full)
}

/// One chunk, and the hash of what [`chunk`] makes.
fn whole(number: u32) -> Manifest {
    Manifest {
        hash: *blake3::hash(&[1; CHUNK_BYTES]).as_bytes(),
        ..manifest(number, CHUNK_BYTES as u64)
    }
}

fn is_done(bob: &Bob, manifest: &Manifest) -> bool {
    let done = |event: &Received| matches!(event, Received::Done { manifest: done, .. } if done == manifest);
    bob.incoming.events.iter().any(done)
}

/// A second passes.
fn tick(bob: &mut Bob) {
    bob.now_ns += PAUSE_NS;
    bob.incoming.tick(bob.now_ns, EPOCH);
}

#[test]
fn attack_new_manifests_do_not_keep_a_file_that_is_all_here_from_its_place() {
    let (mut bob, _) = bob(20, 100);
    let (mut alice, mut mallory) = (bob.session(), bob.session());
    bob.start(&alice);
    bob.start(&mallory);
    let file = whole(0);
    bob.take(&packet(&mut alice, &[Field::Manifest(file.clone())]));
    bob.take(&packet(&mut alice, &[chunk(&file, 0)]));
    bob.now_ns += 10 * PAUSE_NS;
    let mut seconds = 0;
    while !is_done(&bob, &file) && seconds < 300 {
        // Its sender asks what became of it, as senders do.
        bob.take(&packet(&mut alice, &[Field::Manifest(file.clone())]));
        for number in 0..32 {
            let other = manifest(1 + 32 * seconds + number, 1 << 20);
            bob.take(&packet(&mut mallory, &[Field::Manifest(other)]));
        }
        tick(&mut bob);
        seconds += 1;
        assert!(bob.open_files() <= FILES_OPEN_MAX);
    }
    assert_eq!((seconds, is_done(&bob, &file)), (100, true));
}

#[test]
fn with_every_place_taken_by_files_that_are_all_here_a_new_one_waits() {
    let (mut bob, full) = bob(21, 5);
    let mut session = bob.session();
    bob.start(&session);
    let all: Vec<Manifest> = (0..FILES_OPEN_MAX as u32).map(whole).collect();
    for file in &all {
        bob.take(&packet(&mut session, &[Field::Manifest(file.clone())]));
        bob.take(&packet(&mut session, &[chunk(file, 0)]));
    }
    let late = whole(FILES_OPEN_MAX as u32);
    let manifest = [Field::Manifest(late.clone())];
    let is_open = |bob: &Bob| bob.incoming.files.contains_key(&late.transfer);
    tick(&mut bob);
    bob.take(&packet(&mut session, &manifest));
    assert_eq!((bob.open_files(), is_open(&bob)), (FILES_OPEN_MAX, false));
    // One that the disk refuses begins anew anyway: it keeps nobody out.
    full.store(true, Ordering::Relaxed);
    tick(&mut bob);
    full.store(false, Ordering::Relaxed);
    bob.take(&packet(&mut session, &manifest));
    assert_eq!((bob.open_files(), is_open(&bob)), (FILES_OPEN_MAX, true));
    assert!(!bob.incoming.files.contains_key(&all[0].transfer));
    for _ in 0..10 {
        tick(&mut bob);
    }
    assert!(all[1..].iter().all(|file| is_done(&bob, file)));
}

#[test]
fn a_last_step_that_fails_again_and_again_is_told_once_however_well_those_before_it_go() {
    let mut bob = Bob::new(22, 0);
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disk::full_at_last(Arc::clone(&full), 3);
    bob.incoming = Incoming::new(Box::new(disk), (1_000, 1_200_000));
    bob.incoming.tick(0, EPOCH);
    let mut session = bob.session();
    bob.start(&session);
    let file = whole(0);
    bob.take(&packet(&mut session, &[Field::Manifest(file.clone())]));
    bob.take(&packet(&mut session, &[chunk(&file, 0)]));
    let told = |bob: &Bob| {
        let storage = |event: &&Received| matches!(event, Received::Storage(_));
        bob.incoming.events.iter().filter(storage).count()
    };
    full.store(true, Ordering::Relaxed);
    for _ in 0..600 {
        tick(&mut bob);
    }
    assert_eq!((told(&bob), is_done(&bob, &file)), (1, false));
    full.store(false, Ordering::Relaxed);
    for _ in 0..100 {
        tick(&mut bob);
    }
    assert_eq!((told(&bob), is_done(&bob, &file)), (2, true));
}
