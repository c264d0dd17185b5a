//! Marks of what was used, each kind in a folder, a file an epoch: 8 bytes each, appended before what they stand for is taken. Beside them lies
//! `forgotten`: in decimal digits the highest epoch whose file was removed, written before it is.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::disk::write_atomic;
use super::files;

/// Far more than the marks of an epoch that a client keeps.
const FILE_BYTES_MAX: usize = 1 << 24;
const FORGOTTEN: &str = "forgotten";
const FORGOTTEN_BYTES_MAX: usize = 10;

/// The folder of a client's marks.
pub(crate) struct UsedFiles {
    folder: PathBuf,
    found: Vec<(u32, [u8; 8])>,
    forgotten: Option<u32>,
    /// The file appended to last.
    open: Option<(u32, File)>,
}

impl UsedFiles {
    /// Marks in `folder`, which is created; those that are there are read.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        let mut used = Self {
            folder: folder.to_owned(),
            found: Vec::new(),
            forgotten: read_forgotten(&folder.join(FORGOTTEN))?,
            open: None,
        };
        for epoch in used.epochs()? {
            let bytes = files::read(&folder.join(epoch.to_string()), FILE_BYTES_MAX)?;
            let whole = bytes.chunks_exact(8).filter_map(|mark| mark.first_chunk());
            used.found.extend(whole.map(|mark| (epoch, *mark)));
        }
        Ok(used)
    }

    fn epochs(&self) -> io::Result<Vec<u32>> {
        let entries = fs::read_dir(&self.folder)?.filter_map(Result::ok);
        Ok(entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// What was there at the start.
    pub(crate) fn remembered(&mut self) -> Vec<(u32, [u8; 8])> {
        std::mem::take(&mut self.found)
    }

    pub(crate) fn remember(&mut self, epoch: u32, mark: &[u8; 8]) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != epoch) {
            let path = self.folder.join(epoch.to_string());
            let mut file = files::open(&path)?;
            // A torn last mark of a killed process is cut off.
            let length = file.metadata()?.len();
            file.set_len(length / 8 * 8)?;
            file.seek(SeekFrom::End(0))?;
            self.open = Some((epoch, file));
        }
        let written = match &mut self.open {
            Some((_, file)) => file.write_all(mark),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if written.is_err() {
            // Perhaps torn: opened anew the next time.
            self.open = None;
        }
        written
    }

    pub(crate) fn forget_before(&mut self, epoch: u32) {
        let mut old = self.epochs().unwrap_or_default();
        old.retain(|old| *old < epoch);
        let highest = old.iter().copied().max().max(self.forgotten);
        if let Some(highest) = highest.filter(|_| highest != self.forgotten) {
            let text = highest.to_string();
            let path = self.folder.join(FORGOTTEN);
            // What can't be told to be forgotten stays, and so does what can't be removed: both go later.
            if write_atomic(&path, text.as_bytes(), 0o600).is_err() {
                return;
            }
            self.forgotten = Some(highest);
        }
        for old in old {
            let _ = fs::remove_file(self.folder.join(old.to_string()));
        }
    }

    /// The highest epoch of which marks were forgotten, by this process or one before.
    pub(crate) fn forgotten(&self) -> Option<u32> {
        self.forgotten
    }
}

fn read_forgotten(path: &Path) -> io::Result<Option<u32>> {
    let text = match files::read(path, FORGOTTEN_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let epoch = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.parse().ok());
    let unsound = || {
        let text = format!("{} holds no epoch", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    epoch.map(Some).ok_or_else(unsound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_outlive_the_process_and_a_torn_one_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut used = UsedFiles::new(folder.path()).unwrap();
        for (epoch, mark) in [(3, 1), (4, 2), (3, 3)] {
            used.remember(epoch, &[mark; 8]).unwrap();
        }
        fs::write(folder.path().join("5"), [9; 13]).unwrap();
        let mut used = UsedFiles::new(folder.path()).unwrap();
        used.remember(5, &[4; 8]).unwrap();
        let mut marks = UsedFiles::new(folder.path()).unwrap().remembered();
        marks.sort_unstable();
        let expected = [(3, 1), (3, 3), (4, 2), (5, 4), (5, 9)];
        assert_eq!(marks, expected.map(|(epoch, mark)| (epoch, [mark; 8])));
        used.forget_before(5);
        let mut left = UsedFiles::new(folder.path()).unwrap();
        assert_eq!(left.remembered().len(), 2);
    }

    #[test]
    fn the_highest_epoch_forgotten_outlives_the_process_and_never_falls() {
        let folder = tempfile::tempdir().unwrap();
        let mut used = UsedFiles::new(folder.path()).unwrap();
        used.forget_before(90);
        assert_eq!(used.forgotten(), None, "there was nothing");
        for (epoch, before, forgotten) in [(7, 90, 7), (4, 90, 7), (12, 12, 7), (13, 90, 13)] {
            used.remember(epoch, &[1; 8]).unwrap();
            used.forget_before(before);
            used = UsedFiles::new(folder.path()).unwrap();
            assert_eq!(used.forgotten(), Some(forgotten));
        }
        assert!(used.remembered().is_empty());
        for wrong in ["", "-1", "twelve", "99999999999"] {
            fs::write(folder.path().join(FORGOTTEN), wrong).unwrap();
            assert!(UsedFiles::new(folder.path()).is_err(), "{wrong}");
        }
    }
}
