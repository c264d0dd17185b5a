//! A node of each version that is served, played from what went over the socket then.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::path::Path;

use loader::{Keeping, Loader, Options};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};

const SESSION: &str = include_str!("../../handover/recorded/1.session");

/// A connection that knows nothing of today's messages.
struct Recorded(OwnedFd);

impl Recorded {
    fn connect(path: &Path) -> Recorded {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Recorded(socket)
    }

    fn ask(&self, request: &str) -> String {
        let bytes = [IoSlice::new(request.as_bytes())];
        sendmsg(
            &self.0,
            &bytes,
            &mut Default::default(),
            SendFlags::NOSIGNAL,
        )
        .unwrap();
        let mut reply = [0; 4096];
        let came = {
            let mut bytes = [IoSliceMut::new(&mut reply)];
            // Descriptors are not asked for: the kernel closes them.
            recvmsg(
                &self.0,
                &mut bytes,
                &mut Default::default(),
                RecvFlags::CMSG_CLOEXEC,
            )
            .unwrap()
        };
        String::from_utf8(reply[..came.bytes].to_vec()).unwrap()
    }
}

#[test]
fn a_node_of_the_first_version_is_served_and_one_of_a_later_version_is_told_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        socket: folder.path().join("socket"),
        ..Options::default()
    };
    let socket = options.socket.clone();
    let loader = Loader::without_xdp(options, Keeping::default()).unwrap();
    let _handle = loader.on_a_thread().unwrap();
    let node = Recorded::connect(&socket);
    let lines: Vec<&str> = SESSION.lines().collect();
    for pair in lines.chunks_exact(2) {
        assert_eq!(node.ask(pair[0]), pair[1], "to {}", pair[0]);
    }
    // What only a later version asks is refused by its kind, and the connection goes on.
    for later in [
        r#"{"request":"of-tomorrow"}"#,
        r#"{"request":"erase","epoch":4,"of_tomorrow":true}"#,
    ] {
        let reply = node.ask(later);
        let malformed = r#"{"reply":"refused","kind":"malformed","#;
        assert!(reply.starts_with(malformed), "{reply}");
    }
    assert_eq!(node.ask(lines[4]), lines[5]);
}
