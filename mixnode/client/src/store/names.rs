//! Names that strangers give to files: what of them is taken over. They are bytes, as on the disk; what of them is text
//! is looked at as text.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest name given to a file, leaving room for a suffix.
pub(crate) const NAME_BYTES_MAX: usize = 200;
/// Folders within each other that are made for one file.
const DEPTH_MAX: usize = 16;
/// Longest extension that a cut name keeps, with its dot.
const EXTENSION_BYTES_MAX: usize = 24;
/// A UTF-8 character has at most so many bytes behind its first.
const CONTINUATION_MAX: usize = 3;

/// The name a file gets, below the folder for received files: components that are not hidden, not endless, and show as
/// what they are. Folders stay if every part of the name is one; of others the last part counts.
pub(super) fn sanitise(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
    let is_path = parts.len() <= DEPTH_MAX
        && parts
            .iter()
            .all(|part| !part.is_empty() && !part.starts_with(b".") && !part.contains(&b'\\'));
    if is_path {
        let parts: Vec<Vec<u8>> = parts.into_iter().map(component).collect();
        return parts.join(&b'/');
    }
    let last = name.rsplit(|byte| matches!(byte, b'/' | b'\\')).next();
    component(last.unwrap_or_default())
}

fn component(name: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let shown = |c| if program::is_unseen(c) { '_' } else { c };
        let text: String = chunk.valid().chars().map(shown).collect();
        clean.extend_from_slice(text.as_bytes());
        // What is no text is printed as escapes, and kept.
        clean.extend_from_slice(chunk.invalid());
    }
    let clean = cut(trim(&clean), NAME_BYTES_MAX);
    match trim(&clean) {
        [] => b"file".to_vec(),
        [b'.', rest @ ..] => [b"_", rest].concat(),
        clean => clean.to_vec(),
    }
}

fn trim(name: &[u8]) -> &[u8] {
    match core::str::from_utf8(name) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => name.trim_ascii(),
    }
}

/// A name of at most `bytes` bytes that keeps its extension. Where it has folders that leave no room, they go.
pub(crate) fn cut(name: &[u8], bytes: usize) -> Vec<u8> {
    if name.len() <= bytes {
        return name.to_vec();
    }
    let (folders, file) = split_file(name);
    let folders = if folders.len() + 2 * EXTENSION_BYTES_MAX <= bytes {
        folders
    } else {
        &[]
    };
    let room = bytes.saturating_sub(folders.len());
    if file.len() <= room {
        return [folders, file].concat();
    }
    let (stem, extension) = extension_of(file);
    let mut end = room.saturating_sub(extension.len()).min(stem.len());
    for _ in 0..CONTINUATION_MAX {
        // Not within a character.
        match stem.get(end) {
            Some(0x80..=0xbf) => end = end.saturating_sub(1),
            _ => break,
        }
    }
    [folders, stem.get(..end).unwrap_or_default(), extension].concat()
}

/// Folders with the slash behind them, and the last part.
fn split_file(name: &[u8]) -> (&[u8], &[u8]) {
    let at = name.iter().rposition(|byte| *byte == b'/');
    name.split_at(at.map_or(0, |at| at + 1))
}

/// Stem and extension, its dot included; none where it is too long to be one.
fn extension_of(file: &[u8]) -> (&[u8], &[u8]) {
    match file.iter().rposition(|byte| *byte == b'.') {
        Some(at) if at > 0 && file.len() - at <= EXTENSION_BYTES_MAX => file.split_at(at),
        _ => (file, &[]),
    }
}

/// `name`, or for a further attempt `name (1)` before its extension.
pub(super) fn suffixed(name: &[u8], attempt: u32) -> Vec<u8> {
    if attempt == 0 {
        return name.to_vec();
    }
    let (folders, file) = split_file(name);
    let dot = file.iter().rposition(|byte| *byte == b'.');
    let (stem, extension) = file.split_at(dot.filter(|at| *at > 0).unwrap_or(file.len()));
    let number = format!(" ({attempt})");
    [folders, stem, number.as_bytes(), extension].concat()
}

/// Makes the folders of `name` below `out` and says where it goes: into `out` itself where something else than a folder
/// is in the way, a link among it, which may lead elsewhere.
pub(super) fn place(out: &Path, name: &[u8]) -> io::Result<PathBuf> {
    let (folders, file) = split_file(name);
    let file = OsStr::from_bytes(file);
    let mut at = out.to_owned();
    let folders = folders.split(|byte| *byte == b'/');
    for folder in folders.filter(|folder| !folder.is_empty()) {
        at.push(OsStr::from_bytes(folder));
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
            assert_eq!(sanitise(name.as_bytes()), expected.as_bytes(), "{name:?}");
        }
        assert!(!sanitise("a/".repeat(40).as_bytes()).contains(&b'/'));
    }

    #[test]
    fn a_cut_name_keeps_its_extension() {
        let text = |name: Vec<u8>| String::from_utf8(name).unwrap();
        let cut = |name: &str, bytes| text(super::cut(name.as_bytes(), bytes));
        let cut_name = text(sanitise(format!("{}.tar.gz", "ü".repeat(300)).as_bytes()));
        assert!(
            cut_name.len() <= NAME_BYTES_MAX && cut_name.ends_with("ü.gz"),
            "{cut_name}"
        );
        assert!(text(sanitise("ü".repeat(300).as_bytes())).len() <= NAME_BYTES_MAX);
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
        assert_eq!(suffixed(b"a.d/file", 2), b"a.d/file (2)");
        assert_eq!(suffixed(b"a.d/file.txt", 1), b"a.d/file (1).txt");
        assert_eq!(suffixed(b"file.txt", 0), b"file.txt");
        assert_eq!(suffixed(b"caf\xe9.txt", 3), b"caf\xe9 (3).txt");
    }

    #[test]
    fn a_name_that_is_no_text_is_kept_byte_for_byte_and_is_no_way_out() {
        for (name, expected) in [
            (&b"caf\xe9.txt"[..], &b"caf\xe9.txt"[..]),
            (b"\xff\xfe/caf\xe9", b"\xff\xfe/caf\xe9"),
            (b"../\xff/../x\xe9", b"x\xe9"),
            (b".\xe9", b"_\xe9"),
            (b" \xe9\n\xe2\x80\xaegpj\0 ", b"\xe9__gpj_"),
        ] {
            assert_eq!(sanitise(name), expected, "{}", program::visible(name));
        }
        let long = [vec![0x80; 300], b".jpg".to_vec()].concat();
        let short = sanitise(&long);
        assert!(short.len() <= NAME_BYTES_MAX && short.ends_with(b"\x80.jpg"));
    }

    #[test]
    fn folders_are_made_and_links_are_not_followed() {
        let out = tempfile::tempdir().unwrap();
        let made = place(out.path(), b"a/b/c.txt").unwrap();
        assert!(made.ends_with("a/b/c.txt") && made.parent().unwrap().is_dir());
        assert_eq!(place(out.path(), b"a/b/c.txt").unwrap(), made);
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), out.path().join("link")).unwrap();
        assert_eq!(place(out.path(), b"link/x").unwrap(), out.path().join("x"));
        fs::write(out.path().join("taken"), "").unwrap();
        assert_eq!(place(out.path(), b"taken/y").unwrap(), out.path().join("y"));
    }
}
