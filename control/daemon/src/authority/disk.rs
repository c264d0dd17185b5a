//! What an authority keeps in its folder: documents, what it signed last, who had what, [evidence](Evidence).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use authority::claims::{OWNERS_BYTES_MAX, Owners};
use authority::round::Record;
use directory::store::{Store, hex, read_bounded, unhex, write_atomic};

use super::evidence::Evidence;

/// The folder of an authority.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    /// Its documents.
    pub documents: Store,
    /// Who signed two things.
    pub evidence: Evidence,
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
        Ok(Disk {
            root: root.to_owned(),
            documents: Store::create(root)?,
            evidence: Evidence::open(&root.join("evidence"))?,
        })
    }

    /// What was signed last.
    ///
    /// # Errors
    /// The file can't be read, or is none (`InvalidData`): an authority that does not know what it signed must not sign.
    pub fn record(&self) -> io::Result<Option<Record>> {
        Self::record_in(&self.root)
    }

    /// The same of the folder at `root`, which need not be there.
    ///
    /// # Errors
    /// As above.
    pub fn record_in(root: &Path) -> io::Result<Option<Record>> {
        let path = root.join("signed");
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
                let why = format!(
                    "{} does not say what was signed last: remove it at the end of an epoch, and start right then",
                    path.display()
                );
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

    /// Why that failed, and what to do, in words.
    pub fn why_unrecorded(&self, error: &io::Error) -> String {
        let folder = self.root.display();
        format!(
            "that could not be written down before, in {folder}: {error}: make room there, and let this user write"
        )
    }

    /// Who had what in documents that are not held any more; nobody before it is first written.
    ///
    /// # Errors
    /// The file can't be read, or does not say (`InvalidData`).
    pub fn owners(&self) -> io::Result<Owners> {
        let bytes = match read_bounded(&self.owners_path(), OWNERS_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owners::default()),
            read => read?,
        };
        Owners::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Writes that down.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_owners(&self, owners: &Owners) -> io::Result<()> {
        write_atomic(&self.owners_path(), &owners.encode())
    }

    fn owners_path(&self) -> PathBuf {
        self.root.join("owners")
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
    fn who_had_what_is_read_back_and_what_does_not_say_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(&folder.path().join("state")).unwrap();
        let nobody = Owners::default();
        assert_eq!(disk.owners().unwrap(), nobody);
        disk.write_owners(&nobody).unwrap();
        assert_eq!(disk.owners().unwrap(), nobody);
        fs::write(folder.path().join("state/owners"), "FXO1").unwrap();
        let error = disk.owners().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
