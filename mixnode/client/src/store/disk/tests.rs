//! Delivery, kills, hostile names, and disks that fail.

use std::ffi::OsStr;

use super::claims::free_number;
use super::pruning::{KEPT, UNFINISHED_MAX};
use super::*;

fn manifest(name: &str, bytes: &[u8]) -> Manifest {
    Manifest {
        transfer: *blake3::hash(name.as_bytes())
            .as_bytes()
            .first_chunk()
            .unwrap(),
        size: bytes.len() as u64,
        hash: *blake3::hash(bytes).as_bytes(),
        name: name.into(),
    }
}

fn write_all(storage: &mut DiskStorage, manifest: &Manifest, bytes: &[u8]) {
    for (index, chunk) in (0..).zip(bytes.chunks(CHUNK_BYTES)) {
        storage.write(&manifest.transfer, index, chunk).unwrap();
    }
}

fn finish(storage: &mut DiskStorage, manifest: &Manifest) -> Finish {
    loop {
        match storage.finish(&manifest.transfer).unwrap() {
            Finish::Pending => {}
            finished => return finished,
        }
    }
}

/// What the steps towards delivery come to, which is nothing good.
fn failure(storage: &mut DiskStorage, manifest: &Manifest) -> String {
    loop {
        match storage.finish(&manifest.transfer) {
            Ok(Finish::Pending) => {}
            finished => return finished.unwrap_err().to_string(),
        }
    }
}

fn storage(home: &Path) -> DiskStorage {
    DiskStorage::new(&home.join("records"), &home.join("out"), 1 << 30).unwrap()
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let mut storage = storage(home.path());
    fs::write(home.path().join("out/a.txt"), "mine").unwrap();
    std::os::unix::fs::symlink("/nowhere", home.path().join("out/a (1).txt")).unwrap();
    let manifest = manifest("a.txt", b"theirs");
    storage.open(&manifest).unwrap();
    write_all(&mut storage, &manifest, b"theirs");
    let Finish::Done(place) = finish(&mut storage, &manifest) else {
        panic!("not delivered");
    };
    assert!(place.ends_with("a (2).txt"), "{place:?}");
    assert_eq!(fs::read(home.path().join("out/a.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(place).unwrap(), b"theirs");
}

#[test]
fn ten_thousand_files_of_one_name_cost_a_few_looks_and_not_ten_thousand() {
    for equal in [0, 1, 2, 3, 9, 10_000, 1 << 20] {
        let mut looks = 0;
        let free = free_number(|number| {
            looks += 1;
            number < equal
        });
        assert_eq!(free, Some(equal));
        assert!(looks <= 44, "{looks} looks among {equal}");
    }
    assert_eq!(free_number(|_| true), None);
}

#[test]
fn a_killed_receiver_has_what_it_flushed_and_delivers_once() {
    let home = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..CHUNK_BYTES * 5 + 7).map(|i| i as u8).collect();
    let manifest = manifest("b.bin", &bytes);
    let mut first = storage(home.path());
    first.open(&manifest).unwrap();
    let chunks: Vec<&[u8]> = bytes.chunks(CHUNK_BYTES).collect();
    for index in [4, 1, 2] {
        first
            .write(&manifest.transfer, index, chunks[index as usize])
            .unwrap();
    }
    first.flush(&manifest.transfer).unwrap();
    first.write(&manifest.transfer, 0, chunks[0]).unwrap();
    drop(first);
    let mut second = storage(home.path());
    let Standing::Partial { present, .. } = second.open(&manifest).unwrap() else {
        panic!("not partial");
    };
    assert_eq!(present, [4, 1, 2]);
    write_all(&mut second, &manifest, &bytes);
    assert!(matches!(finish(&mut second, &manifest), Finish::Done(_)));
    drop(second);
    let mut third = storage(home.path());
    assert_eq!(third.open(&manifest).unwrap(), Standing::Complete);
    let files = fs::read_dir(home.path().join("out")).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn a_receiver_killed_at_any_step_of_delivery_delivers_once() {
    for step in 0..4 {
        let home = tempfile::tempdir().unwrap();
        let manifest = manifest("c.bin", b"content");
        let mut first = storage(home.path());
        first.open(&manifest).unwrap();
        write_all(&mut first, &manifest, b"content");
        first.flush(&manifest.transfer).unwrap();
        // The steps of `deliver`, cut short.
        let mut record = first.open.get(&manifest.transfer).unwrap().record.clone();
        let place = record.out.join("c.bin");
        let part = part_path(&record.out, &manifest.transfer);
        if step > 0 {
            record.place = Some(place.clone());
            first.save(&manifest.transfer, &record).unwrap();
        }
        match step {
            2 => fs::hard_link(part, place).unwrap(),
            3 => fs::rename(part, place).unwrap(),
            _ => {}
        }
        drop(first);
        let mut second = storage(home.path());
        if let Standing::Partial { present, .. } = second.open(&manifest).unwrap() {
            assert_eq!(present, [0]);
            assert!(matches!(finish(&mut second, &manifest), Finish::Done(_)));
        }
        let names: Vec<_> = fs::read_dir(home.path().join("out"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["c.bin"], "step {step}");
    }
}

#[test]
fn an_empty_file_of_the_user_is_not_taken_for_the_claim_of_a_killed_process() {
    let home = tempfile::tempdir().unwrap();
    let manifest = manifest("c.bin", b"content");
    let mut first = storage(home.path());
    first.open(&manifest).unwrap();
    write_all(&mut first, &manifest, b"content");
    first.flush(&manifest.transfer).unwrap();
    // Killed when it had chosen the name and not taken it; then the user makes a file of that name.
    let mut record = first.open.get(&manifest.transfer).unwrap().record.clone();
    let place = record.out.join("c.bin");
    record.place = Some(place.clone());
    first.save(&manifest.transfer, &record).unwrap();
    drop(first);
    fs::write(&place, "").unwrap();
    let mut second = storage(home.path());
    second.open(&manifest).unwrap();
    let delivered = finish(&mut second, &manifest);
    println!(
        "delivered as {delivered:?}; the user's file: {:?}",
        fs::read(&place)
    );
    assert_eq!(
        fs::read(&place).unwrap(),
        b"",
        "the user's file is replaced"
    );
    assert!(matches!(delivered, Finish::Done(place) if place.ends_with("c (1).bin")));
}

#[test]
fn a_file_with_the_wrong_hash_is_not_delivered_and_starts_over() {
    let home = tempfile::tempdir().unwrap();
    let manifest = manifest("d.bin", b"right");
    let mut storage = storage(home.path());
    storage.open(&manifest).unwrap();
    write_all(&mut storage, &manifest, b"wrong");
    assert_eq!(finish(&mut storage, &manifest), Finish::Mismatch(1));
    write_all(&mut storage, &manifest, b"right");
    assert!(matches!(finish(&mut storage, &manifest), Finish::Done(_)));
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut storage = DiskStorage::new(&home.path().join("r"), &home.path().join("o"), 3).unwrap();
    assert_eq!(
        storage.open(&manifest("e", b"four")).unwrap(),
        Standing::Refused
    );
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_manifest_alone_leaves_nothing_on_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let mut storage = storage(home.path());
    for number in 0..100 {
        let manifest = manifest(&format!("{number}"), b"content");
        storage.open(&manifest).unwrap();
        storage.flush(&manifest.transfer).unwrap();
        storage.close(&manifest.transfer);
    }
    assert_eq!(names_in(&home.path().join("records")), ["used"]);
    assert!(names_in(&home.path().join("out")).is_empty());
}

#[test]
fn a_part_file_that_somebody_removes_starts_the_transfer_over_and_leaves_no_empty_files() {
    let home = tempfile::tempdir().unwrap();
    let (mut storage, manifest) = (storage(home.path()), manifest("f", b"content"));
    storage.open(&manifest).unwrap();
    for generation in 1..4 {
        write_all(&mut storage, &manifest, b"content");
        fs::remove_file(part_path(&home.path().join("out"), &manifest.transfer)).unwrap();
        let finished = finish(&mut storage, &manifest);
        assert_eq!(finished, Finish::Mismatch(generation));
        assert!(names_in(&home.path().join("out")).is_empty());
    }
    write_all(&mut storage, &manifest, b"content");
    assert!(matches!(finish(&mut storage, &manifest), Finish::Done(_)));
    assert_eq!(names_in(&home.path().join("out")), ["f"]);
}

#[test]
fn a_part_file_or_a_folder_that_is_removed_is_noticed_before_the_next_chunk() {
    let home = tempfile::tempdir().unwrap();
    let (out, away) = (home.path().join("out"), home.path().join("away"));
    let mut storage = storage(home.path());
    let bytes = vec![7; 2 * CHUNK_BYTES];
    let manifest = manifest("a.txt", &bytes);
    let transfer = &manifest.transfer;
    storage.open(&manifest).unwrap();
    assert_eq!(storage.lost(transfer).unwrap(), None, "nothing is here yet");
    let first = |storage: &mut DiskStorage| {
        let chunk = &bytes[..CHUNK_BYTES];
        storage.write(transfer, 0, chunk).unwrap();
        assert_eq!(storage.lost(transfer).unwrap(), None);
    };
    first(&mut storage);
    fs::remove_file(part_path(&out, transfer)).unwrap();
    assert_eq!(storage.lost(transfer).unwrap(), Some(1));
    first(&mut storage);
    fs::remove_dir_all(&out).unwrap();
    let told = storage.lost(transfer).unwrap_err().to_string();
    let named = format!(
        "\"a.txt\" can't be stored in {}: No such file",
        out.display()
    );
    assert!(told.starts_with(&named), "{told}");
    fs::create_dir(&out).unwrap();
    assert_eq!(storage.lost(transfer).unwrap(), Some(2));
    first(&mut storage);
    // One that is moved away and comes back has everything in it.
    fs::rename(&out, &away).unwrap();
    assert!(storage.lost(transfer).is_err());
    fs::rename(&away, &out).unwrap();
    assert_eq!(storage.lost(transfer).unwrap(), None);
    write_all(&mut storage, &manifest, &bytes);
    assert!(matches!(finish(&mut storage, &manifest), Finish::Done(_)));
}

#[test]
fn a_folder_that_is_gone_at_the_last_step_is_told_by_name_and_delivers_once_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (mut storage, manifest) = (storage(home.path()), manifest("g.txt", b"content"));
    storage.open(&manifest).unwrap();
    write_all(&mut storage, &manifest, b"content");
    let (out, away) = (home.path().join("out"), home.path().join("away"));
    fs::rename(&out, &away).unwrap();
    for _ in 0..48 {
        let error = failure(&mut storage, &manifest);
        assert!(error.contains("g.txt") && error.contains("/out"), "{error}");
    }
    assert!(!out.exists());
    fs::rename(&away, &out).unwrap();
    assert!(matches!(finish(&mut storage, &manifest), Finish::Done(_)));
    assert_eq!(names_in(&out), ["g.txt"]);
}

#[test]
fn a_file_for_which_there_is_no_room_is_told_by_name_before_anything_is_made() {
    let home = tempfile::tempdir().unwrap();
    let mut storage = DiskStorage::new(&home.path().join("r"), &home.path().join("o"), u64::MAX);
    let storage = storage.as_mut().unwrap();
    let mut manifest = manifest("huge.bin", b"");
    manifest.size = 1 << 55;
    storage.open(&manifest).unwrap();
    let error = storage.write(&manifest.transfer, 0, &[0; CHUNK_BYTES]);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let text = error.to_string();
    assert!(text.contains("huge.bin") && text.contains("/o:"), "{text}");
    let needed = "No space left on device for its 36028797018963968 bytes";
    assert!(text.contains(needed), "{text}");
    assert!(names_in(&home.path().join("o")).is_empty());
}

#[test]
fn a_folder_that_can_not_be_written_to_is_refused_at_the_start() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let out = home.path().join("file");
    assert!(DiskStorage::new(&home.path().join("r"), &out, 1).is_err());
    assert!(DiskStorage::new(&home.path().join("r"), Path::new("/proc/self"), 1).is_err());
}

#[test]
fn a_new_folder_holds_for_unfinished_transfers_too() {
    for is_there in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let manifest = manifest("h.bin", &[7; CHUNK_BYTES + 9]);
        let mut first = storage(home.path());
        first.open(&manifest).unwrap();
        first
            .write(&manifest.transfer, 0, &[7; CHUNK_BYTES])
            .unwrap();
        first.flush(&manifest.transfer).unwrap();
        drop(first);
        if !is_there {
            fs::remove_dir_all(home.path().join("out")).unwrap();
        }
        let new = home.path().join("new");
        let mut second = DiskStorage::new(&home.path().join("records"), &new, 1 << 30).unwrap();
        let Standing::Partial { present, .. } = second.open(&manifest).unwrap() else {
            panic!("not partial");
        };
        assert_eq!(present.len(), usize::from(is_there));
        write_all(&mut second, &manifest, &[7; CHUNK_BYTES + 9]);
        assert!(matches!(finish(&mut second, &manifest), Finish::Done(_)));
        assert_eq!(names_in(&new), ["h.bin"]);
        if is_there {
            assert!(names_in(&home.path().join("out")).is_empty());
        }
    }
}

#[test]
fn what_is_finished_or_silent_for_thirty_days_is_forgotten() {
    let home = tempfile::tempdir().unwrap();
    let mut first = storage(home.path());
    let (done, partial) = (manifest("done", b"1"), manifest("partial", b"1"));
    for manifest in [&done, &partial] {
        first.open(manifest).unwrap();
        write_all(&mut first, manifest, b"1");
        first.flush(&manifest.transfer).unwrap();
    }
    assert!(matches!(finish(&mut first, &done), Finish::Done(_)));
    drop(first);
    let mut second = storage(home.path());
    assert_eq!(names_in(&home.path().join("records")).len(), 4);
    second.prune(SystemTime::now() + KEPT + Duration::from_secs(60));
    assert_eq!(names_in(&home.path().join("records")), ["used"]);
    assert_eq!(names_in(&home.path().join("out")), ["done"]);
}

#[test]
fn of_too_many_unfinished_transfers_those_with_the_fewest_chunks_go() {
    let home = tempfile::tempdir().unwrap();
    let mut storage = storage(home.path());
    let honest = manifest("honest", &[1; 3 * CHUNK_BYTES]);
    storage.open(&honest).unwrap();
    for index in 0..2 {
        storage
            .write(&honest.transfer, index, &[1; CHUNK_BYTES])
            .unwrap();
    }
    storage.close(&honest.transfer);
    for number in 0..UNFINISHED_MAX + 50 {
        let stranger = manifest(&format!("{number}"), &[1; 2 * CHUNK_BYTES]);
        storage.open(&stranger).unwrap();
        storage
            .write(&stranger.transfer, 0, &[1; CHUNK_BYTES])
            .unwrap();
        storage.close(&stranger.transfer);
        assert!(storage.unfinished.len() <= UNFINISHED_MAX);
    }
    let parts = names_in(&home.path().join("out")).len();
    assert_eq!(parts, UNFINISHED_MAX);
    let standing = storage.open(&honest).unwrap();
    assert!(matches!(standing, Standing::Partial { present, .. } if present == [0, 1]));
}

#[test]
fn a_log_that_was_written_in_part_is_written_whole_the_next_time() {
    let home = tempfile::tempdir().unwrap();
    let (mut storage, manifest) = (storage(home.path()), manifest("i", &[1; 4 * CHUNK_BYTES]));
    storage.open(&manifest).unwrap();
    storage
        .write(&manifest.transfer, 2, &[1; CHUNK_BYTES])
        .unwrap();
    // As a full disk leaves it: some of the entry is there, and the write has failed.
    let log = home
        .path()
        .join("records")
        .join(format!("{}.log", hex(&manifest.transfer)));
    fs::write(&log, [9, 9]).unwrap();
    storage.flush(&manifest.transfer).unwrap();
    drop(storage);
    let mut again = super::DiskStorage::new(
        &home.path().join("records"),
        &home.path().join("out"),
        1 << 30,
    )
    .unwrap();
    let standing = again.open(&manifest).unwrap();
    assert!(matches!(standing, Standing::Partial { present, .. } if present == [2]));
}

#[test]
fn a_folder_whose_name_is_no_text_takes_files_and_goes_on_after_a_kill() {
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    let open = || DiskStorage::new(&home.path().join("records"), &out, 1 << 30).unwrap();
    let manifest = manifest("a.txt", b"theirs");
    let mut first = open();
    first.open(&manifest).unwrap();
    write_all(&mut first, &manifest, b"theirs");
    first.flush(&manifest.transfer).unwrap();
    drop(first);
    let mut second = open();
    let Standing::Partial { present, .. } = second.open(&manifest).unwrap() else {
        panic!("not partial");
    };
    assert_eq!(present, [0]);
    assert!(matches!(finish(&mut second, &manifest), Finish::Done(_)));
    assert_eq!(fs::read(out.join("a.txt")).unwrap(), b"theirs");
}

#[test]
fn a_file_whose_name_is_no_text_is_stored_under_its_very_bytes_and_survives_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let mut manifest = manifest("", b"theirs");
    manifest.name = b"caf\xe9.txt".to_vec();
    let named = |name: &'static [u8]| home.path().join("out").join(OsStr::from_bytes(name));
    let mut first = storage(home.path());
    fs::write(named(b"caf\xe9.txt"), "mine").unwrap();
    first.open(&manifest).unwrap();
    write_all(&mut first, &manifest, b"theirs");
    first.flush(&manifest.transfer).unwrap();
    drop(first);
    let mut second = storage(home.path());
    second.open(&manifest).unwrap();
    let error = second.named(&manifest.transfer, &io::ErrorKind::StorageFull.into());
    assert!(
        error.to_string().starts_with("\"caf\\xe9.txt\" can't"),
        "{error}"
    );
    let place = named(b"caf\xe9 (1).txt");
    assert_eq!(finish(&mut second, &manifest), Finish::Done(place.clone()));
    assert_eq!(fs::read(place).unwrap(), b"theirs");
}

#[test]
fn what_a_sender_gives_up_leaves_nothing_and_what_was_delivered_stays() {
    let home = tempfile::tempdir().unwrap();
    let (mut storage, one, other) = (
        storage(home.path()),
        manifest("h.txt", b"content"),
        manifest("i.txt", b"another"),
    );
    for manifest in [&one, &other] {
        storage.open(manifest).unwrap();
    }
    write_all(&mut storage, &one, b"content");
    storage.flush(&one.transfer).unwrap();
    write_all(&mut storage, &other, b"another");
    assert!(matches!(finish(&mut storage, &other), Finish::Done(_)));
    assert_eq!(names_in(&home.path().join("out")).len(), 2);
    for manifest in [&one, &other, &manifest("j", b"nobody's")] {
        storage.discard(&manifest.transfer);
    }
    assert_eq!(names_in(&home.path().join("out")), ["i.txt"]);
    assert_eq!(storage.open(&other).unwrap(), Standing::Complete);
    assert_eq!(names_in(&home.path().join("records")).len(), 2, "and marks");
}
