//! After an epoch's key is erased, neither `mixnode` nor `mixctld` has it anywhere in its memory or in a file, nor where
//! the tags of its packets were put: a key that was drawn, and one that came back to a node that was killed. Searched for
//! while they are known, in processes of this test's own.

mod live;
mod programs;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use handover::vault::{SLOT_BYTES, VAULT_BYTES, slot_offset};
use live::{Network, Node, PATIENCE};

const CHUNK_BYTES: usize = 1 << 20;

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mixctld(socket: &Path) -> Ends {
    let mut child = Command::new(programs::program("control", "mixctld"))
        .args(["--no-xdp", "--tables-bytes-max", "100000000", "--socket"])
        .arg(socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.contains("listening"), "{line}");
    Ends(child)
}

/// The slot of an epoch in the vault that a process holds.
fn slot(holder: u32, epoch: u32) -> [u8; SLOT_BYTES] {
    let folder = format!("/proc/{holder}/fd");
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().contains("memfd:fogmix-vault") {
            let mut page = [0; VAULT_BYTES];
            File::open(entry.path())
                .unwrap()
                .read_exact_at(&mut page, 0)
                .unwrap();
            return page[slot_offset(epoch)..][..SLOT_BYTES].try_into().unwrap();
        }
    }
    panic!("process {holder} holds no vault");
}

/// Where in its memory a process has one of these: what is mapped there.
fn search(process: u32, secrets: &[&[u8]]) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let longest = secrets.iter().map(|secret| secret.len()).max().unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let mut at = from;
        while at < to {
            let bytes = (to - at).min((CHUNK_BYTES + longest) as u64) as usize;
            let mut chunk = vec![0; bytes];
            // Some of the kernel's own can't be read.
            if memory.read_exact_at(&mut chunk, at).is_err() {
                break;
            }
            for (number, secret) in secrets.iter().enumerate() {
                if holds(&chunk, secret) {
                    found.push(format!("secret {number} in {line}"));
                }
            }
            at += CHUNK_BYTES as u64;
        }
    }
    found
}

fn holds(chunk: &[u8], secret: &[u8]) -> bool {
    let (first, mut rest) = (secret[0], chunk);
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(secret) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

fn free(ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.local_addr().unwrap()
}

#[test]
#[ignore = "needs root: reads the memory of processes that let nobody else"]
fn an_erased_epochs_secrets_are_nowhere_in_the_memory_of_mixnode_and_mixctld() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mixctld");
    let mixctld = mixctld(&socket);
    let network = Network::new(6_000, None);
    let small = "[worker]\nmax_pps = 100\n[cover]\nloop_interval_ms = 20\n";
    let kept = format!("{small}[keys]\nvault = true\nloader = {socket:?}\n");
    let listen = [free("127.7.1.1"), free("127.7.2.1"), free("127.7.3.1")];
    let start = |number: usize| {
        let more = if number == 2 { &kept } else { small };
        network.start(number, listen[number - 1], "plain", more)
    };
    let mut nodes: Vec<Node> = (1..=3).map(start).collect();
    network.open(&mut nodes);
    for came_back in [false, true] {
        if came_back {
            // Killed: its successor reads its keys from the vault.
            drop(nodes.remove(1));
            nodes.insert(1, start(2));
        }
        erased_without_a_trace(&network, &mut nodes[1], mixctld.0.id());
    }
}

/// The key as it was drawn and as it is used, and the secret that tags are placed by.
fn secrets(slot: &[u8; SLOT_BYTES]) -> [Vec<u8>; 3] {
    let raw = slot[8..40].to_vec();
    let mut clamped = raw.clone();
    clamped[0] &= 248;
    clamped[31] = clamped[31] & 127 | 64;
    [raw, clamped, slot[40..56].to_vec()]
}

/// The key that a node works with now is where it should be, and, once it is erased, nowhere.
fn erased_without_a_trace(network: &Network, node: &mut Node, keeper: u32) {
    let process = node.child.id();
    // A machine that is late may see the key's end before it has looked: then the next one.
    let (epoch, slot_then, before) = loop {
        let status = node.await_status(network, "a place", |status| status.layer.is_some());
        let slot_then = slot(keeper, status.epoch);
        // Packets are opened with it.
        node.await_loops(network, 1);
        // That the search finds what is there.
        let before = search(process, &secrets(&slot_then).each_ref().map(Vec::as_slice));
        if slot_then[4..8] == status.epoch.to_ne_bytes()
            && slot(keeper, status.epoch)[..56] == slot_then[..56]
        {
            break (status.epoch, slot_then, before);
        }
    };
    let secrets = secrets(&slot_then);
    let secrets = secrets.each_ref().map(Vec::as_slice);
    println!("while it is in force: {before:#?}");
    // The key and its table's secret, in the vault and where the node works with them.
    for (secret, place) in [(0, "memfd"), (0, "[heap]"), (2, "memfd"), (2, "[heap]")] {
        let secret = format!("secret {secret} ");
        let seen = |found: &String| found.starts_with(&secret) && found.contains(place);
        assert!(before.iter().any(seen), "{secret}is not seen in {place}");
    }
    let until = Instant::now() + PATIENCE;
    while slot(keeper, epoch)[..40] == slot_then[..40] {
        network.turn();
        assert!(
            Instant::now() < until,
            "the key of epoch {epoch} is not erased"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // Workers let go of an epoch in their next turn.
    node.await_loops(network, 20);
    for (name, process) in [("mixnode", process), ("mixctld", keeper)] {
        let left = search(process, &secrets);
        assert!(left.is_empty(), "{name}: {left:#?}");
    }
    on_no_disk(network.root(), &secrets);
}

/// No file of any node has them.
fn on_no_disk(folder: &Path, secrets: &[&[u8]]) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            on_no_disk(&path, secrets);
        } else if let Ok(bytes) = std::fs::read(&path) {
            let found = secrets.iter().any(|secret| holds(&bytes, secret));
            assert!(!found, "{} has a secret", path.display());
        }
    }
}
