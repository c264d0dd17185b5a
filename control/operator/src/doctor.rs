//! `mixctl doctor`: what this host offers and what stands in the way, with the remedy.

mod kernel;

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
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

/// All that is looked at, so that a test can play any host.
struct Facts {
    /// The kernel's release.
    release: String,
    uring: Result<(), String>,
    /// Bytes that may be locked; none if as many as there are.
    memlock: Option<u64>,
    /// `/proc/swaps`.
    swaps: String,
    /// The folder on the disk, and bytes that are free there.
    disk: (PathBuf, io::Result<u64>),
    /// What systemd says of `mixctld.service`.
    unit: Option<String>,
    /// Where a node would listen, and whether it could.
    port: (String, io::Result<()>),
    /// What systemd says of the clock.
    time: Option<String>,
    /// Where the kernel shows itself.
    host: kernel::Host,
    /// What mixctld says, where one answers or ought to.
    status: Option<Result<Status, Failure>>,
}

impl Facts {
    /// Of this host.
    fn gather(udp_port: u16, socket: &Path) -> Facts {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
        let address = format!("127.1.1.1:{udp_port}");
        let bound = UdpSocket::bind(&address).map(drop);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // One that this user may not see is there, and says so.
        let is_there = socket.try_exists().unwrap_or(true);
        Facts {
            release: release.trim().to_owned(),
            uring: port::uring_available().map_err(|reason| reason.to_string()),
            memlock: limit.current,
            swaps: fs::read_to_string("/proc/swaps").unwrap_or_default(),
            disk: free_at(Path::new("/var/lib/fogmix")),
            unit: systemd_of("mixctld.service"),
            port: (address, bound),
            time: said_by("timedatectl", &["show", "--property=NTPSynchronized"]),
            host: kernel::Host::at(Path::new("/")),
            status: is_there.then(|| get(socket, "/api/v1/status")),
        }
    }

    /// What there is to say of it.
    fn examine(self) -> Vec<Finding> {
        let clock = kernel::clock(self.time.as_deref());
        let is_kept = clock.verdict == Verdict::Ok;
        let mut findings = vec![
            kernel(&self.release),
            lanes(),
            cores(),
            io_uring(self.uring),
            memlock(self.memlock),
            swap(&self.swaps),
            disk(&self.disk.0, self.disk.1),
            fd_store(self.unit.as_deref()),
            ports(&self.port.0, self.port.1),
            clock,
        ];
        findings.extend(self.host.examine());
        findings.extend(self.status.into_iter().flat_map(|said| node(said, is_kept)));
        findings
    }
}

/// Looks at everything; how the node here fares too, if a mixctld answers at `socket`.
pub fn examine(udp_port: u16, socket: &Path) -> Vec<Finding> {
    Facts::gather(udp_port, socket).examine()
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

fn kernel(release: &str) -> Finding {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 1) {
        return finding("kernel", Verdict::Ok, format!("Linux {release}"));
    }
    let detail = format!(
        "Linux {release}: port = \"uring\" and port = \"xsk\" need 6.1 or newer; port = \"plain\" runs"
    );
    finding("kernel", Verdict::Warning, detail)
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

fn io_uring(available: Result<(), String>) -> Finding {
    match available {
        Ok(()) => finding("io_uring", Verdict::Ok, "available"),
        Err(reason) => {
            let detail = format!("{reason}; nodes run on the plain port meanwhile");
            finding("io_uring", Verdict::Warning, detail)
        }
    }
}

/// Epoch keys and replay tables are locked in memory, so that they never reach a swap device.
fn memlock(limit: Option<u64>) -> Finding {
    const WANTED_BYTES: u64 = 64 << 20;
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

/// The folder, or what there is of it, and bytes that are free there.
fn free_at(folder: &Path) -> (PathBuf, io::Result<u64>) {
    let there = folder.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(there).map_err(io::Error::from);
    let free = found.map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    (there.to_owned(), free)
}

/// Documents, descriptors and long-term keys; a node whose disk is full goes on until the next document.
fn disk(there: &Path, free: io::Result<u64>) -> Finding {
    const WANTED_BYTES: u64 = 64 << 20;
    let there = there.display();
    match free {
        Ok(free) if free >= WANTED_BYTES => {
            let detail = format!("{there}: {} MiB free", free >> 20);
            finding("disk", Verdict::Ok, detail)
        }
        Ok(free) => {
            let detail = format!(
                "{there}: {} MiB free: documents can't be kept, and a node without the next one stops: make room",
                free >> 20
            );
            finding("disk", Verdict::Problem, detail)
        }
        Err(error) => {
            let detail = format!(
                "{there}: {error}: nobody knows how much is free there: see `df` and `dmesg`"
            );
            finding("disk", Verdict::Warning, detail)
        }
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
/// Where a time service keeps the clock here, theirs may as well be off, of which no node is to stop.
fn node(status: Result<Status, Failure>, is_kept: bool) -> Vec<Finding> {
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
    let clock = status.clock.map(|clock| {
        let verdict = match clock.is_told() {
            true if clock.is_off && !is_kept => Verdict::Problem,
            true => Verdict::Warning,
            false => return finding("time", Verdict::Ok, "as the authorities'"),
        };
        let seconds = clock.ahead_ms.unsigned_abs() / 1_000;
        finding(
            "time",
            verdict,
            format!("{seconds} s off: {}", clock.words()),
        )
    });
    [state, document].into_iter().chain(clock).collect()
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

fn ports(address: &str, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => finding("UDP port", Verdict::Ok, format!("{address} is free")),
        Err(error) => {
            let detail = format!("{address}: {error}; see `ss -ulpn`");
            finding("UDP port", Verdict::Warning, detail)
        }
    }
}

#[cfg(test)]
mod tests;
