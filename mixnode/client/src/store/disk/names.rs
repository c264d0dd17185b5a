//! Names that received files get.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;

use super::Record;

/// Names tried one after the other while somebody else takes them too.
const CLAIMS_MAX: u32 = 100;
/// Longest name given to a file, leaving room for a suffix.
pub(super) const NAME_BYTES_MAX: usize = 200;

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
    let place_of = |record: &Record, number| record.out.join(suffixed(&record.name, number));
    let taken = |number| fs::symlink_metadata(place_of(record, number)).is_ok();
    let free = free_number(taken).ok_or(io::ErrorKind::AlreadyExists)?;
    // Others may take names meanwhile.
    for number in free..free.saturating_add(CLAIMS_MAX) {
        let place = place_of(record, number);
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

/// The name a file gets: one component, no control characters, not hidden, not endless.
pub(super) fn sanitise(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut clean: String = last
        .chars()
        .map(|c| if c.is_control() { '_' } else { c })
        .collect();
    let mut end = clean.len().min(NAME_BYTES_MAX);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.truncate(end);
    let clean = clean.trim();
    match clean.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if clean.is_empty() => "file".to_owned(),
        None => clean.to_owned(),
    }
}

pub(super) fn suffixed(name: &str, attempt: u32) -> String {
    if attempt == 0 {
        return name.to_owned();
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => format!("{stem} ({attempt}).{extension}"),
        _ => format!("{name} ({attempt})"),
    }
}
