//! What the tests of labs share: `mixctl` in a child process, and patience.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(180);

pub fn mixctl() -> Command {
    // Whoever runs the tests may do so under nohup, and what is ignored is inherited.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_mixctl")]);
    command.stdin(Stdio::null());
    command
}

/// A UDP port that nobody has on any address of a lab.
pub fn free_port() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port().to_string()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Ends with the test, however that ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a lab and waits until it says that it is up.
    pub fn lab(port: &str, extra: &[&str]) -> (Self, Vec<String>) {
        let mut child = mixctl()
            .args(["lab", "--udp-port", port])
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let running = Self(child);
        let mut said = Vec::new();
        loop {
            let line = lines.next().expect("the lab ended").unwrap();
            let up = line.contains("up after");
            said.push(line);
            if up {
                break;
            }
        }
        // The rest is read away, so that the lab never waits for its reader.
        std::thread::spawn(move || lines.for_each(drop));
        (running, said)
    }
}

pub fn children_of(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name in brackets: state, parent.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if fields.split_whitespace().nth(1) == Some(&parent.to_string()) {
            children.push(id);
        }
    }
    children
}

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}
