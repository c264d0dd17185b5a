//! Names that strangers give to files: what of them is taken over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest name given to a file, leaving room for a suffix.
pub(crate) const NAME_BYTES_MAX: usize = 200;
/// Folders within each other that are made for one file.
const DEPTH_MAX: usize = 16;
/// Longest extension that a cut name keeps, with its dot.
const EXTENSION_BYTES_MAX: usize = 24;

/// The name a file gets, below the folder for received files: components that are not hidden, not endless, and show as
/// what they are. Folders stay if every part of the name is one; of others the last part counts.
pub(super) fn sanitise(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    let is_path = parts.len() <= DEPTH_MAX
        && parts
            .iter()
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains('\\'));
    if is_path {
        let parts = parts.into_iter().map(component);
        return parts.collect::<Vec<_>>().join("/");
    }
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    component(last)
}

fn component(name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|c| if program::is_unseen(c) { '_' } else { c })
        .collect();
    let clean = cut(clean.trim(), NAME_BYTES_MAX);
    let clean = clean.trim();
    match clean.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if clean.is_empty() => "file".to_owned(),
        None => clean.to_owned(),
    }
}

/// A name of at most `bytes` bytes that keeps its extension. Where it has folders that leave no room, they go.
pub(crate) fn cut(name: &str, bytes: usize) -> String {
    if name.len() <= bytes {
        return name.to_owned();
    }
    let (folders, file) = match name.rsplit_once('/') {
        Some((folders, file)) if folders.len() + 2 * EXTENSION_BYTES_MAX < bytes => {
            (format!("{folders}/"), file)
        }
        Some((_, file)) => (String::new(), file),
        None => (String::new(), name),
    };
    let room = bytes.saturating_sub(folders.len());
    if file.len() <= room {
        return folders + file;
    }
    let (stem, extension) = extension_of(file);
    let mut end = room.saturating_sub(extension.len()).min(stem.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    folders + stem.get(..end).unwrap_or_default() + extension
}

/// Stem and extension, its dot included; none where it is too long to be one.
fn extension_of(file: &str) -> (&str, &str) {
    match file.rfind('.') {
        Some(at) if at > 0 && file.len() - at <= EXTENSION_BYTES_MAX => file.split_at(at),
        _ => (file, ""),
    }
}

/// `name`, or for a further attempt `name (1)` before its extension.
pub(super) fn suffixed(name: &str, attempt: u32) -> String {
    if attempt == 0 {
        return name.to_owned();
    }
    let file_at = name.rfind('/').map_or(0, |at| at + 1);
    let (folders, file) = name.split_at(file_at);
    match file.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => {
            format!("{folders}{stem} ({attempt}).{extension}")
        }
        _ => format!("{folders}{file} ({attempt})"),
    }
}

/// Makes the folders of `name` below `out` and says where it goes: into `out` itself where something else than a folder
/// is in the way, a link among it, which may lead elsewhere.
pub(super) fn place(out: &Path, name: &str) -> io::Result<PathBuf> {
    let Some((folders, file)) = name.rsplit_once('/') else {
        return Ok(out.join(name));
    };
    let mut at = out.to_owned();
    for folder in folders.split('/') {
        at.push(folder);
        match fs::create_dir(&at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&at)?.is_dir() {
                    return Ok(out.join(file));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(at.join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_elsewhere_never_leaves_the_folder() {
        for (name, expected) in [
            ("../../etc/passwd", "passwd"),
            ("/etc/shadow", "shadow"),
            ("a/../../b", "b"),
            ("..", "_."),
            ("", "file"),
            ("a/", "file"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("a/..\\b", "b"),
            ("a/.ssh/config", "config"),
            (".bashrc", "_bashrc"),
            ("new\nline\0", "new_line_"),
            ("plain name.txt", "plain name.txt"),
            ("photos/2026/a.jpg", "photos/2026/a.jpg"),
            ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
            ("\u{2066}a\u{200b}/b\u{feff}", "_a_/b_"),
        ] {
            assert_eq!(sanitise(name), expected, "{name:?}");
        }
        assert!(!sanitise(&"a/".repeat(40)).contains('/'));
    }

    #[test]
    fn a_cut_name_keeps_its_extension() {
        let cut_name = sanitise(&format!("{}.tar.gz", "ü".repeat(300)));
        assert!(
            cut_name.len() <= NAME_BYTES_MAX && cut_name.ends_with("ü.gz"),
            "{cut_name}"
        );
        assert!(sanitise(&"ü".repeat(300)).len() <= NAME_BYTES_MAX);
        let long = format!("{}.{}", "a".repeat(10), "b".repeat(300));
        assert_eq!(cut(&long, 200).len(), 200);
        assert_eq!(cut("short.txt", 255), "short.txt");
        let below = format!("photos/{}.jpg", "a".repeat(300));
        let shorter = cut(&below, 255);
        assert!(
            shorter.starts_with("photos/a") && shorter.ends_with("a.jpg"),
            "{shorter}"
        );
        assert_eq!(shorter.len(), 255);
        let deep = format!("{}/a.jpg", "d".repeat(300));
        assert_eq!(cut(&deep, 255), "a.jpg");
    }

    #[test]
    fn a_suffix_goes_to_the_file_and_not_to_a_folder() {
        assert_eq!(suffixed("a.d/file", 2), "a.d/file (2)");
        assert_eq!(suffixed("a.d/file.txt", 1), "a.d/file (1).txt");
        assert_eq!(suffixed("file.txt", 0), "file.txt");
    }

    #[test]
    fn folders_are_made_and_links_are_not_followed() {
        let out = tempfile::tempdir().unwrap();
        let made = place(out.path(), "a/b/c.txt").unwrap();
        assert!(made.ends_with("a/b/c.txt") && made.parent().unwrap().is_dir());
        assert_eq!(place(out.path(), "a/b/c.txt").unwrap(), made);
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), out.path().join("link")).unwrap();
        assert_eq!(place(out.path(), "link/x").unwrap(), out.path().join("x"));
        fs::write(out.path().join("taken"), "").unwrap();
        assert_eq!(place(out.path(), "taken/y").unwrap(), out.path().join("y"));
    }
}
