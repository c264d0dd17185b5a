//! `mixctl doctor`: what this host offers and what stands in the way, with the remedy.

use std::fs;
use std::io;
use std::net::UdpSocket;

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
    let detail = detail.into();
    Finding {
        what,
        verdict,
        detail,
    }
}

/// Looks at everything.
pub fn examine(udp_port: u16) -> Vec<Finding> {
    vec![
        kernel(),
        lanes(),
        cores(),
        io_uring(),
        memlock(),
        ports(udp_port),
    ]
}

/// Prints the report; false where a node can't run.
///
/// # Errors
/// It can't be printed.
pub fn print(udp_port: u16, as_json: bool) -> io::Result<bool> {
    let findings = examine(udp_port);
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
                "{} KiB: set LimitMEMLOCK=64M or `ulimit -l 65536`",
                bytes >> 10
            );
            finding("memlock", Verdict::Warning, detail)
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
