//! How a received file takes a name that nobody has.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Record;
use crate::store::names;

/// Names tried one after the other while somebody else takes them too.
const CLAIMS_MAX: u32 = 100;

/// Takes a name that nobody has: `name`, `name (1)`, … The record names it before it exists.
pub(super) fn claim(
    record: &mut Record,
    save: impl Fn(&Record) -> io::Result<()>,
) -> io::Result<PathBuf> {
    // A claim of a process that was killed: still empty, so it is ours.
    if let Some(place) = &record.place
        && fs::metadata(place).is_ok_and(|found| found.len() == 0)
    {
        return Ok(place.clone());
    }
    let first = names::place(&record.out, record.name.as_os_str().as_bytes())?;
    let name = first.file_name().unwrap_or_default().as_bytes();
    let place_of = |number| first.with_file_name(OsStr::from_bytes(&names::suffixed(name, number)));
    let taken = |number| fs::symlink_metadata(place_of(number)).is_ok();
    let free = free_number(taken).ok_or(io::ErrorKind::AlreadyExists)?;
    // Others may take names meanwhile.
    for number in free..free.saturating_add(CLAIMS_MAX) {
        let place = place_of(number);
        record.place = Some(place.clone());
        save(record)?;
        match OpenOptions::new().write(true).create_new(true).open(&place) {
            Ok(_) => return Ok(place),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                record.place = None;
                save(record)?;
                return Err(error);
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
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
