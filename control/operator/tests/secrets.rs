//! After an epoch's key is erased, neither `mixnode` nor `mixctld` has it anywhere in its memory or in a file, nor where
//! the tags of its packets were put: a key that was drawn, and one that came back to a node that was killed. Before it is
//! erased it is in no file, in nothing that either says, and in no core. Searched for while they are known, in processes
//! of this test's own.

mod live;
mod programs;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use handover::vault::{SLOT_BYTES, VAULT_BYTES, slot_offset};
use live::{Network, Node, PATIENCE};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

const CHUNK_BYTES: usize = 1 << 20;

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It says everything it can to `log-mixctld` in `folder`, where its core would lie too.
fn mixctld(socket: &Path, folder: &Path) -> Ends {
    let mut child = Command::new(programs::program("control", "mixctld"))
        .args(["--no-xdp", "--tables-bytes-max", "100000000", "--socket"])
        .arg(socket)
        .current_dir(folder)
        .env("RUST_LOG", "trace")
        .stderr(File::create(folder.join("log-mixctld")).unwrap())
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
    memchr::memmem::find(chunk, secret).is_some()
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
    let mut network = Network::new(6_000, None);
    network.is_logged = true;
    let mut mixctld = mixctld(&socket, network.root());
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
    let (_, slot_then) = in_force(&network, &mut nodes[1], mixctld.0.id());
    let mut other = Command::new("sleep");
    let other = other.arg("1000").current_dir(network.root()).spawn();
    let mut other = Ends(other.unwrap());
    if !leaves_a_core(&mut other.0) {
        println!(
            "this machine lets nobody leave a core (/proc/sys/kernel/core_pattern): that ours leave none is not shown"
        );
    }
    assert!(!leaves_a_core(&mut nodes[1].child), "mixnode");
    assert!(!leaves_a_core(&mut mixctld.0), "mixctld");
    on_no_disk(network.root(), &secrets(&slot_then));
}

/// Whether a process that ends by a fault of its own leaves a core, no limit forbidding it.
fn leaves_a_core(child: &mut Child) -> bool {
    let process = Pid::from_child(child);
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Refused where the machine's own limit is lower and may not be raised: then nobody leaves one.
    let _ = prlimit(Some(process), Resource::Core, unlimited);
    kill_process(process, Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    status.core_dumped()
}

/// The key as it was drawn and as it is used, and the secret that tags are placed by.
fn secrets(slot: &[u8; SLOT_BYTES]) -> [Vec<u8>; 3] {
    let raw = slot[8..40].to_vec();
    let mut clamped = raw.clone();
    clamped[0] &= 248;
    clamped[31] = clamped[31] & 127 | 64;
    [raw, clamped, slot[40..56].to_vec()]
}

/// The epoch that a node works with now and its slot, whose secrets are where they should be and in no file.
fn in_force(network: &Network, node: &mut Node, keeper: u32) -> (u32, [u8; SLOT_BYTES]) {
    let process = node.child.id();
    // A machine that is late may see the key's end before it has looked: then the next one.
    let until = Instant::now() + PATIENCE;
    let (epoch, slot_then, before) = loop {
        assert!(
            Instant::now() < until,
            "no search is done before its epoch's end"
        );
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
    println!("while it is in force: {before:#?}");
    // The key and its table's secret, in the vault and where the node works with them.
    for (secret, place) in [(0, "memfd"), (0, "[heap]"), (2, "memfd"), (2, "[heap]")] {
        let secret = format!("secret {secret} ");
        let seen = |found: &String| found.starts_with(&secret) && found.contains(place);
        assert!(before.iter().any(seen), "{secret}is not seen in {place}");
    }
    on_no_disk(network.root(), &secrets(&slot_then));
    (epoch, slot_then)
}

/// The key that a node works with now is where it should be, and, once it is erased, nowhere.
fn erased_without_a_trace(network: &Network, node: &mut Node, keeper: u32) {
    let (epoch, slot_then) = in_force(network, node, keeper);
    let secrets = secrets(&slot_then);
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
    for (name, process) in [("mixnode", node.child.id()), ("mixctld", keeper)] {
        let left = search(process, &secrets.each_ref().map(Vec::as_slice));
        assert!(left.is_empty(), "{name}: {left:#?}");
    }
    on_no_disk(network.root(), &secrets);
}

/// A secret as it is, and its first half as somebody may have written it into a line.
fn written(secret: &[u8]) -> [Vec<u8>; 4] {
    let half = &secret[..8];
    let hex = half.iter().map(|byte| format!("{byte:02x}"));
    let hex: String = hex.collect();
    let list = format!("{half:?}");
    let list = list.trim_matches(['[', ']']);
    [
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        list.as_bytes().to_vec(),
    ]
}

/// No file of any node has them, what was said and cores among those.
fn on_no_disk(folder: &Path, secrets: &[Vec<u8>]) {
    for name in ["log-2", "log-mixctld"] {
        let said = std::fs::read(folder.join(name)).unwrap();
        assert!(said.windows(7).any(|word| word == b"started"), "{name}");
    }
    let forms: Vec<Vec<u8>> = secrets.iter().flat_map(|one| written(one)).collect();
    let found = with_any(folder, &forms);
    assert!(found.is_empty(), "a secret is in {found:?}");
}

/// Files below `folder` that have one of these, the program aside.
fn with_any(folder: &Path, forms: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(with_any(&path, forms));
        } else if !path.ends_with("mixnode")
            && let Ok(bytes) = std::fs::read(&path)
            && forms.iter().any(|form| holds(&bytes, form))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_secret_is_found_in_a_file_however_it_is_written_there() {
    let folder = tempfile::tempdir().unwrap();
    let secret: Vec<u8> = (0..32).map(|byte: u8| byte.wrapping_mul(7) ^ 200).collect();
    let forms = written(&secret);
    let log = folder.path().join("log");
    for written in [
        secret.clone(),
        format!("{secret:?}").into_bytes(),
        format!("{secret:02x?}")
            .replace([',', ' '], "")
            .into_bytes(),
        format!("{secret:02X?}")
            .replace([',', ' '], "")
            .into_bytes(),
    ] {
        std::fs::write(&log, [b"key=", &written[..], b"\n"].concat()).unwrap();
        assert_eq!(
            with_any(folder.path(), &forms),
            vec![log.clone()],
            "{written:?}"
        );
    }
    std::fs::write(&log, "key=c8cf").unwrap();
    assert!(with_any(folder.path(), &forms).is_empty());
}
