use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directory::store::hex;
use directory::{Chain, Consensus, Head, NODES_MAX, Record, Role};
use handover::status::NodeStatus;
use serde::de::DeserializeOwned;

use super::shapes::{Dashboard, Document, Nodes, Problem, State};
use super::*;
use crate::board::{Document as Held, Own};
use crate::clock::{Reading, boot_ms};
use crate::config::HttpConfig;
use crate::exit;

use crate::network::{self, Member, authority, document, nodes};

mod browser;
mod chrome;
mod routes;
mod socket;
mod storm;
mod tcp;
mod updates;
pub(super) mod web_socket;

fn chain() -> Chain {
    authority().chain().clone()
}

fn held(consensus: Consensus) -> Held {
    Held {
        consensus: Arc::new(consensus),
        signers: vec![[7; 32]],
    }
}

fn own(member: &Member) -> Own {
    Own {
        identity: member.identity.public(),
        operator: member.operator.clone(),
        role: member.role,
    }
}

/// A board whose network's clock stands in `epoch` now.
fn board(epoch: u32) -> Board {
    let board = Board::new(&chain());
    let mut followed = Followed::clone(&board.read());
    let into_ms = u64::from(epoch) * followed.parameters.epoch_ms + 1_000;
    followed.parameters.genesis_unix_ms = unix_ms() - into_ms;
    board.set(followed);
    board
}

struct Served {
    folder: tempfile::TempDir,
    witness: Witness,
    _door: Door,
}

impl Served {
    fn new(board: &Board, node: Option<SocketAddr>) -> Served {
        Served::at(board, node, None)
    }

    fn at(board: &Board, node: Option<SocketAddr>, listen: Option<SocketAddr>) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let config = HttpConfig {
            socket: folder.path().join("run/http.sock"),
            token: folder.path().join("control/http.token"),
            listen,
            ..HttpConfig::default()
        };
        let mut door = Door::open(&config).unwrap();
        let dashboard = door.dashboard();
        let board = board.clone();
        let witness = Witness::default();
        door.serve(Api {
            board,
            witness: witness.clone(),
            inhabitants: Vec::new(),
            loader: None,
            node,
            dashboard,
            past: Log::default(),
            pulse: Pulse::default(),
        })
        .unwrap();
        Served {
            folder,
            witness,
            _door: door,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/http.sock")
    }

    fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, String> {
        client::get(&self.socket(), route).map_err(|failure| failure.message)
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    /// What is answered to these bytes, to the end of the connection.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // Whoever hangs up in the middle has answered already.
        let _ = stream.write_all(bytes);
        said(stream)
    }
}

fn said(mut stream: UnixStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn document_of(epoch: u32, members: &[Member]) -> Consensus {
    document(None, epoch, members).1
}

#[test]
fn what_is_followed_is_told_and_what_is_not_there_yet_says_what_to_do() {
    let members = nodes(2, 4);
    let board = board(5);
    let served = Served::new(&board, None);
    let mode = std::fs::metadata(served.socket()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o660);
    let status: Status = served.get("/api/v1/status").unwrap();
    assert_eq!((status.state, status.epoch), (State::Unknown, 5));
    assert_eq!((status.document, status.node), (None, None));
    assert!(
        status
            .not_ready
            .iter()
            .any(|why| why.contains("no document yet"))
    );
    for route in ["/api/v1/nodes", "/api/v1/consensus"] {
        let none = served.get::<serde_json::Value>(route).unwrap_err();
        assert!(none.contains("no document yet"), "{none}");
    }
    let epochs: Epochs = served.get("/api/v1/epochs").unwrap();
    assert_eq!(
        (epochs.now, epochs.in_force, epochs.epochs.len()),
        (5, None, 0)
    );

    // A document of the epoch before carries on; the node here is in it.
    let mix = &members[3];
    board.put(vec![held(document_of(4, &members))], Some(own(mix)));
    let told: Nodes = served.get("/api/v1/nodes").unwrap();
    assert_eq!((told.epoch, told.nodes.len()), (4, 6));
    let status: Status = served.get("/api/v1/status").unwrap();
    assert_eq!(status.document.unwrap().epoch, 4);
    let node = status.node.unwrap();
    assert!(node.listed && node.layer.is_some());
    assert_eq!(node.identity, hex(&mix.identity.public()));
    // Of two the newer, and the next one's is not in force yet.
    let three = [4, 5, 6].map(|epoch| held(document_of(epoch, &members)));
    board.put(three.to_vec(), Some(own(mix)));
    let told: Document = served.get("/api/v1/consensus").unwrap();
    assert_eq!((told.epoch, told.nodes, told.proofs), (5, 6, 4));
    assert_eq!(told.signers, [hex(&[7; 32])]);
    let epochs: Epochs = served.get("/api/v1/epochs").unwrap();
    assert_eq!((epochs.in_force, epochs.epochs.len()), (Some(5), 3));
    // One that nobody lists.
    board.put(three.to_vec(), Some(own(&network::node(90, Role::Mix))));
    let status: Status = served.get("/api/v1/status").unwrap();
    assert!(!status.node.unwrap().listed);
    assert!(status.not_ready.iter().any(|why| why.contains("nodes add")));
    // An hour behind the only authority that was heard.
    assert_eq!(status.clock, None);
    let hour = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let reading = Reading::new(hour, boot_ms(), boot_ms());
    board.hear(vec![reading]);
    let status: Status = served.get("/api/v1/status").unwrap();
    let clock = status.clock.unwrap();
    assert!(clock.is_off && clock.ahead_ms < -3_000_000, "{clock:?}");
    assert_eq!(status.warnings, [clock.words()]);
    let metrics =
        served.raw(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(
        metrics.contains("\nmixctld_clock_offset_seconds -3"),
        "{metrics}"
    );
    // Two epochs without one: nothing is in force.
    board.put(vec![held(document_of(3, &members))], None);
    let none = served.get::<Nodes>("/api/v1/nodes").unwrap_err();
    assert!(none.contains("newest is of epoch 3"), "{none}");
    let socket = served.socket();
    drop(served);
    assert!(!socket.exists());
    let gone = client::get::<Nodes>(&socket, "/api/v1/nodes").unwrap_err();
    assert_eq!(gone.code, exit::OS);
    assert!(gone.message.contains("start mixctld"), "{}", gone.message);
}

#[test]
fn a_node_that_answers_is_told_of_and_one_that_does_not_is_down() {
    let board = board(0);
    board.put(vec![held(document_of(0, &nodes(1, 3)))], None);
    let node = |answers: &'static [(&'static str, &'static str)]| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut asked = [0; 1_024];
                let length = stream.read(&mut asked).unwrap();
                let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
                let answer = answers.iter().find(|(path, _)| asked.contains(path));
                let _ = stream.write_all(answer.map_or(&b""[..], |(_, answer)| answer.as_bytes()));
            }
        });
        address
    };
    let page = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nmixnode_info{port=\"plain\",keys=\"kept\"} 1\n\
                mixnode_received_total 5\nmixnode_rejected_total{reason=\"mac\"} 2\n";
    let metrics: (&str, &str) = ("GET /metrics ", page);
    let leak =
        |answers: Vec<(&'static str, &'static str)>| -> &'static [(&'static str, &'static str)] {
            Vec::leak(answers)
        };
    for (readyz, state) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",
            State::Ready,
        ),
        (
            "HTTP/1.1 503 x\r\ncontent-length: 20\r\n\r\nthe node is stopping",
            State::Draining,
        ),
        (
            "HTTP/1.1 503 x\r\ncontent-length: 16\r\n\r\nno loop packet :",
            State::Waiting,
        ),
    ] {
        let address = node(leak(vec![metrics, ("GET /readyz ", readyz)]));
        let served = Served::new(&board, Some(address));
        let status: Status = served.get("/api/v1/status").unwrap();
        assert_eq!(status.state, state);
        let counters = status.counters.unwrap();
        assert_eq!((counters.received, counters.rejected), (5, 2));
        let passed_on = served.raw(b"GET /metrics/node HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(
            passed_on.contains("mixnode_received_total 5"),
            "{passed_on}"
        );
        // One that once spoke to mixctld, and does not now, is looked at again.
        for said in [Some(NodeStatus::default()), None] {
            served.witness.hear(Instant::now(), said);
        }
        let status: Status = served.get("/api/v1/status").unwrap();
        assert_eq!(status.state, state);
        assert_eq!(status.counters.unwrap().received, 5);
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let served = Served::new(&board, Some(address));
    let status: Status = served.get("/api/v1/status").unwrap();
    assert_eq!((status.state, status.counters), (State::Down, None));
    for said in [Some(NodeStatus::default()), None] {
        served.witness.hear(Instant::now(), said);
    }
    let status: Status = served.get("/api/v1/status").unwrap();
    assert_eq!(status.state, State::Down);
    assert!(status.not_ready[0].contains("process has ended"));
    let none = served.raw(b"GET /metrics/node HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(
        none.starts_with("HTTP/1.1 502") && none.contains("does not answer"),
        "{none}"
    );
}

#[test]
fn what_the_node_says_to_the_loader_is_told_and_ready_means_that_it_would_forward() {
    let members = nodes(1, 3);
    let board = board(0);
    board.put(vec![held(document_of(0, &members))], Some(own(&members[1])));
    let served = Served::new(&board, None);
    let readyz = || served.raw(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    for route in ["workers", "drops", "loops"] {
        let none = served.get::<serde_json::Value>(&format!("/api/v1/{route}"));
        let none = none.unwrap_err();
        assert!(none.contains("[keys] vault = true"), "{none}");
    }
    let none = served.get::<Xdp>("/api/v1/xdp").unwrap_err();
    assert!(none.contains("[xdp]"), "{none}");
    let unknown = readyz();
    assert!(unknown.starts_with("HTTP/1.1 503") && unknown.contains("node_metrics"));

    let begun = Instant::now();
    let said = |second: u64, missing: &[&str]| NodeStatus {
        started_unix_ms: 1_000,
        not_ready: missing.iter().map(|why| (*why).to_owned()).collect(),
        port: "uring".to_owned(),
        lanes: "avx2".to_owned(),
        keys_origin: "kept".to_owned(),
        epochs: vec![handover::status::Joined {
            epoch: 0,
            layer: Some(1),
        }],
        totals: handover::status::Totals {
            received: 50 * second,
            rejected: 10 * second,
            ..Default::default()
        },
        drops: vec![("forged".to_owned(), 10 * second), ("mac".to_owned(), 7)],
        loops: handover::status::Loops {
            interval_ms: 200,
            sent: 5 * second,
            returned: 4 * second,
            lost: second,
            ..Default::default()
        },
        workers: vec![handover::status::Worker::default(); 2],
        ..NodeStatus::default()
    };
    let hear = |second: u64, missing: &[&str]| {
        let at = begun + Duration::from_secs(second);
        served.witness.hear(at, Some(said(second, missing)));
    };
    for second in 0..4 {
        hear(second, &["no loop packet has come back yet", "and more"]);
    }
    let waiting = readyz();
    assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
    assert!(waiting.ends_with("\nno loop packet has come back yet\nand more\n"));
    hear(4, &[]);
    assert!(readyz().starts_with("HTTP/1.1 200"));
    let status: Status = served.get("/api/v1/status").unwrap();
    assert_eq!((status.state, status.not_ready.len()), (State::Ready, 0));
    assert_eq!(status.rates.unwrap().received, 50.0);
    let node = status.node.unwrap();
    assert_eq!(
        (node.port.as_deref(), node.lanes.as_deref()),
        (Some("uring"), Some("avx2"))
    );
    assert_eq!(node.started_unix_ms, Some(1_000));
    let drops: Drops = served.get("/api/v1/drops").unwrap();
    let named: Vec<(&str, Option<f64>)> = drops
        .drops
        .iter()
        .map(|drop| (drop.reason.as_str(), drop.per_s))
        .collect();
    assert_eq!(named, [("forged", Some(10.0)), ("mac", Some(0.0))]);
    assert_eq!(drops.over_s, 4.0);
    let drops: Drops = served.get("/api/v1/drops?since=2").unwrap();
    assert_eq!(drops.over_s, 2.0);
    let loops: Loops = served.get("/api/v1/loops").unwrap();
    assert_eq!((loops.loops.sent, loops.loss.unwrap().mid), (20, 0.2));
    let told: Workers = served.get("/api/v1/workers").unwrap();
    assert_eq!(told.workers.len(), 2);
    let epochs: Epochs = served.get("/api/v1/epochs").unwrap();
    assert_eq!(epochs.epochs[0].joined, Some(true));
    // Ready as the node may feel: a document that does not list it, or none, is another matter.
    board.put(Vec::new(), None);
    assert!(readyz().contains("no document yet"));
    // It is gone.
    served.witness.hear(Instant::now(), None);
    let status: Status = served.get("/api/v1/status").unwrap();
    assert_eq!((status.state, status.rates), (State::Down, None));
}

#[test]
fn what_is_asked_wrongly_is_answered_with_a_problem() {
    let served = Served::new(&board(0), None);
    let ask = |request: &str| served.raw(request.as_bytes());
    for (request, status) in [
        ("GET /api/v1/secrets HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("GET /../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("DELETE /api/v1/nodes HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        ("GET /api/v1/nodes HTTP/1.1\r\nhost: x\r\n\r\n", 503),
        ("GET /api/v1/drops?since=0 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (
            "GET /api/v1/drops?since=3601 HTTP/1.1\r\nhost: x\r\n\r\n",
            400,
        ),
        ("GET /api/v1/drops?for=5 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    ] {
        let said = ask(request);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert!(said.contains("application/problem+json"), "{said}");
        let (_, body) = said.split_once("\r\n\r\n").unwrap();
        let problem: Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, status);
        assert!(!problem.detail.is_empty());
    }
    // A body of ten megabytes is not read.
    let mut big =
        b"POST /api/v1/status HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n".to_vec();
    big.resize(10_000_000, b'x');
    assert!(served.raw(&big).starts_with("HTTP/1.1 413 "));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    let said = ask(&long);
    assert!(said.starts_with("HTTP/1.1 4") || said.is_empty(), "{said}");
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(served.get::<Epochs>("/api/v1/epochs").is_ok());
}

#[test]
fn who_is_idle_slow_or_stops_reading_is_hung_up_on_and_one_more_than_there_are_seats_is_told() {
    let template = Record::new(&network::node(1, Role::Gateway), 0).unwrap();
    let record = |number: usize| {
        let mut record = template.clone();
        record.identity[..8].copy_from_slice(&(number as u64).to_be_bytes());
        record.link.x25519[..8].copy_from_slice(&(number as u64).to_be_bytes());
        record.operator = "x".repeat(64);
        record
    };
    let head = Head::bare(network::PARAMETERS, 0);
    let full = Consensus::new(head, (0..NODES_MAX).map(record).collect()).unwrap();
    let board = board(0);
    board.put(vec![held(full)], None);
    let served = Served::new(&board, None);
    let begun = Instant::now();
    // Eight seats: six idle or slow, two that ask for much and read nothing.
    let idle: Vec<UnixStream> = (0..3).map(|_| served.connect()).collect();
    let slow: Vec<UnixStream> = (0..3)
        .map(|_| {
            let mut stream = served.connect();
            stream.write_all(b"GET /api/v1/nodes HTT").unwrap();
            stream
        })
        .collect();
    let deaf: Vec<UnixStream> = (0..2)
        .map(|_| {
            let mut stream = served.connect();
            let ask = b"GET /api/v1/nodes HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(ask).unwrap();
            stream
        })
        .collect();
    let told = || served.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    // The daemon takes them in one after the other.
    let deadline = begun + Duration::from_secs(4);
    while !told().starts_with("HTTP/1.1 503 ") {
        assert!(Instant::now() < deadline, "the ninth found a seat");
    }
    assert!(told().contains("too many connections"));
    for stream in idle.into_iter().chain(slow) {
        let said = said(stream);
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{said}"
        );
    }
    let half = begun.elapsed();
    assert!(half < Duration::from_secs(30), "{half:?}");
    // Seats are free again.
    assert!(told().starts_with("HTTP/1.1 200 "));
    std::thread::sleep(Duration::from_secs(11).saturating_sub(begun.elapsed()));
    for stream in deaf {
        // What was in the socket's buffers comes still; the rest does not.
        let said = said(stream);
        assert!(said.starts_with("HTTP/1.1 200 ") && !said.ends_with("]}"));
    }
    let whole: Nodes = served.get("/api/v1/nodes").unwrap();
    assert_eq!(whole.nodes.len(), NODES_MAX);
}

#[test]
fn a_file_is_not_replaced_and_a_second_daemon_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str| HttpConfig {
        socket: folder.path().join(name),
        ..HttpConfig::default()
    };
    let refused = |name: &str| {
        Door::open(&config(name))
            .err()
            .map(|failure| failure.message)
    };
    std::fs::write(folder.path().join("file"), "mine").unwrap();
    assert!(refused("file").unwrap().contains("no socket"));
    let door = Door::open(&config("socket")).unwrap();
    assert!(refused("socket").unwrap().contains("another process"));
    // A killed one's stays behind and is taken over.
    std::mem::forget(door);
    let left: &Path = &folder.path().join("left");
    drop(std::os::unix::net::UnixListener::bind(left).unwrap());
    assert!(left.exists());
    assert_eq!(refused("left"), None);
}
