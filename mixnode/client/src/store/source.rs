//! A file that is sent: whoever changes it meanwhile is noticed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};

use super::storage::Source;
use crate::transfer::Manifest;

const BUFFER_BYTES: usize = 1 << 16;
/// Bytes looked at in one step: well under a millisecond. A slot carries 840 of them, so that looking at a file costs next
/// to nothing of the slots that sending it does.
const STEP_BYTES: usize = 1 << 20;

/// A regular file, as it was when it was measured.
pub(crate) struct SentFile {
    file: File,
    size: u64,
    hash: [u8; 32],
    seen: Option<Stamp>,
    look: Option<Look>,
    /// Questions that may pass before the next look at a file that is touched all the time: as many as the last took.
    rest: u32,
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
            look: None,
            rest: 0,
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
            look: None,
            rest: 0,
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
}

impl Source for SentFile {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(data, offset)
    }

    fn check(&mut self, manifest: &Manifest, doubted: bool) -> io::Result<Option<bool>> {
        let look = match &mut self.look {
            Some(look) => look,
            None => {
                let now = Stamp::of(&self.file)?;
                let rests = self.rest.checked_sub(1);
                if !doubted && (self.seen == Some(now) || rests.is_some()) {
                    self.rest = rests.unwrap_or(0);
                    return Ok(Some(true));
                }
                self.look.insert(Look::new(now))
            }
        };
        let ended = look.step(&self.file)?;
        // One that only grows is not looked at to its end.
        if !ended && look.bytes <= manifest.size {
            return Ok(None);
        }
        let same = look.bytes == manifest.size && look.hasher.finalize() == manifest.hash;
        // Whatever comes of it, this is not looked at again unless it is new again.
        (self.seen, self.rest) = (same.then_some(look.stamp), look.steps);
        self.look = None;
        Ok(Some(same))
    }
}

/// A look at all of a file, in steps.
struct Look {
    /// What it was like when the look began.
    stamp: Stamp,
    hasher: Box<blake3::Hasher>,
    bytes: u64,
    steps: u32,
}

impl Look {
    fn new(stamp: Stamp) -> Self {
        Self {
            stamp,
            hasher: Box::default(),
            bytes: 0,
            steps: 0,
        }
    }

    /// Reads a step's bytes at most; whether the end has come.
    fn step(&mut self, file: &File) -> io::Result<bool> {
        self.steps = self.steps.saturating_add(1);
        let mut buffer = vec![0; BUFFER_BYTES];
        for _ in 0..STEP_BYTES / BUFFER_BYTES {
            let read = read_at(file, &mut buffer, self.bytes)?;
            if read.is_empty() {
                return Ok(true);
            }
            self.hasher.update(read);
            self.bytes += read.len() as u64;
        }
        Ok(false)
    }
}

/// Reads what is there, although a signal may come.
fn read_at<'a>(file: &File, buffer: &'a mut [u8], offset: u64) -> io::Result<&'a [u8]> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map(|read| &buffer[..read]),
        }
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
        let read = read_at(file, &mut buffer, size)?;
        if read.is_empty() {
            return Ok(Some((size, *hasher.finalize().as_bytes())));
        }
        hasher.update(read);
        size += read.len() as u64;
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

    fn manifest(sent: &SentFile) -> Manifest {
        let (size, hash) = sent.measured();
        Manifest {
            transfer: [0; 16],
            size,
            hash,
            name: Vec::new(),
        }
    }

    /// What a look comes to, and in how many steps.
    fn looked(sent: &mut SentFile, doubted: bool) -> (bool, u32) {
        let manifest = manifest(sent);
        let mut steps = 1;
        loop {
            match sent.check(&manifest, doubted).unwrap() {
                Some(same) => return (same, steps),
                None => steps += 1,
            }
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_sent_is_noticed_before_the_next_read_and_a_touched_one_is_not()
     {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "what it was").unwrap();
        let mut sent = measured(&path);
        assert!(looked(&mut sent, false).0);
        let touched = SystemTime::now() + Duration::from_secs(9);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(touched).unwrap();
        assert!(looked(&mut sent, false).0);
        let mut data = [0; 4];
        sent.read(0, &mut data).unwrap();
        assert_eq!(&data, b"what");
        file.write_all_at(b"W", 0).unwrap();
        file.set_modified(touched + Duration::from_secs(1)).unwrap();
        // The one question that a look of one step lets pass.
        assert!(looked(&mut sent, false).0);
        for _ in 0..2 {
            assert!(!looked(&mut sent, false).0);
            sent.rest = 0;
        }
        file.set_len(3).unwrap();
        assert!(!looked(&mut sent, false).0);
    }

    #[test]
    fn a_change_that_keeps_the_times_is_found_by_looking_at_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "what it was").unwrap();
        let mut sent = measured(&path);
        assert!(looked(&mut sent, true).0);
        let file = File::options().write(true).open(&path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"W", 0).unwrap();
        file.set_modified(before).unwrap();
        assert!(!looked(&mut sent, true).0);
    }

    #[test]
    fn however_large_a_file_is_a_step_of_looking_at_it_reads_a_mebibyte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![7; 5 * STEP_BYTES + 1]).unwrap();
        let mut sent = measured(&path);
        let manifest = manifest(&sent);
        for step in 1..=5 {
            assert_eq!(sent.check(&manifest, true).unwrap(), None);
            let read = sent.look.as_ref().unwrap().bytes;
            assert_eq!(read, step * STEP_BYTES as u64);
        }
        assert_eq!(sent.check(&manifest, true).unwrap(), Some(true));
        // One that grew is known by its first byte too many.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(50 * STEP_BYTES as u64).unwrap();
        assert_eq!(looked(&mut sent, true), (false, 6));
    }

    #[test]
    fn a_file_that_is_touched_all_the_time_is_looked_at_half_of_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![7; 3 * STEP_BYTES + 1]).unwrap();
        let mut sent = measured(&path);
        let manifest = manifest(&sent);
        let file = File::options().write(true).open(&path).unwrap();
        let mut answers = [0; 2];
        for second in 0..40 {
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
                .unwrap();
            let known = sent.check(&manifest, false).unwrap();
            assert_ne!(known, Some(false));
            answers[usize::from(known.is_some())] += 1;
        }
        // Of eight questions three find a look under way, one its end, and four pass.
        assert_eq!(answers, [15, 25]);
    }
}
