//! The folder that configurations, keys and lists lie in.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::exit::{self, Failure};

/// Sees to it that `file` can be written: where it is the `usual` one its folder is made, readable by all. Elsewhere a
/// folder that is missing is more likely a mistake in the path.
///
/// # Errors
/// The file system's, or a folder that is missing, with the command that makes it.
pub fn make_for(file: &Path, usual: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|path| !path.as_os_str().is_empty());
    let Some(folder) = folder.filter(|folder| !folder.exists()) else {
        return Ok(());
    };
    if file != usual {
        let folder = folder.display();
        let message = format!("no folder {folder}: mkdir -p {folder}");
        return Err(Failure::new(exit::CONFIG, message));
    }
    let made = match fs::create_dir(folder) {
        // Whatever the umask says: nodes and clients read the network's file there.
        Ok(()) => fs::set_permissions(folder, PermissionsExt::from_mode(0o755)),
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    made.map_err(|error| {
        let failure = Failure::from(error);
        let message = format!("{}: {}", folder.display(), failure.message);
        Failure::new(failure.code, message)
    })
}

/// Whether files can be made in `folder`, or the folder and then files in it. Makes nothing.
///
/// # Errors
/// Why not.
pub fn can_be_written(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|part| part.exists());
    let there = there.unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let rights = Access::WRITE_OK | Access::EXEC_OK;
    Ok(accessat(CWD, there, rights, AtFlags::EACCESS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_missing_can_be_made_but_not_below_a_file() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for (name, kind) in [
            ("", None),
            ("a/b", None),
            ("file", Some(io::ErrorKind::NotADirectory)),
            ("file/b", Some(io::ErrorKind::NotADirectory)),
        ] {
            let checked = can_be_written(&root.path().join(name));
            assert_eq!(checked.err().map(|error| error.kind()), kind, "{name}");
        }
        assert!(!root.path().join("a").exists());
    }

    #[test]
    fn the_usual_folder_is_made_for_all_to_read_and_another_is_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let usual = root.path().join("fogmix/network");
        let other = root.path().join("fogmux/network");
        let refused = make_for(&other, &usual).unwrap_err();
        assert_eq!(refused.code, exit::CONFIG);
        assert!(refused.message.contains("mkdir -p "), "{refused}");
        assert!(!root.path().join("fogmux").exists());
        for _ in 0..2 {
            make_for(&usual, &usual).unwrap();
            let made = fs::metadata(root.path().join("fogmix")).unwrap();
            assert_eq!(made.permissions().mode() & 0o7777, 0o755);
        }
        // Where one is, nothing is touched; a bare name lies where the command runs.
        make_for(&root.path().join("key"), &usual).unwrap();
        make_for(Path::new("key"), &usual).unwrap();
    }
}
