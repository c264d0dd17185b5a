//! The file that is to be sent: opened without waiting for anything, and hashed.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::store::SentFile;

/// Hashing is told of when it has lasted so long, and then so often.
const QUIET: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_millis(200);

/// Opens a regular file. Whatever else there may be (a pipe that nobody writes to, a device) is refused, and opening it
/// does not wait.
///
/// # Errors
/// The file system's, or what the thing is in place of a file (`InvalidInput`).
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    regular(&std::fs::metadata(path)?)?;
    // It may have become something else since.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let found = file.metadata()?;
    regular(&found)?;
    Ok((file, found.len()))
}

/// Refuses what is no regular file.
pub(super) fn regular(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "nothing that can be read"
    };
    let text = format!("this is {what}, and only regular files can be sent");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Reads all of it to know its size and hash; `None` when it is asked to stop. `tell` hears how many bytes are done once
/// it lasts.
pub(super) fn measure(
    file: File,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(u64),
) -> io::Result<Option<SentFile>> {
    let mut next = Instant::now() + QUIET;
    SentFile::measure(file, &mut |done| {
        if Instant::now() >= next {
            next = Instant::now() + TELL;
            tell(done);
        }
        !stop.load(Ordering::Relaxed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, what) in [
            (pipe.as_path(), "a named pipe"),
            (&link, "a named pipe"),
            (folder.path(), "a folder"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = open(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
            assert!(error.to_string().contains(what), "{error}");
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(open(&file).unwrap().1, 4);
    }

    #[test]
    fn hashing_stops_when_it_is_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 200_000]).unwrap();
        let stop = AtomicBool::new(false);
        let (file, _) = open(&path).unwrap();
        let sent = measure(file, &stop, &mut |_| {}).unwrap().unwrap();
        assert_eq!(
            sent.measured(),
            (200_000, *blake3::hash(&[7; 200_000]).as_bytes())
        );
        stop.store(true, Ordering::Relaxed);
        let (file, _) = open(&path).unwrap();
        assert!(measure(file, &stop, &mut |_| {}).unwrap().is_none());
    }
}
