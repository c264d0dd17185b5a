//! `mixctl` as its user meets it. No root, no timing beyond generous patience.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

mod running;
use running::{Running, children_of, free_port, mixctl, stderr, stdout, wait_until};

fn send(file: &Path, extra: &[&str]) -> Output {
    mixctl()
        .args(["lab", "--json", "--udp-port", &free_port(), "--send"])
        .arg(file)
        .args(extra)
        .output()
        .unwrap()
}

fn summary(output: &Output) -> Value {
    let text = stdout(output);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| {
        panic!(
            "{error}: the last line is `{last}`\n{text}\n{}",
            stderr(output)
        )
    })
}

#[test]
fn the_lab_sends_a_file_and_says_so_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let content: Vec<u8> = (0..150_000u32)
        .map(|n| (n.wrapping_mul(n) >> 3) as u8)
        .collect();
    std::fs::write(&file, &content).unwrap();
    let output = send(&file, &["--mean-delay", "5ms", "--rate", "200"]);
    let summary = summary(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(summary["identical"], true);
    assert_eq!(summary["sent_bytes"], 150_000);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&summary["packets"]) >= 150_000.0 / 896.0);
    assert!(number(&summary["duration_s"]) > 0.0);
    assert!(number(&summary["goodput_bytes_s"]) > 0.0);
    assert!(summary["retransmitted"].is_u64());
    let latency = &summary["round_trip_ms"];
    let (p50, p99) = (number(&latency["p50"]), number(&latency["p99"]));
    assert!(0.0 < p50 && p50 <= p99);
}

#[test]
fn a_file_arrives_whole_through_loss_and_turning_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![7; 60_000]).unwrap();
    let flags = [
        "--mean-delay",
        "5ms",
        "--rate",
        "200",
        "--loss",
        "0.05",
        "--epoch",
        "5s",
    ];
    let output = send(&file, &flags);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(summary(&output)["identical"], true);
}

#[test]
fn several_authorities_agree_on_a_labs_documents_and_a_file_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![7; 5_000]).unwrap();
    let dir = folder.path().join("lab");
    let flags = [
        "--authorities",
        "3",
        "--epoch",
        "8s",
        "--mixes",
        "1",
        "--mean-delay",
        "1ms",
        "--rate",
        "200",
        "--dir",
        dir.to_str().unwrap(),
    ];
    let output = send(&file, &flags);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(summary(&output)["identical"], true);
    let network = directory::Bootstrap::read(&dir.join("network")).unwrap();
    assert_eq!(network.chain.sets()[0].set().members.len(), 3);
    // It verifies only with the signatures of two of the three.
    assert_eq!(network.verify().unwrap().nodes().len(), 5);
}

#[test]
fn a_second_lab_on_the_port_is_refused_with_71() {
    let port = free_port();
    let (_first, _) = Running::lab(&port, &["--mixes", "1"]);
    let output = mixctl()
        .args(["lab", "--udp-port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(71));
    assert!(
        stderr(&output).contains("another lab"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_port_that_another_program_has_is_refused_with_71() {
    let socket = UdpSocket::bind("127.1.1.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let output = mixctl()
        .args(["lab", "--udp-port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(71));
    assert!(
        stderr(&output).contains("another program"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_ends_with_64() {
    for arguments in [
        &["lab", "--layers", "4"][..],
        &["lab", "--loss", "2"],
        &["lab", "--mean-delay", "20"],
        &["lab", "--epoch", "1s"],
        &["lab", "--authorities", "3", "--epoch", "5s"],
        &["lab", "--authorities", "6"],
        &["lab", "--port", "xdp9"],
        &["lab", "--no-such-flag"],
        &["lab", "--send", "/no/such/file"],
        &["no-such-command"],
        &[],
    ] {
        let output = mixctl().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_and_version_end_with_0_and_the_version_names_a_commit() {
    for arguments in [&["--help"][..], &["lab", "--help"]] {
        assert!(mixctl().args(arguments).output().unwrap().status.success());
    }
    let output = mixctl().arg("--version").output().unwrap();
    assert!(output.status.success());
    assert!(stdout(&output).contains("commit"));
}

#[test]
fn geometry_and_doctor_speak_json() {
    let output = mixctl().args(["geometry", "--json"]).output().unwrap();
    let geometry: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(geometry["datagram_bytes"], 1_232);
    assert_eq!(geometry["packet_bytes"], 1_200);
    let output = mixctl().args(["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(doctor["findings"].as_array().unwrap().len() >= 5);
}

#[test]
fn nodes_are_gone_when_the_lab_is_killed_and_the_port_is_free() {
    let port = free_port();
    let (mut lab, _) = Running::lab(&port, &["--mixes", "1"]);
    let nodes = children_of(lab.0.id());
    assert_eq!(nodes.len(), 5);
    lab.0.kill().unwrap();
    lab.0.wait().unwrap();
    wait_until("nodes gone", || {
        nodes
            .iter()
            .all(|id| !Path::new(&format!("/proc/{id}")).exists() || is_zombie(*id))
    });
    let (_second, _) = Running::lab(&port, &["--mixes", "1"]);
}

/// Where no init reaps orphans (a container), a dead process keeps its entry. Its first thread alone may be dead while
/// others still hold its descriptors.
fn is_zombie(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let dead = stat
        .rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'));
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
    dead && threads <= 1
}

#[test]
fn the_lab_says_so_and_runs_on_plain_where_io_uring_is_forbidden() {
    let port = free_port();
    let forbidden = |arguments: &[&str]| {
        let mut command = mixctl();
        command
            .args(["lab", "--mixes", "1", "--udp-port", &port])
            .args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let refused = without_io_uring(|| forbidden(&["--port", "uring"]).output().unwrap());
    assert_eq!(refused.status.code(), Some(71));
    assert!(
        stderr(&refused).contains("io_uring"),
        "{}",
        stderr(&refused)
    );

    let mut lab = Running(without_io_uring(|| forbidden(&[]).spawn().unwrap()));
    let mut lines = BufReader::new(lab.0.stdout.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains("up after") {
        let Some(line) = lines.next() else {
            let mut words = String::new();
            lab.0
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut words)
                .unwrap();
            panic!("the lab ended:\n{said}\n{words}");
        };
        said += &line.unwrap();
        said.push('\n');
    }
    assert!(
        said.contains("not on io_uring") && said.contains("plain"),
        "{said}"
    );
}

/// As a container runtime does it: the three calls answer EPERM in what `start` starts.
fn without_io_uring<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    let calls = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    let filter = SeccompFilter::new(
        calls.iter().map(|call| (*call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        TargetArch::x86_64,
    )
    .unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    // A filter holds for its thread, and for what that starts.
    std::thread::scope(|scope| {
        let forbidden = scope.spawn(move || {
            seccompiler::apply_filter(&program).unwrap();
            start()
        });
        forbidden.join().unwrap()
    })
}
