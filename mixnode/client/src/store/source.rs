//! A file that is sent: whoever changes it meanwhile is noticed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};

use super::storage::Source;
use crate::transfer::Manifest;

const BUFFER_BYTES: usize = 1 << 16;

/// A regular file, as it was when it was measured.
pub(crate) struct SentFile {
    file: File,
    size: u64,
    hash: [u8; 32],
    seen: Option<Stamp>,
}

/// By what a change of a file is noticed without reading it: bytes, and the time of the last change, seconds and
/// nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stamp {
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            bytes: found.len(),
            modified_s: found.mtime(),
            modified_ns: found.mtime_nsec(),
        })
    }
}

impl SentFile {
    /// Measures the file: reads all of it, as long as `go_on`, told how many bytes are done, says so.
    pub(crate) fn measure(
        file: File,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<Option<Self>> {
        // Before it is read, so that a change while it is read is noticed, too.
        let seen = Some(Stamp::of(&file)?);
        let measured = measure(&file, go_on)?;
        Ok(measured.map(|(size, hash)| Self {
            file,
            size,
            hash,
            seen,
        }))
    }

    /// A file that another process of the user has measured: its size and hash, and what it was like then.
    pub(crate) fn measured_before(
        file: File,
        (size, hash): (u64, [u8; 32]),
        seen: Option<Stamp>,
    ) -> Self {
        Self {
            file,
            size,
            hash,
            seen,
        }
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// What it was like when it was measured, and since then not found changed.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.seen
    }

    /// Bytes and BLAKE3.
    pub(crate) fn measured(&self) -> (u64, [u8; 32]) {
        (self.size, self.hash)
    }

    /// Whether it is what it was, by looking at all of it if anything about it is new.
    fn is_unchanged(&mut self) -> io::Result<bool> {
        let now = Stamp::of(&self.file)?;
        if self.seen == Some(now) {
            return Ok(true);
        }
        // Whatever comes of it, this is not looked at again unless it is new again.
        let same = measure(&self.file, &mut |_| true)? == Some((self.size, self.hash));
        self.seen = same.then_some(now);
        Ok(same)
    }
}

impl Source for SentFile {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if !self.is_unchanged()? {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.file.read_exact_at(data, offset)
    }

    fn is(&mut self, manifest: &Manifest) -> io::Result<bool> {
        Ok(measure(&self.file, &mut |_| true)? == Some((manifest.size, manifest.hash)))
    }
}

fn measure(file: &File, go_on: &mut dyn FnMut(u64) -> bool) -> io::Result<Option<(u64, [u8; 32])>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0;
    loop {
        if !go_on(size) {
            return Ok(None);
        }
        let read = match file.read_at(&mut buffer, size) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(Some((size, *hasher.finalize().as_bytes())));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use std::path::Path;

    use super::*;

    fn measured(path: &Path) -> SentFile {
        let file = File::open(path).unwrap();
        SentFile::measure(file, &mut |_| true).unwrap().unwrap()
    }

    #[test]
    fn a_file_that_changes_while_it_is_sent_is_noticed_at_the_next_read_and_a_touched_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "what it was").unwrap();
        let mut sent = measured(&path);
        let mut data = [0; 4];
        sent.read(0, &mut data).unwrap();
        let touched = SystemTime::now() + Duration::from_secs(9);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(touched).unwrap();
        sent.read(0, &mut data).unwrap();
        assert_eq!(&data, b"what");
        file.write_all_at(b"W", 0).unwrap();
        file.set_modified(touched + Duration::from_secs(1)).unwrap();
        for _ in 0..2 {
            let error = sent.read(0, &mut data).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        file.set_len(3).unwrap();
        let error = sent.read(0, &mut data).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_change_that_keeps_the_times_is_found_by_looking_at_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "what it was").unwrap();
        let mut sent = measured(&path);
        let (size, hash) = sent.measured();
        let manifest = Manifest {
            transfer: [0; 16],
            size,
            hash,
            name: Vec::new(),
        };
        assert!(sent.is(&manifest).unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"W", 0).unwrap();
        file.set_modified(before).unwrap();
        assert!(!sent.is(&manifest).unwrap());
    }
}
