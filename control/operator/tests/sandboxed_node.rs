//! Real nodes, confined as every start confines them, still forward packets: those that a gateway sends through the
//! mixes and back to itself.

#[path = "../../../mixnode/node/tests/exposition/mod.rs"]
mod exposition;
mod live;
mod programs;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use live::{Network, Node, ROLES};
use mixnode::process::sandbox::Extent;
use port::uring_available;

/// A TCP address nobody has now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn forwards_in_the_sandbox(port: &str) {
    let network = Network::new(3_600_000, None);
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let udp_port = udp.local_addr().unwrap().port();
    drop(udp);
    let metrics = free_address();
    let mut nodes: Vec<Node> = (1..=ROLES.len())
        .map(|number| {
            let listen = format!("127.2.{number}.1:{udp_port}").parse().unwrap();
            let mut more = "[worker]\ncount = 2\nmax_pps = 1000\n".to_owned();
            if number == 1 {
                more += &format!("[metrics]\nlisten = \"{metrics}\"\n");
            }
            network.start(number, listen, port, &more)
        })
        .collect();
    // Descriptors are written, and the consensus is read, from inside of the sandbox.
    network.open(&mut nodes);
    let status = nodes[0].await_loops(&network, 1);
    assert!(status.sandbox.is_complete(), "{}", status.sandbox);
    assert_eq!(status.port, port);

    let text = get(metrics, "/metrics");
    assert!(
        text.contains("mixnode_sandbox{part=\"seccomp\"} 1\n"),
        "{text}"
    );
    let connected = text
        .lines()
        .find_map(|line| line.strip_prefix("mixnode_handshakes_total{outcome=\"connected\"} "))
        .unwrap();
    assert!(connected.parse::<u64>().unwrap() > 0, "{text}");
    // Under load, with histograms that have something in them.
    exposition::check(body(&text)).unwrap();
    exposition::check_by_promtool(body(&text)).unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .parse()
            .unwrap()
    };
    assert!(value("mixnode_hold_seconds_count ") > 0.0);
    assert!(value("mixnode_unwrap_batch_packets_count ") > 0.0);
    assert!(value("mixnode_transmitted_bytes_total ") >= 1_232.0);
    assert!(value("process_resident_memory_bytes ") > 0.0);
    assert!(value("process_open_fds ") > 3.0);
    assert_eq!(value("mixnode_listed "), 1.0);
    assert!(get(metrics, "/healthz").ends_with("ok\n"));
    // Loops came back, so the node forwards; the control loop tells so once a second.
    let until = Instant::now() + live::PATIENCE;
    while !get(metrics, "/readyz").ends_with("\r\n\r\nok\n") {
        assert!(Instant::now() < until, "{}", get(metrics, "/readyz"));
        network.turn();
        std::thread::sleep(Duration::from_millis(100));
    }

    // A stop drains and closes the rings, under the filter.
    for node in &mut nodes {
        let last = node.stop();
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
