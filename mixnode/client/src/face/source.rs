//! The file that is to be sent: opened without waiting for anything, and hashed on a thread of its own.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
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

/// A file whose size and hash are known.
pub(super) struct Measured {
    pub(super) source: SentFile,
    /// Where it is, whatever the path that was given leads over.
    pub(super) path: PathBuf,
}

/// What the thread that reads tells, and hears.
#[derive(Default)]
struct Board {
    bytes: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

/// A file that is being read to know its size and hash, by a thread of its own: however slow a disk is, slots, answers
/// and the commands of others go on. Dropped, it is read no further; that is not waited for.
pub(super) struct Measuring {
    board: Arc<Board>,
    /// Ends without a word where it was asked to stop.
    measured: Receiver<io::Result<Measured>>,
    /// When it is told of next.
    next: Instant,
}

impl Measuring {
    /// Begins to read.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let board = Arc::new(Board::default());
        let (tell, measured) = sync_channel(1);
        let (path, shared) = (path.to_owned(), Arc::clone(&board));
        std::thread::Builder::new()
            .name("hashing".to_owned())
            .spawn(move || {
                if let Some(measured) = measure(&path, &shared).transpose() {
                    // Whoever asked may have gone.
                    let _ = tell.send(measured);
                }
            })?;
        Ok(Self {
            board,
            measured,
            next: Instant::now() + QUIET,
        })
    }

    /// What came of it, once it is over; waits for that no longer than this.
    pub(super) fn outcome(&mut self, wait: Duration) -> Option<io::Result<Measured>> {
        match self.measured.recv_timeout(wait) {
            Ok(measured) => Some(measured),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(io::Error::other("the thread that reads it has ended")))
            }
        }
    }

    /// Bytes that are done, and all, where it lasts and is to be told of again.
    pub(super) fn news(&mut self) -> Option<(u64, u64)> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + TELL;
        let board = &self.board;
        let (bytes, total) = (&board.bytes, &board.total);
        Some((bytes.load(Ordering::Relaxed), total.load(Ordering::Relaxed)))
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.board.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads all of it; `None` when it is asked to stop.
fn measure(path: &Path, board: &Board) -> io::Result<Option<Measured>> {
    let (file, total) = open(path)?;
    board.total.store(total, Ordering::Relaxed);
    let path = path.canonicalize()?;
    let source = SentFile::measure(file, &mut |bytes| {
        board.bytes.store(bytes, Ordering::Relaxed);
        !board.stop.load(Ordering::Relaxed)
    })?;
    Ok(source.map(|source| Measured { source, path }))
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
            // On a thread of its own: an open that waits must fail the test, not hold it up.
            let (opened, outcome) = sync_channel(1);
            let owned = path.to_owned();
            std::thread::spawn(move || opened.send(open(&owned).map(drop)));
            let outcome = outcome.recv_timeout(Duration::from_secs(60));
            let outcome = outcome.unwrap_or_else(|_| panic!("{path:?}: opening it waits"));
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
            assert!(error.to_string().contains(what), "{error}");
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(open(&file).unwrap().1, 4);
    }

    #[test]
    fn hashing_goes_on_beside_and_stops_when_nobody_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 200_000]).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut measuring = Measuring::start(&link).unwrap();
        let measured = measuring.outcome(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(
            measured.source.measured(),
            (200_000, *blake3::hash(&[7; 200_000]).as_bytes())
        );
        assert_eq!(measured.path, path.canonicalize().unwrap());
        // One that takes minutes: a hole alone, which takes no room.
        File::create(&path).unwrap().set_len(1 << 38).unwrap();
        let mut measuring = Measuring::start(&path).unwrap();
        assert!(measuring.news().is_none(), "it is told of at once");
        assert!(measuring.outcome(QUIET).is_none());
        let (bytes, total) = measuring.news().unwrap();
        assert!(bytes > 0 && total == 1 << 38, "{bytes} of {total}");
        let board = Arc::clone(&measuring.board);
        drop(measuring);
        let began = Instant::now();
        while Arc::strong_count(&board) > 1 {
            assert!(began.elapsed() < Duration::from_secs(60), "it reads on");
            std::thread::sleep(Duration::from_millis(1));
        }
        // What can't be read.
        std::fs::remove_file(&path).unwrap();
        let mut measuring = Measuring::start(&path).unwrap();
        let gone = measuring.outcome(Duration::from_secs(60)).unwrap();
        assert_eq!(gone.err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
