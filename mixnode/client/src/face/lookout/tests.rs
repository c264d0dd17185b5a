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
                is_live: false,
                clocks: Some((7, 6)),
                ..good()
            },
            "epoch 7 by your clock, 6 at the gateway (your clock is wrong, or it",
        ),
        (
            Seen {
                clocks: Some((7, 6)),
                recipient: silent,
                ..good()
            },
            "your clock is ahead of the gateway's: epoch 7 by yours, 6 by theirs",
        ),
        (
            Seen {
                recipient_gateway: Some("00bb".to_owned()),
                recipient: silent,
                ..good()
            },
            "the recipient's gateway 00bb is not in the network: the address is of another",
        ),
        (
            Seen {
                clocks: Some((7, 8)),
                ..good()
            },
            "your clock is behind the gateway's: epoch 7 by yours, 8 by theirs",
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

#[test]
fn clocks_differ_where_the_gateways_epoch_is_another_for_longer_than_a_turn_tolerates() {
    let parameters = Parameters {
        genesis_unix_ms: 1_000_000,
        epoch_ms: 1_200_000,
        mean_delay_us: 20_000,
        client_rate_pps: 100,
        layers: 3,
    };
    let starts_ms = parameters.epoch_starts_ms(7);
    // R is 37.5 s, and the gateway's last frame lies two seconds back at most.
    let none = None;
    for (after_s, newest, theirs, expected) in [
        (0, 7, 7, none),
        (39, 7, 6, none),
        (40, 7, 6, Some(6)),
        (1_100, 8, 6, Some(6)),
        (1_161, 7, 8, none),
        (1_160, 7, 8, Some(8)),
        (100, 8, 8, Some(8)),
        (0, 7, 9, Some(9)),
        (600, 8, 7, none),
        // Without a document of its own epoch it is the clock that is ahead.
        (600, 6, 5, Some(5)),
        (600, 4, 4, Some(4)),
        (600, 6, 6, Some(6)),
    ] {
        let now = (starts_ms + after_s * 1_000, 100.0);
        let bits = (theirs % 4) as u8;
        assert_eq!(
            clocks(&parameters, Some(newest), now, bits),
            expected.map(|theirs| (7, theirs)),
            "{after_s} s into epoch 7, the gateway in {theirs}"
        );
    }
    // In the first epoch there is none before it, and a slow client's frames lie further back.
    let first = (parameters.epoch_starts_ms(0) + 600_000, 100.0);
    assert_eq!(clocks(&parameters, None, first, 3), None);
    let slow = (starts_ms + 100_000, 0.1);
    assert_eq!(clocks(&parameters, Some(7), slow, 6 % 4), None);
}
