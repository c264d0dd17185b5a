//! The management address under those who would keep a scraper out, and what it says.

mod exposition;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover::protocol::Mode;
use mixnode::path::counters::{Counters, Distributions, Published};
use mixnode::path::reason::Reason;
use mixnode::process::metrics::{
    CONNECTIONS_MAX, DEADLINE, Facts, Listener, Sources, Standing, Usage, XdpFacts,
};
use mixnode::process::status::Collector;

/// A node's sources, with one worker that has seen something.
fn sources() -> (Arc<Sources>, Arc<Published>) {
    let published = Published::new().unwrap();
    let mut distributions = Distributions::new().unwrap();
    for value in [1, 900, 20_000, 20_001, 119_000_000] {
        distributions.hold_us.saturating_record(value);
        distributions.loop_us.saturating_record(value);
    }
    distributions.unwrap_batch.saturating_record(64);
    let counters = Counters {
        received: 10,
        turns: 3,
        ..Counters::default()
    };
    published.publish(&counters, &mut distributions);
    let collector = Collector::new(vec![Arc::clone(&published)]).unwrap();
    let facts = Facts {
        port: "sim",
        lanes: "portable",
        xdp: Some(XdpFacts {
            interface: "eth0".to_owned(),
            mode: Mode::Generic,
            zero_copy: true,
        }),
        ..Facts::default()
    };
    (Arc::new(Sources::new(collector, facts)), published)
}

struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(sources: Arc<Sources>) -> Server {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || listener.serve(&sources, &ended));
        Server {
            address,
            stop,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// The answer to a whole request, and how long it took.
    fn ask(&self, request: &str) -> (String, Duration) {
        let start = Instant::now();
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (text, start.elapsed())
    }

    fn get(&self, path: &str) -> (String, Duration) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Well under what one idle connection may take.
const PROMPT: Duration = Duration::from_millis(1_000);

#[test]
fn idle_connections_keep_nobody_from_health_and_metrics() {
    let server = Server::start(sources().0);
    let idle: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    for path in ["/healthz", "/metrics"] {
        let (text, took) = server.get(path);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(took < PROMPT, "{path} took {took:?}");
    }
    drop(idle);
}

#[test]
fn a_byte_now_and_then_keeps_nobody_out_and_ends_at_the_deadline() {
    let server = Server::start(sources().0);
    let mut slow: Vec<TcpStream> = (0..CONNECTIONS_MAX / 2).map(|_| server.connect()).collect();
    let start = Instant::now();
    let mut closed = None;
    for byte in b"GET /metrics HTTP/1.1".iter().cycle() {
        let mut all_closed = true;
        for stream in &mut slow {
            all_closed &= stream.write_all(&[*byte]).is_err();
        }
        if all_closed {
            closed = Some(start.elapsed());
            break;
        }
        let (text, took) = server.get("/healthz");
        assert!(text.ends_with("\r\n\r\nok\n"), "{text}");
        assert!(took < PROMPT, "took {took:?}");
        if start.elapsed() > DEADLINE * 4 {
            break;
        }
        std::thread::sleep(Duration::from_millis(400));
    }
    assert!(
        closed.is_some_and(|closed| closed >= DEADLINE),
        "{closed:?}"
    );
}

#[test]
fn attack_a_request_without_end_keeps_nobody_from_health_and_ends_at_the_deadline() {
    let server = Server::start(sources().0);
    let endless: Vec<JoinHandle<()>> = (0..2)
        .map(|_| {
            let mut stream = server.connect();
            let limit = Some(Duration::from_secs(20));
            stream.set_write_timeout(limit).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
            // Until the server closes it.
            std::thread::spawn(move || while stream.write_all(&[b'x'; 1 << 16]).is_ok() {})
        })
        .collect();
    for _ in 0..10 {
        let (text, _) = server.get("/healthz");
        assert!(text.ends_with("\r\n\r\nok\n"), "{text}");
    }
    for one in endless {
        one.join().unwrap();
    }
}

#[test]
fn of_too_many_connections_the_one_that_waits_longest_gives_way() {
    let server = Server::start(sources().0);
    let mut connections: Vec<TcpStream> = (0..CONNECTIONS_MAX + 10)
        .map(|_| server.connect())
        .collect();
    // The server has seen all of them when it answers one that came later.
    server.get("/healthz");
    let is_open = |stream: &mut TcpStream| {
        stream
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open: Vec<bool> = connections.iter_mut().map(is_open).collect();
    assert!(open.iter().filter(|open| **open).count() <= CONNECTIONS_MAX);
    assert!(!open[0] && *open.last().unwrap(), "{open:?}");
}

#[test]
fn requests_that_make_no_sense_are_told_so() {
    let server = Server::start(sources().0);
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(10_000));
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("\r\n\r\n", "400"),
        ("GET /metrics?name=x HTTP/1.0\n\n", "200"),
        (&long[..5_000], "431"),
    ] {
        let (text, _) = server.ask(request);
        let said = text.split_whitespace().nth(1);
        assert_eq!(said, Some(status), "{request:?}");
    }
    let (text, _) = server.ask("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(
        text.ends_with("\r\n\r\n") && text.contains("Content-Length: "),
        "{text}"
    );
}

#[test]
fn readiness_says_why_not_and_health_is_another_thing() {
    let (sources, published) = sources();
    let server = Server::start(Arc::clone(&sources));
    let (text, _) = server.get("/readyz");
    assert!(
        text.starts_with("HTTP/1.1 503") && text.contains("epoch 0"),
        "{text}"
    );
    assert!(server.get("/healthz").0.starts_with("HTTP/1.1 200"));
    let counters = Counters {
        received: 10,
        loop_returned: 1,
        ..Counters::default()
    };
    published.publish(&counters, &mut Distributions::new().unwrap());
    sources.watch(Standing {
        epoch: 5,
        has_document: true,
        is_listed: true,
        document_age: Some(Duration::from_secs(61)),
        is_elsewhere: false,
        is_draining: false,
        loop_interval: Duration::from_millis(200),
        loop_time: Duration::from_secs(6),
    });
    assert!(server.get("/readyz").0.starts_with("HTTP/1.1 200"));
    let (text, _) = server.get("/metrics");
    for line in [
        "mixnode_epoch 5\n",
        "mixnode_listed 1\n",
        "mixnode_ready 1\n",
        "mixnode_document_age_seconds 61\n",
        "mixnode_received_bytes_total 12320\n",
    ] {
        assert!(text.contains(line), "no {line}in\n{text}");
    }
}

#[test]
fn the_text_is_well_formed_named_as_asked_and_always_in_one_order() {
    let (sources, _) = sources();
    let usage = Usage::open().unwrap();
    let text = sources.render(Some(&usage));
    exposition::check(&text).unwrap();
    exposition::check_by_promtool(&text).unwrap();
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines();
        lines
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect()
    };
    assert_eq!(names(&text), names(&sources.render(Some(&usage))));
    for reason in Reason::ALL {
        let sample = format!("mixnode_rejected_total{{reason=\"{}\"}} ", reason.name());
        assert!(text.contains(&sample), "{text}");
    }
    for part in [
        "mixnode_xdp_info{mode=\"generic\",zero_copy=\"unverified\"} 1\n",
        "mixnode_hold_seconds_bucket{le=\"0.0005\"} 1\n",
        "mixnode_hold_seconds_bucket{le=\"0.025\"} 4\n",
        "mixnode_hold_seconds_bucket{le=\"+Inf\"} 5\n",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "mixnode_build_info{version=",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        for forbidden in ["peer=", "client=", "address", "127.", "tag="] {
            assert!(!sample.contains(forbidden), "{forbidden} in {sample}");
        }
    }
}

#[test]
fn the_checker_finds_what_promtool_finds() {
    for (text, what) in [
        (
            "# HELP a A.\n# TYPE a gauge\na{quantile=\"0.5\"} 1\n",
            "quantile",
        ),
        ("# HELP a A.\n# TYPE a counter\na 1\n", "_total"),
        ("# TYPE a gauge\na 1\n", "without its help"),
        ("# HELP a A.\n# TYPE a gauge\na 1\na 1\n", "twice"),
        ("# HELP a A.\n# TYPE a gauge\nb 1\n", "another family"),
        (
            "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n",
            "grow",
        ),
    ] {
        let error = exposition::check(text).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}
