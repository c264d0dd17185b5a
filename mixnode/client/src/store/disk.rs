//! Received files on disk: resumable, delivered whole and once, never over another file.
//!
//! A transfer has a record in the client's home (manifest, place, state) and a hidden part file in the output folder.
//! Both are made with its first chunk: a manifest alone, which anybody can send, leaves nothing. The record's log lists
//! the chunks that are in the part file; it is appended before they are acknowledged, so a killed process finds
//! everything that it acknowledged. A power failure may lose what the kernel had not written: the hash at the end finds
//! that, and the transfer starts over.
//!
//! Delivery: hash → sync, on a thread of its own → the chosen name goes into the record → the part file is renamed to it in a step that fails
//! where something has that name → the record says "done". A process killed between two steps repeats the rest and no
//! step twice; a step that fails takes back the ones before it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

mod claims;
mod part;
mod pruning;

use part::Files;
pub(super) use pruning::KEPT;

use super::storage::{Finish, Once, Standing, Storage};
use super::used::UsedFiles;
use super::{files, names};
use crate::transfer::{CHUNK_BYTES, Manifest, TransferId};

/// Bytes hashed in one step: well under a millisecond.
const HASH_STEP_BYTES: usize = 1 << 20;
/// Far more than any record is: two paths, a name and a hash.
const RECORD_BYTES_MAX: usize = 1 << 16;
const PRUNED_EVERY: Duration = Duration::from_secs(86_400);

/// A transfer's record, one JSON file.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    size: u64,
    hash: [u8; 32],
    #[serde(with = "super::paths")]
    name: PathBuf,
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
    /// None before the first chunk.
    files: Option<Files>,
    unlogged: Vec<u8>,
    hashing: Option<(u64, Box<blake3::Hasher>)>,
    /// Its bytes go to the disk, which takes as long as it takes: on a thread of its own.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

/// Keeps received files.
pub struct DiskStorage {
    records: PathBuf,
    out: PathBuf,
    file_bytes_max: u64,
    open: BTreeMap<TransferId, Open>,
    /// Unfinished transfers on the disk, and what their logs are long.
    unfinished: BTreeMap<TransferId, u64>,
    used: UsedFiles,
    blocks: UsedFiles,
    pruned: Option<SystemTime>,
}

impl DiskStorage {
    /// Records in `records`, files in `out`; both are created. Files above `file_bytes_max` are refused.
    ///
    /// # Errors
    /// A folder can't be created, or `out` can't be written to.
    pub fn new(records: &Path, out: &Path, file_bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(records)?;
        fs::create_dir_all(out).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::new(error.kind(), "this is no folder"),
            _ => error,
        })?;
        let out = out.canonicalize()?;
        // A folder that can't be written to is told at once and not with the first file.
        check_writable(&out).map_err(|error| {
            let text = format!("files can't be made in it: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let mut storage = Self {
            used: UsedFiles::new(&records.join("used"))?,
            blocks: UsedFiles::new(&records.join("used/blocks"))?,
            records: records.to_owned(),
            out,
            file_bytes_max,
            open: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            pruned: None,
        };
        storage.prune(SystemTime::now());
        Ok(storage)
    }

    /// Where files go.
    pub(crate) fn out(&self) -> &Path {
        &self.out
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

    fn saved(&self, transfer: &TransferId) -> io::Result<Option<Record>> {
        match files::read(&self.record_path(transfer), RECORD_BYTES_MAX) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes record and files of a transfer whose first chunk is here.
    fn make_files(&mut self, transfer: &TransferId) -> io::Result<()> {
        let open = self.open.get(transfer).ok_or(io::ErrorKind::NotFound)?;
        if open.files.is_some() {
            return Ok(());
        }
        let record = open.record.clone();
        let free = rustix::fs::statvfs(&record.out)?;
        if free.f_bavail.saturating_mul(free.f_frsize) < record.size {
            // Not how much is free: that changes, and each change would be told.
            let text = format!("No space left on device for its {} bytes", record.size);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        self.keep_quota();
        self.save(transfer, &record)?;
        let files = Files::open(&part_path(&record.out, transfer), &self.log_path(transfer))?;
        files.part.set_len(record.size)?;
        self.unfinished.insert(*transfer, 0);
        if let Some(open) = self.open.get_mut(transfer) {
            open.files = Some(files);
        }
        Ok(())
    }

    fn start_over(&mut self, transfer: &TransferId) -> io::Result<u32> {
        let open = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
        (open.hashing, open.syncing) = (None, None);
        open.unlogged.clear();
        // Made anew with the next chunk: the part file may be gone.
        open.files = None;
        open.record.generation += 1;
        open.record.place = None;
        let record = open.record.clone();
        let _ = fs::remove_file(self.log_path(transfer));
        let _ = fs::remove_file(part_path(&record.out, transfer));
        self.save(transfer, &record)?;
        Ok(record.generation)
    }

    /// A step towards delivery; without errors of its own it says what went wrong, not where.
    fn step(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        self.make_files(transfer)?;
        self.flush(transfer)?;
        let open = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
        let files = open.files.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let size = open.record.size;
        let (at, hasher) = open
            .hashing
            .get_or_insert_with(|| (0, Box::new(blake3::Hasher::new())));
        let step = (size - *at).min(HASH_STEP_BYTES as u64) as usize;
        let mut buffer = vec![0; step];
        files.part.read_exact_at(&mut buffer, *at)?;
        hasher.update(&buffer);
        *at += step as u64;
        if *at < size {
            return Ok(Finish::Pending);
        }
        let is_there = files.is_at(&part_path(&open.record.out, transfer))?;
        let gone = !is_there && open.record.out.is_dir();
        if gone || *hasher.finalize().as_bytes() != open.record.hash {
            return self.start_over(transfer).map(Finish::Mismatch);
        }
        if !open.is_synced()? {
            return Ok(Finish::Pending);
        }
        let place = self.deliver(transfer)?;
        Ok(Finish::Done(place))
    }

    fn deliver(&mut self, transfer: &TransferId) -> io::Result<PathBuf> {
        let open = self.open.get(transfer).ok_or(io::ErrorKind::NotFound)?;
        let mut record = open.record.clone();
        let part = part_path(&record.out, transfer);
        let place = claims::deliver(&part, &mut record, |record| self.save(transfer, record))?;
        sync_folder(&record.out)?;
        record.done = true;
        self.save(transfer, &record)?;
        let _ = fs::remove_file(self.log_path(transfer));
        self.open.remove(transfer);
        self.unfinished.remove(transfer);
        Ok(place)
    }

    /// What went wrong, with file and folder.
    fn named(&self, transfer: &TransferId, error: &io::Error) -> io::Error {
        let record = self.open.get(transfer).map(|open| &open.record);
        let name = record.map_or(Path::new(""), |record| &record.name);
        let out = record.map_or(&self.out, |record| &record.out);
        let [name, out] = [name, out].map(|path| program::visible(path.as_os_str().as_bytes()));
        let text = format!("\"{name}\" can't be stored in {out}: {error}; its sender waits");
        io::Error::new(error.kind(), text)
    }
}

impl Open {
    /// Whether all of the part file has reached the disk, which is begun by asking.
    fn is_synced(&mut self) -> io::Result<bool> {
        let Some(thread) = self.syncing.take() else {
            let files = self.files.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let part = files.part.try_clone()?;
            let thread = std::thread::Builder::new().name("sync".to_owned());
            self.syncing = Some(thread.spawn(move || part.sync_all())?);
            return Ok(false);
        };
        if !thread.is_finished() {
            self.syncing = Some(thread);
            return Ok(false);
        }
        let synced = thread.join();
        synced.unwrap_or_else(|_| Err(io::Error::other("it can't be synced")))?;
        Ok(true)
    }
}

impl Storage for DiskStorage {
    fn open(&mut self, manifest: &Manifest) -> io::Result<Standing> {
        let transfer = &manifest.transfer;
        let saved = self.saved(transfer)?;
        if manifest.size > self.file_bytes_max {
            return Ok(Standing::Refused);
        }
        let is_new = saved.is_none();
        let mut record = saved.unwrap_or_else(|| Record {
            size: manifest.size,
            hash: manifest.hash,
            name: OsString::from_vec(names::sanitise(&manifest.name)).into(),
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
        if let Some(place) = &record.place
            && !part_path(&record.out, transfer).exists()
        {
            if fs::symlink_metadata(place).is_ok_and(|found| found.len() == record.size) {
                // Killed between renaming and writing so.
                record.done = true;
                self.save(transfer, &record)?;
                return Ok(Standing::Complete);
            }
            record.place = None;
        }
        let mut files = None;
        if !is_new {
            self.move_to_out(transfer, &mut record)?;
            let part = part_path(&record.out, transfer);
            let found = Files::open(&part, &self.log_path(transfer))?;
            found.part.set_len(record.size)?;
            files = Some(found);
        }
        let present = files.as_ref().map_or(Ok(Vec::new()), Files::logged)?;
        let generation = record.generation;
        let open = Open {
            record,
            files,
            unlogged: Vec::new(),
            hashing: None,
            syncing: None,
        };
        self.open.insert(*transfer, open);
        Ok(Standing::Partial {
            generation,
            present,
        })
    }

    fn lost(&mut self, transfer: &TransferId) -> io::Result<Option<u32>> {
        let Some(Open {
            record,
            files: Some(files),
            ..
        }) = self.open.get(transfer)
        else {
            return Ok(None);
        };
        let part = part_path(&record.out, transfer);
        let begun = match files.is_at(&part) {
            Ok(true) => return Ok(None),
            // A folder that is gone may come back with all that is in it.
            Ok(false) => fs::metadata(&record.out).and_then(|_| self.start_over(transfer)),
            Err(error) => Err(error),
        };
        begun
            .map(Some)
            .map_err(|error| self.named(transfer, &error))
    }

    fn write(&mut self, transfer: &TransferId, index: u32, data: &[u8]) -> io::Result<()> {
        let written = self.make_files(transfer).and_then(|()| {
            let open = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
            let files = open.files.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let offset = u64::from(index) * CHUNK_BYTES as u64;
            files.part.write_all_at(data, offset)?;
            open.unlogged.extend_from_slice(&index.to_le_bytes());
            Ok(())
        });
        written.map_err(|error| self.named(transfer, &error))
    }

    fn flush(&mut self, transfer: &TransferId) -> io::Result<()> {
        let open = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
        let Some(files) = &mut open.files else {
            return Ok(());
        };
        // At its place: what a failed attempt has left is written over.
        let written = files.log.write_all_at(&open.unlogged, files.log_bytes);
        if written.is_ok() {
            files.log_bytes += open.unlogged.len() as u64;
            open.unlogged.clear();
            self.unfinished.insert(*transfer, files.log_bytes);
        }
        written.map_err(|error| self.named(transfer, &error))
    }

    fn finish(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        let stepped = self.step(transfer);
        stepped.map_err(|error| {
            let named = self.named(transfer, &error);
            if let Some(open) = self.open.get_mut(transfer) {
                (open.hashing, open.syncing) = (None, None);
            }
            named
        })
    }

    fn close(&mut self, transfer: &TransferId) {
        // What could not be logged was not acknowledged either.
        let _ = self.flush(transfer);
        self.open.remove(transfer);
    }

    fn discard(&mut self, transfer: &TransferId) {
        let record = self.saved(transfer).ok().flatten();
        if record.as_ref().is_none_or(|record| !record.done) {
            self.open.remove(transfer);
            self.remove(transfer, record.as_ref());
        }
    }

    fn remembered(&mut self, of: Once) -> Vec<(u32, [u8; 8])> {
        self.marks(of).remembered()
    }

    fn remember(&mut self, of: Once, epoch: u32, mark: &[u8; 8]) -> io::Result<()> {
        self.marks(of).remember(epoch, mark)
    }

    fn forget_before(&mut self, epoch: u32) {
        self.used.forget_before(epoch);
        self.blocks.forget_before(epoch);
        let now = SystemTime::now();
        let pruned = self.pruned.and_then(|then| now.duration_since(then).ok());
        if pruned.is_none_or(|since| since > PRUNED_EVERY) {
            self.prune(now);
        }
    }

    fn forgotten(&self, of: Once) -> Option<u32> {
        match of {
            Once::Body => self.used.forgotten(),
            Once::Block => self.blocks.forgotten(),
        }
    }
}

impl DiskStorage {
    fn marks(&mut self, of: Once) -> &mut UsedFiles {
        match of {
            Once::Body => &mut self.used,
            Once::Block => &mut self.blocks,
        }
    }

    /// An unfinished transfer goes where files go now: what is there of it is moved, or else fetched again.
    fn move_to_out(&self, transfer: &TransferId, record: &mut Record) -> io::Result<()> {
        if record.out == self.out || record.place.is_some() {
            return Ok(());
        }
        let (old, new) = (&record.out, &self.out);
        let moved = fs::rename(part_path(old, transfer), part_path(new, transfer));
        if moved.is_err() {
            let _ = fs::remove_file(self.log_path(transfer));
            let _ = fs::remove_file(part_path(old, transfer));
        }
        record.out = self.out.clone();
        self.save(transfer, record)
    }
}

fn part_path(out: &Path, transfer: &TransferId) -> PathBuf {
    out.join(format!(".fog-{}.part", hex(transfer)))
}

/// Whether a folder can be written to: makes a file and removes it.
fn check_writable(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".fog-{}.check", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&path)?;
    fs::remove_file(&path)
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
mod tests;
