//! The address of the page, where nobody's user is known.

use std::net::TcpStream;

use super::*;

/// What is answered to `request`, whose lines end in `|`, at `address`.
fn over_tcp(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let _ = stream.write_all(request.replace('|', "\r\n").as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_taken_address_keeps_the_page_away_until_it_is_free_and_nothing_else() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let served = Served::at(&board(0), None, Some(address));
    let shown: Dashboard = served.get("/api/v1/dashboard").unwrap();
    assert!(shown.url.contains(&address.to_string()));
    drop(other);
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it is not served"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let request = format!("GET /healthz HTTP/1.1|host: {address}||");
    assert!(over_tcp(address, &request).starts_with("HTTP/1.1 200 "));
}

#[test]
fn over_tcp_the_token_decides_and_no_other_site_gets_in() {
    let members = nodes(2, 3);
    let board = board(0);
    board.put(vec![held(document_of(0, &members))], Some(own(&members[2])));
    let served = Served::at(&board, None, Some("127.0.0.1:0".parse().unwrap()));
    let shown: Dashboard = served.get("/api/v1/dashboard").unwrap();
    let (address, token) = shown.url.split_once("/#").unwrap();
    let address: SocketAddr = address.strip_prefix("http://").unwrap().parse().unwrap();
    let file = served.folder.path().join("control/http.token");
    assert_eq!(std::fs::read_to_string(file).unwrap().trim_end(), token);
    let bearer = format!("authorization: Bearer {token}|");
    let ask = |path: &str, more: &str| {
        let said = over_tcp(
            address,
            &format!("GET {path} HTTP/1.1|host: {address}|{more}|"),
        );
        let status: u16 = said.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(said.contains("content-security-policy: default-src 'none'"));
        (status, said)
    };
    for (path, more, status) in [
        ("/", "", 200),
        ("/app.js", "", 200),
        ("/style.css", "", 200),
        ("/healthz", "", 200),
        ("/readyz", "", 503),
        ("/metrics", "", 200),
        ("/api/v1/updates", "", 401),
        ("/api/v1/updates", "authorization: Bearer abc|", 401),
        ("/api/v1/updates", bearer.as_str(), 200),
        ("/api/v1/nothing", "", 401),
        ("/api/v1/nothing", bearer.as_str(), 404),
    ] {
        let (answered, said) = ask(path, more);
        assert_eq!(answered, status, "{path} {more}: {said}");
        if status >= 400 && path.starts_with("/api") {
            assert!(said.contains("application/problem+json"), "{said}");
        }
    }
    let origin = |origin: &str| ask("/api/v1/updates", &format!("{bearer}origin: {origin}|")).0;
    assert_eq!(origin(&format!("http://{address}")), 200);
    assert_eq!(origin("http://evil.example"), 403);
    let foreign = format!("GET /api/v1/updates HTTP/1.1|host: evil.example|{bearer}|");
    assert!(over_tcp(address, &foreign).starts_with("HTTP/1.1 403 "));
    let big = format!(
        "POST /api/v1/updates HTTP/1.1|host: {address}|{bearer}content-length: 10000000||{}",
        "x".repeat(10_000_000)
    );
    assert!(over_tcp(address, &big).starts_with("HTTP/1.1 413 "));
    let (_, metrics) = ask("/metrics", "");
    for line in [
        "mixctld_epoch 0\n",
        "mixctld_node_up 0\n",
        "mixctld_document_nodes 5\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // All of it is one moment's, and nothing in it that is not known here.
    let (_, said) = ask("/api/v1/updates", &bearer);
    let (_, body) = said.split_once("\r\n\r\n").unwrap();
    let updates: Updates = serde_json::from_str(body).unwrap();
    assert_eq!(updates.nodes.len(), 5);
    assert_eq!(updates.workers, None);
    // Without an address there is no page to go to.
    let none = Served::new(&board, None);
    let none = none.get::<Dashboard>("/api/v1/dashboard").unwrap_err();
    assert!(none.contains("[http] listen"), "{none}");
}

#[test]
fn a_thousand_idle_connections_have_their_time_and_then_others_get_in() {
    let served = Served::at(&board(0), None, Some("127.0.0.1:0".parse().unwrap()));
    let shown: Dashboard = served.get("/api/v1/dashboard").unwrap();
    let address = shown.url.strip_prefix("http://").unwrap();
    let address: SocketAddr = address.split_once('/').unwrap().0.parse().unwrap();
    program::limits::descriptors(4_096).unwrap();
    let idle: Vec<TcpStream> = (0..1_000)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // The socket of the file system is another door.
    assert!(served.get::<Epochs>("/api/v1/epochs").is_ok());
    for mut stream in idle {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut said = Vec::new();
        // Hung up on at the door, or when the time for a request was over.
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"));
    }
    let healthz = format!("GET /healthz HTTP/1.1|host: {address}||");
    assert!(over_tcp(address, &healthz).starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_page_is_small_and_asks_nobody_else() {
    let bytes: usize = PAGES.iter().map(|(_, _, body)| body.len()).sum();
    assert!(bytes <= 40 * 1024, "{bytes} bytes");
    for (path, _, body) in PAGES {
        for foreign in ["https://", "innerHTML", "style=\"", "onclick", "eval("] {
            assert!(!body.contains(foreign), "{path}: {foreign}");
        }
    }
}
