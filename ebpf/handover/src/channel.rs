//! One connection to or from the loader: JSON documents with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::{DESCRIPTORS_MAX, MESSAGE_BYTES_MAX};

/// A connected socket that keeps messages apart.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// A message that came, and the descriptors beside it.
pub type Message<T> = (T, Vec<OwnedFd>);

impl Channel {
    /// Connects to the loader at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or not for this user.
    pub fn connect(path: &Path) -> io::Result<Channel> {
        let channel = Channel::unconnected()?;
        channel.reach(path)
    }

    /// The same for who waits no longer than `patience`, neither for a loader that stands still and takes nobody in, nor
    /// for any message from then on.
    ///
    /// # Errors
    /// As [`Channel::connect`]; `WouldBlock`: patience was lost.
    pub fn connect_within(path: &Path, patience: Duration) -> io::Result<Channel> {
        let channel = Channel::unconnected()?;
        for direction in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&channel.socket, direction, Some(patience))?;
        }
        channel.reach(path)
    }

    fn unconnected() -> io::Result<Channel> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Channel { socket })
    }

    fn reach(self, path: &Path) -> io::Result<Channel> {
        rustix::net::connect(&self.socket, &SocketAddrUnix::new(path)?)?;
        Ok(self)
    }

    /// A connection that was accepted.
    pub fn from_socket(socket: OwnedFd) -> Channel {
        Channel { socket }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The connection is gone, or `message` is longer than [`MESSAGE_BYTES_MAX`] (`InvalidInput`).
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Waits for the next message; `None` when the other side has closed.
    ///
    /// # Errors
    /// The connection failed; the message is too long, has too many descriptors, or is no `T` (`InvalidData`).
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Message<T>>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let came = loop {
            let came = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            match came {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if came.bytes == 0 {
            return Ok(None);
        }
        if came
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message longer than allowed",
            ));
        }
        let bytes = bytes.get(..came.bytes).unwrap_or_default();
        let message = serde_json::from_slice(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((message, descriptors)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Reply, Request};

    fn pair() -> (Channel, Channel) {
        let (one, two) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        (Channel::from_socket(one), Channel::from_socket(two))
    }

    #[test]
    fn messages_keep_their_bounds_and_bring_their_descriptors() {
        let (node, loader) = pair();
        node.send(&Request::RemoveIndex { index: 7 }, &[]).unwrap();
        let file = tempfile::tempfile().unwrap();
        node.send(&Request::Ready, &[file.as_fd(), file.as_fd()])
            .unwrap();
        let (first, none) = loader.receive::<Request>().unwrap().unwrap();
        assert_eq!((first, none.len()), (Request::RemoveIndex { index: 7 }, 0));
        let (second, two) = loader.receive::<Request>().unwrap().unwrap();
        assert_eq!((second, two.len()), (Request::Ready, 2));
        drop(node);
        assert!(loader.receive::<Request>().unwrap().is_none());
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        let (node, loader) = pair();
        node.send(&["what"], &[]).unwrap();
        assert!(loader.receive::<Request>().is_err());
        assert!(node.send(&"x".repeat(MESSAGE_BYTES_MAX), &[]).is_err());
        loader.send(&Reply::Done, &[]).unwrap();
        let (reply, _) = node.receive::<Reply>().unwrap().unwrap();
        assert_eq!(reply, Reply::Done);
    }
}
