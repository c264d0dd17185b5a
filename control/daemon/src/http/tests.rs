use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::client::{Ask, AskError};
use super::*;

/// Takes votes from authorities, and says what it was brought.
struct Echo;

impl Answers for Echo {
    fn refuses(&self, path: &str, class: Class) -> Option<Answer> {
        let stranger = path == "/v1/authority/vote" && !matches!(class, Class::Authority(_));
        stranger.then(|| Answer::word(StatusCode::SERVICE_UNAVAILABLE, "unknown"))
    }

    fn body_bytes_max(&self, path: &str) -> Option<usize> {
        match path {
            "/v1/authority/vote" => Some(1_000),
            "/v1/descriptor" => Some(10),
            _ => None,
        }
    }

    async fn answer(&self, asked: Asked) -> Answer {
        let mut answer = Answer::bytes([asked.path.as_bytes(), b" ", &asked.body].concat());
        answer.tag = Some(([7; 32], true));
        answer
    }
}

fn ip(a: u8, b: u8) -> IpAddr {
    [127, 3, a, b].into()
}

/// A server on a thread of its own, which knows one authority.
fn serving() -> (SocketAddr, Rooms) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let rooms = Rooms::default();
    rooms.know(HashMap::from([(ip(0, 1), Class::Authority([1; 32]))]));
    let known = rooms.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            serve(listener, known, Arc::new(Echo)).await;
        });
    });
    (address, rooms)
}

fn ask(
    to: SocketAddr,
    from: IpAddr,
    path: &str,
    body: Option<&[u8]>,
) -> Result<client::Answered, AskError> {
    let ask = Ask {
        to,
        path: path.to_owned(),
        body: body.map(Bytes::copy_from_slice),
        held: None,
        from: Some(from),
        bytes_max: 4_096,
        within: Duration::from_secs(60),
    };
    ask.run_alone()
}

fn refused(asked: Result<client::Answered, AskError>) -> (u16, String) {
    match asked {
        Err(AskError::Refused { status, word, .. }) => (status, word),
        other => panic!("{other:?}"),
    }
}

#[test]
fn three_hundred_slow_connections_from_twenty_prefixes_keep_no_vote_out() {
    let (to, rooms) = serving();
    // Each says the beginning of a request and no more.
    let slow = |from: IpAddr| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        let _ = stream.write_all(b"GET /v1/time HTTP/1.1\r\nHost: ");
        stream
    };
    let sources = (1..=20).flat_map(|a| (0..15).map(move |b| ip(a, b + 1)));
    let held: Vec<TcpStream> = sources.map(slow).collect();
    assert_eq!(held.len(), 300);
    let answered = ask(to, ip(0, 1), "/v1/authority/vote", Some(b"a vote")).unwrap();
    assert_eq!(answered.body.as_ref(), b"/v1/authority/vote a vote");
    assert_eq!(answered.tag, Some("07".repeat(32)));
    assert!(rooms.refused() >= 300 - 128);
    // Their time is over at some point, and strangers find room again.
    for mut stream in held {
        let patience = Some(Duration::from_secs(120));
        stream.set_read_timeout(patience).unwrap();
        let mut rest = Vec::new();
        // Closed in either way; not "would block", which is what patience ends with.
        let ended = stream.read_to_end(&mut rest);
        let waits = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(waits));
    }
    assert!(ask(to, ip(1, 1), "/v1/time", None).is_ok());
}

#[test]
fn a_request_brings_no_more_than_its_route_takes_and_votes_are_authorities_alone() {
    let (to, _) = serving();
    let stranger = ip(9, 9);
    let post = |path: &str, bytes: usize| ask(to, stranger, path, Some(&vec![b'x'; bytes]));
    assert!(post("/v1/descriptor", 10).is_ok());
    let too_large = (413, "too-large".to_owned());
    assert_eq!(refused(post("/v1/descriptor", 11)), too_large);
    assert_eq!(refused(post("/v1/network", 1)), (404, "path".to_owned()));
    let unknown = post("/v1/authority/vote", 10).unwrap_err();
    // Whoever is not known yet sends its vote again.
    assert!(!unknown.is_answer(), "{unknown}");
    assert_eq!(refused(Err(unknown)), (503, "unknown".to_owned()));
    let vote = |bytes: usize| ask(to, ip(0, 1), "/v1/authority/vote", Some(&vec![0; bytes]));
    assert!(vote(1_000).is_ok());
    assert_eq!(refused(vote(1_001)), too_large);
    // In pieces without a length: counted as it comes.
    let mut stream = TcpStream::connect(to).unwrap();
    stream
        .write_all(b"POST /v1/descriptor HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    stream.write_all(b"b\r\nxxxxxxxxxxx\r\n0\r\n\r\n").unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
}

#[test]
fn a_document_that_is_held_does_not_come_again() {
    let (to, _) = serving();
    let ask = |held: [u8; 32]| {
        let ask = Ask {
            to,
            path: "/v1/consensus/7".to_owned(),
            body: None,
            held: Some(held),
            from: None,
            bytes_max: 4_096,
            within: Duration::from_secs(60),
        };
        ask.run_alone().unwrap()
    };
    let (same, other) = (ask([7; 32]), ask([8; 32]));
    assert!(same.body.is_empty() && !other.body.is_empty());
    assert_eq!((&same.tag, &other.tag), (&Some("07".repeat(32)), &same.tag));
}

#[test]
fn an_authority_is_at_an_address_and_a_name_is_told_from_other_mistakes() {
    for (url, address) in [
        ("http://192.0.2.1:7070", ([192, 0, 2, 1], 7_070).into()),
        (
            "http://[2001:db8::1]:80",
            "[2001:db8::1]:80".parse().unwrap(),
        ),
    ] {
        assert_eq!(client::parse_url(url), Ok(address));
    }
    let says = |url: &str| client::parse_url(url).unwrap_err();
    for name in [
        "http://localhost:7070",
        "http://a.example",
        "http://a.example:7070",
    ] {
        assert!(says(name).contains("give the address"), "{}", says(name));
    }
    for other in [
        "https://127.0.0.1:1",
        "127.0.0.1:1",
        "ftp://x",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:1/v1",
        "http://[::1]",
    ] {
        assert!(
            says(other).contains("http://ADDRESS:PORT"),
            "{}",
            says(other)
        );
    }
}

#[test]
fn an_answer_has_the_time_of_the_moment_at_which_it_is_given() {
    let before = SystemTime::now() - Duration::from_secs(1);
    let response = Answer::word(StatusCode::NOT_FOUND, "path").into_response();
    let date = response.headers()[DATE].to_str().unwrap();
    let date = httpdate::parse_http_date(date).unwrap();
    assert!(before < date && date <= SystemTime::now(), "{date:?}");
}

#[test]
fn what_a_cache_gives_says_nothing_of_the_authoritys_clock() {
    let clock = |status: &str, fields: &str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let date = httpdate::fmt_http_date(SystemTime::now());
        let answer =
            format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}Content-Length: 0\r\n\r\n");
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1_024];
            assert!(stream.read(&mut asked).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let answered = ask(to, ip(0, 1), "/v1/time", None);
        answering.join().unwrap();
        match answered {
            Ok(answered) => answered.clock,
            Err(AskError::Refused { clock, .. }) => clock,
            Err(other) => panic!("{other}"),
        }
    };
    for status in ["200 OK", "404 Not Found"] {
        assert!(clock(status, "").is_some());
        assert_eq!(clock(status, "Age: 0\r\n"), None);
    }
}
