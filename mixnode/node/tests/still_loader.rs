//! A loader that is there and does nothing, as one that is stopped: what a node makes of it, and that it can end.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use handover::protocol::Peer;
use mixnode::loader_link::{Connection, Indices, Loader, LoaderError};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Far longer than what a node waits for an answer or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes nobody in; `room` and one more wait for that.
fn stands_still(path: &Path, room: i32) -> OwnedFd {
    let listener = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&listener, room).unwrap();
    listener
}

/// What `run` comes to, if it comes to anything.
fn in_time<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = channel();
    thread::spawn(move || done.send(run()));
    outcome
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("{what} waits for ever"))
}

#[test]
fn a_loader_that_takes_nobody_in_is_told_from_one_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loader");
    let _still = stands_still(&path, 0);
    let first = Connection::connect(&path).unwrap();
    // There is no room any more where connections wait.
    let refused = in_time("the second", move || {
        Connection::connect(&path).unwrap_err()
    });
    assert!(
        matches!(refused, LoaderError::Unreachable { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("stands still"), "{refused}");
    let unanswered = in_time("a question", move || first.status().unwrap_err());
    assert!(
        matches!(unanswered, LoaderError::Lost(_))
            && unanswered.to_string().contains("stands still"),
        "{unanswered}"
    );
}

#[test]
fn a_node_ends_whatever_waits_for_a_loader_that_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loader");
    let _still = stands_still(&path, 64);
    let connection = Connection::connect(&path).unwrap();
    let (loader, keeper) = Loader::new(connection, path, None);
    let kept = thread::spawn(move || keeper.run());
    // Each of them would be asked of a new connection, and wait in vain.
    let address: IpAddr = "192.0.2.8".parse().unwrap();
    let peer = Peer {
        address,
        pps: 100,
        burst: 10,
    };
    for _ in 0..500 {
        loader.refresh(vec![address]);
        assert!(loader.peers(vec![peer]));
    }
    let mut handshakes = loader.clone();
    let admitted = thread::spawn(move || handshakes.admit(12, address));
    loader.end();
    let end = Instant::now() + PATIENCE;
    while !(kept.is_finished() && admitted.is_finished()) {
        assert!(Instant::now() < end, "the node's stop waits for the loader");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!admitted.join().unwrap());
}
