//! `mixbench pktgen` as its user meets it: real nodes, real sockets. No root, no timing.

use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

fn pktgen(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixbench"));
    command.args(["--json", "pktgen"]).args(arguments);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a run said that ended well and fits the schema.
fn results(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &output.stdout).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_mixbench"));
    let checked = check.args(["schema", "--check"]).arg(file.path()).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    json["results"].clone()
}

fn count(results: &Value, what: &str) -> u64 {
    results[what].as_u64().unwrap()
}

fn free_port() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port().to_string()
}

/// In a laboratory of its own.
fn in_a_lab(arguments: &[&str]) -> Value {
    let port = free_port();
    let all = [&["--lab", "--udp-port", &port, "--quick"], arguments].concat();
    let results = results(&pktgen(&all));
    let all = ["sent", "behind", "send_errors"];
    let all: u64 = all.iter().map(|what| count(&results, what)).sum();
    assert_eq!(all, 200, "{results}");
    assert!(count(&results, "sent") > 0);
    results
}

#[test]
fn valid_packets_go_through_real_nodes_and_come_home() {
    for arguments in [&["--via", "plain"][..], &["--flows", "3"]] {
        let results = in_a_lab(arguments);
        let returned = count(&results, "returned");
        assert!(
            returned > 0 && returned <= count(&results, "sent"),
            "{results}"
        );
        assert_eq!(results["what"], "packets");
        for spread in ["loop_us", "added"] {
            assert_eq!(count(&results[spread], "count"), returned);
        }
        // Four hops less this end, of 20 ms each: no loop is as fast as none of them.
        assert!(count(&results["loop_us"], "p50_us") > count(&results["added"], "p50_us"));
    }
}

#[test]
fn junk_that_takes_keys_finds_them_in_a_laboratory() {
    for kind in [
        "unfinished_handshakes",
        "client_over_its_rate",
        "replayed_frames",
    ] {
        let results = in_a_lab(&["--junk", kind]);
        assert_eq!(results["what"], kind);
        assert_eq!(results["returned"], Value::Null);
    }
}

#[test]
fn junk_arrives_as_it_is_called() {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let target = sink.local_addr().unwrap().to_string();
    for (kind, bytes) in [
        ("random_bytes", 1_232),
        ("wrong_size", 1_200),
        ("unknown_sessions", 1_232),
    ] {
        let arguments = [
            "--target", &target, "--junk", kind, "--pps", "100", "--count", "20",
        ];
        let results = results(&pktgen(&arguments));
        let mut sources = std::collections::BTreeSet::new();
        for _ in 0..count(&results, "sent") {
            let mut datagram = [0; 2_048];
            let (length, source) = sink.recv_from(&mut datagram).unwrap();
            assert_eq!(length, bytes, "{kind}");
            sources.insert(source);
        }
        assert_eq!(sources.len(), 1);
    }
}

#[test]
fn flows_come_from_ports_of_their_own() {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let target = sink.local_addr().unwrap().to_string();
    let junk = [
        "--junk",
        "random_bytes",
        "--pps",
        "100",
        "--count",
        "40",
        "--flows",
        "4",
    ];
    let results = results(&pktgen(&[&["--target", &target][..], &junk].concat()));
    let mut sources = std::collections::BTreeSet::new();
    for _ in 0..count(&results, "sent") {
        sources.insert(sink.recv_from(&mut [0; 2_048]).unwrap().1);
    }
    // On a machine that stands still many are behind.
    let most = count(&results, "sent").min(4) as usize;
    assert!(sources.len() > 1 || most < 2, "{sources:?}");
    assert!(sources.len() <= 4);
}

#[test]
fn a_generator_that_lags_is_told_and_never_bursts() {
    let target = format!("127.0.0.1:{}", free_port());
    let junk = [
        "--junk",
        "random_bytes",
        "--pps",
        "50000000",
        "--seconds",
        "1",
    ];
    let output = pktgen(&[&["--target", &target][..], &junk].concat());
    let results = results(&output);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = json["warnings"].as_array().unwrap();
    let lags = |warning: &Value| warning.as_str().unwrap().contains("did not keep up");
    assert!(warnings.iter().any(lags), "{warnings:?}");
    assert!(count(&results, "behind") > count(&results, "sent"));
}

#[test]
fn what_may_not_be_sent_is_refused_with_64() {
    for (arguments, why) in [
        (
            &["--target", "192.0.2.1:9000", "--junk", "random_bytes"][..],
            "--i-own-this-host",
        ),
        (
            &["--target", "0.0.0.0:9000", "--junk", "random_bytes"],
            "no address of one host",
        ),
        (
            &["--target", "127.0.0.1:9000", "--junk", "random_bites"],
            "similar value exists: 'random_bytes'",
        ),
        (
            &["--target", "127.0.0.1:9000", "--junk", "handshake_flood"],
            "--network",
        ),
        (&["--target", "127.0.0.1:9000"], "--network"),
        (&["--junk", "random_bytes"], "--target"),
        (
            &[
                "--target",
                "127.0.0.1:9000",
                "--junk",
                "wrong_size",
                "--via",
                "uring",
            ],
            "--via plain",
        ),
        (&["--lab", "--flows", "9"], "sessions"),
        (&["--lab", "--pps", "0"], "--pps"),
    ] {
        let output = pktgen(arguments);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains(why),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(output.stdout.is_empty());
    }
}
