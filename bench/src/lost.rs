//! Packets that must not get lost and did.

use std::fmt;
use std::io;

/// What got lost.
#[derive(Debug)]
struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: is something else using this network?", self.0)
    }
}

impl std::error::Error for Lost {}

/// Packets got lost.
pub(crate) fn lost(what: impl Into<String>) -> io::Error {
    io::Error::other(Lost(what.into()))
}

/// How a command ends that failed: 1 if something got lost that must not, else 69: nothing could be measured
/// (EX_UNAVAILABLE).
pub fn exit_code(error: &io::Error) -> u8 {
    let inner = error.get_ref();
    match inner.is_some_and(|inner| inner.is::<Lost>()) {
        true => 1,
        false => 69,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_got_lost_ends_otherwise_than_what_could_not_be_measured() {
        assert_eq!(exit_code(&lost("packets did not leave")), 1);
        assert_eq!(exit_code(&io::Error::other("no sockets")), 69);
        assert_eq!(exit_code(&io::ErrorKind::PermissionDenied.into()), 69);
    }
}
