//! Recipients' ML-KEM keys that were fetched and checked, a file each, named by the key's hash. They tell whom the user
//! wrote to, so those that were not used for as long as records are kept go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use directory::store::open_regular;

use super::disk::{KEPT, hex, write_atomic};
use super::files;
use crate::identity::KEM_KEY_BYTES;

/// The folder of these keys.
pub(super) struct KnownKeys(PathBuf);

impl KnownKeys {
    pub(super) fn of(home: &Path) -> Self {
        Self(home.join("keys"))
    }

    pub(super) fn save(&self, hash: &[u8; 32], key: &[u8; KEM_KEY_BYTES]) -> io::Result<()> {
        self.prune(SystemTime::now());
        write_atomic(&self.0.join(hex(hash)), key, 0o600)
    }

    /// A key, which counts as used now; its hash is checked by whoever uses it.
    pub(super) fn read(&self, hash: &[u8; 32]) -> Option<Box<[u8; KEM_KEY_BYTES]>> {
        let path = self.0.join(hex(hash));
        let bytes = files::read(&path, KEM_KEY_BYTES).ok()?;
        // A key that can't be touched is fetched again one day.
        let _ = open_regular(&path).and_then(|file| file.set_modified(SystemTime::now()));
        bytes.try_into().ok().map(Box::new)
    }

    /// Removes the keys that were not used for too long.
    pub(super) fn prune(&self, now: SystemTime) {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let is_key = name.to_str().and_then(files::unhex::<32>).is_some();
            let used = entry.metadata().and_then(|found| found.modified()).ok();
            let unused = used.and_then(|used| now.duration_since(used).ok());
            if is_key && unused.is_some_and(|unused| unused > KEPT) {
                // What can't be removed now is tried again at the next start.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_that_was_not_used_for_thirty_days_is_forgotten_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("keys")).unwrap();
        let keys = KnownKeys::of(folder.path());
        let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
        let is_there = |hash: u8| folder.path().join("keys").join(hex(&[hash; 32])).exists();
        let untouched_for = |hash: u8, days: u32| {
            let file = open_regular(&folder.path().join("keys").join(hex(&[hash; 32])));
            file.unwrap().set_modified(now - days * day).unwrap();
        };
        for hash in 1..=3 {
            keys.save(&[hash; 32], &[hash; KEM_KEY_BYTES]).unwrap();
        }
        fs::write(folder.path().join("keys/notes"), "").unwrap();
        for (hash, days) in [(1, 31), (2, 29), (3, 31)] {
            untouched_for(hash, days);
        }
        assert_eq!(keys.read(&[3; 32]).unwrap()[..], [3; KEM_KEY_BYTES]);
        keys.prune(now);
        assert_eq!([1, 2, 3].map(is_there), [false, true, true]);
        keys.prune(now + 60 * day);
        assert_eq!([1, 2, 3].map(is_there), [false; 3]);
        assert!(folder.path().join("keys/notes").exists());
        // Of a running client each key that comes lets old ones go.
        keys.save(&[4; 32], &[4; KEM_KEY_BYTES]).unwrap();
        untouched_for(4, 31);
        keys.save(&[5; 32], &[5; KEM_KEY_BYTES]).unwrap();
        assert_eq!([4, 5].map(is_there), [false, true]);
    }
}
