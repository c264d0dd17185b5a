//! The page in a real browser, where one is installed.

use super::chrome::Chrome;
use super::socket::{fields_of, served};
use super::web_socket::Client;
use super::*;

fn said(received: u64) -> NodeStatus {
    NodeStatus {
        started_unix_ms: 1,
        totals: handover::status::Totals {
            received,
            held: 486,
            ..Default::default()
        },
        drops: vec![("mac".to_owned(), 3)],
        ..NodeStatus::default()
    }
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

    let bare = shown.url.split_once('#').unwrap().0;
    let mut tab = chrome.open(bare);
    tab.wait("document.body?.classList.contains('closed')");
    assert!(!tab.html().contains("systemctl"));
    let wrong = format!("{bare}#{}", "0".repeat(64));
    let mut tab = chrome.open(&wrong);
    tab.wait("document.body?.textContent.includes(\"That token is not this mixctld's.\")");
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
