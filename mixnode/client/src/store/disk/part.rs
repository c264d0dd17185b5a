//! What is here of a file that arrives: its part file, and the log of the chunks in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::store::files;

/// Both files.
pub(super) struct Files {
    pub(super) part: File,
    pub(super) log: File,
    pub(super) log_bytes: u64,
}

impl Files {
    pub(super) fn open(part: &Path, log: &Path) -> io::Result<Self> {
        let (part, log) = (files::open(part)?, files::open(log)?);
        // A part file that somebody removed takes its log with it.
        if part.metadata()?.len() == 0 {
            log.set_len(0)?;
        }
        // A torn last entry of a killed process is cut off.
        let log_bytes = log.metadata()?.len() / 4 * 4;
        log.set_len(log_bytes)?;
        Ok(Self {
            part,
            log,
            log_bytes,
        })
    }

    /// Whether the part file is still there: somebody may have removed it, or put another in its place.
    ///
    /// # Errors
    /// It can't be looked at, as in a folder that may not be entered for a while: nothing is known then, and nothing may
    /// be given up for it.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found?,
        };
        let part = self.part.metadata()?;
        Ok((part.dev(), part.ino()) == (found.dev(), found.ino()))
    }

    pub(super) fn logged(&self) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; usize::try_from(self.log_bytes).unwrap_or(0)];
        self.log.read_exact_at(&mut bytes, 0)?;
        let entries = bytes
            .chunks_exact(4)
            .filter_map(|entry| entry.first_chunk());
        Ok(entries.map(|entry| u32::from_le_bytes(*entry)).collect())
    }
}
