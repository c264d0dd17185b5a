//! Received files on disk: resumable, delivered whole and once, never over another file.
//!
//! A transfer has a record in the client's home (manifest, place, state) and a hidden part file in the output folder.
//! The record's log lists the chunks that are in the part file; it is appended before they are acknowledged, so a
//! killed process finds everything that it acknowledged. A power failure may lose what the kernel had not written:
//! the hash at the end finds that, and the transfer starts over.
//!
//! Delivery: hash → sync → the chosen name goes into the record → the name is claimed with an empty file that must
//! not exist yet → the part file is renamed over it → the record says "done". A process killed between two steps
//! repeats the rest and no step twice.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::names;
use super::storage::{Finish, Standing, Storage};
use crate::transfer::{CHUNK_BYTES, Manifest, TransferId};

/// Bytes hashed in one step: well under a millisecond.
const HASH_STEP_BYTES: usize = 1 << 20;

/// A transfer's record, one JSON file.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    size: u64,
    hash: [u8; 32],
    name: String,
    #[serde(with = "super::paths")]
    out: PathBuf,
    generation: u32,
    /// The place it is being, or was, delivered to.
    #[serde(with = "super::paths::optional", default)]
    place: Option<PathBuf>,
    done: bool,
}

struct Open {
    record: Record,
    part: File,
    log: File,
    unlogged: Vec<u8>,
    hashing: Option<(u64, Box<blake3::Hasher>)>,
}

/// Keeps received files.
pub struct DiskStorage {
    records: PathBuf,
    out: PathBuf,
    file_bytes_max: u64,
    open: BTreeMap<TransferId, Open>,
}

impl DiskStorage {
    /// Records in `records`, files in `out`; both are created. Files above `file_bytes_max` are refused.
    ///
    /// # Errors
    /// A folder can't be created.
    pub fn new(records: &Path, out: &Path, file_bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(records)?;
        fs::create_dir_all(out)?;
        Ok(Self {
            records: records.to_owned(),
            out: out.canonicalize()?,
            file_bytes_max,
            open: BTreeMap::new(),
        })
    }

    fn record_path(&self, transfer: &TransferId) -> PathBuf {
        self.records.join(format!("{}.json", hex(transfer)))
    }

    fn log_path(&self, transfer: &TransferId) -> PathBuf {
        self.records.join(format!("{}.log", hex(transfer)))
    }

    fn save(&self, transfer: &TransferId, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        write_atomic(&self.record_path(transfer), &text, 0o600)
    }

    fn start_over(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        let mut open = self.open.remove(transfer).ok_or(io::ErrorKind::NotFound)?;
        open.hashing = None;
        open.unlogged.clear();
        open.log.set_len(0)?;
        open.record.generation += 1;
        self.save(transfer, &open.record)?;
        let generation = open.record.generation;
        self.open.insert(*transfer, open);
        Ok(Finish::Mismatch(generation))
    }

    fn deliver(&mut self, transfer: &TransferId) -> io::Result<PathBuf> {
        let open = self.open.get(transfer).ok_or(io::ErrorKind::NotFound)?;
        let mut record = open.record.clone();
        open.part.sync_all()?;
        let part = part_path(&record.out, transfer);
        let place = claim(&mut record, |record| self.save(transfer, record))?;
        fs::rename(&part, &place)?;
        sync_folder(&record.out)?;
        record.done = true;
        self.save(transfer, &record)?;
        let _ = fs::remove_file(self.log_path(transfer));
        self.open.remove(transfer);
        Ok(place)
    }
}

/// Takes a name that nobody has: the first free of `name`, `name (1)`, … The record names it before it exists.
fn claim(record: &mut Record, save: impl Fn(&Record) -> io::Result<()>) -> io::Result<PathBuf> {
    // A claim of a process that was killed: still empty, so it is ours.
    if let Some(place) = &record.place
        && fs::metadata(place).is_ok_and(|found| found.len() == 0)
    {
        return Ok(place.clone());
    }
    for attempt in 0..10_000u32 {
        let place = names::place(&record.out, &names::suffixed(&record.name, attempt))?;
        if fs::symlink_metadata(&place).is_ok() {
            continue;
        }
        record.place = Some(place.clone());
        save(record)?;
        match OpenOptions::new().write(true).create_new(true).open(&place) {
            Ok(_) => return Ok(place),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

impl Storage for DiskStorage {
    fn open(&mut self, manifest: &Manifest) -> io::Result<Standing> {
        let transfer = &manifest.transfer;
        let saved = match fs::read(self.record_path(transfer)) {
            Ok(text) => Some(serde_json::from_slice::<Record>(&text).map_err(io::Error::other)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if manifest.size > self.file_bytes_max {
            return Ok(Standing::Refused);
        }
        let mut record = saved.unwrap_or_else(|| Record {
            size: manifest.size,
            hash: manifest.hash,
            name: names::sanitise(&manifest.name),
            out: self.out.clone(),
            generation: 0,
            place: None,
            done: false,
        });
        if record.done {
            return Ok(Standing::Complete);
        }
        if record.size != manifest.size || record.hash != manifest.hash {
            return Ok(Standing::Refused);
        }
        let part_path = part_path(&record.out, transfer);
        if record.place.is_some() && !part_path.exists() {
            // Killed between renaming and writing so.
            record.done = true;
            self.save(transfer, &record)?;
            return Ok(Standing::Complete);
        }
        self.save(transfer, &record)?;
        let options = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.mode(0o600).open(path)
        };
        let (part, mut log) = (options(&part_path)?, options(&self.log_path(transfer))?);
        let mut logged = Vec::new();
        // A part file that somebody removed takes its log with it.
        if part.metadata()?.len() == 0 {
            log.set_len(0)?;
        }
        part.set_len(record.size)?;
        log.read_to_end(&mut logged)?;
        // A torn last entry of a killed process is cut off.
        log.set_len((logged.len() / 4 * 4) as u64)?;
        io::Seek::seek(&mut log, io::SeekFrom::End(0))?;
        let entries = logged
            .chunks_exact(4)
            .filter_map(|entry| entry.first_chunk());
        let present = entries.map(|entry| u32::from_le_bytes(*entry)).collect();
        let generation = record.generation;
        let open = Open {
            record,
            part,
            log,
            unlogged: Vec::new(),
            hashing: None,
        };
        self.open.insert(*transfer, open);
        Ok(Standing::Partial {
            generation,
            present,
        })
    }

    fn write(&mut self, transfer: &TransferId, index: u32, data: &[u8]) -> io::Result<()> {
        let open = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
        open.part
            .write_all_at(data, u64::from(index) * CHUNK_BYTES as u64)?;
        open.unlogged.extend_from_slice(&index.to_le_bytes());
        Ok(())
    }

    fn flush(&mut self, transfer: &TransferId) -> io::Result<()> {
        let open = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
        open.log.write_all(&open.unlogged)?;
        open.unlogged.clear();
        Ok(())
    }

    fn finish(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        self.flush(transfer)?;
        let open = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
        let size = open.record.size;
        let (at, hasher) = open
            .hashing
            .get_or_insert_with(|| (0, Box::new(blake3::Hasher::new())));
        let step = (size - *at).min(HASH_STEP_BYTES as u64) as usize;
        let mut buffer = vec![0; step];
        open.part.read_exact_at(&mut buffer, *at)?;
        hasher.update(&buffer);
        *at += step as u64;
        if *at < size {
            return Ok(Finish::Pending);
        }
        if *hasher.finalize().as_bytes() != open.record.hash {
            return self.start_over(transfer);
        }
        let place = self.deliver(transfer)?;
        Ok(Finish::Done(place.display().to_string()))
    }

    fn close(&mut self, transfer: &TransferId) {
        // What could not be logged was not acknowledged either.
        let _ = self.flush(transfer);
        self.open.remove(transfer);
    }
}

fn part_path(out: &Path, transfer: &TransferId) -> PathBuf {
    out.join(format!(".fog-{}.part", hex(transfer)))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    directory::store::hex(bytes)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a file whole or not at all: a temporary file beside it, synced, renamed, the folder synced.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    // A leftover of a killed process may have a mode that forbids writing.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, bytes: &[u8]) -> Manifest {
        Manifest {
            transfer: *blake3::hash(name.as_bytes())
                .as_bytes()
                .first_chunk()
                .unwrap(),
            size: bytes.len() as u64,
            hash: *blake3::hash(bytes).as_bytes(),
            name: name.to_owned(),
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

    fn storage(home: &Path) -> DiskStorage {
        DiskStorage::new(&home.join("records"), &home.join("out"), 1 << 30).unwrap()
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
        assert!(place.ends_with("a (2).txt"), "{place}");
        assert_eq!(fs::read(home.path().join("out/a.txt")).unwrap(), b"mine");
        assert_eq!(fs::read(place).unwrap(), b"theirs");
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
        for step in 0..3 {
            let home = tempfile::tempdir().unwrap();
            let manifest = manifest("c.bin", b"content");
            let mut first = storage(home.path());
            first.open(&manifest).unwrap();
            write_all(&mut first, &manifest, b"content");
            first.flush(&manifest.transfer).unwrap();
            // The steps of `deliver`, cut short.
            let mut record = first.open.get(&manifest.transfer).unwrap().record.clone();
            if step == 0 {
                record.place = Some(record.out.join("c.bin"));
                first.save(&manifest.transfer, &record).unwrap();
            } else {
                let place = claim(&mut record, |record| first.save(&manifest.transfer, record));
                if step == 2 {
                    let part = part_path(&record.out, &manifest.transfer);
                    fs::rename(part, place.unwrap()).unwrap();
                }
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
        let mut storage =
            DiskStorage::new(&home.path().join("r"), &home.path().join("o"), 3).unwrap();
        assert_eq!(
            storage.open(&manifest("e", b"four")).unwrap(),
            Standing::Refused
        );
    }
}
