//! The node's side of the loader against one that is played here: what it says, and what it does when the loader goes
//! and comes back.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover::channel::Channel;
use handover::protocol::{
    ADDRESSES_MAX, LIST_MAX, Mode, Opened, Peer, Refusal, RefusalKind, Reply, Request,
};
use handover::vault::{Origin, Table};
use mixnode::keys::vault::Tables;
use mixnode::loader_link::{Connection, Indices, Kept, Loader, LoaderError};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

const PATIENCE: Duration = Duration::from_secs(30);

/// A loader that answers as it is told and reports what it was asked.
struct Played {
    path: PathBuf,
    listener: OwnedFd,
    /// To reports, which come once a second whatever a test is about.
    reported: Reply,
}

impl Played {
    fn listen(path: PathBuf) -> Played {
        let _ = std::fs::remove_file(&path);
        let listener = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 4).unwrap();
        Played {
            path,
            listener,
            reported: Reply::Reported { drain: false },
        }
    }

    /// Takes one connection and answers until it ends or `stop` has a message.
    fn serve(
        self,
        mut answer: impl FnMut(&Request) -> (Reply, usize) + Send + 'static,
    ) -> (Receiver<Request>, Sender<()>, JoinHandle<()>) {
        let (asked, requests) = channel();
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let socket = rustix::net::accept(&self.listener).unwrap();
            let channel = Channel::from_socket(socket);
            rustix::net::sockopt::set_socket_timeout(
                &channel,
                rustix::net::sockopt::Timeout::Recv,
                Some(Duration::from_millis(20)),
            )
            .unwrap();
            let memory = tempfile::tempfile().unwrap();
            while stopped.try_recv().is_err() {
                let request = match channel.receive::<Request>() {
                    Ok(Some((request, _))) => request,
                    Ok(None) => break,
                    Err(_) => continue,
                };
                if let Request::Report { .. } = request {
                    channel.send(&self.reported, &[]).unwrap();
                    continue;
                }
                let (reply, descriptors) = answer(&request);
                asked.send(request).unwrap();
                let descriptors = vec![memory.as_fd(); descriptors];
                channel.send(&reply, &descriptors).unwrap();
            }
            std::fs::remove_file(&self.path).unwrap();
        });
        (requests, stop, thread)
    }
}

fn address() -> SocketAddr {
    "192.0.2.7:9000".parse().unwrap()
}

/// An address that is no node's.
fn stranger() -> IpAddr {
    "203.0.113.5".parse().unwrap()
}

fn done(_: &Request) -> (Reply, usize) {
    (Reply::Done, 0)
}

fn opened(queues: Vec<Vec<u32>>) -> Reply {
    Reply::Opened(Opened {
        interface: "eth0".to_owned(),
        interface_index: 2,
        mac: [2, 0, 0, 0, 0, 1],
        mode: Mode::Native,
        zero_copy: false,
        queues,
        indices_max: 262_144,
    })
}

/// Waits for what must come to be.
fn until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it did not come to be");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn descriptors_are_dealt_to_the_workers_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let played = Played::listen(folder.path().join("loader"));
    let path = played.path.clone();
    let queues = vec![vec![0, 2], vec![1]];
    let reply = opened(queues.clone());
    let (requests, _, thread) = played.serve(move |_| (reply.clone(), 5));
    let connection = Connection::connect(&path).unwrap();
    let handover = connection.open(address(), &[1024, 2048], true).unwrap();
    assert_eq!(
        requests.recv().unwrap(),
        Request::Open {
            address: address(),
            frames: vec![1024, 2048],
            busy_poll: true,
        }
    );
    let dealt: Vec<Vec<u32>> = handover
        .workers
        .iter()
        .map(|worker| worker.sockets.iter().map(|socket| socket.queue).collect())
        .collect();
    assert_eq!(dealt, queues);
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn answers_that_do_not_fit_the_question_are_refused() {
    for (reply, descriptors) in [
        (Reply::Done, 0),
        (opened(vec![vec![0]]), 1),
        (opened(vec![vec![0]]), 3),
        (opened(vec![vec![0], vec![1]]), 4),
        (opened(vec![vec![]]), 1),
        (opened(vec![]), 0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let played = Played::listen(folder.path().join("loader"));
        let path = played.path.clone();
        let (_requests, _, thread) = played.serve(move |_| (reply.clone(), descriptors));
        let connection = Connection::connect(&path).unwrap();
        let refused = connection.open(address(), &[1024], false).unwrap_err();
        assert!(matches!(refused, LoaderError::Senseless(_)), "{refused}");
        drop(connection);
        thread.join().unwrap();
    }
}

#[test]
fn a_refusal_brings_its_kind_the_loaders_words_and_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let played = Played::listen(folder.path().join("loader"));
    let path = played.path.clone();
    let (_requests, _, thread) = played.serve(|_| {
        let refusal = Refusal {
            kind: RefusalKind::TooFewQueues,
            message: "eth0 has 1 queue for 2 workers: ethtool -L eth0 combined 2".to_owned(),
            code: 78,
        };
        (Reply::Refused(refusal), 0)
    });
    let connection = Connection::connect(&path).unwrap();
    let refused = connection.open(address(), &[64, 64], false).unwrap_err();
    assert!(matches!(
        &refused,
        LoaderError::Refused(refusal) if refusal.kind == RefusalKind::TooFewQueues
    ));
    let refused = mixnode::process::NodeError::from(refused);
    assert_eq!(refused.exit_code(), 78);
    assert!(refused.to_string().contains("1 queue for 2 workers"));
    drop(connection);
    thread.join().unwrap();
    // And when nobody is there at all.
    let missing = Connection::connect(&path).unwrap_err();
    assert!(missing.to_string().contains("start mixctld"), "{missing}");
}

#[test]
fn an_index_is_let_in_when_the_loader_has_done_it_and_not_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let played = Played::listen(folder.path().join("loader"));
    let path = played.path.clone();
    let (requests, _, thread) = played.serve(|request| match request {
        Request::AddIndex { index: 13, .. } => {
            let refusal = Refusal {
                kind: RefusalKind::Full,
                message: "the map is full".to_owned(),
                code: 71,
            };
            (Reply::Refused(refusal), 0)
        }
        _ => (Reply::Done, 0),
    });
    let connection = Connection::connect(&path).unwrap();
    let (mut loader, keeper) = Loader::new(connection, path, None);
    let kept = std::thread::spawn(move || keeper.run());
    loader.ready().unwrap();
    assert!(loader.admit(12, stranger()));
    assert!(!loader.admit(13, stranger()));
    Indices::forget(&mut loader, 13);
    Indices::forget(&mut loader, 12);
    loader.refresh(vec!["192.0.2.9".parse().unwrap()]);
    let peers = |count: u32| -> Vec<Peer> {
        let address = |number: u32| std::net::Ipv4Addr::from(0x0a00_0000 + number).into();
        (0..count)
            .map(|number| Peer {
                address: address(number),
                pps: 10,
                burst: 2,
            })
            .collect()
    };
    assert!(loader.peers(peers(ADDRESSES_MAX as u32 + 1)));
    drop(loader);
    kept.join().unwrap();
    thread.join().unwrap();
    let all: Vec<Request> = requests.iter().collect();
    assert_eq!(
        all[..5],
        [
            Request::Ready,
            Request::AddIndex {
                index: 12,
                source: None,
            },
            Request::AddIndex {
                index: 13,
                source: None,
            },
            // 13 was never let in: there is nothing to take out.
            Request::RemoveIndex { index: 12 },
            Request::Refresh {
                next_hops: vec!["192.0.2.9".parse().unwrap()],
            },
        ]
    );
    let lists: Vec<(usize, bool)> = all[5..]
        .iter()
        .map(|request| match request {
            Request::Peers { peers, append } => (peers.len(), *append),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lists, [(ADDRESSES_MAX, false), (1, true)]);
}

#[test]
fn an_index_is_bound_to_the_address_that_its_client_has_proved_as_long_as_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let played = Played::listen(folder.path().join("loader"));
    let path = played.path.clone();
    let (requests, _, thread) = played.serve(done);
    let connection = Connection::connect(&path).unwrap();
    let (mut loader, keeper) = Loader::new(connection, path, None);
    let kept = std::thread::spawn(move || keeper.run());
    let moved: IpAddr = "198.51.100.20".parse().unwrap();
    assert!(loader.admit(12, stranger()));
    // Said twice, told once; then it moves; then it is over.
    for source in [stranger(), stranger(), moved] {
        loader.bind(12, source);
    }
    Indices::forget(&mut loader, 12);
    loader.bind(12, moved);
    drop(loader);
    kept.join().unwrap();
    thread.join().unwrap();
    let index = 12;
    let add = |source| Request::AddIndex { index, source };
    assert_eq!(
        requests.iter().collect::<Vec<_>>(),
        [
            add(None),
            add(Some(stranger())),
            add(Some(moved)),
            Request::RemoveIndex { index },
        ]
    );
}

#[test]
fn a_loader_that_comes_back_is_told_what_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loader");
    let (_requests, stop, thread) = Played::listen(path.clone()).serve(|request| match request {
        Request::Open { .. } => (opened(vec![vec![0]]), 2),
        other => done(other),
    });
    let connection = Connection::connect(&path).unwrap();
    let (mut loader, keeper) = Loader::new(connection, path.clone(), None);
    let kept = std::thread::spawn(move || keeper.run());
    loader.open(address(), vec![64], false).unwrap();
    let count = LIST_MAX as u32 + 3;
    for index in 0..count - 1 {
        assert!(loader.admit(index, stranger()));
    }
    let peer = Peer {
        address: "192.0.2.8".parse().unwrap(),
        pps: 100,
        burst: 10,
    };
    assert!(loader.peers(vec![peer]));
    // A node's own from now on.
    assert!(loader.admit(count - 1, peer.address));
    Indices::forget(&mut loader, 1);
    // In order, so all of it has been served.
    assert!(loader.admit(count, stranger()));
    stop.send(()).unwrap();
    thread.join().unwrap();

    // Nothing is let in meanwhile; what ends meanwhile is remembered.
    until(|| !loader.admit(1_000_000, stranger()));
    assert!(loader.forget(2));
    assert!(!loader.admit(1_000_001, stranger()));

    let (requests, _stop, thread) = Played::listen(path.clone()).serve(done);
    let mut told = Vec::new();
    let mut parts = 0;
    loop {
        match requests.recv_timeout(PATIENCE).unwrap() {
            Request::Resume {
                address: of,
                indices,
                more,
            } => {
                assert_eq!(of, address());
                told.extend(indices);
                parts += 1;
                if !more {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<(u32, Option<IpAddr>)> = (0..=count)
        .filter(|index| ![1, 2].contains(index))
        .map(|index| (index, (index == count - 1).then_some(peer.address)))
        .collect();
    assert_eq!((told, parts), (expected, 2));
    assert_eq!(
        requests.recv_timeout(PATIENCE).unwrap(),
        Request::Peers {
            peers: vec![peer],
            append: false,
        }
    );
    until(|| loader.admit(1_000_002, stranger()));
    drop(loader);
    kept.join().unwrap();
    thread.join().unwrap();
}

const IDENTITY: [u8; 32] = [7; 32];

#[test]
fn a_node_hears_in_the_answer_to_a_report_that_it_is_to_leave_and_an_older_loader_is_one_still() {
    let older = Reply::Refused(Refusal {
        kind: RefusalKind::Malformed,
        message: "no request of this version".to_owned(),
        code: 64,
    });
    for (reported, wanted) in [(Reply::Reported { drain: true }, true), (older, false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut played = Played::listen(folder.path().join("loader"));
        played.reported = reported;
        let path = played.path.clone();
        let (_requests, _, thread) = played.serve(done);
        let connection = Connection::connect(&path).unwrap();
        let (mut loader, keeper) = Loader::new(connection, path, None);
        let kept = std::thread::spawn(move || keeper.run());
        match wanted {
            true => until(|| loader.node().is_drain_wanted()),
            false => std::thread::sleep(Duration::from_millis(1_500)),
        }
        assert_eq!(loader.node().is_drain_wanted(), wanted);
        assert!(loader.admit(12, stranger()));
        drop(loader);
        kept.join().unwrap();
        thread.join().unwrap();
    }
}

/// A loader that has a vault and makes tables of one size.
fn with_keys(request: &Request) -> (Reply, usize) {
    let vault = Reply::Vault {
        tables: Vec::new(),
        origin: Origin::New,
    };
    match request {
        Request::Vault { .. } => (vault, 1),
        Request::Table(Table { epoch: 9, .. }) => {
            let refusal = Refusal {
                kind: RefusalKind::TableUnfit,
                message: "too large".to_owned(),
                code: 78,
            };
            (Reply::Refused(refusal), 0)
        }
        Request::Table(_) => (Reply::Done, 1),
        other => done(other),
    }
}

#[test]
fn a_loader_that_comes_back_is_brought_the_vault_and_the_tables_that_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loader");
    let (_requests, stop, thread) = Played::listen(path.clone()).serve(with_keys);
    let connection = Connection::connect(&path).unwrap();
    let handed = connection.vault(&IDENTITY).unwrap();
    let kept = Kept::of(IDENTITY, &handed).unwrap();
    let (mut loader, keeper) = Loader::new(connection, path.clone(), Some(kept));
    let thread_of_keeper = std::thread::spawn(move || keeper.run());
    let table = |epoch| Table { epoch, bytes: 4096 };
    for epoch in [4, 5, 6] {
        loader.make(table(epoch)).unwrap();
    }
    let refused = loader.make(table(9)).unwrap_err();
    assert!(refused.to_string().contains("too large"), "{refused}");
    loader.erase(4);
    assert!(loader.admit(1, stranger()), "in order, so 4 is gone by now");
    stop.send(()).unwrap();
    thread.join().unwrap();
    until(|| !loader.admit(2, stranger()));
    // Nobody is told, but it is remembered.
    loader.erase(5);

    let (requests, stop, thread) = Played::listen(path.clone()).serve(with_keys);
    let expected = Request::ResumeVault {
        identity: IDENTITY,
        tables: vec![table(6)],
    };
    assert_eq!(requests.recv_timeout(PATIENCE).unwrap(), expected);
    // A table waits for a loader that is being restarted.
    stop.send(()).unwrap();
    thread.join().unwrap();
    let asked = std::thread::spawn(move || loader.make(table(7)));
    let refusing = |request: &Request| match request {
        // An older one, say: it is a loader still.
        Request::ResumeVault { .. } => {
            let refusal = Refusal {
                kind: RefusalKind::Malformed,
                message: "no request of this version".to_owned(),
                code: 64,
            };
            (Reply::Refused(refusal), 0)
        }
        other => with_keys(other),
    };
    let (_requests, _stop, thread) = Played::listen(path).serve(refusing);
    asked.join().unwrap().unwrap();
    thread_of_keeper.join().unwrap();
    thread.join().unwrap();
}

#[test]
fn a_vault_with_descriptors_that_do_not_fit_is_refused() {
    let table = Table {
        epoch: 4,
        bytes: 4096,
    };
    for (tables, descriptors) in [(vec![], 0), (vec![], 2), (vec![table], 1)] {
        let folder = tempfile::tempdir().unwrap();
        let played = Played::listen(folder.path().join("loader"));
        let path = played.path.clone();
        let reply = Reply::Vault {
            tables,
            origin: Origin::Kept,
        };
        let (_requests, _, thread) = played.serve(move |_| (reply.clone(), descriptors));
        let connection = Connection::connect(&path).unwrap();
        let refused = connection.vault(&IDENTITY).unwrap_err();
        assert!(matches!(refused, LoaderError::Senseless(_)), "{refused}");
        drop(connection);
        thread.join().unwrap();
    }
}
