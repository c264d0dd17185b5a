//! A disk with its troubles.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Files in memory that behave as on a disk: it is full while it is told to be, and a file is delivered in steps, which
/// begin anew when it was closed.
pub(super) struct Disk {
    memory: MemoryStorage,
    full: Arc<AtomicBool>,
    /// A file finds no room in its last step alone.
    full_at_last: bool,
    /// Steps towards delivering a file, and how many of them were taken.
    steps: u32,
    taken: BTreeMap<TransferId, u32>,
}

impl Disk {
    pub(super) fn new(full: Arc<AtomicBool>, steps: u32) -> Disk {
        Disk {
            memory: MemoryStorage::new(1 << 24),
            full,
            full_at_last: false,
            steps,
            taken: BTreeMap::new(),
        }
    }

    /// One that shows that it is full in the last step alone, as where the folder of a file is gone.
    pub(super) fn full_at_last(full: Arc<AtomicBool>, steps: u32) -> Disk {
        Disk {
            full_at_last: true,
            ..Disk::new(full, steps)
        }
    }

    fn room(&self) -> io::Result<()> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Storage for Disk {
    fn open(&mut self, manifest: &Manifest) -> io::Result<Standing> {
        self.memory.open(manifest)
    }

    fn write(&mut self, transfer: &TransferId, index: u32, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.memory.write(transfer, index, data)
    }

    fn flush(&mut self, transfer: &TransferId) -> io::Result<()> {
        self.memory.flush(transfer)
    }

    fn finish(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        let before = self.taken.get(transfer).copied().unwrap_or_default();
        if let Err(error) = self.room()
            && (!self.full_at_last || before + 1 == self.steps)
        {
            self.taken.remove(transfer);
            return Err(error);
        }
        let taken = self.taken.entry(*transfer).or_default();
        *taken += 1;
        if *taken < self.steps {
            return Ok(Finish::Pending);
        }
        self.taken.remove(transfer);
        self.memory.finish(transfer)
    }

    fn close(&mut self, transfer: &TransferId) {
        self.taken.remove(transfer);
    }

    fn remembered(&mut self, of: Once) -> Vec<(u32, [u8; 8])> {
        self.memory.remembered(of)
    }

    fn remember(&mut self, of: Once, epoch: u32, mark: &[u8; 8]) -> io::Result<()> {
        self.memory.remember(of, epoch, mark)
    }

    fn forget_before(&mut self, epoch: u32) {
        self.memory.forget_before(epoch);
    }

    fn forgotten(&self, of: Once) -> Option<u32> {
        self.memory.forgotten(of)
    }
}
