use control::api::shapes::{Anonymity, Epoch, InForce, OwnNode, Rates, Totals};

use super::*;

fn node(index: u16, layer: u8) -> Node {
    Node {
        index,
        identity: format!("{index:02x}").repeat(32),
        role: if layer == 0 { "gateway" } else { "mix" }.to_owned(),
        operator: "an operator with a name of fifty-eight characters or so, yes".to_owned(),
        layer,
        weight: 4_000_000_000,
        addresses: vec![
            "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"
                .parse()
                .unwrap(),
        ],
        vrf_since: 1,
        proved: layer != 0 && layer != WAITING,
        flags: 0,
    }
}

fn document() -> Nodes {
    Nodes {
        epoch: 4_000_000_000,
        nodes: vec![node(0, 0), node(1, 1), node(2, 3), node(2_047, WAITING)],
    }
}

fn full_status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        unix_ms: 1_000,
        state: State::Waiting,
        not_ready: vec![
            "no loop packet has come back yet: is the UDP port reachable from outside?".to_owned(),
        ],
        network: "ab".repeat(16),
        epoch: 4_000_000_000,
        ends_unix_ms: 462_000,
        document: Some(InForce {
            epoch: 3_999_999_999,
            digest: "cd".repeat(32),
            age_ms: 100_000_000,
            nodes: 1,
        }),
        node: Some(OwnNode {
            identity: "ef".repeat(32),
            operator: "an operator".to_owned(),
            role: "mix".to_owned(),
            listed: true,
            layer: Some(2),
            port: Some("uring".to_owned()),
            keys_origin: Some("returned".to_owned()),
            lanes: Some("avx2".to_owned()),
            sandbox: Some("landlock, seccomp".to_owned()),
            started_unix_ms: Some(500),
        }),
        counters: Some(Totals {
            received: u64::MAX,
            unconserved: 3,
            ..Totals::default()
        }),
        rates: Some(Rates {
            received: 4_812.25,
            transmitted: 4_809.0,
            rejected: 0.4,
        }),
        anonymity: Some(Anonymity {
            bits: Some(8.9),
            bits_without_largest: Some(7.2),
            mean_bits: Some(3.8),
            mean_bits_without_largest: None,
            floor: 4.0,
            is_low: true,
        }),
        warnings: vec!["few packets to hide among, and what to do about it".to_owned()],
        clock: None,
    }
}

fn assert_fits(text: &str, columns: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= columns, "{columns}: {line}");
        assert_eq!(line, line.trim_end());
    }
}

#[test]
fn no_line_is_wider_than_a_screen_of_forty_to_a_hundred_and_twenty_columns() {
    let nodes = document();
    let own = nodes.nodes[1].identity.clone();
    let held = |epoch| Epoch {
        epoch,
        consensus_hash: "cd".repeat(32),
        nodes: 2_048,
        listed: true,
        layer: Some(0),
        joined: Some(epoch == 4_000_000_000),
    };
    let epochs_held = |in_force| Epochs {
        now: 4_000_000_000,
        starts_unix_ms: 0,
        ends_unix_ms: 86_400_000,
        in_force,
        epochs: vec![
            held(3_999_999_999),
            held(4_000_000_000),
            held(4_000_000_001),
        ],
    };
    for columns in 40..=120 {
        let text = super::nodes(&nodes, Some(&own), columns);
        assert_fits(&text, columns);
        for word in ["gateway", "layer 1", "unproved", "*1", "2047"] {
            assert!(text.contains(word), "{columns}: {word}: {text}");
        }
        assert_fits(&status(&full_status(), columns), columns);
        for in_force in [Some(4_000_000_000), Some(3_999_999_999), None] {
            let text = epochs(&epochs_held(in_force), 0, columns);
            assert_fits(&text, columns);
            let words: Vec<&str> = text.split_whitespace().collect();
            assert!(words.join(" ").contains("in force"), "{text}");
        }
    }
}

#[test]
fn a_wider_screen_shows_more_and_whole_words() {
    let shows =
        |columns: usize, word: &str| super::nodes(&document(), None, columns).contains(word);
    for (columns, column, shown) in [
        (40, "weight", false),
        (60, "weight", true),
        (60, "address", false),
        (80, "address", true),
        (80, "identity", false),
        (100, "identity", true),
    ] {
        assert_eq!(shows(columns, column), shown, "{columns}: {column}");
    }
    assert!(shows(40, "an operator with a nam…"));
}

#[test]
fn a_status_says_why_a_node_is_not_ready_and_what_is_in_force() {
    let text = status(&full_status(), 80);
    for words in [
        "state     not ready",
        "UDP port reachable",
        "mix of an operator, listed in layer 2",
        "returned by the service manager",
        "4000000000, ends in 7 min 41 s",
        "of epoch 3999999999, carried on, 1 node, in force for 1 d 3 h",
        "3 frames are not accounted for",
        "rates     received 4812/s, sent 4809/s, dropped 0.4/s",
        "anonymity 8.9 bits, 3.8 over five minutes; without the largest neighbour 7.2 and",
        "warning   few packets to hide among",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut bare = full_status();
    (bare.node, bare.document, bare.counters) = (None, None, None);
    (bare.rates, bare.anonymity) = (None, None);
    bare.warnings.clear();
    let text = status(&bare, 80);
    assert!(text.contains("document  none"), "{text}");
    assert!(
        ["packets", "keys", "rates"]
            .iter()
            .all(|word| !text.contains(word))
    );
}
