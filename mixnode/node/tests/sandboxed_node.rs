//! Real nodes, confined as every start confines them, still forward packets: those that a gateway sends through the
//! mixes and back to itself.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use directory::store::Store;
use directory::{Authority, Identity, Parameters};
use mixnode::node::unix_ms;
use mixnode::port::uring_available;
use mixnode::sandbox::Extent;
use mixnode::status::NodeStatus;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const PATIENCE: Duration = Duration::from_secs(120);

/// Ends with the test, however that ends.
struct Node {
    child: Child,
    statuses: Receiver<NodeStatus>,
    metrics: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP address nobody has now.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn start(root: &Path, number: u8, role: &str, udp_port: u16, port: &str) -> Node {
    let state = root.join(format!("state-{number}"));
    let metrics = free_address();
    let config = root.join(format!("{number}.toml"));
    let text = format!(
        "[node]\nrole = {role:?}\noperator = \"operator {number}\"\nport = {port:?}\n\
         listen = [\"127.2.{number}.1:{udp_port}\"]\nstate_dir = {state:?}\n\
         [network]\ndirectory = {:?}\n[worker]\ncount = 2\nmax_pps = 1000\n\
         [cover]\nloop_interval_ms = 50\n[metrics]\nlisten = \"{metrics}\"\n[sandbox]\nmode = \"require\"\n",
        root.join("directory"),
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mixnode"))
        .args(["--status-lines", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, statuses) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(serde_json::from_str(&line).unwrap());
        }
    });
    Node {
        child,
        statuses,
        metrics,
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn forwards_in_the_sandbox(port: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut rng = ChaCha20Rng::seed_from_u64(unix_ms());
    let parameters = Parameters {
        genesis_unix_ms: unix_ms(),
        epoch_ms: 3_600_000,
        mean_delay_us: 1_000,
        client_rate_pps: 10,
        layers: 2,
    };
    let authority = Authority::new(Identity::generate(&mut rng), parameters).unwrap();
    let store = Store::create(&root.join("directory")).unwrap();
    store
        .publish_authorities(&authority.authorities().unwrap())
        .unwrap();
    let udp_port = UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.local_addr())
        .unwrap()
        .port();
    let mut nodes: Vec<Node> = (1..)
        .zip(["gateway", "mix", "mix"])
        .map(|(number, role)| start(root, number, role, udp_port, port))
        .collect();

    // Descriptors are written from inside of the sandbox.
    let until = Instant::now() + PATIENCE;
    while store.read_descriptors().unwrap().len() < nodes.len() {
        assert!(Instant::now() < until, "a node published no descriptor");
        for node in &mut nodes {
            assert_eq!(node.child.try_wait().unwrap(), None, "a node ended");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // And the consensus is read from there.
    let document = authority
        .sign(0, store.read_descriptors().unwrap())
        .unwrap();
    store.publish_consensus(0, &document).unwrap();

    let gateway = &nodes[0];
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until, "no packet came back");
        let status = gateway.statuses.recv_timeout(PATIENCE).unwrap();
        assert!(status.sandbox.is_complete(), "{}", status.sandbox);
        assert_eq!(status.port, port);
        if status.loop_returned > 0 {
            break;
        }
    }
    let metrics = get(gateway.metrics, "/metrics");
    assert!(
        metrics.contains("mixnode_sandbox{part=\"seccomp\"} 1\n"),
        "{metrics}"
    );
    let connected = metrics
        .lines()
        .find_map(|line| line.strip_prefix("mixnode_handshakes_total{outcome=\"connected\"} "))
        .unwrap();
    assert!(connected.parse::<u64>().unwrap() > 0, "{metrics}");
    assert!(get(gateway.metrics, "/healthz").ends_with("ok\n"));

    // A stop drains and closes the rings, under the filter.
    for node in &mut nodes {
        let id = i32::try_from(node.child.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(node.child.wait().unwrap().success());
        let last = node.statuses.try_iter().last().unwrap();
        assert_eq!(last.held, 0);
        assert_eq!(last.sandbox.landlock, Extent::Full);
    }
}

#[test]
fn nodes_on_plain_ports_forward_and_stop_in_the_sandbox() {
    forwards_in_the_sandbox("plain");
}

#[test]
fn nodes_on_uring_ports_forward_and_stop_in_the_sandbox() {
    match uring_available() {
        Ok(()) => forwards_in_the_sandbox("uring"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}
