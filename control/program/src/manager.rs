//! The service manager: told that the program is up and lives, and keeper of its descriptors (sd_notify(3)).

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

/// How long the manager may leave its socket full.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the service manager that started this program.
#[derive(Debug)]
pub struct Manager {
    socket: OwnedFd,
    alive_every: Option<Duration>,
}

impl Manager {
    /// The manager of this process, as its environment names it; `None` where there is none, or none that listens. To be
    /// called while sockets can still be made.
    pub fn find() -> Option<Manager> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let own = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let every = number("WATCHDOG_USEC").filter(|_| own);
        match Manager::at(path.as_bytes(), every.map(Duration::from_micros)) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tracing::warn!(%error, "the service manager named in NOTIFY_SOCKET can't be reached");
                None
            }
        }
    }

    /// The manager behind a socket; one that ends a program which is silent for `patience`, if that is given.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn at(path: &[u8], patience: Option<Duration>) -> io::Result<Manager> {
        let address = match path {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            path => SocketAddrUnix::new(path)?,
        };
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::connect(&socket, &address)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        Ok(Manager {
            socket,
            alive_every: patience.map(|patience| patience / 3),
        })
    }

    /// How often it wants to hear [`Manager::alive`]; `None`: it does not.
    pub fn alive_every(&self) -> Option<Duration> {
        self.alive_every
    }

    /// Says that the program is up.
    pub fn ready(&self) {
        self.say("READY=1", &[]);
    }

    /// Says in a line of words what the program does.
    pub fn status(&self, text: &str) {
        self.say(&format!("STATUS={}", text.replace('\n', " ")), &[]);
    }

    /// Says that it is about to end.
    pub fn stopping(&self) {
        self.say("STOPPING=1", &[]);
    }

    /// Says that it lives.
    pub fn alive(&self) {
        self.say("WATCHDOG=1", &[]);
    }

    /// Has it keep a descriptor for this program's successor, under a name without colons.
    pub fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) {
        self.say(&format!("FDSTORE=1\nFDNAME={name}"), &[descriptor]);
    }

    /// Has it close what it keeps under a name.
    pub fn forget(&self, name: &str) {
        self.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[]);
    }

    fn say(&self, text: &str, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let room =
            descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors));
        let text = [IoSlice::new(text.as_bytes())];
        let sent = rustix::net::sendmsg(&self.socket, &text, &mut control, SendFlags::NOSIGNAL);
        if !room || sent.is_err() {
            tracing::warn!(error = ?sent.err(), "the service manager does not listen");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn the_manager_hears_what_sd_notify_would_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let played = UnixDatagram::bind(&path).unwrap();
        let patience = Some(Duration::from_secs(30));
        let manager = Manager::at(path.as_os_str().as_bytes(), patience).unwrap();
        assert_eq!(manager.alive_every(), Some(Duration::from_secs(10)));
        let heard = || {
            let mut bytes = [0; 256];
            let count = played.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..count].to_vec()).unwrap()
        };
        manager.ready();
        assert_eq!(heard(), "READY=1");
        manager.alive();
        assert_eq!(heard(), "WATCHDOG=1");
        let file = tempfile::tempfile().unwrap();
        manager.keep("vault", file.as_fd());
        assert_eq!(heard(), "FDSTORE=1\nFDNAME=vault");
        manager.forget("table-7");
        assert_eq!(heard(), "FDSTOREREMOVE=1\nFDNAME=table-7");
        manager.status("well\nREADY=1");
        assert_eq!(heard(), "STATUS=well READY=1");
        manager.stopping();
        assert_eq!(heard(), "STOPPING=1");
        // It may go away: nothing comes of that.
        drop(played);
        manager.ready();
        assert!(Manager::at(b"/nowhere/at/all", None).is_err());
    }

    #[test]
    fn a_manager_with_an_abstract_address_hears_too() {
        let name = format!("fogmix-manager-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let played = UnixDatagram::bind_addr(&address).unwrap();
        let manager = Manager::at(format!("@{name}").as_bytes(), None).unwrap();
        assert_eq!(manager.alive_every(), None);
        manager.ready();
        let mut bytes = [0; 16];
        let count = played.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"READY=1");
    }
}
