//! The socket itself: it keeps messages apart, never waits, and is the user's alone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::MESSAGE_BYTES_MAX;

/// The socket's name in the home.
pub(super) const NAME: &str = "control";
/// Connections that the kernel keeps for the listener.
const BACKLOG: i32 = 16;

/// One connection.
pub(super) struct Channel(OwnedFd);

/// A message, and the descriptor beside it.
pub(super) type Message<T> = (T, Option<OwnedFd>);

impl Channel {
    /// Connects to the `fog` that runs on `home`.
    ///
    /// # Errors
    /// Nobody listens there; so many wait to be heard that this one can't (`WouldBlock`).
    pub(super) fn connect(home: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        rustix::net::connect(&socket, &address(&open_folder(home)?)?)?;
        Ok(Self(socket))
    }

    /// Sends one message, or says `WouldBlock`.
    ///
    /// # Errors
    /// The connection's; a message that is too long (`InvalidInput`).
    pub(super) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// The next message, none once the other side has closed, or `WouldBlock`.
    ///
    /// # Errors
    /// The connection's; a message that is too long, has more than one descriptor beside it, or is no `T`
    /// (`InvalidData`).
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Message<T>>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let came = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if came.bytes == 0 {
            return Ok(None);
        }
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        if came.flags.intersects(cut) || descriptors.len() > 1 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let bytes = bytes.get(..came.bytes).unwrap_or_default();
        let message = serde_json::from_slice(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((message, descriptors.pop())))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where connections come in; its file goes with it.
pub(super) struct Listener {
    socket: OwnedFd,
    folder: OwnedFd,
    /// Device and number of its file.
    file: (u64, u64),
}

impl Listener {
    /// Listens in `home`. A socket that somebody listens at stays; one that a dead process left makes way.
    ///
    /// # Errors
    /// The system's; `AddrInUse`, `AlreadyExists` where something else is in the way.
    pub(super) fn bind(home: &Path) -> io::Result<Self> {
        let folder = open_folder(home)?;
        match rustix::fs::statat(&folder, NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
            Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Socket => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(_) => match rustix::net::connect(new_socket()?, &address(&folder)?) {
                // Nobody listens any more.
                Err(Errno::CONNREFUSED) => {
                    rustix::fs::unlinkat(&folder, NAME, AtFlags::empty())?;
                }
                Ok(()) | Err(Errno::AGAIN) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(error) => return Err(error.into()),
            },
        }
        let socket = new_socket()?;
        rustix::net::bind(&socket, &address(&folder)?)?;
        // Before it listens: until then nobody can connect.
        rustix::fs::chmodat(&folder, NAME, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        rustix::net::listen(&socket, BACKLOG)?;
        let file = number(&folder)?;
        Ok(Self {
            socket,
            folder,
            file,
        })
    }

    /// The next connection of this user; others' end here.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when there is none.
    pub(super) fn accept(&self) -> io::Result<Option<Channel>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(&self.socket, flags)?;
        let peer = rustix::net::sockopt::socket_peercred(&socket)?;
        let is_own = peer.uid == rustix::process::geteuid();
        Ok(is_own.then_some(Channel(socket)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if number(&self.folder).is_ok_and(|file| file == self.file) {
            let _ = rustix::fs::unlinkat(&self.folder, NAME, AtFlags::empty());
        }
    }
}

fn number(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statat(folder, NAME, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((found.st_dev, found.st_ino))
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok(socket)
}

fn open_folder(home: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, home, flags, Mode::empty())?)
}

/// By the folder's descriptor: a socket's path has 107 bytes, and a home's may have more.
fn address(folder: &OwnedFd) -> io::Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd());
    Ok(SocketAddrUnix::new(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_or_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        // Longer than a socket's path may be.
        let home = folder.path().join("h".repeat(150));
        std::fs::create_dir(&home).unwrap();
        let live = Listener::bind(&home).unwrap();
        let mode = std::fs::metadata(home.join(NAME)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let again = Listener::bind(&home).map(drop).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        assert!(Channel::connect(&home).is_ok());
        // As a killed process leaves it: the file is there, and nobody listens.
        let dead = new_socket().unwrap();
        drop(live);
        assert!(!home.join(NAME).exists());
        rustix::net::bind(&dead, &address(&open_folder(&home).unwrap()).unwrap()).unwrap();
        drop(dead);
        assert!(home.join(NAME).exists());
        let new = Listener::bind(&home).unwrap();
        assert!(Channel::connect(&home).is_ok());
        // What another one has put in its place is not removed with it.
        std::fs::remove_file(home.join(NAME)).unwrap();
        std::fs::write(home.join(NAME), "notes").unwrap();
        drop(new);
        let kind = Listener::bind(&home).map(drop).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(home.join(NAME)).unwrap(), b"notes");
    }

    #[test]
    fn garbage_long_messages_and_many_descriptors_are_errors_and_nothing_waits() {
        let home = tempfile::tempdir().unwrap();
        let listener = Listener::bind(home.path()).unwrap();
        let taken = |client: &Channel, bytes: &[u8]| {
            let server = listener.accept().unwrap().unwrap();
            rustix::net::send(client, bytes, SendFlags::NOSIGNAL).unwrap();
            server
                .receive::<u32>()
                .map(|taken| taken.map(|(number, _)| number))
        };
        let connect = || Channel::connect(home.path()).unwrap();
        let kind = |taken: io::Result<Option<u32>>| taken.unwrap_err().kind();
        assert_eq!(kind(taken(&connect(), b"{\"")), io::ErrorKind::InvalidData);
        assert_eq!(kind(taken(&connect(), b"-1")), io::ErrorKind::InvalidData);
        let long = vec![b'1'; MESSAGE_BYTES_MAX + 1];
        assert_eq!(kind(taken(&connect(), &long)), io::ErrorKind::InvalidData);
        assert_eq!(taken(&connect(), b"7").unwrap(), Some(7));
        let silent = connect();
        let server = listener.accept().unwrap().unwrap();
        let waited = server.receive::<u32>().map(|_| ()).unwrap_err();
        assert_eq!(waited.kind(), io::ErrorKind::WouldBlock);
        // Two descriptors beside a message.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let two = [silent.as_fd(), silent.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&two)));
        let sent = rustix::net::sendmsg(
            &silent,
            &[IoSlice::new(b"7")],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        sent.unwrap();
        let error = server.receive::<u32>().map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(silent);
        assert!(server.receive::<u32>().unwrap().is_none());
    }
}
