//! The ways in which `fog send` and `fog recv` can't go on, and what they then say, how soon, and with which exit code:
//! those that need neither a network that works nor root. `--nocapture` shows the table.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

mod joined;

use joined::{Joined, Network, signal};

/// What is said at once is said within this, on a machine that has other things to do, too.
const SOON: Duration = Duration::from_secs(20);

/// A way: its name, the command, a part of the line, the exit code.
type Way = (&'static str, Command, &'static str, i32);

/// Runs all of them at the same time, and holds each to its line and code.
fn hold(ways: Vec<Way>) {
    let began = Instant::now();
    let running: Vec<_> = ways
        .into_iter()
        .map(|mut way| {
            let mut child = way.1.spawn().unwrap();
            let lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let told = std::thread::spawn(move || {
                let timed = lines.map(|line| (began.elapsed().as_secs_f64(), line.unwrap()));
                timed.collect::<Vec<_>>()
            });
            (way, child, told)
        })
        .collect();
    for ((name, _, line, code), mut child, told) in running {
        let ended = child.wait().unwrap();
        let said = told.join().unwrap();
        assert_eq!(ended.code(), Some(code), "{name}: {said:?}");
        let found = said.iter().find(|(_, said)| said.contains(line));
        let (after, found) =
            found.unwrap_or_else(|| panic!("{name}: `{line}` is not said: {said:?}"));
        println!("{name} | {found} | {after:.1} s | {code}");
    }
    println!("all within {:.1} s", began.elapsed().as_secs_f64());
}

fn send(joined: &Joined, arguments: &[&str]) -> Command {
    joined.command(&[&["send", joined.address.as_str()], arguments].concat())
}

#[test]
fn what_can_not_be_begun_is_refused_at_once_with_the_reason() {
    let joined = Joined::new();
    let path = |name: &str| joined.path(name).display().to_string();
    let (file, pipe, empty) = (path("file"), path("pipe"), path("empty"));
    std::fs::write(&file, "content").unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    std::fs::create_dir(&empty).unwrap();
    let wrong = joined.address.replace("fog1q", "fog1p");
    let own = joined.command(&["address"]).output().unwrap().stdout;
    let own = joined::text(&own).trim().to_owned();
    let elsewhere = |home: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fog"));
        command.arg("--home").arg(home).args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let mut homeless = Command::new(env!("CARGO_BIN_EXE_fog"));
    homeless.args(["send", &joined.address, &file]);
    homeless.env_remove("HOME").env_remove("XDG_DATA_HOME");
    homeless.stdout(Stdio::null()).stderr(Stdio::piped());
    let broken = Joined::new();
    let key = broken.path("home").join("identity.key");
    std::fs::remove_file(&key).unwrap();
    std::fs::write(&key, "short").unwrap();
    let lost = Joined::new();
    std::fs::remove_file(lost.path("home").join("network")).unwrap();
    let mut loud = send(&joined, &[&file]);
    loud.env("RUST_LOG", "loud");
    // As a full disk, which takes root to make.
    let mut cramped = Command::new("sh");
    let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
    cramped.args(["-c", limited, env!("CARGO_BIN_EXE_fog"), "--home"]);
    cramped.args([&path("home"), "send", &joined.address, "-", "--name", "x"]);
    cramped.stdin(std::fs::File::open(&file).unwrap());
    cramped.stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    hold(vec![
        (
            "no home",
            elsewhere("/nowhere", &["send", &joined.address, &file]),
            "run fog init --network FILE first",
            78,
        ),
        (
            "no home to receive with",
            elsewhere("/nowhere", &["recv", "--out", &empty]),
            "run fog init --network FILE first",
            78,
        ),
        (
            "none that could be asked, for want of a home",
            elsewhere("/nowhere", &["status"]),
            "run fog init --network FILE first",
            78,
        ),
        (
            "a home that can't be looked into",
            elsewhere(&file, &["send", &joined.address, &file]),
            "/file: Not a directory",
            78,
        ),
        (
            "the same, to ask",
            elsewhere(&file, &["down"]),
            "/file: Not a directory",
            78,
        ),
        (
            "no place for a home",
            homeless,
            "neither HOME nor XDG_DATA_HOME",
            64,
        ),
        (
            "broken keys",
            broken.command(&["send", &joined.address, &file]),
            "restore it from a backup: removing it makes a new address",
            78,
        ),
        (
            "no network file",
            lost.command(&["send", &joined.address, &file]),
            "home/network: No such file",
            78,
        ),
        (
            "no address",
            joined.command(&["send", "nonsense", &file]),
            "`nonsense` is no address",
            64,
        ),
        (
            "one's own address, and nobody who receives",
            joined.command(&["send", &own, &file]),
            "this is your own address, and no fog is running that would receive here",
            69,
        ),
        (
            "a mistyped address",
            joined.command(&["send", &wrong, &file]),
            "checksum",
            64,
        ),
        (
            "no such file",
            send(&joined, &["/nowhere/file"]),
            "/nowhere/file: No such file",
            64,
        ),
        (
            "a named pipe",
            send(&joined, &[&pipe]),
            "this is a named pipe, and only regular files",
            64,
        ),
        (
            "a device",
            send(&joined, &["/dev/zero"]),
            "this is a device, and only regular files",
            64,
        ),
        (
            "address and file in the wrong order",
            joined.command(&["send", &file, &joined.address]),
            "the address comes first, then what is sent",
            64,
        ),
        (
            "an empty folder",
            send(&joined, &[&empty]),
            "/empty: there is no file in it",
            64,
        ),
        (
            "standard input without a name",
            send(&joined, &["-"]),
            "give it one with --name",
            64,
        ),
        (
            "standard input that is closed",
            send(&joined, &["-", "--name", "x"]),
            "there is nothing to send",
            64,
        ),
        (
            "standard input for which the home has no room",
            cramped,
            "/home: standard input can't be kept here while it is sent: File too large",
            64,
        ),
        (
            "one name for two files",
            send(&joined, &[&file, &file, "--name", "x"]),
            "--name names one file",
            64,
        ),
        (
            "no time at all",
            send(&joined, &[&file, "--timeout", "0"]),
            "no time at all",
            64,
        ),
        ("a log level that is none", loud, "`loud` is no level", 64),
        (
            "a file in place of a folder",
            joined.command(&["recv", "--out", &file]),
            "/file: this is no folder",
            64,
        ),
        (
            "a folder that can't be written to",
            joined.command(&["recv", "--out", "/proc/self/fdinfo"]),
            "/proc/self/fdinfo: files can't be made in it",
            64,
        ),
    ]);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// An address that answers whatever comes with noise: anyone can send it under a gateway's address.
fn noisy() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut datagram = [0; 2_048];
        while let Ok((_, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&[9; 1_232], from);
        }
    });
    address
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// Sends a file of this home's own, for six seconds.
fn send_for_a_while(joined: &Joined) -> Command {
    let file = joined.path("file");
    std::fs::write(&file, "content").unwrap();
    joined.send(&file, &["--timeout", "6"])
}

#[test]
fn what_can_not_go_on_is_told_within_seconds_and_ends_with_75_when_the_time_is_over() {
    let [silent, recipient, mute] = [(); 3].map(|()| Joined::new());
    let noisy = Joined::with(&Network {
        gateway: noisy(),
        ..Network::default()
    });
    // Documents are made one epoch ahead at most.
    let early = Joined::with(&Network {
        genesis_unix_ms: unix_ms(),
        epoch: 5,
        ..Network::default()
    });
    let unreachable = Joined::with(&Network {
        gateway: "255.255.255.255:9".parse().unwrap(),
        ..Network::default()
    });
    let out = recipient.path("out").display().to_string();
    let receive = recipient.command(&["recv", "--out", &out, "--timeout", "6"]);
    let mut input = send(&mute, &["-", "--name", "x", "--timeout", "6"]);
    // Open, and nobody writes.
    let (reader, _writer) = std::io::pipe().unwrap();
    input.stdin(reader);
    hold(vec![
        (
            "a gateway that does not answer",
            send_for_a_while(&silent),
            "waiting: the gateway operator (",
            75,
        ),
        (
            "the same, at the end",
            receive,
            "not done after 6 s (the gateway operator (",
            75,
        ),
        (
            "noise from the address of a gateway that does not answer",
            send_for_a_while(&noisy),
            "does not answer",
            75,
        ),
        (
            "a clock that is behind",
            send_for_a_while(&early),
            "waiting: your clock is behind: it says epoch 0, and there is a document of epoch 5",
            75,
        ),
        (
            "no network",
            send_for_a_while(&unreachable),
            "waiting: no network: ",
            75,
        ),
        (
            "standard input that says nothing",
            input,
            "not done after 6 s (standard input gives nothing)",
            75,
        ),
    ]);
}

#[test]
fn a_home_that_is_taken_and_whoever_is_interrupted_say_so() {
    let [joined, other] = [(); 2].map(|()| Joined::new());
    let out = joined.path("out").display().to_string();
    let _running = fog::home::Home::open(&joined.path("home")).unwrap();
    let file = joined.path("file");
    std::fs::write(&file, "content").unwrap();
    hold(vec![
        (
            "another fog sends alone",
            joined.send(&file, &[]),
            "another fog is running on",
            71,
        ),
        (
            "the same, to receive",
            joined.command(&["recv", "--out", &out]),
            "another fog is running on",
            71,
        ),
        (
            "none runs that could be asked",
            joined.command(&["status"]),
            "no fog is running on",
            69,
        ),
    ]);
    for (kind, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut child = other.send(&file, &[]).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(stderr.next().unwrap().unwrap().contains("waiting"));
        signal(&child, kind);
        let last = stderr.last().unwrap().unwrap();
        assert!(
            last.contains("the same command goes on where it stopped"),
            "{last}"
        );
        assert_eq!(child.wait().unwrap().code(), Some(code));
        println!("{kind:?} | {last} | {code}");
    }
}

#[test]
fn results_that_can_not_be_printed_are_told_of_and_end_with_74() {
    let joined = Joined::new();
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let out = joined.path("out").display().to_string();
    let mut command = joined.command(&["recv", "--json", "--out", &out]);
    let mut child = command.stdout(full()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = stderr.next().unwrap().unwrap();
    assert_eq!(
        first,
        "fog: can't print: No space left on device (os error 28)"
    );
    // Once, and it goes on until it is stopped.
    signal(&child, Signal::TERM);
    assert_eq!(stderr.count(), 0);
    assert_eq!(child.wait().unwrap().code(), Some(74));
    println!("a full disk behind standard output | {first} | 74");
}
