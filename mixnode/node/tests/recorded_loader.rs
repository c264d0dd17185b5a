//! A loader of each version that is served, played from what went over the socket then.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use handover::protocol::{NodeState, Request};
use handover::vault::{Origin, Table};
use mixnode::loader_link::Connection;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, recvmsg, sendmsg,
};

const SESSION: &str = include_str!("../../../ebpf/handover/recorded/1.session");

/// Takes one connection, hears what was recorded and says what was recorded; a descriptor is beside the first two
/// answers.
fn play(listener: &OwnedFd) {
    let node = rustix::net::accept(listener).unwrap();
    let memory: OwnedFd = tempfile::tempfile().unwrap().into();
    let lines: Vec<&str> = SESSION.lines().collect();
    for (number, pair) in lines.chunks_exact(2).enumerate() {
        let mut request = [0; 4096];
        let mut bytes = [IoSliceMut::new(&mut request)];
        let none = RecvFlags::empty();
        let came = recvmsg(&node, &mut bytes, &mut Default::default(), none).unwrap();
        let said = std::str::from_utf8(&request[..came.bytes]).unwrap();
        assert_eq!(said, pair[0]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [memory.as_fd()];
        if number < 2 {
            assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        }
        let bytes = [IoSlice::new(pair[1].as_bytes())];
        sendmsg(&node, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
    }
}

#[test]
fn a_loader_of_the_first_version_serves_this_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let listener = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    std::thread::scope(|scope| {
        let loader = scope.spawn(|| play(&listener));
        let node = Connection::connect(&path).unwrap();
        let vault = node.vault(&[7; 32]).unwrap();
        assert_eq!((vault.origin, vault.tables.len()), (Origin::New, 0));
        let (epoch, bytes) = (4, 4096);
        node.table(Table { epoch, bytes }).unwrap();
        assert!(!node.report(NodeState::Ready).unwrap());
        node.command(&Request::Erase { epoch }).unwrap();
        loader.join().unwrap();
    });
}
