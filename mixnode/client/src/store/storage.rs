//! Where received files go, as the client's core sees it; in memory for simulations, on disk in `disk`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::transfer::{CHUNK_BYTES, Manifest, TransferId};

/// How a transfer stands when its manifest arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Chunks are to be written; these are here already.
    Partial {
        /// How often this transfer was started over.
        generation: u32,
        /// Indices of chunks that are here, in any order.
        present: Vec<u32>,
    },
    /// It was delivered before.
    Complete,
    /// It is not wanted: too large, or no room.
    Refused,
}

/// What became of a step towards delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Call again: hashing a large file is done in steps, so that no slot is missed.
    Pending,
    /// Verified and in its place, which is this.
    Done(PathBuf),
    /// The bytes are not those of the manifest. The transfer starts over with this generation.
    Mismatch(u32),
}

/// What is used once, and remembered for as long as it could come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Once {
    /// Sealed bodies and the sessions that they start.
    Body,
    /// Reply blocks of others that were answered through.
    Block,
}

/// Keeps what arrives. What is acknowledged must survive the death of the process: `flush` is called before every
/// acknowledgement, and what came after the last call may be lost.
pub trait Storage: Send {
    /// Starts a transfer, or finds it again.
    ///
    /// # Errors
    /// The storage's.
    fn open(&mut self, manifest: &Manifest) -> io::Result<Standing>;
    /// Whether what was here of a transfer was removed: it starts over with this generation. Asked before each chunk.
    ///
    /// # Errors
    /// The storage's: it can't be looked at, or the place for it is gone.
    fn lost(&mut self, _transfer: &TransferId) -> io::Result<Option<u32>> {
        Ok(None)
    }
    /// Takes one chunk that is not here yet.
    ///
    /// # Errors
    /// The storage's: the chunk then counts as not arrived.
    fn write(&mut self, transfer: &TransferId, index: u32, data: &[u8]) -> io::Result<()>;
    /// Makes sure that what was written outlives the process.
    ///
    /// # Errors
    /// The storage's: nothing is acknowledged then.
    fn flush(&mut self, transfer: &TransferId) -> io::Result<()>;
    /// All chunks are here: takes a step towards verifying and delivering the file, exactly once.
    ///
    /// # Errors
    /// The storage's; the step is repeated.
    fn finish(&mut self, transfer: &TransferId) -> io::Result<Finish>;
    /// Lets go of a transfer that was silent for long; its next manifest opens it again.
    fn close(&mut self, _transfer: &TransferId) {}
    /// Removes what is here of a transfer that its sender has given up, unless it was delivered.
    fn discard(&mut self, _transfer: &TransferId) {}
    /// Marks of what was used before, by epoch; asked once, at the start.
    fn remembered(&mut self, of: Once) -> Vec<(u32, [u8; 8])>;
    /// Remembers a mark beyond the death of the process.
    ///
    /// # Errors
    /// The storage's: what the mark stands for is not used then.
    fn remember(&mut self, of: Once, epoch: u32, mark: &[u8; 8]) -> io::Result<()>;
    /// An epoch has turned: marks of epochs below this one are needed no more.
    fn forget_before(&mut self, epoch: u32);
    /// The highest epoch of which marks were forgotten, by this process or one before.
    fn forgotten(&self, of: Once) -> Option<u32>;
}

/// Where a file to send is read from.
pub trait Source: Send {
    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// The source's: the transfer fails.
    fn read(&mut self, offset: u64, data: &mut [u8]) -> io::Result<()>;
    /// Whether it still is what this manifest announces, asked before each slot that may carry something of it. Looks at
    /// all of it if it is `doubted`, else only if something hints at a change; in steps, each a bounded piece of work
    /// however large the file is: `None` until the last one.
    ///
    /// # Errors
    /// The source's: the transfer fails.
    fn check(&mut self, manifest: &Manifest, doubted: bool) -> io::Result<Option<bool>>;
}

impl Source for Vec<u8> {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(data.len());
        let part = self.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?;
        data.copy_from_slice(part);
        Ok(())
    }

    fn check(&mut self, manifest: &Manifest, doubted: bool) -> io::Result<Option<bool>> {
        let same = !doubted || *blake3::hash(self).as_bytes() == manifest.hash;
        Ok(Some(same))
    }
}

/// Files in memory.
#[derive(Default)]
pub struct MemoryStorage {
    open: BTreeMap<TransferId, (Manifest, Vec<u8>, Vec<u32>)>,
    /// What was delivered: name and bytes, in order.
    pub delivered: Vec<(Manifest, Vec<u8>)>,
    used: Vec<(Once, u32, [u8; 8])>,
    forgotten: BTreeMap<Once, u32>,
    /// Largest file taken, bytes.
    pub file_bytes_max: u64,
}

impl MemoryStorage {
    /// Takes files up to `file_bytes_max`.
    pub fn new(file_bytes_max: u64) -> Self {
        Self {
            file_bytes_max,
            ..Self::default()
        }
    }
}

impl Storage for MemoryStorage {
    fn open(&mut self, manifest: &Manifest) -> io::Result<Standing> {
        let same = |(delivered, _): &(Manifest, Vec<u8>)| delivered.transfer == manifest.transfer;
        if self.delivered.iter().any(same) {
            return Ok(Standing::Complete);
        }
        if manifest.size > self.file_bytes_max {
            return Ok(Standing::Refused);
        }
        let entry = self.open.entry(manifest.transfer).or_insert_with(|| {
            let bytes = vec![0; usize::try_from(manifest.size).unwrap_or(0)];
            (manifest.clone(), bytes, Vec::new())
        });
        Ok(Standing::Partial {
            generation: 0,
            present: entry.2.clone(),
        })
    }

    fn write(&mut self, transfer: &TransferId, index: u32, data: &[u8]) -> io::Result<()> {
        let (_, bytes, present) = self.open.get_mut(transfer).ok_or(io::ErrorKind::NotFound)?;
        let from = index as usize * CHUNK_BYTES;
        let place = bytes
            .get_mut(from..from + data.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(data);
        present.push(index);
        Ok(())
    }

    fn flush(&mut self, _transfer: &TransferId) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        let (manifest, bytes, mut present) =
            self.open.remove(transfer).ok_or(io::ErrorKind::NotFound)?;
        if *blake3::hash(&bytes).as_bytes() != manifest.hash {
            present.clear();
            self.open.insert(*transfer, (manifest, bytes, present));
            return Ok(Finish::Mismatch(1));
        }
        let name = OsString::from_vec(manifest.name.clone());
        self.delivered.push((manifest, bytes));
        Ok(Finish::Done(name.into()))
    }

    fn discard(&mut self, transfer: &TransferId) {
        self.open.remove(transfer);
    }

    fn remembered(&mut self, of: Once) -> Vec<(u32, [u8; 8])> {
        let used = self.used.iter().filter(|(kind, ..)| *kind == of);
        used.map(|(_, epoch, mark)| (*epoch, *mark)).collect()
    }

    fn remember(&mut self, of: Once, epoch: u32, mark: &[u8; 8]) -> io::Result<()> {
        self.used.push((of, epoch, *mark));
        Ok(())
    }

    fn forget_before(&mut self, epoch: u32) {
        for (of, old, _) in self.used.iter().filter(|(_, old, _)| *old < epoch) {
            let highest = self.forgotten.entry(*of).or_insert(*old);
            *highest = (*highest).max(*old);
        }
        self.used.retain(|(_, used, _)| *used >= epoch);
    }

    fn forgotten(&self, of: Once) -> Option<u32> {
        self.forgotten.get(&of).copied()
    }
}
