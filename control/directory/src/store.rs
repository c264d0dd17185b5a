//! A folder through which nodes and authorities exchange documents, every write an atomic rename:
//! `authorities`, `descriptors/<hex identity>`, the same with `.report`, `consensus/<epoch>`.
//!
//! Readers trust nothing in it: descriptors are verified here, consensus documents by their reader.

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::authority_set::{CHAIN_BYTES_MAX, Chain};
use crate::consensus::NODES_MAX;
use crate::descriptor::{DESCRIPTOR_BYTES_MAX, SignedDescriptor};
use crate::report::{REPORT_BYTES_MAX, SignedReport};
use crate::signed::{CONSENSUS_BYTES_MAX, SignedConsensus};

/// Epochs whose documents stay in the folder: the current and the previous, in which packets are still
/// accepted, the next, and a few more for clients that were away.
const CONSENSUS_KEPT: u32 = 8;

/// A store folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the folder, making it and its parts where missing.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join("descriptors"))?;
        fs::create_dir_all(root.join("consensus"))?;
        Self::open(root)
    }

    /// Opens an existing folder for reading; parts that are missing read as empty.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::read_dir(root)?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The part of the folder that nodes write to: [`Store::publish_descriptor`].
    pub fn descriptors_path(&self) -> PathBuf {
        Self::descriptors_below(&self.root)
    }

    /// The same of a store at `root` that may not be there yet.
    pub fn descriptors_below(root: &Path) -> PathBuf {
        root.join("descriptors")
    }

    /// Writes the chain of authority sets.
    ///
    /// # Errors
    /// The file system's.
    pub fn publish_authorities(&self, chain: &Chain) -> io::Result<()> {
        write_atomic(&self.root.join("authorities"), &chain.encode())
    }

    /// The chain of authority sets, encoded: it is for the reader to decode when it has changed. None before it is
    /// written.
    ///
    /// # Errors
    /// The file can't be read, or is too large for one (`InvalidData`).
    pub fn read_authorities(&self) -> io::Result<Option<Vec<u8>>> {
        present(read_bounded(
            &self.root.join("authorities"),
            CHAIN_BYTES_MAX,
        ))
    }

    /// Writes a node's descriptor in place of its previous one.
    ///
    /// # Errors
    /// The file system's.
    pub fn publish_descriptor(&self, descriptor: &SignedDescriptor) -> io::Result<()> {
        let path = self.descriptors_path().join(hex(&descriptor.identity));
        write_atomic(&path, descriptor.bytes())
    }

    /// Writes a node's report beside its descriptor, in place of its previous one.
    ///
    /// # Errors
    /// The file system's.
    pub fn publish_report(&self, report: &SignedReport) -> io::Result<()> {
        let name = format!("{}.report", hex(&report.identity));
        write_atomic(&self.descriptors_path().join(name), report.bytes())
    }

    /// The report of the node with this identity; none if it is not there, not its own or does not verify.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read_report(&self, identity: &[u8; 32]) -> io::Result<Option<SignedReport>> {
        let path = self
            .descriptors_path()
            .join(format!("{}.report", hex(identity)));
        let bytes = present(read_bounded(&path, REPORT_BYTES_MAX))?;
        let report = bytes.and_then(|bytes| SignedReport::verify(&bytes).ok());
        Ok(report.filter(|report| report.identity == *identity))
    }

    /// All valid descriptors, ascending by identity. Files that do not verify, or that are not named by
    /// their identity, are passed over: one bad file must not stop the network.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn read_descriptors(&self) -> io::Result<Vec<SignedDescriptor>> {
        let Some(entries) = present(fs::read_dir(self.root.join("descriptors")))? else {
            return Ok(Vec::new());
        };
        let mut descriptors = Vec::new();
        for entry in entries.take(2 * NODES_MAX) {
            let entry = entry?;
            let Ok(bytes) = read_bounded(&entry.path(), DESCRIPTOR_BYTES_MAX) else {
                continue;
            };
            if let Ok(descriptor) = SignedDescriptor::verify(&bytes)
                && entry.file_name() == hex(&descriptor.identity).as_str()
            {
                descriptors.push(descriptor);
            }
        }
        descriptors.sort_unstable_by_key(|descriptor| descriptor.identity);
        Ok(descriptors)
    }

    /// Writes the document of `epoch` and removes those long over.
    ///
    /// # Errors
    /// The file system's.
    pub fn publish_consensus(&self, epoch: u32, document: &SignedConsensus) -> io::Result<()> {
        write_atomic(&self.consensus_path(epoch), &document.encode())?;
        for old in self.epochs()? {
            if old < epoch.saturating_sub(CONSENSUS_KEPT) {
                let _ = fs::remove_file(self.consensus_path(old));
            }
        }
        Ok(())
    }

    /// The document of `epoch`, not verified; none if it is not there.
    ///
    /// # Errors
    /// The file can't be read, or is no document (`InvalidData`).
    pub fn read_consensus(&self, epoch: u32) -> io::Result<Option<SignedConsensus>> {
        let path = self.consensus_path(epoch);
        let Some(bytes) = present(read_bounded(&path, CONSENSUS_BYTES_MAX))? else {
            return Ok(None);
        };
        SignedConsensus::decode(&bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The documents in the folder, newest first, each read when it is its turn, not verified. Of one that is damaged (what
    /// a power cut leaves may be empty) that is said in its place: those before it are of use still.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn newest_first(
        &self,
    ) -> io::Result<impl Iterator<Item = (u32, io::Result<SignedConsensus>)> + use<'_>> {
        let mut epochs = self.epochs()?;
        epochs.sort_unstable_by_key(|epoch| Reverse(*epoch));
        epochs.truncate(CONSENSUS_KEPT as usize + 1);
        Ok(epochs.into_iter().filter_map(|epoch| {
            // None: it was removed meanwhile.
            let read = self.read_consensus(epoch).transpose()?;
            Some((epoch, read))
        }))
    }

    /// The epochs that there is a document of, in no order.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn epochs(&self) -> io::Result<Vec<u32>> {
        let Some(entries) = present(fs::read_dir(self.root.join("consensus")))? else {
            return Ok(Vec::new());
        };
        Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect())
    }

    fn consensus_path(&self, epoch: u32) -> PathBuf {
        self.root.join("consensus").join(epoch.to_string())
    }
}

/// Turns "not found" into `None`.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Linux's flags for [`open_regular`], as x86-64 has them.
const O_NONBLOCK: i32 = 0o4000;
const O_NOFOLLOW: i32 = 0o400_000;

/// Opens a file for reading that others may have put there: never waits (a pipe would make it), follows no link at the
/// end of the path, and takes nothing but a regular file.
///
/// # Errors
/// The file system's; `InvalidInput` for what is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(O_NONBLOCK | O_NOFOLLOW);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        let message = format!("{} is no regular file", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(file)
}

/// Reads a whole regular file that must not exceed `limit_bytes`.
///
/// # Errors
/// The file system's; `InvalidData` for a larger one.
pub fn read_bounded(path: &Path, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > limit_bytes {
        let message = format!("{} is larger than {limit_bytes} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// Writes a file so that readers see the old content or the new, never a part.
///
/// # Errors
/// The file system's.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    // A leading dot and no digit first: no reader takes it for a document.
    let name = format!(".new-{}-{sequence}", std::process::id());
    let temporary = path.with_file_name(name);
    // Whatever lies there is not written to.
    let _ = fs::remove_file(&temporary);
    let written = File::create_new(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Lower-case hexadecimal, as in the folder's file names.
pub fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads what [`hex`] wrote, in either case.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}
