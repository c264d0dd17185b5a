//! A large file between two terminals through a lab, at the highest rate that the machine holds: the memory of both ends
//! stays as it is, and what is said of the time left is true. It measures, so nothing else may run beside it:
//! `cargo test --release --workspace --test large -- --ignored --nocapture`; `FOGMIX_LARGE_MIB` is the file's size,
//! `FOGMIX_LARGE_RATE` the slots a second of a machine whose limit is known.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fog::Pace;
use serde_json::Value;

mod programs;
mod running;
use running::{Running, free_port, mixctl, wait_until};

const MIB: u64 = 1 << 20;
/// Bytes of a file in a packet.
const CHUNK_BYTES: f64 = 840.0;
/// Slots a second that are tried, and the share of them that must carry the file: a tenth are loops, and others carry
/// reply blocks.
const RATES: [u32; 6] = [4_000, 2_000, 1_000, 500, 250, 100];
const SHARE: f64 = 0.7;
const PROBE_SECONDS: u32 = 10;
/// From then on the time left must be true within a quarter, or by two seconds near the end.
const TOLD_FROM: Duration = Duration::from_secs(10);
const ETA_SLACK: Duration = Duration::from_secs(2);
/// What memory may grow by in the last two thirds.
const GROWTH_KIB: u64 = 4 * 1_024;

/// Writes a file that no part of repeats.
fn write_file(path: &Path, bytes: u64) {
    let mut file = File::create(path).unwrap();
    let mut reader = blake3::Hasher::new().finalize_xof();
    let (mut left, mut block) = (bytes, vec![0; 1 << 16]);
    while left > 0 {
        let part = left.min(block.len() as u64) as usize;
        reader.fill(&mut block[..part]);
        file.write_all(&block[..part]).unwrap();
        left -= part as u64;
    }
}

fn hash_of(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path).unwrap(), &mut hasher).unwrap();
    hasher.finalize()
}

/// The highest of the rates at which a lab carries what it should.
fn rate_held(folder: &Path) -> u32 {
    let file = folder.join("probe");
    for rate in RATES {
        let wanted = f64::from(rate) * CHUNK_BYTES * SHARE;
        write_file(&file, (wanted * f64::from(PROBE_SECONDS)) as u64);
        let output = mixctl()
            .args(["lab", "--json", "--mean-delay", "5ms", "--udp-port"])
            .args([&free_port(), "--rate", &rate.to_string(), "--send"])
            .arg(&file)
            .output()
            .unwrap();
        let text = running::stdout(&output);
        let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let goodput = summary["goodput_bytes_s"].as_f64().unwrap();
        println!(
            "at {rate} slots a second: {:.2} MiB/s",
            goodput / MIB as f64
        );
        // The start takes some seconds of a probe.
        if goodput >= wanted * 0.7 {
            return rate;
        }
    }
    panic!("the machine holds none of these rates")
}

fn fog(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::program("fog", "fog"));
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command.arg("--home").arg(home).args(arguments);
    command
}

fn init(home: &Path, bootstrap: &Path) -> String {
    let output = fog(home, &["init", "--network"])
        .arg(bootstrap)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    running::stdout(&output).trim().to_owned()
}

/// The memory of a process that is in RAM, KiB.
fn resident_kib(process: u32) -> u64 {
    // Nothing of one that has just ended.
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// What was seen once a second.
struct Sample {
    at: Duration,
    left: Option<Duration>,
    /// Of sender and recipient.
    kib: [u64; 2],
}

/// The most of a third of the samples, and of those after it, KiB.
fn growth(samples: &[Sample], end: usize) -> [u64; 2] {
    let (first, later) = samples.split_at(samples.len().div_ceil(3));
    [first, later].map(|part| part.iter().map(|sample| sample.kib[end]).max().unwrap_or(0))
}

#[test]
#[ignore = "minutes at the limit of the machine"]
fn a_large_file_takes_no_memory_of_its_own_and_its_time_left_is_told_truly() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| -> PathBuf { folder.path().join(name) };
    let mib = std::env::var("FOGMIX_LARGE_MIB").map_or(300, |text| text.parse().unwrap());
    let (file, bytes) = (place("file"), mib * MIB);
    write_file(&file, bytes);
    let known = std::env::var("FOGMIX_LARGE_RATE").ok();
    let rate = known.map_or_else(|| rate_held(folder.path()), |text| text.parse().unwrap());

    let lab = place("lab").display().to_string();
    let flags = [
        "--dir",
        &lab,
        "--mean-delay",
        "5ms",
        "--rate",
        &rate.to_string(),
    ];
    let (_lab, _) = Running::lab(&free_port(), &flags);
    let [alice, address] = ["alice", "bob"].map(|name| init(&place(name), &place("lab/network")));
    assert_ne!(alice, address);
    let receive = [
        "--json", "recv", "--linger", "10ms", "--count", "1", "--out",
    ];
    let mut recipient = fog(&place("bob"), &receive)
        .arg(place("inbox"))
        .stdout(Stdio::null())
        .spawn()
        .map(Running)
        .unwrap();
    let send = ["--json", "send", "--linger", "10ms", &address];
    let mut sender = fog(&place("alice"), &send)
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();

    let began = Instant::now();
    let (mut pace, mut samples, mut flowed) = (Pace::default(), Vec::<Sample>::new(), None);
    let lines = BufReader::new(sender.0.stdout.take().unwrap()).lines();
    let mut said = Value::Null;
    for line in lines {
        said = serde_json::from_str(&line.unwrap()).unwrap();
        let now = began.elapsed();
        let Some(bytes_there) = said["bytes"]
            .as_u64()
            .filter(|_| said["event"] == "progress")
        else {
            continue;
        };
        // As the command itself tells it to people.
        pace.add(now, bytes_there);
        if bytes_there > 0 {
            flowed.get_or_insert(now);
        }
        if samples.len() as u64 <= now.as_secs() {
            samples.push(Sample {
                at: now,
                left: pace.left(now, bytes),
                kib: [sender.0.id(), recipient.0.id()].map(resident_kib),
            });
        }
    }
    let took = began.elapsed();
    assert!(sender.0.wait().unwrap().success(), "{said}");
    wait_until("the recipient ends", || {
        recipient.0.try_wait().unwrap().is_some()
    });
    assert_eq!(hash_of(&place("inbox/file")), hash_of(&file));

    let from = flowed.unwrap() + TOLD_FROM;
    let mut worst = (1.0, Duration::ZERO);
    let mut untrue = 0;
    for sample in samples.iter().filter(|sample| sample.at >= from) {
        let truth = took - sample.at;
        let left = sample.left.expect("a time left after ten seconds");
        let ratio = left.as_secs_f64() / truth.as_secs_f64();
        untrue += usize::from(left.abs_diff(truth) > (truth / 4).max(ETA_SLACK));
        let off = |ratio: f64| ratio.max(1.0 / ratio);
        if truth > 4 * ETA_SLACK && off(ratio) > off(worst.0) {
            worst = (ratio, sample.at);
        }
    }
    println!(
        "{mib} MiB at {rate} slots a second in {:.0} s, {:.2} MiB/s: identical; {said}",
        took.as_secs_f64(),
        bytes as f64 / MIB as f64 / took.as_secs_f64()
    );
    println!(
        "time left, from ten seconds on: at worst {:.2} of the truth, after {:.0} s; {untrue} of {} untrue",
        worst.0,
        worst.1.as_secs_f64(),
        samples.len()
    );
    let ends = [0, 1].map(|end| growth(&samples, end));
    for (name, [first, later]) in ["sender", "recipient"].into_iter().zip(ends) {
        println!(
            "memory of the {name}: {first} KiB at most in the first third, {later} KiB after it"
        );
    }
    assert_eq!(untrue, 0, "the time left was not true");
    for [first, later] in ends {
        assert!(later <= first + GROWTH_KIB, "memory grows: {ends:?}");
    }
}
