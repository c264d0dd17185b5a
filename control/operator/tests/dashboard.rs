//! The dashboard of a laboratory, asked as its page asks, and in a real browser where one is installed. No root, no timing
//! beyond generous patience.

use std::io::{Read, Write};
use std::net::TcpStream;

use control::api::client;
use control::api::shapes::{Level, Seen, State, Updates};

mod running;
use running::{Running, children_of, free_port, mixctl, stderr, wait_until};

#[path = "../../daemon/src/api/tests/chrome.rs"]
mod chrome;
#[path = "../../daemon/src/api/tests/web_socket.rs"]
mod web_socket;

use chrome::Chrome;

fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}

/// What a lab's first words say of its dashboard.
fn url(said: &[String]) -> &str {
    let mut lines = said.iter();
    let found = lines.find_map(|line| Some(line.split_once("dashboard: ")?.1));
    found.unwrap_or_else(|| panic!("no dashboard in {said:?}"))
}

#[test]
fn a_laboratory_tells_of_all_its_nodes_and_of_one_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lab");
    let flags = ["--http=127.0.0.1:0", "--mean-delay", "5ms", "--dir"];
    let flags = [&flags[..], &[root.to_str().unwrap()]].concat();
    let (lab, said) = Running::lab(&free_port(), &flags);
    let socket = root.join("http.sock");
    let updates = || {
        client::get::<Updates>(&socket, "/api/v1/updates")
            .unwrap_or_else(|failure| panic!("{failure}"))
    };
    let mut last = None;
    wait_until("all nodes are ready and say what they receive", || {
        let now = updates();
        let runs =
            |node: &Seen| node.state == State::Ready && node.pps.is_some_and(|pps| pps > 0.0);
        let holds = now.status.state == State::Ready && now.nodes.iter().all(runs);
        last = Some(now);
        holds
    });
    let ready = last.unwrap();
    assert_eq!(ready.nodes.len(), 8);
    assert!(ready.nodes.iter().all(|node| !node.own));
    // Between gateways, three layers, and gateways again.
    let hops: Vec<(u8, u8)> = ready
        .flows
        .iter()
        .map(|(from, to, _)| (*from, *to))
        .collect();
    assert_eq!(hops, [(0, 1), (1, 2), (2, 3), (3, 0)]);
    assert_eq!(ready.workers.unwrap().workers.len(), 8);
    assert_eq!(ready.status.not_ready, [""; 0]);
    let received = ready.status.rates.unwrap().received;
    assert!(received > 0.0, "{received}");
    wait_until("values move", || {
        let now = updates();
        now.status
            .rates
            .is_some_and(|rates| rates.received != received)
    });

    // Over TCP the token decides.
    let (address, token) = url(&said)
        .strip_prefix("http://")
        .unwrap()
        .split_once("/#")
        .unwrap();
    let ask = |fields: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET /api/v1/updates HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    };
    assert!(ask("").starts_with("HTTP/1.1 401 "));
    assert!(ask(&format!("authorization: Bearer {token}\r\n")).starts_with("HTTP/1.1 200 "));

    let node = *children_of(lab.0.id()).last().unwrap();
    let command = std::fs::read_to_string(format!("/proc/{node}/cmdline")).unwrap();
    let (_, number) = command.split_once("/nodes/").unwrap();
    let operator = format!("lab-{}", number.split('/').next().unwrap());
    kill(node);
    let mut last = None;
    wait_until("it is told of as down, and that it ended", || {
        let now = updates();
        let is_down = |seen: &Seen| seen.operator == operator && seen.state == State::Down;
        let is_event = |text: &str| text == format!("{operator} is down");
        let holds = now.nodes.iter().any(is_down)
            && now
                .events
                .iter()
                .any(|event| event.level == Level::Error && is_event(&event.text))
            && now.status.state == State::Waiting;
        last = Some(now);
        holds
    });
    let down = last.unwrap();
    let said = down.status.not_ready.iter();
    let why: Vec<_> = said
        .filter(|why| why.starts_with(&format!("{operator} is down: ")))
        .collect();
    assert!(why.len() == 1 && why[0].contains("--restart"), "{why:?}");
    let others = down.nodes.iter().filter(|node| node.operator != operator);
    for other in others {
        assert_ne!(other.state, State::Down, "{}", other.operator);
    }
}

#[test]
fn an_address_that_others_reach_or_that_is_taken_is_refused() {
    let refused = |http: &str| {
        let output = mixctl()
            .args(["lab", "--udp-port", &free_port(), http])
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    for wrong in ["192.0.2.1:9102", "0.0.0.0:9102", "nonsense"] {
        let (code, said) = refused(&format!("--http={wrong}"));
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains("an address of this host"), "{said}");
    }
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, said) = refused(&format!("--http={}", other.local_addr().unwrap()));
    assert_eq!(code, Some(71), "{said}");
    assert!(said.contains("another process listens there"), "{said}");
}

#[test]
fn a_laboratorys_nodes_are_shown_and_one_that_is_killed_is_red_with_what_to_do() {
    let Some(chrome) = Chrome::start() else {
        return;
    };
    let flags = ["--http=127.0.0.1:0", "--mean-delay", "5ms"];
    let (lab, said) = Running::lab(&free_port(), &flags);
    let mut tab = chrome.open(url(&said));
    tab.wait("document.querySelector('#live').dataset.live === 'yes'");
    tab.wait("document.querySelectorAll('#topology-plot .node.ready').length === 8");
    tab.wait("document.querySelector('#state').dataset.state === 'ready'");
    // Values move: cover flows without any client.
    let received = "document.querySelector('#figures b').textContent";
    tab.wait(&format!("parseFloat({received}) > 0"));
    let first = tab.eval(received);
    tab.wait(&format!("{received} !== {first}"));
    tab.wait("document.querySelectorAll('#topology-plot .runs').length > 0");
    tab.pictures("lab-ready");

    kill(*children_of(lab.0.id()).last().unwrap());
    let took = tab.wait("document.querySelector('#topology-plot rect.node.down')");
    eprintln!("red {} ms after the node was killed", took.as_millis());
    tab.wait("!document.querySelector('#missing').hidden");
    let warning = tab.eval("document.querySelector('#missing').textContent");
    let warning = warning.as_str().unwrap();
    assert!(
        warning.contains("is down: its log says why") && warning.contains("--restart"),
        "{warning}"
    );
    tab.wait("document.querySelector('#events .error')");
    assert_eq!(tab.complaints, [""; 0]);
    tab.pictures("lab-killed");
}
