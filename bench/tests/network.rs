//! `mixbench network` as its user meets it: real nodes, real sockets. No root, no timing.

use std::net::UdpSocket;
use std::process::Command;

use serde_json::Value;

/// Each datagram is dropped by nodes now and then. With six hops some probe meets that.
#[test]
fn nodes_that_drop_packets_are_reported_and_the_command_fails() {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mixbench"))
        .args([
            "--json",
            "network",
            "--quick",
            "--seconds",
            "2",
            "--patience",
            "10",
        ])
        .args(["--loss", "0.05", "--udp-port", &port.port().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = &json["results"];
    let count = |value: &Value| value.as_u64().unwrap();
    assert!(count(&results["lost_messages"]) > 0);
    let probes = &results["probes"];
    assert!(
        count(&probes["delivered"]) > 0 && count(&probes["delivered"]) < count(&probes["sent"])
    );
    let failures = json["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].as_str().unwrap().contains("messages got lost"));
}
