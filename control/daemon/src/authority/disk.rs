//! What an authority keeps in its folder: documents, what it signed last, evidence.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use authority::round::Record;
use directory::store::{Store, hex, read_bounded, unhex};

/// Evidence of so many epochs is kept.
const EVIDENCE_EPOCHS: u32 = 16;
/// Largest piece of evidence: two votes and two lengths.
const EVIDENCE_BYTES_MAX: usize = 8 + 2 * authority::vote::VOTE_BYTES_MAX;
/// Pieces of an epoch that are shown: one of each kind and authority.
const EVIDENCE_MAX: usize = 2 * directory::AUTHORITIES_MAX;

/// The folder of an authority.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    /// Its documents.
    pub documents: Store,
}

impl Disk {
    /// Opens the folder, making it where it is missing, for this user alone.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(root: &Path) -> io::Result<Disk> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)?;
        fs::create_dir_all(root.join("evidence"))?;
        Ok(Disk {
            root: root.to_owned(),
            documents: Store::create(root)?,
        })
    }

    /// What was signed last.
    ///
    /// # Errors
    /// The file can't be read, or is none (`InvalidData`): an authority that does not know what it signed must not sign.
    pub fn record(&self) -> io::Result<Option<Record>> {
        let path = self.root.join("signed");
        let bytes = match read_bounded(&path, 128) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let record = text.trim_end().split_once(' ').and_then(|(epoch, digest)| {
            Some(Record {
                epoch: epoch.parse().ok()?,
                digest: unhex(digest)?,
            })
        });
        match record {
            Some(record) => Ok(Some(record)),
            None => {
                let why = format!("{} does not say what was signed last", path.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }

    /// Writes down what is about to be signed. When it returns, the disk has it.
    ///
    /// # Errors
    /// The file system's: then nothing may be signed.
    pub fn write_record(&self, record: Record) -> io::Result<()> {
        let line = format!("{} {}\n", record.epoch, hex(&record.digest));
        let new = self.root.join(".signed.new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.root.join("signed"))?;
        // The rename too.
        File::open(&self.root)?.sync_all()
    }

    /// Keeps two signed things of one author for one epoch, and forgets what is long over.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_evidence(
        &self,
        epoch: u32,
        author: &[u8; 32],
        two: &[Vec<u8>; 2],
    ) -> io::Result<()> {
        let folder = self.root.join("evidence");
        let mut bytes = Vec::new();
        for one in two {
            bytes.extend_from_slice(&u32::try_from(one.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(one);
        }
        // Which kind it is its first bytes say: one of each kind is enough.
        let kind = two[0]
            .first_chunk::<4>()
            .map(|magic| program::visible(magic));
        let name = format!("{epoch}-{}-{}", hex(author), kind.unwrap_or_default());
        directory::store::write_atomic(&folder.join(name), &bytes)?;
        for entry in fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name();
            let of = name.to_str().and_then(|name| name.split_once('-'));
            let of = of.and_then(|(epoch, _)| epoch.parse::<u32>().ok());
            if of.is_some_and(|of| of.saturating_add(EVIDENCE_EPOCHS) <= epoch) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Names of what is kept of all epochs: `epoch-author-kind`, ascending.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn evidence_names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.root.join("evidence"))?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names
            .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// What is kept of `epoch`: `count 1 | each (length 4 | piece)`, a piece two signed things, each with its length.
    ///
    /// # Errors
    /// The file system's.
    pub fn evidence(&self, epoch: u32) -> io::Result<Option<Vec<u8>>> {
        let prefix = format!("{epoch}-");
        let mut pieces = Vec::new();
        for name in self.evidence_names()? {
            if name.starts_with(&prefix) && pieces.len() < EVIDENCE_MAX {
                let path = self.root.join("evidence").join(name);
                pieces.push(read_bounded(&path, EVIDENCE_BYTES_MAX)?);
            }
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        let mut bytes = vec![u8::try_from(pieces.len()).unwrap_or(u8::MAX)];
        for piece in pieces {
            bytes.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_read_back_and_a_file_that_says_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(&folder.path().join("state")).unwrap();
        assert_eq!(disk.record().unwrap(), None);
        for epoch in [7, 8] {
            let digest = [3; 32];
            let record = Record { epoch, digest };
            disk.write_record(record).unwrap();
            assert_eq!(disk.record().unwrap(), Some(record));
        }
        for text in ["", "8", "8 03", "x 0303"] {
            fs::write(folder.path().join("state/signed"), text).unwrap();
            let error = disk.record().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn evidence_is_kept_for_sixteen_epochs_one_of_a_kind_and_author() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let two = |kind: &str| {
            [
                format!("{kind} one").into_bytes(),
                format!("{kind} other").into_bytes(),
            ]
        };
        for epoch in 1..=20 {
            for kind in ["FXV1", "FXV1", "FXG1"] {
                disk.write_evidence(epoch, &[1; 32], &two(kind)).unwrap();
            }
        }
        assert_eq!(disk.evidence(4).unwrap(), None);
        let piece = |kind: &str| {
            let of = |word: &str| [&[0, 0, 0, word.len() as u8][..], word.as_bytes()].concat();
            let both = [of(&format!("{kind} one")), of(&format!("{kind} other"))].concat();
            [&[0, 0, 0, both.len() as u8][..], &both].concat()
        };
        let all = [vec![2], piece("FXG1"), piece("FXV1")].concat();
        assert_eq!(disk.evidence(20).unwrap().unwrap(), all);
        assert_eq!(disk.evidence_names().unwrap().len(), 32);
    }
}
