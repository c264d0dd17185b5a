//! What `fog send` was told to send: files, folders, standard input.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fog::run::{RunError, Wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::End;

/// The path that means standard input.
const STDIN: &str = "-";
/// The device number of /dev/null, 1:3, which also stands in for a standard input that is closed.
const NULL_DEVICE: u64 = (1 << 8) | 3;
/// It is told when standard input has given nothing for so long; a request to stop is looked for so often.
const PATIENCE: Duration = Duration::from_secs(3);
const MOMENT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// How names of its copies begin.
const COPY: &str = "stdin-";

/// A file that is sent, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub path: PathBuf,
    pub name: OsString,
}

/// Finds all files in the order they are sent, and refuses what can't be sent before anything is.
pub fn collect(paths: &[PathBuf], name: Option<&OsStr>) -> Result<Vec<Item>, End> {
    if name.is_some() && paths.len() > 1 {
        let text = "--name names one file: send the others by another command";
        return Err(End::Usage(text.to_owned()));
    }
    let (mut items, mut empty) = (Vec::new(), Vec::new());
    for path in paths {
        if path.as_os_str() == STDIN {
            let Some(name) = name else {
                let text = "standard input has no name: give it one with --name";
                return Err(End::Usage(text.to_owned()));
            };
            items.push(Item {
                path: path.clone(),
                name: name.to_owned(),
            });
            continue;
        }
        let found = fs::metadata(path).map_err(|error| End::file(path, error))?;
        let own = match path.file_name() {
            Some(own) => own.to_owned(),
            // As of `.` and `..`.
            None => {
                let whole = path
                    .canonicalize()
                    .map_err(|error| End::file(path, error))?;
                whole.file_name().unwrap_or(OsStr::new("files")).to_owned()
            }
        };
        let item = Item {
            path: path.clone(),
            name: name.map_or(own, OsStr::to_owned),
        };
        if found.is_dir() {
            let before = items.len();
            below(&item, &mut items)?;
            if items.len() == before {
                empty.push(shown(path));
            }
        } else {
            fog::run::open_source(path).map_err(|error| End::file(path, error))?;
            items.push(item);
        }
    }
    if items.is_empty() {
        let empty = empty.join(", ");
        return Err(End::Usage(format!("{empty}: there is no file in it")));
    }
    for folder in empty {
        program::complain!("fog: {folder}: there is no file in it, left out");
    }
    Ok(items)
}

/// Files of a folder and those below it, by name.
fn below(folder: &Item, items: &mut Vec<Item>) -> Result<(), End> {
    let failed = |error| End::file(&folder.path, error);
    let mut entries: Vec<_> = fs::read_dir(&folder.path)
        .map_err(failed)?
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let mut name = folder.name.clone();
        name.push("/");
        name.push(entry.file_name());
        let kind = entry.file_type().map_err(|error| End::file(&path, error))?;
        if kind.is_symlink() {
            // What it leads to may lie anywhere, and be above this folder.
            program::complain!("fog: {}: a link, left out", shown(&path));
        } else if kind.is_dir() {
            below(&Item { path, name }, items)?;
        } else {
            fog::run::open_source(&path).map_err(|error| End::file(&path, error))?;
            items.push(Item { path, name });
        }
    }
    Ok(())
}

/// A path as it may be printed.
pub fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    program::visible(path.as_os_str().as_bytes())
}

/// Whether an item is standard input.
pub fn is_stdin(item: &Item) -> bool {
    item.path.as_os_str() == STDIN
}

/// Standard input in a file of its own, which can be read more than once: gone when dropped.
pub struct Copy(PathBuf);

impl Copy {
    /// Copies into `home`, until the time after the moment of `until` is over. `tell` hears that it waits, and that it
    /// goes on.
    pub fn make(
        home: &Path,
        (began, timeout): (Instant, Option<Duration>),
        tell: &mut dyn FnMut(Option<Wait>),
        stop: &AtomicBool,
    ) -> Result<Copy, RunError> {
        let failed = |error| RunError::File {
            path: STDIN.into(),
            error,
        };
        // That of the copy, and not of what is copied.
        let unkept = |error: io::Error| {
            let text = format!("standard input can't be kept here while it is sent: {error}");
            RunError::File {
                path: home.to_owned(),
                error: io::Error::new(error.kind(), text),
            }
        };
        remove_dead(home);
        let path = home.join(format!("{COPY}{}", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(unkept)?;
        let copy = Copy(path);
        let mut input = input().map_err(failed)?;
        let mut buffer = vec![0; 1 << 16];
        let (mut heard, mut is_told) = (Instant::now(), false);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(RunError::Stopped);
            }
            if let Some(after) = timeout.filter(|after| began.elapsed() >= *after) {
                let wait = Some(Wait::Input);
                return Err(RunError::TimedOut { after, wait });
            }
            if !is_readable(&input) {
                if heard.elapsed() >= PATIENCE && !std::mem::replace(&mut is_told, true) {
                    tell(Some(Wait::Input));
                }
                continue;
            }
            heard = Instant::now();
            if std::mem::take(&mut is_told) {
                tell(None);
            }
            let read = match io::Read::read(&mut input, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(failed)?,
            };
            if read == 0 {
                return Ok(copy);
            }
            let read = buffer.get(..read).unwrap_or_default();
            io::Write::write_all(&mut file, read).map_err(unkept)?;
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The descriptor itself: what was read of it before is gone, and it may be what nobody could open.
fn input() -> io::Result<File> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let found = input.metadata()?;
    if found.file_type().is_char_device() && found.rdev() == NULL_DEVICE {
        let text = "standard input is closed, or /dev/null: there is nothing to send";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(input)
}

/// Waits a moment for something to read, or the end.
fn is_readable(input: &File) -> bool {
    let mut polled = [PollFd::new(input, PollFlags::IN)];
    // Cut short by a signal: asked again.
    poll(&mut polled, Some(&MOMENT)).is_ok_and(|ready| ready > 0)
}

/// Copies of processes that were killed.
fn remove_dead(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(COPY));
        if let Some(process) = process
            && process.parse::<u32>().is_ok()
            && !Path::new("/proc").join(process).exists()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&Path]) -> Vec<String> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        let items = collect(&paths, None).unwrap_or_else(|_| panic!("refused"));
        items
            .into_iter()
            .map(|item| item.name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn folders_are_walked_in_order_and_names_are_kept_below_them() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("photos");
        fs::create_dir_all(folder.join("b/deep")).unwrap();
        for file in ["a.jpg", "b/deep/1.jpg", "b/2.jpg", "z.jpg"] {
            fs::write(folder.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("/etc", folder.join("etc")).unwrap();
        let single = root.path().join("single");
        fs::write(&single, "").unwrap();
        assert_eq!(
            names(&[&single, &folder]),
            [
                "single",
                "photos/a.jpg",
                "photos/b/2.jpg",
                "photos/b/deep/1.jpg",
                "photos/z.jpg"
            ]
        );
        // One without files keeps nobody from sending the others; alone it is refused, by its name.
        let empty = root.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert_eq!(names(&[&empty, &single]), ["single"]);
        let refused = collect(std::slice::from_ref(&empty), None);
        let Err(End::Usage(text)) = refused else {
            panic!("an empty folder is sent");
        };
        assert_eq!(text, format!("{}: there is no file in it", shown(&empty)));
    }

    #[test]
    fn what_can_not_be_sent_is_refused_before_anything_is() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let pipe = root.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let refused = |paths: &[&Path], name: Option<&OsStr>| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
            collect(&paths, name).is_err()
        };
        assert!(refused(&[&file, &pipe], None));
        assert!(refused(&[root.path()], None), "a pipe in a folder");
        assert!(refused(&[&file, Path::new("/nowhere")], None));
        assert!(refused(&[Path::new("-")], None));
        assert!(refused(&[&file, &file], Some(OsStr::new("x"))));
        assert!(!refused(&[Path::new("-")], Some(OsStr::new("x"))));
    }

    #[test]
    fn copies_of_dead_processes_go() {
        let home = tempfile::tempdir().unwrap();
        let (dead, own) = (
            home.path().join("stdin-4294967295"),
            home.path().join(format!("stdin-{}", std::process::id())),
        );
        fs::write(&dead, "").unwrap();
        fs::write(&own, "").unwrap();
        remove_dead(home.path());
        assert!(!dead.exists() && own.exists());
    }
}
