//! The token of who asks over TCP, where nobody's user is known: 32 random bytes in a file for the daemon alone.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use directory::store::{hex, open_regular};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::exit::{self, Failure};

/// Its bytes, and the digits that they are written with.
const BYTES: usize = 32;
const DIGITS: usize = 2 * BYTES;
/// Wrong tokens in a second that are told so; more are told to wait.
const WRONG_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// The token, and how often another one was shown.
pub(super) struct Token {
    digits: Zeroizing<[u8; DIGITS]>,
    /// Since when wrong ones are counted, and how many there were.
    wrong: Mutex<(Instant, u32)>,
}

/// What a token that was shown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The right one.
    Right,
    /// None, or a wrong one.
    Wrong,
    /// The same, and one of too many.
    TooOften,
}

impl Token {
    /// Reads it, or makes it where there is none.
    ///
    /// # Errors
    /// The file system's; others may read it; it is none.
    pub(super) fn load_or_make(path: &Path) -> Result<Token, Failure> {
        let failed = |error| failed(path, error);
        match Token::load(path)? {
            Some(token) => Ok(token),
            None => Token::make(path).map_err(failed),
        }
    }

    /// Reads it, if there is one.
    ///
    /// # Errors
    /// As above.
    pub(super) fn load(path: &Path) -> Result<Option<Token>, Failure> {
        let failed = |error| failed(path, error);
        match open_regular(path) {
            Ok(file) => {
                let mode = file.metadata().map_err(failed)?.permissions().mode();
                if mode & 0o077 != 0 {
                    let (path, mode) = (path.display(), mode & 0o777);
                    let why = format!(
                        "[http] token: {path} is readable by others (mode {mode:03o}): remove it, and a new one is made"
                    );
                    return Err(Failure::new(exit::CONFIG, why));
                }
                let mut text = Zeroizing::new(Vec::new());
                let mut file = file.take(DIGITS as u64 + 2);
                file.read_to_end(&mut text).map_err(failed)?;
                let token = Token::of(text.trim_ascii_end()).ok_or_else(|| {
                    let why = format!(
                        "[http] token: {} holds no token: remove it, and a new one is made",
                        path.display()
                    );
                    Failure::new(exit::CONFIG, why)
                })?;
                Ok(Some(token))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn make(path: &Path) -> io::Result<Token> {
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            DirBuilder::new().mode(0o700).create(folder)?;
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|error| io::Error::other(format!("no random bytes: {error}")))?;
        let digits = hex(bytes.as_slice());
        // Whole or not there: half a token would be refused at every start from then on.
        let new = path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&new)?;
        file.write_all(digits.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        Token::of(digits.as_bytes()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// A token of these digits.
    pub(super) fn of(digits: &[u8]) -> Option<Token> {
        let digits: [u8; DIGITS] = digits.try_into().ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then(|| Token {
            digits: Zeroizing::new(digits),
            wrong: Mutex::new((Instant::now(), 0)),
        })
    }

    /// What it is written with.
    pub(super) fn digits(&self) -> &str {
        std::str::from_utf8(self.digits.as_slice()).unwrap_or_default()
    }

    /// Compares what was shown, in a time that does not tell how much of it is right. Whoever shows wrong ones keeps nobody
    /// out who has the right one.
    pub(super) fn check(&self, shown: Option<&str>, now: Instant) -> Shown {
        let is_right =
            shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(self.digits.as_slice())));
        if is_right {
            return Shown::Right;
        }
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(wrong.0) >= SECOND {
            *wrong = (now, 0);
        }
        wrong.1 = wrong.1.saturating_add(1);
        match wrong.1 {
            1..=WRONG_MAX => Shown::Wrong,
            _ => Shown::TooOften,
        }
    }
}

fn failed(path: &Path, error: io::Error) -> Failure {
    let code = Failure::from(io::Error::from(error.kind())).code;
    Failure::new(code, format!("[http] token: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control/http.token");
        let made = Token::load_or_make(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o400);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let again = Token::load_or_make(&path).unwrap();
        assert_eq!(made.digits(), again.digits());
        assert_ne!(made.digits(), "0".repeat(64));
        let refused = |path: &Path| Token::load_or_make(path).err().unwrap().message;
        let open = std::fs::Permissions::from_mode(0o440);
        std::fs::set_permissions(&path, open).unwrap();
        assert!(refused(&path).contains("readable by others"));
        let short = folder.path().join("short");
        std::fs::write(&short, "abc\n").unwrap();
        std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(refused(&short).contains("holds no token"));
        assert!(refused(&folder.path().join("a/b/c")).contains("a/b/c"));
    }

    #[test]
    fn the_right_token_passes_however_many_wrong_ones_are_shown() {
        let token = Token::of("a1".repeat(32).as_bytes()).unwrap();
        let now = Instant::now();
        let right = "a1".repeat(32);
        for shown in [None, Some(""), Some("a1"), Some(&right[1..])] {
            assert_eq!(token.check(shown, now), Shown::Wrong, "{shown:?}");
        }
        let wrong = "a2".repeat(32);
        for number in 5..100 {
            let expected = if number <= WRONG_MAX {
                Shown::Wrong
            } else {
                Shown::TooOften
            };
            assert_eq!(token.check(Some(&wrong), now), expected);
            assert_eq!(token.check(Some(&right), now), Shown::Right);
        }
        assert_eq!(token.check(None, now + SECOND), Shown::Wrong);
    }
}
