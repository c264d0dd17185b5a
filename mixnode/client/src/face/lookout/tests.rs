//! What is told, when and in which words.

use super::*;

fn good() -> Seen {
    Seen {
        epoch: 7,
        newest: Some(8),
        is_live: true,
        gateway: Some(("lab-1 (00aa)".to_owned(), "127.0.0.1:9".parse().unwrap())),
        identity: "00aa".to_owned(),
        is_attached: true,
        heard: Some(Duration::ZERO),
        rate_pps: 100.0,
        ..Seen::default()
    }
}

/// What is told of `seen` that lasts, and when.
fn told(seen: &Seen) -> Option<(u64, Wait)> {
    let mut lookout = Lookout::default();
    let mut found = None;
    for tenth in 0..100 {
        let now = Duration::from_millis(tenth * 100);
        if let Some(said) = lookout.look(now, seen) {
            assert!(found.is_none(), "told twice");
            found = said.map(|wait| (tenth, wait));
        }
    }
    found
}

#[test]
fn every_wait_is_told_once_within_five_seconds() {
    assert_eq!(told(&good()), None);
    let silent = Some((Some(86_399), Duration::from_secs(5)));
    let cases = [
        (
            Seen {
                unsendable: Some("Network is unreachable".to_owned()),
                ..good()
            },
            "no network: Network is unreachable",
        ),
        (
            Seen {
                newest: Some(9),
                ..good()
            },
            "your clock is behind: it says epoch 7",
        ),
        (
            Seen {
                newest: Some(4),
                is_live: false,
                ..good()
            },
            "the newest one here is of epoch 4",
        ),
        (
            Seen {
                gateway: None,
                ..good()
            },
            "the gateway 00aa is in no document",
        ),
        (
            Seen {
                is_live: false,
                asks_others: true,
                ..good()
            },
            "the gateway does not hand it over: asking others",
        ),
        (
            Seen {
                is_left_out: true,
                has_reserves: true,
                ..good()
            },
            "the gateway 00aa is not in the network any more: trying its reserves",
        ),
        (
            Seen {
                is_full: true,
                heard: Some(Duration::from_secs(90)),
                ..good()
            },
            "the gateway lab-1 (00aa) at 127.0.0.1:9 has no room for us; it is asked again",
        ),
        (
            Seen {
                heard: None,
                is_attached: false,
                ..good()
            },
            "the gateway lab-1 (00aa) at 127.0.0.1:9 does not answer",
        ),
        (
            Seen {
                heard: Some(Duration::from_secs(30)),
                ..good()
            },
            "does not answer",
        ),
        (
            Seen {
                is_attached: false,
                ..good()
            },
            "answers, but does not let us in",
        ),
        (
            Seen {
                recipient: silent,
                ..good()
            },
            "has not answered since 23:59:59 UTC",
        ),
        (
            Seen {
                recipient: Some((None, Duration::from_secs(5))),
                ..good()
            },
            "has not answered yet",
        ),
        (
            Seen {
                has_no_room: true,
                ..good()
            },
            "no room at the recipient",
        ),
        (
            Seen {
                has_no_room: true,
                recipient: Some((None, Duration::from_secs(5))),
                ..good()
            },
            "has not answered yet",
        ),
    ];
    for (seen, words) in cases {
        let (tenth, wait) = told(&seen).unwrap_or_else(|| panic!("nothing: {seen:?}"));
        assert!(tenth <= 50, "{words} after {tenth} tenths");
        assert!(wait.to_string().contains(words), "{wait}");
    }
}

#[test]
fn a_slow_client_waits_longer_before_it_calls_its_gateway_silent() {
    let mut seen = Seen {
        heard: Some(Duration::from_secs(9)),
        rate_pps: 1.0,
        ..good()
    };
    assert_eq!(told(&seen), None);
    seen.heard = Some(Duration::from_secs(21));
    assert!(told(&seen).is_some());
}

#[test]
fn a_change_is_told_and_so_is_the_end_of_all_waits() {
    let mut lookout = Lookout::default();
    let at = Duration::from_secs;
    let silent = Seen {
        heard: None,
        ..good()
    };
    assert_eq!(lookout.look(at(0), &silent), None);
    let said = lookout.look(at(3), &silent).unwrap().unwrap();
    assert_eq!((said.name(), lookout.told()), ("gateway", Some(&said)));
    assert_eq!(said.over(), "the gateway lab-1 (00aa) is back");
    let locked = Seen {
        is_attached: false,
        ..good()
    };
    assert_eq!(lookout.look(at(4), &locked), None);
    assert_eq!(
        lookout.look(at(7), &locked).unwrap().unwrap().name(),
        "attachment"
    );
    assert_eq!(lookout.look(at(8), &good()), Some(None));
    assert_eq!(lookout.look(at(9), &good()), None);
    assert_eq!(lookout.told(), None);
}
