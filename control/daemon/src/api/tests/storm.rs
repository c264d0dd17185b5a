//! All that a page's address can be made to do at once, and a loader beside it that has to go on.

use std::sync::atomic::{AtomicBool, Ordering};

use handover::protocol::{Reply, Request};
use loader::{Keeping, Loader, Options};

use super::socket::{connect, fields_of, served};
use super::web_socket::Client;
use super::*;

/// Asks the loader so often, and says how long the median and the longest answer took.
fn asked(socket: &Path, times: usize) -> (Duration, Duration) {
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let began = Instant::now();
            let reply = loader::ask(socket, &Request::Status).unwrap();
            assert!(matches!(reply, Reply::Status { .. }));
            let took = began.elapsed();
            std::thread::sleep(Duration::from_millis(5));
            took
        })
        .collect();
    took.sort_unstable();
    (took[times / 2], took[times - 1])
}

#[test]
fn the_loader_answers_through_idle_connections_large_bodies_wrong_tokens_and_eight_pages() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        socket: folder.path().join("mixctld.sock"),
        pins: folder.path().join("pins"),
        node_user: None,
    };
    let socket = options.socket.clone();
    let loader = Loader::without_xdp(options, Keeping::default()).unwrap();
    let _loading = loader.on_a_thread().unwrap();
    program::limits::descriptors(4_096).unwrap();
    let (served, address) = served(&board(0));
    let fields = fields_of(&served);
    let quiet = asked(&socket, 200);

    let is_over = Arc::new(AtomicBool::new(false));
    let pages: Vec<_> = (0..8)
        .map(|_| {
            Client::open(connect(address), "/ws/updates", &fields)
                .ok()
                .unwrap()
        })
        .collect();
    let big = move |over: Arc<AtomicBool>| {
        let body = vec![b'x'; 10_000_000];
        while !over.load(Ordering::Relaxed) {
            let mut stream = connect(address);
            let head = format!(
                "POST /api/v1/status HTTP/1.1\r\nhost: {address}\r\ncontent-length: 10000000\r\n\r\n"
            );
            // Whoever hangs up in the middle has answered already.
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    };
    let wrong = move |over: Arc<AtomicBool>| {
        while !over.load(Ordering::Relaxed) {
            let mut stream = connect(address);
            let _ = stream.write_all(
                format!("GET /api/v1/status HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes(),
            );
            let _ = stream.read_to_end(&mut Vec::new());
        }
    };
    let storm = [
        std::thread::spawn({
            let over = Arc::clone(&is_over);
            move || big(over)
        }),
        std::thread::spawn({
            let over = Arc::clone(&is_over);
            move || wrong(over)
        }),
    ];
    let idle: Vec<_> = (0..1_000).map(|_| connect(address)).collect();
    let loud = asked(&socket, 200);
    is_over.store(true, Ordering::Relaxed);
    drop((idle, pages));
    for thread in storm {
        thread.join().unwrap();
    }
    for (what, (median, longest)) in [("quiet", quiet), ("storm", loud)] {
        eprintln!(
            "{what}: the loader answers after {} µs (median), {} µs at most, of 200",
            median.as_micros(),
            longest.as_micros()
        );
    }
}
