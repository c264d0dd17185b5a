//! `mixctl doctor`: what this host offers and what stands in the way, with the remedy.

mod kernel;

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use control::api::client::get;
use control::api::shapes::Status;
use control::exit::Failure;
use serde::Serialize;

/// How a finding bears on running a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, slower or with less protection.
    Warning,
    /// A node can't run.
    Problem,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do where that is not enough.
    pub detail: String,
}

fn finding(what: &'static str, verdict: Verdict, detail: impl Into<String>) -> Finding {
    let detail = program::visible(detail.into().as_bytes());
    Finding {
        what,
        verdict,
        detail,
    }
}

/// Looks at everything; how the node here fares too, if a mixctld answers at `socket`.
pub fn examine(udp_port: u16, socket: &Path) -> Vec<Finding> {
    let mut findings = vec![
        kernel(),
        lanes(),
        cores(),
        io_uring(),
        memlock(),
        swap(&fs::read_to_string("/proc/swaps").unwrap_or_default()),
        disk(Path::new("/var/lib/fogmix")),
        fd_store(systemd_of("mixctld.service").as_deref()),
        ports(udp_port),
        kernel::clock(said_by("timedatectl", &["show", "--property=NTPSynchronized"]).as_deref()),
    ];
    findings.extend(kernel::Host::at(Path::new("/")).examine());
    // One that this user may not see is there, and says so.
    if socket.try_exists().unwrap_or(true) {
        findings.extend(node(get(socket, "/api/v1/status")));
    }
    findings
}

/// Prints the report; false where a node can't run.
///
/// # Errors
/// It can't be printed.
pub fn print(udp_port: u16, socket: &Path, as_json: bool) -> io::Result<bool> {
    let findings = examine(udp_port, socket);
    let sound = !findings.iter().any(|f| f.verdict == Verdict::Problem);
    let text = if as_json {
        serde_json::json!({ "ok": sound, "findings": findings }).to_string()
    } else {
        let lines = findings.iter().map(|finding| {
            let mark = match finding.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Problem => "PROBLEM",
            };
            format!("{mark}  {:<12} {}", finding.what, finding.detail)
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    program::print(&text)?;
    Ok(sound)
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 1) {
        finding("kernel", Verdict::Ok, format!("Linux {release}"))
    } else {
        let detail = format!("Linux {release}: 6.1 or newer is what Fogmix is tested on");
        finding("kernel", Verdict::Warning, detail)
    }
}

fn lanes() -> Finding {
    let lanes = sphinx::lanes::Lanes::detect();
    let detail = format!("{} ({})", lanes.name(), std::env::consts::ARCH);
    finding("lanes", Verdict::Ok, detail)
}

fn cores() -> Finding {
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    finding("cores", Verdict::Ok, format!("{count} for this process"))
}

fn io_uring() -> Finding {
    match port::uring_available() {
        Ok(()) => finding("io_uring", Verdict::Ok, "available"),
        Err(reason) => {
            let detail = format!("{reason}; nodes run on the plain port meanwhile");
            finding("io_uring", Verdict::Warning, detail)
        }
    }
}

/// Epoch keys and replay tables are locked in memory, so that they never reach a swap device.
fn memlock() -> Finding {
    const WANTED_BYTES: u64 = 64 << 20;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    match limit {
        None => finding("memlock", Verdict::Ok, "unlimited"),
        Some(bytes) if bytes >= WANTED_BYTES => {
            finding("memlock", Verdict::Ok, format!("{} MiB", bytes >> 20))
        }
        Some(bytes) => {
            let detail = format!(
                "{} KiB: set LimitMEMLOCK=infinity or `ulimit -l unlimited`; `mixnode --check-config` prints what it takes",
                bytes >> 10
            );
            finding("memlock", Verdict::Warning, detail)
        }
    }
}

/// What is not locked of a process may be written to a swap device, and read there by whoever seizes it.
fn swap(swaps: &str) -> Finding {
    let devices = swaps.lines().skip(1);
    let devices: Vec<&str> = devices
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    match devices.is_empty() {
        true => finding("swap", Verdict::Ok, "off"),
        false => {
            let detail = format!(
                "{}: keys are locked where memlock allows, session keys in transit may be written there; `swapoff -a`, or \
                 encrypt it with a key of each boot",
                devices.join(", ")
            );
            finding("swap", Verdict::Warning, detail)
        }
    }
}

/// Documents, descriptors and long-term keys; a node whose disk is full goes on until the next document.
fn disk(folder: &Path) -> Finding {
    const WANTED_BYTES: u64 = 64 << 20;
    let there = folder.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let detail = format!("{}: {} MiB free", there.display(), free >> 20);
            match free >= WANTED_BYTES {
                true => finding("disk", Verdict::Ok, detail),
                false => {
                    let remedy =
                        "documents can't be kept, and a node without the next one stops: make room";
                    finding("disk", Verdict::Problem, format!("{detail}: {remedy}"))
                }
            }
        }
        Err(error) => finding(
            "disk",
            Verdict::Warning,
            format!("{}: {error}", there.display()),
        ),
    }
}

/// What systemd knows of a unit; `None` where it is not there or has not heard of that.
fn systemd_of(unit: &str) -> Option<String> {
    let of = ["show", unit, "--property=LoadState,FileDescriptorStoreMax"];
    said_by("systemctl", &of)
}

/// What a command says; `None` where it is not there or fails.
fn said_by(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// How the node here fares, and the document that it works by: nobody else knows whether authorities are reached.
fn node(status: Result<Status, Failure>) -> Vec<Finding> {
    let status = match status {
        Ok(status) => status,
        Err(failure) => return vec![finding("mixctld", Verdict::Warning, failure.message)],
    };
    let state = match status.is_ready() {
        true => finding("node", Verdict::Ok, "ready: it would forward a packet now"),
        false => finding("node", Verdict::Warning, status.not_ready.join("; ")),
    };
    let document = match &status.document {
        Some(held) if held.epoch == status.epoch => finding(
            "document",
            Verdict::Ok,
            format!("of epoch {}, with {} nodes", held.epoch, held.nodes),
        ),
        Some(held) => finding(
            "document",
            Verdict::Warning,
            format!(
                "of epoch {} while it is epoch {}: no authority has a newer one, or none is reached; mixctld's log says \
                 which",
                held.epoch, status.epoch
            ),
        ),
        None => finding(
            "document",
            Verdict::Warning,
            "none is in force: mixctld's log says what the authorities answer, and whether they are reached",
        ),
    };
    vec![state, document]
}

/// Where keys outlive a mixctld that is killed while no node is connected.
fn fd_store(unit: Option<&str>) -> Finding {
    let value = |name: &str| {
        let mut lines = unit?.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let loaded = value("LoadState") == Some("loaded");
    let places = value("FileDescriptorStoreMax").and_then(|places| places.parse::<u32>().ok());
    // The vault and a table for each of its slots.
    let wanted = handover::vault::SLOTS as u32 + 1;
    match places.filter(|_| loaded) {
        Some(places) if places >= wanted => {
            finding("fd store", Verdict::Ok, format!("{places} places"))
        }
        Some(places) => {
            let detail = format!(
                "{places} places: epoch keys and replay tables end with mixctld and its node; set \
                 FileDescriptorStoreMax=32 in mixctld.service"
            );
            finding("fd store", Verdict::Warning, detail)
        }
        None => {
            let detail = "no mixctld.service: where mixctld and its node end together, epoch keys end with them, and the \
                          node sits out until the next document; run mixctld as a unit with FileDescriptorStoreMax=32";
            finding("fd store", Verdict::Warning, detail)
        }
    }
}

fn ports(udp_port: u16) -> Finding {
    let address = format!("127.1.1.1:{udp_port}");
    match UdpSocket::bind(&address) {
        Ok(_) => finding("UDP port", Verdict::Ok, format!("{address} is free")),
        Err(error) => {
            let detail = format!("{address}: {error}; see `ss -ulpn`");
            finding("UDP port", Verdict::Warning, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use control::api::shapes::State;

    use super::*;

    #[test]
    fn a_node_that_is_not_ready_and_a_document_that_is_old_are_said_with_what_to_do() {
        let status = |state, epoch| Status {
            version: "0.1.0".to_owned(),
            unix_ms: 0,
            state,
            not_ready: match state {
                State::Ready => Vec::new(),
                _ => vec![
                    "no loop packet has come back yet".to_owned(),
                    "and more".to_owned(),
                ],
            },
            network: String::new(),
            epoch: 7,
            ends_unix_ms: 0,
            document: Some(control::api::shapes::InForce {
                epoch,
                digest: String::new(),
                age_ms: 0,
                nodes: 12,
            }),
            node: None,
            counters: None,
            rates: None,
            anonymity: None,
            warnings: Vec::new(),
        };
        let sound = node(Ok(status(State::Ready, 7)));
        assert!(sound.iter().all(|found| found.verdict == Verdict::Ok));
        let bad = node(Ok(status(State::Waiting, 6)));
        assert!(bad.iter().all(|found| found.verdict == Verdict::Warning));
        assert_eq!(bad[0].detail, "no loop packet has come back yet; and more");
        assert!(bad[1].detail.contains("of epoch 6 while it is epoch 7"));
        let none = Status {
            document: None,
            ..status(State::Ready, 7)
        };
        assert!(node(Ok(none))[1].detail.contains("none is in force"));
        let refused = Failure::new(77, "this user may not use it");
        let refused = node(Err(refused));
        assert_eq!(refused[0].what, "mixctld");
        assert_eq!(refused[0].verdict, Verdict::Warning);
    }

    #[test]
    fn what_keeps_keys_is_examined_and_each_want_has_its_remedy() {
        let header = "Filename Type Size Used Priority\n";
        assert_eq!(swap(header).verdict, Verdict::Ok);
        let on = swap(&format!("{header}/dev/sda2 partition 8388604 0 -2\n"));
        assert_eq!(on.verdict, Verdict::Warning);
        assert!(on.detail.contains("/dev/sda2") && on.detail.contains("swapoff"));
        let unit = |places| format!("LoadState=loaded\nFileDescriptorStoreMax={places}\n");
        assert_eq!(fd_store(Some(&unit(8))).verdict, Verdict::Ok);
        let absent = "LoadState=not-found\nFileDescriptorStoreMax=0\n".to_owned();
        for said in [Some(unit(0)), Some(unit(4)), Some(absent), None] {
            let found = fd_store(said.as_deref());
            assert_eq!(found.verdict, Verdict::Warning, "{said:?}");
            assert!(found.detail.contains("FileDescriptorStoreMax=32"));
        }
        // A socket that can't be looked for is no sign that nobody listens.
        let hidden = examine(0, Path::new("/etc/passwd/http.sock"));
        assert!(hidden.iter().any(|found| found.what == "mixctld"));
        let absent = examine(0, Path::new("/nowhere/http.sock"));
        assert!(!absent.iter().any(|found| found.what == "mixctld"));
        let tmp = disk(&std::env::temp_dir().join("not/there"));
        assert!(tmp.detail.contains("MiB free"), "{}", tmp.detail);
    }
}
