//! Memory that is handed over: memfds whose size nobody can change, so that whoever maps one can't be made to fault by
//! the one who handed it over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::error::VaultError;

/// What may never happen to it.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// `bytes` of zeroes.
///
/// # Errors
/// There is no memory or no descriptor.
pub(super) fn sealed(name: &str, bytes: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 knows that nobody will execute it, and warns where that is not said; an older one refuses the flag.
    let memory = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        made => made?,
    };
    rustix::fs::ftruncate(&memory, bytes)?;
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

/// Whether its size can't be changed.
///
/// # Errors
/// It is no memfd.
pub(super) fn is_sealed(memory: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fcntl_get_seals(memory)?.contains(SEALS))
}

/// Checks that memory which came from a node is what this loader would have made.
pub(super) fn examine(memory: &OwnedFd, what: &str, expected: u64) -> Result<(), VaultError> {
    let what = || what.to_owned();
    let not_memory = |error: io::Error| VaultError::NotMemory {
        what: what(),
        error,
    };
    if !is_sealed(memory).map_err(not_memory)? {
        return Err(VaultError::Unsealed { what: what() });
    }
    match size(memory).map_err(not_memory)? {
        found if found == expected => Ok(()),
        found => Err(VaultError::Size {
            what: what(),
            found,
            expected,
        }),
    }
}

/// Its bytes.
pub(super) fn size(memory: &OwnedFd) -> io::Result<u64> {
    let found = rustix::fs::fstat(memory)?;
    Ok(u64::try_from(found.st_size).unwrap_or(0))
}

/// Whether two descriptors are of one memory.
pub(super) fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Reads all of `bytes` at `offset`.
pub(super) fn read(memory: &OwnedFd, offset: usize, bytes: &mut [u8]) -> Option<()> {
    let wanted = bytes.len();
    let came = rustix::io::pread(memory, bytes, offset as u64).ok()?;
    (came == wanted).then_some(())
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write(memory: &OwnedFd, offset: usize, bytes: &[u8]) -> io::Result<()> {
    let written = rustix::io::pwrite(memory, bytes, offset as u64)?;
    match written == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_handed_over_can_be_neither_shrunk_nor_grown() {
        let memory = sealed("fogmix-test", 4096).unwrap();
        assert!(rustix::fs::ftruncate(&memory, 2048).is_err());
        assert!(rustix::fs::ftruncate(&memory, 8192).is_err());
        assert!(rustix::fs::fcntl_add_seals(&memory, SealFlags::WRITE).is_err());
        assert!(is_sealed(&memory).unwrap());
        assert!(is_sealed(tempfile::tempfile().unwrap()).is_err());
    }
}
