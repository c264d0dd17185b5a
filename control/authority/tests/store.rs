//! The store folder, with an authority's documents in it.

mod network;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use directory::store::{Store, hex};
use directory::{Previous, Role, SignedDescriptor};
use network::{document, node};

fn signed(number: u16) -> SignedDescriptor {
    node(number, Role::Mix).signed(0, &Previous::default())
}

#[test]
fn documents_long_over_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    let (document, _) = document(None, 0, &[]);
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
    assert!(store.newest_first().unwrap().next().is_none());
    let descriptor = signed(1);
    store.publish_descriptor(&descriptor).unwrap();
    let descriptors = folder.path().join("descriptors");
    let name = hex(&descriptor.identity);
    fs::write(descriptors.join("junk"), b"junk").unwrap();
    fs::write(descriptors.join("huge"), vec![0; 1 << 20]).unwrap();
    // A copy under another node's name would let one node stand for two.
    fs::copy(descriptors.join(&name), descriptors.join("0".repeat(64))).unwrap();
    assert_eq!(store.read_descriptors().unwrap(), [descriptor]);
}

#[test]
fn damaged_documents_hide_none_of_those_before_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    let (document, _) = document(None, 0, &[]);
    store.publish_consensus(3, &document).unwrap();
    let place = |epoch: u32| folder.path().join(format!("consensus/{epoch}"));
    // What a power cut leaves, and worse.
    fs::write(place(4), b"").unwrap();
    fs::write(place(5), &document.encode()[..100]).unwrap();
    pipe(&place(6));
    fs::create_dir(place(7)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place(8)).unwrap();
    let huge = fs::File::create(place(9)).unwrap();
    huge.set_len(1 << 40).unwrap();
    let found = at_once(move || {
        let found = store.newest_first().unwrap();
        found
            .map(|(epoch, read)| (epoch, read.ok()))
            .collect::<Vec<_>>()
    });
    let mut expected: Vec<_> = (4..=9).rev().map(|epoch| (epoch, None)).collect();
    expected.push((3, Some(document)));
    assert_eq!(found, expected);
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What `read` returns, which must not wait for anybody to write into a pipe.
fn at_once<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(read()));
    receiver
        .recv_timeout(Duration::from_secs(10))
        .expect("it hangs in an open")
}

#[test]
fn a_pipe_among_the_descriptors_does_not_hang_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    let descriptor = signed(1);
    store.publish_descriptor(&descriptor).unwrap();
    let descriptors = folder.path().join("descriptors");
    pipe(&descriptors.join("0".repeat(64)));
    std::os::unix::fs::symlink("/dev/zero", descriptors.join("1".repeat(64))).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(descriptors.join(hex(&descriptor.identity)), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, descriptors.join(hex(&descriptor.identity))).unwrap();
    let other = signed(2);
    store.publish_descriptor(&other).unwrap();
    let reader = store.clone();
    let found = at_once(move || reader.read_descriptors()).unwrap();
    assert_eq!(found, [other], "no link is followed either");
}

#[test]
fn a_pipe_in_place_of_a_document_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    pipe(&folder.path().join("consensus/5"));
    pipe(&folder.path().join("authorities"));
    let reader = store.clone();
    assert!(at_once(move || reader.read_consensus(5)).is_err());
    assert!(at_once(move || store.read_authorities()).is_err());
}
