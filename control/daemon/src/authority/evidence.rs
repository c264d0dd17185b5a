//! What proves that an authority signed two things where it may sign one: kept for all to see.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use directory::store::{hex, read_bounded};

/// Evidence of so many epochs is kept.
const EPOCHS: u32 = 16;
/// Largest piece of evidence: two votes and two lengths.
const PIECE_BYTES_MAX: usize = 8 + 2 * authority::vote::VOTE_BYTES_MAX;
/// Pieces of an epoch that are shown: one of each kind and authority.
const PIECES_MAX: usize = 2 * directory::AUTHORITIES_MAX;

/// The folder of evidence: written by the authority's thread, read by whoever is asked for it.
#[derive(Clone, Debug)]
pub struct Evidence {
    folder: PathBuf,
}

impl Evidence {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(folder: &Path) -> io::Result<Evidence> {
        fs::create_dir_all(folder)?;
        Ok(Evidence {
            folder: folder.to_owned(),
        })
    }

    /// Keeps two signed things of one author for one epoch, and forgets what is long over.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, epoch: u32, author: &[u8; 32], two: &[Vec<u8>; 2]) -> io::Result<()> {
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
        directory::store::write_atomic(&self.folder.join(name), &bytes)?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let name = entry.file_name();
            let of = name.to_str().and_then(|name| name.split_once('-'));
            let of = of.and_then(|(epoch, _)| epoch.parse::<u32>().ok());
            if of.is_some_and(|of| of.saturating_add(EPOCHS) <= epoch) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Names of what is kept of all epochs: `epoch-author-kind`, ascending.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder)?;
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
    pub fn of(&self, epoch: u32) -> io::Result<Option<Vec<u8>>> {
        let prefix = format!("{epoch}-");
        let mut pieces = Vec::new();
        for name in self.names()? {
            if name.starts_with(&prefix) && pieces.len() < PIECES_MAX {
                match read_bounded(&self.folder.join(name), PIECE_BYTES_MAX) {
                    Ok(piece) => pieces.push(piece),
                    // It became too old meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
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
    fn evidence_is_kept_for_sixteen_epochs_one_of_a_kind_and_author() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = Evidence::open(&folder.path().join("evidence")).unwrap();
        let two = |kind: &str| {
            [
                format!("{kind} one").into_bytes(),
                format!("{kind} other").into_bytes(),
            ]
        };
        for epoch in 1..=20 {
            for kind in ["FXV1", "FXV1", "FXG1"] {
                evidence.write(epoch, &[1; 32], &two(kind)).unwrap();
            }
        }
        assert_eq!(evidence.of(4).unwrap(), None);
        let piece = |kind: &str| {
            let of = |word: &str| [&[0, 0, 0, word.len() as u8][..], word.as_bytes()].concat();
            let both = [of(&format!("{kind} one")), of(&format!("{kind} other"))].concat();
            [&[0, 0, 0, both.len() as u8][..], &both].concat()
        };
        let all = [vec![2], piece("FXG1"), piece("FXV1")].concat();
        assert_eq!(evidence.of(20).unwrap().unwrap(), all);
        assert_eq!(evidence.names().unwrap().len(), 32);
    }
}
