//! The page in a real browser, where one is installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

/// Debian's name of it, and others'.
const BROWSERS: &[&str] = &[
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
];

fn browser() -> Option<PathBuf> {
    let found = BROWSERS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!(
            "SKIPPED: no browser is installed (apt install chromium): nobody looked at the page"
        );
    }
    found
}

/// The page after `ms` of its own time, as a browser has it then, and what it complained of.
fn seen(browser: &Path, url: &str, ms: u32) -> (String, String) {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args(["--enable-logging=stderr", "--log-level=0"])
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg(format!("--virtual-time-budget={ms}"))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let complaints: Vec<String> = text(&output.stderr)
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .map(str::to_owned)
        .collect();
    (text(&output.stdout), complaints.join("\n"))
}

#[test]
fn a_browser_shows_a_node_that_is_ready_one_that_is_down_and_nothing_without_a_token() {
    let Some(browser) = browser() else {
        return;
    };
    let members = nodes(2, 3);
    let board = board(0);
    board.put(vec![held(document_of(0, &members))], Some(own(&members[2])));
    let served = Served::at(&board, None, Some("127.0.0.1:0".parse().unwrap()));
    let shown: Dashboard = served.get("/api/v1/dashboard").unwrap();
    let of = |received: u64| NodeStatus {
        started_unix_ms: 1,
        totals: handover::status::Totals {
            received,
            held: 486,
            ..Default::default()
        },
        drops: vec![("mac".to_owned(), 3)],
        ..NodeStatus::default()
    };
    // In a while from now, so that it holds as long as the browser takes.
    let later = Instant::now() + Duration::from_secs(600);
    served
        .witness
        .hear(later - Duration::from_secs(2), Some(of(0)));
    served.witness.hear(later, Some(of(2_400)));
    let (page, complaints) = seen(&browser, &shown.url, 5_000);
    for words in [
        "data-state=\"ready\"",
        "<b>1,200/s</b>",
        "<b>486</b>",
        "this node, ready",
        "node: mac",
        "data-live=\"yes\"",
    ] {
        assert!(page.contains(words), "no {words} in {page}");
    }
    assert_eq!(complaints, "");
    assert!(
        !page.contains(shown.url.split_once('#').unwrap().1),
        "the token stays out of it"
    );

    served.witness.hear(Instant::now(), None);
    let (page, complaints) = seen(&browser, &shown.url, 3_000);
    for words in [
        "data-state=\"down\"",
        "this node, down",
        "systemctl start mixnode",
    ] {
        assert!(page.contains(words), "no {words} in {page}");
    }
    assert_eq!(complaints, "");

    let bare = shown.url.split_once('#').unwrap().0;
    let (page, _) = seen(&browser, bare, 3_000);
    assert!(page.contains("class=\"closed\"") && !page.contains("systemctl"));
    let wrong = format!("{bare}#{}", "0".repeat(64));
    let (page, _) = seen(&browser, &wrong, 3_000);
    assert!(page.contains("That token is not this mixctld's."), "{page}");
}
