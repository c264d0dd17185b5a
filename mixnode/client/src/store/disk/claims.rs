//! How a received file takes a name that nobody has.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::Record;
use crate::store::names;

/// Names tried one after the other while somebody else takes them too.
const CLAIMS_MAX: u32 = 100;

/// Gives the part file a name that nobody has: `name`, `name (1)`, … The record names it before it is taken. Whatever
/// has that name, be it an empty file, is somebody's and stays.
pub(super) fn deliver(
    part: &Path,
    record: &mut Record,
    save: impl Fn(&Record) -> io::Result<()>,
) -> io::Result<PathBuf> {
    // Killed while the file had both names.
    if let Some(place) = &record.place
        && is_same(part, place)
    {
        fs::remove_file(part)?;
        return Ok(place.clone());
    }
    let first = names::place(&record.out, record.name.as_os_str().as_bytes())?;
    let name = first.file_name().unwrap_or_default().as_bytes();
    let place_of = |number| first.with_file_name(OsStr::from_bytes(&names::suffixed(name, number)));
    let taken = |number| fs::symlink_metadata(place_of(number)).is_ok();
    let free = free_number(taken).ok_or(io::ErrorKind::AlreadyExists)?;
    let mut taken = Err(io::ErrorKind::AlreadyExists.into());
    // Others may take names meanwhile.
    for number in free..free.saturating_add(CLAIMS_MAX) {
        let place = place_of(number);
        record.place = Some(place.clone());
        save(record)?;
        taken = rename(part, &place).map(|()| place);
        let is_lost = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        if !taken.as_ref().is_err_and(is_lost) {
            break;
        }
    }
    if taken.is_err() {
        record.place = None;
        save(record)?;
    }
    taken
}

/// Whether two names are of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let found = [one, other].map(fs::symlink_metadata);
    let [Ok(one), Ok(other)] = found else {
        return false;
    };
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Renames a file to a name that is free, in one step.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_by_links(from, to),
        renamed => Ok(renamed?),
    }
}

/// The same where the file system can't do that: it has both names for a moment.
fn rename_by_links(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => rename_over_empty(from, to),
        Ok(()) => fs::remove_file(from),
    }
}

/// The same where it has no links either: takes the name with an empty file first.
fn rename_over_empty(from: &Path, to: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(to)?;
    let renamed = fs::rename(from, to);
    if renamed.is_err() {
        // The name is given back: a delivery that fails leaves nothing.
        let _ = fs::remove_file(to);
    }
    renamed
}

/// A number that is not taken, found in as many looks as the logarithm of the taken ones: doubling, then halving. It
/// is the first unless there are holes among them.
pub(super) fn free_number(mut taken: impl FnMut(u32) -> bool) -> Option<u32> {
    if !taken(0) {
        return Some(0);
    }
    let (mut low, mut high) = (0, 1u32);
    while taken(high) {
        low = high;
        high = high.checked_mul(2)?;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        *if taken(middle) { &mut low } else { &mut high } = middle;
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_renaming_leaves_whatever_has_the_name() {
        for rename in [rename, rename_by_links, rename_over_empty] {
            let folder = tempfile::tempdir().unwrap();
            let place = |name| folder.path().join(name);
            fs::write(place("part"), "received").unwrap();
            fs::write(place("empty"), "").unwrap();
            std::os::unix::fs::symlink("/nowhere", place("link")).unwrap();
            for name in ["empty", "link"] {
                let error = rename(&place("part"), &place(name)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
            }
            assert_eq!(fs::read(place("empty")).unwrap(), b"");
            rename(&place("part"), &place("free")).unwrap();
            assert_eq!(fs::read(place("free")).unwrap(), b"received");
            assert!(!place("part").exists());
        }
    }
}
