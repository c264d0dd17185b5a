//! `/ws/updates`, asked by hand: what is refused, who gets a place, and what becomes of who misuses it.

use std::net::TcpStream;

use super::web_socket::{CLOSE, Client, TEXT};
use super::*;

/// A daemon with a page, and its address.
pub(super) fn served(board: &Board) -> (Served, SocketAddr) {
    let served = Served::at(board, None, Some("127.0.0.1:0".parse().unwrap()));
    let address = address_and_token(&served).0;
    (served, address)
}

fn address_and_token(served: &Served) -> (SocketAddr, String) {
    let shown: Dashboard = served.get("/api/v1/dashboard").unwrap();
    let (address, token) = shown.url.split_once("/#").unwrap();
    let address = address.strip_prefix("http://").unwrap();
    (address.parse().unwrap(), token.to_owned())
}

/// What opens a socket there.
pub(super) fn fields_of(served: &Served) -> String {
    let (address, token) = address_and_token(served);
    format!("host: {address}|sec-websocket-protocol: fogmix.v1, token.{token}|")
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream
}

/// Opens one as soon as there is a place: whoever has left gives theirs back a moment later.
fn open_soon(address: SocketAddr, fields: &str) -> Client<TcpStream> {
    let began = Instant::now();
    loop {
        match Client::open(connect(address), "/ws/updates", fields) {
            Ok(client) => return client,
            Err(said) => assert!(began.elapsed() < Duration::from_secs(60), "{said}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn updates<S: Read + Write>(client: &mut Client<S>) -> Updates {
    serde_json::from_slice(&client.text().unwrap()).unwrap()
}

#[test]
fn a_socket_tells_once_a_second_how_things_are_and_of_a_node_that_ends() {
    let members = nodes(2, 3);
    let board = board(0);
    board.put(vec![held(document_of(0, &members))], Some(own(&members[2])));
    let (served, address) = served(&board);
    let fields = fields_of(&served);
    let of = |received: u64| NodeStatus {
        started_unix_ms: 1,
        totals: handover::status::Totals {
            received,
            transmitted: 2 * received,
            ..Default::default()
        },
        ..NodeStatus::default()
    };
    // In a while from now, so that it holds as long as the test takes.
    let later = Instant::now() + Duration::from_secs(600);
    served
        .witness
        .hear(later - Duration::from_secs(2), Some(of(0)));
    served.witness.hear(later, Some(of(2_400)));
    let mut client = Client::open(connect(address), "/ws/updates", &fields)
        .ok()
        .unwrap();
    let mut seq = None;
    for _ in 0..3 {
        let updates = updates(&mut client);
        assert!(seq < Some(updates.seq));
        seq = Some(updates.seq);
        assert_eq!(updates.status.state, State::Ready);
        assert_eq!(updates.nodes.len(), 5);
        let own: Vec<_> = updates.nodes.iter().filter(|node| node.own).collect();
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].state, own[0].pps), (State::Ready, Some(1_200.0)));
        let layer = own[0].layer;
        assert_eq!(own[0].place, format!("layer {layer}"));
        let layers = network::PARAMETERS.layers;
        let next = (layer + 1) % (layers + 1);
        let expected = [(layer - 1, layer, 1_200.0), (layer, next, 2_400.0)];
        let mut flows = updates.flows;
        flows.sort_by_key(|(from, ..)| (*from + layers + 2 - layer) % (layers + 1));
        assert_eq!(flows, expected);
        let others = updates.nodes.iter().filter(|node| !node.own);
        for node in others {
            assert_eq!((node.state, node.pps), (State::Unknown, None));
        }
    }
    let killed = Instant::now();
    served.witness.hear(Instant::now(), None);
    let down = loop {
        let updates = updates(&mut client);
        if updates.status.state == State::Down {
            break updates;
        }
        assert!(killed.elapsed() < Duration::from_secs(60));
    };
    eprintln!(
        "told {} ms after the node's end",
        killed.elapsed().as_millis()
    );
    let own = down.nodes.iter().find(|node| node.own).unwrap();
    assert_eq!((own.state, own.pps), (State::Down, None));
    assert!(down.flows.is_empty());
    let event = down.events.last().unwrap();
    assert!(event.text.starts_with("the node is down: "), "{event:?}");
    // The socket of the file system needs no token: the peer's user decides.
    let mut client = Client::open(served.connect(), "/ws/updates", "host: x|")
        .ok()
        .unwrap();
    assert_eq!(updates(&mut client).status.state, State::Down);
}

#[test]
fn without_the_token_from_elsewhere_or_without_an_upgrade_there_is_no_socket() {
    let (served, address) = served(&board(0));
    let fields = fields_of(&served);
    let refused = |fields: &str| {
        Client::open(connect(address), "/ws/updates", fields)
            .err()
            .unwrap()
    };
    let host = format!("host: {address}|");
    let wrong = format!(
        "{host}sec-websocket-protocol: fogmix.v1, token.{}|",
        "0".repeat(64)
    );
    let foreign_host = fields.replace(&address.to_string(), "evil.example");
    let bearer = fields.replace(
        "sec-websocket-protocol: fogmix.v1, token.",
        "authorization: Bearer ",
    );
    for (fields, status) in [
        (host.as_str(), 401),
        (wrong.as_str(), 401),
        (bearer.as_str(), 401),
        (foreign_host.as_str(), 403),
        (&format!("{fields}origin: http://evil.example|"), 403),
        (&format!("{fields}content-length: 10000000|"), 413),
    ] {
        let said = refused(fields);
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{fields}: {said}"
        );
        assert!(said.contains("application/problem+json"), "{said}");
    }
    let same = format!("{fields}origin: http://{address}|");
    assert!(Client::open(connect(address), "/ws/updates", &same).is_ok());
    let mut bare = connect(address);
    let request = format!("GET /ws/updates HTTP/1.1|{fields}|").replace('|', "\r\n");
    bare.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    bare.read_to_string(&mut said).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 400 ") && said.contains("for WebSockets"),
        "{said}"
    );
}

#[test]
fn eight_look_the_ninth_is_told_so_and_has_a_place_when_one_leaves() {
    let (served, address) = served(&board(0));
    let fields = fields_of(&served);
    let mut eight: Vec<_> = (0..8)
        .map(|_| {
            Client::open(connect(address), "/ws/updates", &fields)
                .ok()
                .unwrap()
        })
        .collect();
    for client in &mut eight {
        updates(client);
    }
    let ninth = Client::open(connect(address), "/ws/updates", &fields)
        .err()
        .unwrap();
    assert!(
        ninth.starts_with("HTTP/1.1 503 ") && ninth.contains("eight look already"),
        "{ninth}"
    );
    let mut leaves = eight.pop().unwrap();
    leaves.send(CLOSE, &[]).unwrap();
    leaves.drain();
    updates(&mut open_soon(address, &fields));
    // Whoever breaks off without a word leaves too.
    drop(eight);
    let mut others: Vec<_> = (0..8).map(|_| open_soon(address, &fields)).collect();
    for client in &mut others {
        updates(client);
    }
}

#[test]
fn who_reads_no_more_or_sends_too_much_is_hung_up_on_and_the_others_go_on() {
    let (served, address) = served(&board(0));
    let fields = fields_of(&served);
    let open = || {
        Client::open(connect(address), "/ws/updates", &fields)
            .ok()
            .unwrap()
    };
    let (mut deaf, mut long, mut fast, mut good) = (open(), open(), open(), open());
    let began = Instant::now();
    // What is bounded is passed over.
    good.send(TEXT, b"{\"drain\":true}").unwrap();
    let first = updates(&mut good).seq;
    let _ = long.send(TEXT, &[b'x'; 2_000]);
    long.drain();
    for _ in 0..200 {
        if fast.send(TEXT, b"x").is_err() {
            break;
        }
    }
    fast.drain();
    eprintln!(
        "who sent too much was gone after {} ms",
        began.elapsed().as_millis()
    );
    // Whoever answers no ping has stopped reading; four others take the places of all that were left.
    let mut last = first;
    while began.elapsed() < Duration::from_secs(17) {
        last = updates(&mut good).seq;
    }
    assert!(last > first);
    deaf.drain();
    eprintln!(
        "who read nothing was gone after {} ms",
        began.elapsed().as_millis()
    );
    let mut others: Vec<_> = (0..7).map(|_| open_soon(address, &fields)).collect();
    for client in &mut others {
        updates(client);
    }
}
