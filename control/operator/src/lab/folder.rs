//! The lab's folder. What the lab made in it is written down in it, so that nothing else is ever removed; a lock on that
//! list says that the lab lives.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use control::exit::{self, Failure};

/// The list: one name a line below the first, which says what it is.
const LIST: &str = ".fogmix-lab";
const FRESH: &str = ".fogmix-lab.new";
const HEADING: &str = "mixctl lab made, and may remove, in this folder:";
/// How the names of temporary folders begin.
const PREFIX: &str = "fogmix-lab-";

/// A folder of this lab alone.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    list: File,
    made: BTreeSet<String>,
    is_temporary: bool,
}

impl Folder {
    /// A new one that goes with the lab. Those of labs that died without taking theirs along are removed first.
    ///
    /// # Errors
    /// The file system's.
    pub fn temporary() -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        remove_dead(&parent);
        let root = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&parent)?
            .keep();
        let mut folder = Self::locked(&root)?;
        folder.is_temporary = true;
        Ok(folder)
    }

    /// A folder that stays: new, empty, or an earlier lab's.
    ///
    /// # Errors
    /// It is somebody else's, another lab runs in it, or the file system's.
    pub fn at(dir: &Path) -> Result<Self, Failure> {
        let named =
            |error: io::Error| Failure::new(exit::OS, format!("--dir {}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(named)?;
        let root = std::path::absolute(dir)?;
        let is_empty = fs::read_dir(&root).map_err(named)?.next().is_none();
        if !is_empty && !root.join(LIST).is_file() {
            return Err(Failure::new(
                exit::USAGE,
                format!(
                    "--dir {}: there are files in it, and none of them is a lab's: name a new or empty folder",
                    dir.display()
                ),
            ));
        }
        Self::locked(&root)
    }

    fn locked(root: &Path) -> Result<Self, Failure> {
        let path = root.join(LIST);
        // A new list is locked before it has its name: a lab that looks for dead ones must not take it for one's.
        let fresh = root.join(FRESH);
        let is_new = !path.exists();
        let mut list = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(if is_new { &fresh } else { &path })?;
        match list.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    exit::OS,
                    format!(
                        "another lab runs in {}: stop it, or choose another --dir",
                        root.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut text = String::new();
        list.read_to_string(&mut text)?;
        let made = text.lines().skip(1).map(str::to_owned).collect();
        let mut folder = Self {
            root: root.to_owned(),
            list,
            made,
            is_temporary: false,
        };
        folder.write_list()?;
        if is_new {
            fs::rename(&fresh, &path)?;
        }
        Ok(folder)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes `name` in the folder the lab's: what an earlier lab made under it goes.
    ///
    /// # Errors
    /// Something of that name is there that no lab made.
    pub fn claim(&mut self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.root.join(name);
        if self.made.contains(name) {
            remove(&path)?;
        } else if fs::symlink_metadata(&path).is_ok() {
            return Err(Failure::new(
                exit::USAGE,
                format!(
                    "{} was not made by a lab: move it away, or choose another --dir",
                    path.display()
                ),
            ));
        } else {
            // Written down before it is there.
            self.made.insert(name.to_owned());
            self.write_list()?;
        }
        Ok(path)
    }

    fn write_list(&mut self) -> io::Result<()> {
        let mut text = format!("{HEADING}\n");
        for name in &self.made {
            text.push_str(name);
            text.push('\n');
        }
        // Names are only ever added: what a killed lab leaves is the old list or a part of the new one.
        self.list.rewind()?;
        self.list.write_all(text.as_bytes())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes temporary folders of this user's labs that live no more.
fn remove_dead(parent: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_named = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        // Not through a link, which may be anybody's.
        let is_own = entry
            .metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == own);
        if !is_named || !is_own {
            continue;
        }
        let list = File::open(entry.path().join(LIST));
        if list.is_ok_and(|list| list.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_lab_made_is_ever_removed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("lab");
        let mut folder = Folder::at(&root).unwrap();
        fs::create_dir(folder.claim("nodes").unwrap()).unwrap();
        fs::write(root.join("nodes/precious"), "a lab's").unwrap();
        fs::write(root.join("network"), "somebody's").unwrap();
        let refused = folder.claim("network").unwrap_err();
        assert_eq!(refused.code, exit::USAGE);
        assert_eq!(fs::read(root.join("network")).unwrap(), b"somebody's");
        let second = Folder::at(&root).unwrap_err();
        assert!(second.message.contains("another lab runs"), "{second}");
        drop(folder);
        let mut again = Folder::at(&root).unwrap();
        again.claim("nodes").unwrap();
        assert!(!root.join("nodes").exists());
        assert!(again.claim("network").is_err());
        again.claim("directory").unwrap();
        drop(again);
        let third = Folder::at(&root).unwrap();
        assert_eq!(third.made.len(), 2, "{:?}", third.made);
    }

    #[test]
    fn a_folder_with_other_files_is_refused_untouched() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("nodes")).unwrap();
        let refused = Folder::at(place.path()).unwrap_err();
        assert_eq!(refused.code, exit::USAGE);
        assert!(place.path().join("nodes").exists());
        assert!(!place.path().join(LIST).exists());
    }

    #[test]
    fn folders_of_dead_labs_go_and_those_of_living_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let root = parent.path().join(name);
            fs::create_dir(&root).unwrap();
            Folder::locked(&root).unwrap()
        };
        let living = made("fogmix-lab-living");
        drop(made("fogmix-lab-dead"));
        drop(made("other-dead"));
        fs::create_dir(parent.path().join("fogmix-lab-without-a-list")).unwrap();
        remove_dead(parent.path());
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "fogmix-lab-living",
                "fogmix-lab-without-a-list",
                "other-dead"
            ]
        );
        drop(living);
    }
}
