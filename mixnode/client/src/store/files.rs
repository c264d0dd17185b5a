//! The one way in which files of the store are opened: nothing waits, no link is followed, and only regular files are
//! taken, whatever somebody has put into a folder of the user's.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use directory::store::open_regular;
use rustix::fs::OFlags;

/// Reads a whole file of `limit_bytes` at most.
pub(crate) fn read(path: &Path, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit_bytes {
        let text = format!("larger than {limit_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// Opens a file for reading and writing, which is made (mode 0600) where it is missing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        let text = "no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(file)
}

/// Bytes from their hexadecimal digits.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lies_in_a_file_s_place_nothing_waits_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name| folder.path().join(name);
        std::fs::write(place("file"), "four").unwrap();
        std::os::unix::fs::symlink(place("file"), place("link")).unwrap();
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, place("pipe"), fifo, mode, 0).unwrap();
        std::fs::create_dir(place("folder")).unwrap();
        for name in ["link", "pipe", "folder"] {
            assert!(read(&place(name), 9).is_err(), "{name}");
            assert!(open(&place(name)).is_err(), "{name}");
        }
        assert_eq!(read(&place("file"), 4).unwrap(), b"four");
        let error = read(&place("file"), 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        open(&place("new")).unwrap();
        assert_eq!(read(&place("new"), 0).unwrap(), b"");
    }

    #[test]
    fn digits_are_read_as_they_were_written() {
        let bytes: [u8; 3] = [0, 0xab, 0xff];
        assert_eq!(unhex(&directory::store::hex(&bytes)), Some(bytes));
        for wrong in ["", "00abf", "00abfg", "00abff00", "+0abff", "ä0abf"] {
            assert_eq!(unhex::<3>(wrong), None, "{wrong}");
        }
    }
}
