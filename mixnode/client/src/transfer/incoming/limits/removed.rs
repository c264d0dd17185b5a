//! A download folder that somebody removes.

use std::fs;

use super::*;
use crate::store::DiskStorage;

#[test]
fn a_removed_folder_is_told_with_the_next_chunk_and_the_file_begins_anew_when_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (records, out) = (home.path().join("records"), home.path().join("out"));
    let mut bob = Bob::new(23, 0);
    let disk = DiskStorage::new(&records, &out, 1 << 30).unwrap();
    bob.incoming = Incoming::new(Box::new(disk), (1_000, 1_200_000));
    bob.incoming.tick(0, EPOCH);
    let mut alice = bob.session();
    bob.start(&alice);
    let manifest = manifest(1, 2_000 * CHUNK_BYTES as u64);
    bob.take(&packet(&mut alice, &[Field::Manifest(manifest.clone())]));
    let mut take = |bob: &mut Bob, index: u32| {
        bob.now_ns += 100 * PAUSE_NS;
        bob.take(&packet(&mut alice, &[chunk(&manifest, index)]));
        let here = bob.incoming.open_files().map(|(_, chunks)| chunks);
        let here = here.collect::<Vec<_>>();
        let events = std::mem::take(&mut bob.incoming.events);
        let told = events.into_iter().filter_map(|event| match event {
            Received::Storage(text) => Some(text),
            _ => None,
        });
        (here, told.collect::<Vec<_>>())
    };
    assert_eq!(take(&mut bob, 0), (vec![1], vec![]));
    assert_eq!(take(&mut bob, 1), (vec![2], vec![]));
    fs::remove_dir_all(&out).unwrap();
    let (_, told) = take(&mut bob, 2);
    assert_eq!(told.len(), 1);
    let folder = out.to_str().unwrap();
    assert!(told[0].contains(folder) && told[0].contains("its sender waits"));
    assert_eq!(take(&mut bob, 3).1, [""; 0], "once");
    fs::create_dir(&out).unwrap();
    let (here, told) = take(&mut bob, 4);
    assert_eq!(here, [1]);
    assert!(told[0].ends_with("what was here of it was removed: its sender begins anew"));
    assert!(told[1].ends_with("it can be stored again, going on"));
    assert_eq!(take(&mut bob, 5), (vec![2], vec![]));
}
