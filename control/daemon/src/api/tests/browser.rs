//! The page in a real browser, where one is installed.

use handover::status::{Anonymity, Bounded, Found, HopLoops, Quantiles, Worker};

use super::chrome::Chrome;
use super::socket::{fields_of, served};
use super::web_socket::Client;
use super::*;

/// One start: a node that names another was restarted, and has no rates yet.
static STARTED_UNIX_MS: std::sync::LazyLock<u64> =
    std::sync::LazyLock::new(|| unix_ms() - 93_784_000);

/// What a mix says that fares well.
fn said(received: u64) -> NodeStatus {
    let quantiles = |p50, p99| Quantiles { p50, p99 };
    let bounded = |mid| {
        Some(Bounded {
            low: mid - mid / 8,
            mid,
            high: Some(mid + mid / 8),
        })
    };
    let hop = |index, overdue| HopLoops {
        index,
        sent: 2_250,
        returned: 2_250 - overdue,
        overdue,
        p50_us: bounded(1_200),
        p99_us: bounded(8_900),
    };
    let worker = |held| Worker {
        turns: received,
        received: received / 2,
        held,
        pool_frames: 4_096,
        pool_in_use: held + 64,
        sessions: 7,
    };
    NodeStatus {
        started_unix_ms: *STARTED_UNIX_MS,
        port: "xsk".to_owned(),
        lanes: "avx2".to_owned(),
        sandbox: "seccomp, landlock".to_owned(),
        keys_origin: "kept".to_owned(),
        epochs: vec![handover::status::Joined {
            epoch: 0,
            layer: Some(1),
        }],
        totals: handover::status::Totals {
            received,
            transmitted: received,
            rejected: 3 + received / 500,
            held: 486,
            sessions: 14,
            ..Default::default()
        },
        drops: vec![("mac".to_owned(), 3), ("replay".to_owned(), received / 500)],
        loops: handover::status::Loops {
            interval_ms: 200,
            sent: 4_510,
            returned: 4_496,
            lost: 9,
            round_us: quantiles(318_000, 702_000),
        },
        found: Found {
            previous_silent: Some(0),
            previous: 2,
            ..Found::default()
        },
        hops: vec![hop(0, 4), hop(1, 5)],
        anonymity: Anonymity {
            short: Some(79),
            short_apart: Some(72),
            long: Some(81),
            long_apart: Some(74),
            floor: 40,
            is_low: false,
        },
        lateness_us: quantiles(38, 410),
        hold_us: quantiles(69_000, 455_000),
        workers: vec![worker(240), worker(246)],
        ..NodeStatus::default()
    }
}

/// The same of one that warns: a hop loses packets, others are silent, and there is too little to hide among.
fn warned(received: u64) -> NodeStatus {
    let mut said = said(received);
    (said.found.n1_suspected, said.found.previous_silent) = (true, Some(2));
    said.hops[1] = HopLoops {
        returned: 1_100,
        overdue: 1_150,
        p99_us: None,
        ..said.hops[1]
    };
    said.found.bad = vec![1];
    (said.anonymity.long, said.anonymity.is_low) = (Some(31), true);
    said.loops.lost = 1_700;
    said
}

#[test]
fn a_browser_shows_a_node_that_is_ready_one_that_is_down_and_nothing_without_a_token() {
    let Some(chrome) = Chrome::start() else {
        return;
    };
    let members = nodes(2, 3);
    let board = board(0);
    board.put(vec![held(document_of(0, &members))], Some(own(&members[2])));
    let (served, _) = served(&board);
    let shown: Dashboard = served.get("/api/v1/dashboard").unwrap();
    // In a while from now, so that it holds as long as the browser takes.
    let later = Instant::now() + Duration::from_secs(600);
    let hear = |s: u64, received| {
        let at = later + Duration::from_secs(s);
        served.witness.hear(at, Some(said(received)));
    };
    hear(0, 0);
    hear(2, 2_400);
    let mut tab = chrome.open(&shown.url);
    tab.wait("document.querySelector('#live').dataset.live === 'yes'");
    let page = tab.html();
    for words in [
        "data-state=\"ready\"",
        "<b>1,200/s</b>",
        "<b>486</b>",
        "this node, ready",
        "node: mac",
    ] {
        assert!(page.contains(words), "no {words} in {page}");
    }
    let token = shown.url.split_once('#').unwrap().1;
    assert!(!page.contains(token), "the token stays out of it");
    assert_eq!(tab.eval("location.hash"), "");
    // Values move.
    hear(4, 8_000);
    tab.wait("document.querySelector('#figures b').textContent === '2,000/s'");
    tab.pictures("host-ready");
    served
        .witness
        .hear(later + Duration::from_secs(6), Some(warned(12_000)));
    tab.wait("!document.querySelector('#warnings').hidden");
    let warnings = tab.eval("document.querySelector('#warnings').textContent");
    let warnings = warnings.as_str().unwrap();
    for words in [
        "n-1 suspected",
        "ask the provider",
        "few packets to hide among",
    ] {
        assert!(warnings.contains(words), "no {words} in {warnings}");
    }
    tab.wait("document.querySelector('#hops-table tr.bad')");
    tab.pictures("host-warned");

    served.witness.hear(Instant::now(), None);
    let down = tab.wait("document.querySelector('#state').dataset.state === 'down'");
    eprintln!("red {} ms after the node's end", down.as_millis());
    let page = tab.html();
    for words in [
        "this node, down",
        "systemctl start mixnode",
        "the node is down",
    ] {
        assert!(page.contains(words), "no {words} in {page}");
    }
    assert_eq!(tab.complaints, [""; 0]);
    tab.pictures("host-down");

    let bare = shown.url.split_once('#').unwrap().0;
    let mut tab = chrome.open(bare);
    tab.wait("document.body?.classList.contains('closed')");
    assert!(!tab.html().contains("systemctl"));
    let wrong = format!("{bare}#{}", "0".repeat(64));
    let mut tab = chrome.open(&wrong);
    tab.wait("document.body?.textContent.includes(\"That token is not this mixctld's.\")");
    // Of what it would show there is no empty frame.
    let rest = "[...document.querySelectorAll('main > :not(#ask)')]";
    let height = tab.eval(&format!(
        "{rest}.reduce((sum, one) => sum + one.offsetHeight, 0)"
    ));
    assert_eq!(height, 0);
    tab.pictures("no-token");
}

#[test]
fn a_page_without_a_socket_asks_and_says_so_and_is_told_again_when_there_is_a_place() {
    let Some(chrome) = Chrome::start() else {
        return;
    };
    let (served, address) = served(&board(0));
    let fields = fields_of(&served);
    let open = || Client::open(socket::connect(address), "/ws/updates", &fields);
    let others: Vec<_> = (0..8).map(|_| open().ok().unwrap()).collect();
    let shown: Dashboard = served.get("/api/v1/dashboard").unwrap();
    let mut tab = chrome.open(&shown.url);
    tab.wait("document.querySelector('#live').dataset.live === 'asks'");
    let text = tab.eval("document.querySelector('#live').textContent");
    assert_eq!(text, "asking once a second");
    tab.wait("document.querySelector('#events')?.children.length > 0");
    drop(others);
    tab.wait("document.querySelector('#live').dataset.live === 'yes'");
}
