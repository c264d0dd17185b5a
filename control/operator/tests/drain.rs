//! `mixctl drain`: a real node leaves its network at an operator's word, goes on running, and comes back by a restart.

mod live;
mod programs;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use live::{Network, Node, PATIENCE};
use loader::{Keeping, Loader, Options};

fn free(ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn a_mix_leaves_at_an_operators_word_runs_on_and_is_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mixctld");
    let options = Options {
        socket: socket.clone(),
        ..Options::default()
    };
    let loader = Loader::without_xdp(options, Keeping::default()).unwrap();
    let _handle = loader.on_a_thread().unwrap();
    let network = Network::new(3_000, None);
    let small = "[worker]\nmax_pps = 100\n";
    let kept = format!("{small}[keys]\nvault = true\nloader = {socket:?}\n");
    let listen = [free("127.8.1.1"), free("127.8.2.1"), free("127.8.3.1")];
    let start = |number: usize| {
        let more = if number == 2 { &kept } else { small };
        network.start(number, listen[number - 1], "plain", more)
    };
    let mut nodes: Vec<Node> = (1..=3).map(start).collect();
    network.open(&mut nodes);
    nodes[1].await_status(&network, "a place", |status| status.layer.is_some());
    let mut drain = Command::new(env!("CARGO_BIN_EXE_mixctl"))
        .args(["drain", "--json", "--socket"])
        .arg(&socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while drain.try_wait().unwrap().is_none() {
        network.turn();
        std::thread::sleep(Duration::from_millis(50));
        if Instant::now() >= until {
            drain.kill().unwrap();
        }
    }
    let output = drain.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let states: Vec<&str> = said.lines().collect();
    let last = [r#"{"state":"draining"}"#, r#"{"state":"drained"}"#];
    assert!(states.ends_with(&last), "{said}");
    assert_eq!(nodes[1].child.try_wait().unwrap(), None, "it runs on");
    let status = nodes[1].await_status(&network, "a status", |_| true);
    assert_eq!(status.layer, None);
    drop(nodes.remove(1));
    let mut back = start(2);
    back.await_status(&network, "a place again", |status| status.layer.is_some());
}
