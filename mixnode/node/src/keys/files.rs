//! A node's long-lived keys: identity, link and VRF, one file each in the state folder, readable by their owner
//! alone. Epoch keys are never here.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use directory::Identity;
use directory::store::open_regular;
use directory::vrf::VrfSecret;
use link::{LINK_KEYS_BYTES, LinkKeys};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

const IDENTITY: (&str, usize) = ("identity.key", 32);
const LINK: (&str, usize) = ("link.key", LINK_KEYS_BYTES);
const VRF: (&str, usize) = ("vrf.key", 32);

/// What is wrong with a key file or its folder.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Not the bytes of a key.
    #[error("{} has {found} bytes, a key has {expected}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// What it should be.
        expected: usize,
    },
    /// Others may read it.
    #[error("{} is readable by others (mode {mode:03o})", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl KeyError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            KeyError::Io { path, .. } => {
                format!(
                    "make {} readable and writable for the user that runs mixnode",
                    path.display()
                )
            }
            KeyError::Length { path, .. } => {
                format!(
                    "restore {} from a backup, or remove it to become a new node",
                    path.display()
                )
            }
            KeyError::Mode { path, .. } => format!("chmod 0400 {}", path.display()),
        }
    }
}

/// The keys that outlive a restart.
pub struct NodeKeys {
    /// Signs descriptors.
    pub identity: Identity,
    /// Both static keys of the links.
    pub link: LinkKeys,
    /// Key of the verifiable random function: proves the node's place.
    pub vrf: VrfSecret,
}

/// Checks what is there without making anything: key files must be whole and private, the folder usable.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(state_dir: &Path) -> Result<(), KeyError> {
    let wrap = |error| KeyError::Io {
        path: state_dir.to_owned(),
        error,
    };
    match fs::read_dir(state_dir) {
        // Made at start if the parent allows it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = state_dir.parent().unwrap_or(Path::new("/"));
            fs::read_dir(parent)
                .map(|_| ())
                .map_err(|error| KeyError::Io {
                    path: parent.to_owned(),
                    error,
                })
        }
        Err(error) => Err(wrap(error)),
        Ok(_) => [IDENTITY, LINK, VRF]
            .into_iter()
            .try_for_each(|(name, bytes)| read(&state_dir.join(name), bytes).map(|_| ())),
    }
}

/// Whether no key is to be made at the next start.
pub fn are_all_there(state_dir: &Path) -> bool {
    let mut keys = [IDENTITY, LINK, VRF].into_iter();
    keys.all(|(name, _)| state_dir.join(name).exists())
}

/// Reads the keys, and makes those that are missing.
///
/// # Errors
/// The first thing that is wrong.
pub fn load_or_create<R: CryptoRng>(state_dir: &Path, rng: &mut R) -> Result<NodeKeys, KeyError> {
    fs::create_dir_all(state_dir).map_err(|error| KeyError::Io {
        path: state_dir.to_owned(),
        error,
    })?;
    let mut key = |(name, bytes): (&str, usize)| -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let path = state_dir.join(name);
        if let Some(key) = read(&path, bytes)? {
            return Ok(key);
        }
        let mut key = Zeroizing::new(vec![0; bytes]);
        rng.fill_bytes(&mut key);
        write(&path, &key).map_err(|error| KeyError::Io { path, error })?;
        Ok(key)
    };
    let (identity, link, vrf) = (key(IDENTITY)?, key(LINK)?, key(VRF)?);
    let array = |key: &[u8]| {
        let mut array = Zeroizing::new([0; 32]);
        array.copy_from_slice(key);
        array
    };
    let mut link_bytes = Zeroizing::new([0; LINK_KEYS_BYTES]);
    link_bytes.copy_from_slice(&link);
    Ok(NodeKeys {
        identity: Identity::from_bytes(&array(&identity)),
        link: LinkKeys::from_bytes(&link_bytes),
        vrf: VrfSecret::from_bytes(&array(&vrf)),
    })
}

/// A key file's bytes; `None` if there is no file.
fn read(path: &Path, bytes: usize) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    let wrap = |error| KeyError::Io {
        path: path.to_owned(),
        error,
    };
    let file = match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(wrap)?,
    };
    let metadata = file.metadata().map_err(wrap)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() != bytes as u64 {
        return Err(KeyError::Length {
            path: path.to_owned(),
            found: metadata.len(),
            expected: bytes,
        });
    }
    let mut key = Zeroizing::new(Vec::with_capacity(bytes + 1));
    file.take(bytes as u64 + 1)
        .read_to_end(&mut key)
        .map_err(wrap)?;
    if key.len() != bytes {
        return Err(KeyError::Length {
            path: path.to_owned(),
            found: key.len() as u64,
            expected: bytes,
        });
    }
    Ok(Some(key))
}

/// Writes a new key file; a crash leaves either none or a whole one.
fn write(path: &Path, key: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&temporary)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use std::os::unix::fs::PermissionsExt;

    fn rng(seed: u64) -> rand_chacha::ChaCha20Rng {
        rand_chacha::ChaCha20Rng::seed_from_u64(seed)
    }

    #[test]
    fn keys_are_made_once_private_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        check(&state).unwrap();
        let first = load_or_create(&state, &mut rng(1)).unwrap();
        check(&state).unwrap();
        let again = load_or_create(&state, &mut rng(2)).unwrap();
        assert_eq!(first.identity.public(), again.identity.public());
        assert_eq!(first.link.public(), again.link.public());
        assert_eq!(first.vrf.public(), again.vrf.public());
        for entry in fs::read_dir(&state).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o400);
        }
    }

    #[test]
    fn a_pipe_or_a_link_in_place_of_a_key_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        load_or_create(folder.path(), &mut rng(1)).unwrap();
        let path = folder.path().join(VRF.0);
        let kept = folder.path().join("kept");
        fs::rename(&path, &kept).unwrap();
        std::os::unix::fs::symlink(&kept, &path).unwrap();
        assert!(matches!(check(folder.path()), Err(KeyError::Io { .. })));
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(matches!(check(folder.path()), Err(KeyError::Io { .. })));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_cut_short_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        load_or_create(folder.path(), &mut rng(1)).unwrap();
        let path = folder.path().join(LINK.0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = check(folder.path()).unwrap_err();
        assert!(error.remedy().contains("chmod 0400"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [1; 95]).unwrap();
        assert!(matches!(
            check(folder.path()),
            Err(KeyError::Length { found: 95, .. })
        ));
    }
}
