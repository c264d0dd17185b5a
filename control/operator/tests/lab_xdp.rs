//! `mixctl lab --xdp`: nodes in network namespaces, the XDP program before each. Needs root:
//! `cargo test --workspace --test lab_xdp -- --ignored --test-threads=1`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

mod running;
use running::{Running, children_of, free_port, mixctl, stderr, stdout, wait_until};

/// What labs leave on this machine while they run: namespaces and pinned maps.
fn traces() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for folder in ["/run/netns", "/sys/fs/bpf"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("fogmix-lab-")
            {
                found.insert(entry.path());
            }
        }
    }
    found
}

fn of_process(id: u32) -> BTreeSet<PathBuf> {
    let mark = format!("-{id}-");
    traces()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(&mark))
        .collect()
}

/// Sends a file through a lab of these flags; gives the summary.
fn transfer(bytes: usize, flags: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let content: Vec<u8> = (0..bytes).map(|n| ((n * n) >> 3) as u8).collect();
    std::fs::write(&file, content).unwrap();
    let child = mixctl()
        .args(["lab", "--xdp", "--json", "--udp-port", &free_port()])
        .args(["--mean-delay", "5ms", "--rate", "200", "--send"])
        .arg(&file)
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output: Output = child.wait_with_output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", stderr(&output));
    assert_eq!(of_process(id), BTreeSet::new(), "left behind");
    println!("{text}");
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn delivers_past_the_kernel(flags: &[&str], ip_version: u8) {
    let summary = transfer(50_000, flags);
    assert_eq!(summary["identical"], true);
    let xdp = &summary["xdp"];
    assert_eq!(xdp["mode"], "native");
    assert_eq!(xdp["ip_version"], ip_version);
    // Every packet passes five nodes.
    let packets = summary["packets"].as_u64().unwrap();
    assert!(xdp["steered"].as_u64().unwrap() >= 5 * packets, "{xdp}");
    assert_eq!(xdp["kernel_udp_in"], 0, "{xdp}");
}

#[test]
#[ignore = "needs root"]
fn a_file_arrives_over_ipv4_and_no_datagram_of_it_reaches_the_kernels_sockets() {
    delivers_past_the_kernel(&[], 4);
}

#[test]
#[ignore = "needs root"]
fn a_file_arrives_over_ipv6_and_no_datagram_of_it_reaches_the_kernels_sockets() {
    delivers_past_the_kernel(&["--ipv6"], 6);
}

#[test]
#[ignore = "needs root"]
fn nodes_run_as_nobody_without_capabilities() {
    let (lab, _) = Running::lab(&free_port(), &["--xdp", "--mixes", "1"]);
    let nodes: Vec<u32> = children_of(lab.0.id())
        .into_iter()
        .filter(|id| command_of(*id).contains("\0lab-node\0"))
        .collect();
    assert_eq!(nodes.len(), 5);
    for id in nodes {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(field("Uid:"), "65534 65534 65534 65534");
        assert_eq!(field("Gid:"), "65534 65534 65534 65534");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("NoNewPrivs:"), "1");
    }
    end(lab);
}

#[test]
#[ignore = "needs root"]
fn what_a_killed_lab_left_is_swept_by_the_next() {
    let (mut lab, _) = Running::lab(&free_port(), &["--xdp", "--mixes", "1"]);
    let id = lab.0.id();
    let children = children_of(id);
    assert!(!of_process(id).is_empty());
    lab.0.kill().unwrap();
    lab.0.wait().unwrap();
    wait_until("the lab's children gone", || {
        children.iter().all(|id| command_of(*id).is_empty())
    });
    let (next, _) = Running::lab(&free_port(), &["--xdp", "--mixes", "1"]);
    assert_eq!(of_process(id), BTreeSet::new());
    end(next);
}

/// Asks a lab to stop: it takes everything with it.
fn end(mut lab: Running) {
    let id = lab.0.id();
    let process = rustix::process::Pid::from_child(&lab.0);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    lab.0.wait().unwrap();
    assert_eq!(of_process(id), BTreeSet::new());
}

fn command_of(id: u32) -> String {
    std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default()
}

#[test]
#[ignore = "needs root"]
fn without_root_the_lab_says_what_to_do() {
    use std::os::unix::process::CommandExt;
    // Where the user may read it. Copied by another process: a descriptor that writes to it, inherited by what some
    // other test starts meanwhile, would keep it from being run.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let program = folder.path().join("mixctl");
    let copied = Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_mixctl")), &program])
        .status();
    assert!(copied.unwrap().success());
    open_to_all(folder.path());
    let output = Command::new(&program)
        .args(["lab", "--xdp", "--udp-port", &free_port()])
        .uid(65_534)
        .gid(65_534)
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    assert!(stderr(&output).contains("root"), "{}", stderr(&output));
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
