//! How a command ends that failed.

use std::fmt;
use std::io;

/// Packets that must not get lost and did.
#[derive(Debug)]
struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: is something else using this network?", self.0)
    }
}

impl std::error::Error for Lost {}

/// What it was told to do, which it does not.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Packets got lost.
pub(crate) fn lost(what: impl Into<String>) -> io::Error {
    io::Error::other(Lost(what.into()))
}

/// The command line asks for what is not done.
pub(crate) fn refused(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, Refused(what.into()))
}

/// How a command ends that failed: 1 if something got lost that must not, 64 for wrong usage (EX_USAGE), else 69: nothing
/// could be measured (EX_UNAVAILABLE).
pub fn exit_code(error: &io::Error) -> u8 {
    let inner = error.get_ref();
    match inner {
        Some(inner) if inner.is::<Lost>() => 1,
        Some(inner) if inner.is::<Refused>() => 64,
        _ => 69,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_got_lost_ends_otherwise_than_what_could_not_be_measured() {
        assert_eq!(exit_code(&lost("packets did not leave")), 1);
        assert_eq!(exit_code(&refused("not there")), 64);
        assert_eq!(exit_code(&io::Error::other("no sockets")), 69);
        assert_eq!(exit_code(&io::ErrorKind::PermissionDenied.into()), 69);
    }
}
