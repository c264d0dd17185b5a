//! Output that may be cut off, and text of strangers that must not be printed raw.

use std::fmt::Write as _;
use std::io::{self, Write};

/// Prints a line on standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// It could not be written for another reason, say a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quiet(writeln!(out, "{text}").and_then(|()| out.flush()))
}

fn quiet(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// What [`say!`](crate::say) does.
pub fn say_line(text: &str) {
    let _ = print(text);
}

/// What [`complain!`](crate::complain) does. Whoever wrote the names, paths and values in it moves no cursor and turns no
/// line around.
pub fn complain_line(text: &str) {
    let mut shown = String::with_capacity(text.len() + 1);
    for line in text.lines() {
        shown.push_str(&visible(line.as_bytes()));
        shown.push('\n');
    }
    // In one piece: others may write there too.
    let _ = io::stderr().write_all(shown.as_bytes());
}

/// `println!` for a program that goes on whether or not somebody reads.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::say_line(&::std::format!($($words)*)) };
}

/// `eprintln!` that does not panic when nobody reads.
#[macro_export]
macro_rules! complain {
    ($($words:tt)*) => { $crate::complain_line(&::std::format!($($words)*)) };
}

/// Whether a character does not show as itself: control characters, and those that only format others, which can turn
/// the order of a line around (Unicode's classes Cc, Cf, Zl, Zp, and fillers that look like nothing).
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            u32::from(character),
            0xad | 0x600..=0x605
                | 0x61c
                | 0x6dd
                | 0x70f
                | 0x890..=0x891
                | 0x8e2
                | 0x115f..=0x1160
                | 0x180e
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0x3164
                | 0xfeff
                | 0xffa0
                | 0xfff9..=0xfffb
                | 0x110bd
                | 0x110cd
                | 0x13430..=0x1343f
                | 0x1bca0..=0x1bca3
                | 0x1d173..=0x1d17a
                | 0xe0000..=0xe0fff
        )
}

/// Bytes that should be UTF-8 as one line of text: what is not shown as itself is written as an escape.
pub fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_unseen(character) {
                // Writing to a string can't fail.
                let _ = write!(text, "{}", character.escape_unicode());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
        assert!(quiet(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quiet(Err(io::ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn what_would_turn_a_line_around_is_written_out() {
        for (bytes, shown) in [
            ("Grüße, 世界 🦀.txt".as_bytes(), "Grüße, 世界 🦀.txt"),
            ("photo\u{202e}gpj.exe".as_bytes(), "photo\\u{202e}gpj.exe"),
            (b"a\nb\x1b[31m", "a\\u{a}b\\u{1b}[31m"),
            (b"caf\xe9.txt", "caf\\xe9.txt"),
            (
                "\u{2066}\u{feff}\u{200b}".as_bytes(),
                "\\u{2066}\\u{feff}\\u{200b}",
            ),
        ] {
            assert_eq!(visible(bytes), shown);
        }
    }
}
