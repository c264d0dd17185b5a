//! An authority's key: a file with the 32 bytes of its seed, readable by its owner alone.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use directory::Identity;
use directory::store::open_regular;
use zeroize::Zeroizing;

use crate::exit::{self, Failure};

/// Where it lies unless told otherwise.
pub const KEY_PATH: &str = "/etc/fogmix/authority.key";

/// Makes a key and writes it to `path`, where nothing may be: an authority's key is never replaced by accident.
///
/// # Errors
/// The file is there, the file system's, or the system has no random bytes.
pub fn create(path: &Path) -> Result<Identity, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Failure::new(exit::OS, format!("no random bytes: {error}")))?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)
        .and_then(|mut file| {
            file.write_all(seed.as_slice())?;
            file.sync_all()
        });
    match written {
        Ok(()) => Ok(Identity::from_bytes(&seed)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::new(
            exit::CONFIG,
            format!(
                "{} is there already: an authority keeps its key; name another file with --key for another authority",
                path.display()
            ),
        )),
        Err(error) => Err(failure(path, &error)),
    }
}

/// Reads the key.
///
/// # Errors
/// There is none, others may read it, or it is not of a key's length.
pub fn read(path: &Path) -> Result<Identity, Failure> {
    let file = open_regular(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let mut lacks = failure(path, &error);
            lacks.message += ": `mixctl authority init` makes a key, once";
            lacks
        }
        _ => failure(path, &error),
    })?;
    let mode = file
        .metadata()
        .map_err(|error| failure(path, &error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let (path, mode) = (path.display(), mode & 0o777);
        let message = format!("{path} is readable by others (mode {mode:03o}): chmod 0400 {path}");
        return Err(Failure::new(exit::CONFIG, message));
    }
    let mut seed = Zeroizing::new([0; 32]);
    let mut more = [0; 1];
    let mut file = file.take(33);
    let whole = file.read_exact(seed.as_mut_slice());
    match whole.and_then(|()| file.read(&mut more)) {
        Ok(0) => Ok(Identity::from_bytes(&seed)),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(failure(path, &error)),
        _ => Err(Failure::new(
            exit::CONFIG,
            format!(
                "{} is not a key's 32 bytes: restore it from a backup",
                path.display()
            ),
        )),
    }
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => exit::PERMISSION,
        io::ErrorKind::NotFound => exit::CONFIG,
        _ => exit::OS,
    };
    Failure::new(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_never_replaced_and_refused_where_others_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authority.key");
        let lacks = read(&path).unwrap_err();
        assert_eq!(lacks.code, exit::CONFIG);
        assert!(lacks.message.contains("mixctl authority init"), "{lacks}");
        let key = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().public(), key.public());
        assert_eq!(create(&path).unwrap_err().code, exit::CONFIG);
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o400);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o440)).unwrap();
        assert!(read(&path).unwrap_err().message.contains("chmod 0400"));
        for bytes in [31, 33] {
            let path = folder.path().join(format!("{bytes}.key"));
            std::fs::write(&path, vec![1; bytes]).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
            assert!(read(&path).unwrap_err().message.contains("32 bytes"));
        }
    }
}
