//! Who has the rings of a socket: one place in this process at a time, whatever descriptors of it there are.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

/// Sockets whose rings are mapped, by device and inode, which a socket has one of and its duplicates share.
static CLAIMED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// The right to a socket's rings. No other claim to the same socket exists in this process.
#[derive(Debug)]
pub(super) struct Claim((u64, u64));

impl Claim {
    /// Claims the rings of `socket`, which stays open for as long as the claim is used: a number that is free again
    /// may soon be another socket's.
    ///
    /// # Errors
    /// `AlreadyExists` if they are claimed, through this descriptor or a duplicate.
    pub(super) fn of(socket: impl AsFd) -> io::Result<Claim> {
        let status = rustix::fs::fstat(socket)?;
        let identity = (status.st_dev, status.st_ino);
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.insert(identity) {
            Ok(Claim(identity))
        } else {
            Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the rings of this socket are in use already",
            ))
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_and_its_duplicates_can_be_claimed_once_at_a_time_and_others_meanwhile() {
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (one, other) = (bind(), bind());
        let duplicate = one.try_clone().unwrap();
        let claim = Claim::of(&one).unwrap();
        let refused = Claim::of(&duplicate).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        let _second = Claim::of(&other).unwrap();
        drop(claim);
        let _again = Claim::of(&duplicate).unwrap();
    }
}
