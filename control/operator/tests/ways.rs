//! The ways in which `fog send` and `fog recv` can't go on in a network that carries files, or did a moment ago: what they
//! then say, how soon, and with which exit code. `--nocapture` shows the table; what needs no network is with `fog`
//! itself. No root; timings decide nothing.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

mod programs;
mod running;
use running::{Running, children_of, free_port, wait_until};

/// Long enough that it is still on its way when something happens to it.
const FILE_BYTES: usize = 600_000;
/// What a recipient says when the first chunks are there.
const STARTED: &str = "\"file\": ";

fn signal(id: u32, kind: Signal) {
    kill_process(Pid::from_raw(id as i32).unwrap(), kind).unwrap();
}

/// A lab, and the folder of its users.
struct Network {
    lab: Running,
    folder: TempDir,
}

impl Network {
    fn start(flags: &[&str]) -> Network {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lab").display().to_string();
        let usual = ["--dir", &root, "--mixes", "1", "--mean-delay", "5ms"];
        let (lab, _) = Running::lab(&free_port(), &[&usual, flags].concat());
        Network { lab, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fog(&self, user: &str, arguments: &[&str]) -> Command {
        // What is ignored is inherited.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT"]);
        command.arg(programs::program("fog", "fog"));
        command.arg("--home").arg(self.path(user)).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A new user's address.
    fn joins(&self, user: &str) -> String {
        let network = self.path("lab/network").display().to_string();
        let mut command = self.fog(user, &["init", "--network", &network]);
        let output = command.stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        running::stdout(&output).trim().to_owned()
    }

    /// A sender and a recipient, who has the first chunks of the file. What is the sender's begins with `name`.
    fn under_way(&self, name: &str) -> (Told, Told, PathBuf) {
        let [sender, recipient] = ["sender", "recipient"].map(|role| format!("{name}-{role}"));
        self.joins(&sender);
        let address = self.joins(&recipient);
        let file = self.file(name);
        let out = self.path(&format!("{name}-out")).display().to_string();
        let recipient = Told::by(self.fog(&recipient, &["recv", "--out", &out]));
        let path = file.display().to_string();
        // When it has failed it goes on with cover; here not for long.
        let arguments = ["send", "--linger", "10ms", &address, &path];
        let sender = Told::by(self.fog(&sender, &arguments));
        recipient.line(STARTED);
        (sender, recipient, file)
    }

    fn file(&self, name: &str) -> PathBuf {
        let folder = self.path(&format!("{name}-files"));
        std::fs::create_dir(&folder).unwrap();
        let content: Vec<u8> = (0..FILE_BYTES as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        std::fs::write(folder.join("file"), content).unwrap();
        folder.join("file")
    }
}

/// A command, and what it says on standard error, with the moment.
struct Told {
    running: Running,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Told {
    fn by(mut command: Command) -> Told {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                kept.lock().unwrap().push((Instant::now(), line));
            }
        });
        Told {
            running: Running(child),
            lines,
        }
    }

    /// The first line with `part`, once it is said.
    fn line(&self, part: &str) -> (Instant, String) {
        let mut found = None;
        wait_until(part, || {
            let lines = self.lines.lock().unwrap();
            found = lines.iter().find(|(_, line)| line.contains(part)).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    /// A row of the table: `part` is said, and the command ends with `code`. A sender that goes on ends with 130, a recipient with 0, when
    /// it is interrupted.
    fn row(mut self, way: &str, since: Instant, part: &str, code: i32) {
        let (at, line) = self.line(part);
        if matches!(code, 0 | 130) {
            signal(self.running.0.id(), Signal::INT);
        }
        let ended = self.running.0.wait().unwrap();
        assert_eq!(ended.code(), Some(code), "{way}: {line}");
        let after = at.saturating_duration_since(since).as_secs_f64();
        println!("{way} | {line} | {after:.1} s | {code}");
    }
}

fn overwrite(file: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(b"changed", FILE_BYTES as u64 / 2)
        .unwrap();
}

#[test]
fn whoever_waits_for_somebody_or_whose_file_changes_says_so_and_ends_with_its_code() {
    let network = Network::start(&["--rate", "50"]);
    let began = Instant::now();
    let [absent, _] = ["absent", "waiting-sender"].map(|user| network.joins(user));
    network.joins("nobody");
    let file = network.file("waiting").display().to_string();
    let waiting = Told::by(network.fog("waiting-sender", &["send", &absent, &file]));
    let mut elsewhere: fog::Address = absent.parse().unwrap();
    elsewhere.gateway = [7; 32];
    let elsewhere = elsewhere.to_string();
    network.joins("stray");
    let arguments = ["send", &elsewhere, &file];
    let stray = Told::by(network.fog("stray", &arguments));
    let part = "waiting: the recipient's gateway 07070707 is not in the network: ";
    stray.row("an address of another network", began, part, 130);
    let out = network.path("nobody-out").display().to_string();
    let arguments = ["recv", "--out", &out, "--count", "1", "--timeout", "4"];
    let unasked = Told::by(network.fog("nobody", &arguments));
    unasked.row("nobody sends anything", began, "not done after 4 s", 75);

    let (sender, _recipient, file) = network.under_way("changed");
    let since = Instant::now();
    overwrite(&file);
    let part = "fog: file: the file changed while it was sent";
    sender.row("the file is written to", since, part, 1);

    let (sender, _recipient, file) = network.under_way("cut");
    let since = Instant::now();
    let cut = std::fs::File::options().write(true).open(file).unwrap();
    cut.set_len(1_000).unwrap();
    sender.row("the file is cut short", since, part, 1);

    let (sender, recipient, _) = network.under_way("left");
    let since = Instant::now();
    drop(recipient);
    let part = "waiting: the recipient has not answered since ";
    sender.row("the recipient is killed", since, part, 130);

    let (sender, recipient, _) = network.under_way("folder");
    let since = Instant::now();
    std::fs::remove_dir_all(network.path("folder-out")).unwrap();
    let part = "waiting: paused: no room at the recipient";
    sender.row("the recipient's folder is gone", since, part, 130);
    let lines = Arc::clone(&recipient.lines);
    let part = "\"file\" can't be stored in ";
    recipient.row("the same, at the recipient", since, part, 0);
    let lines = lines.lock().unwrap();
    let said = lines.iter().filter(|(_, line)| line.contains(part));
    assert_eq!(said.count(), 1, "{lines:?}");

    let part = "waiting: the recipient has not answered yet: is their fog recv running?";
    waiting.row("the recipient is not there", began, part, 130);
}

#[test]
fn whoever_hands_a_file_over_and_is_interrupted_says_who_goes_on() {
    let network = Network::start(&["--rate", "50"]);
    let [absent, friend, _] = ["absent", "friend", "user"].map(|user| network.joins(user));
    let out = network.path("out").display().to_string();
    let up = Told::by(network.fog("user", &["up", "--out", &out]));
    up.line("your address");
    let since = Instant::now();
    let second = Told::by(network.fog("user", &["recv", "--out", &out]));
    second.row("the home is in use", since, "another fog is running on", 71);
    let [first, then] = ["first", "then"].map(|name| network.file(name).display().to_string());
    // What has begun goes on, what has not is taken back.
    let friends = network.path("friends").display().to_string();
    let friend_receives = Told::by(network.fog("friend", &["recv", "--out", &friends]));
    let begun = Told::by(network.fog("user", &["send", &friend, &first]));
    friend_receives.line(STARTED);
    wait_until("the sender knows that it has begun", || {
        let output = network
            .fog("user", &["status", "--json"])
            .stdout(Stdio::piped())
            .output();
        let status: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        status["sending"][0]["bytes"].as_u64() > Some(0)
    });
    let since = Instant::now();
    signal(begun.running.0.id(), Signal::INT);
    let part = "no longer waited for: the fog that runs here sends the file on";
    begun.row("handed over, begun, interrupted", since, part, 130);
    let arguments = ["send", &absent, &first, &then];
    let handed = Told::by(network.fog("user", &arguments));
    handed.line("waiting: the recipient has not answered yet");
    let since = Instant::now();
    signal(handed.running.0.id(), Signal::INT);
    let lines = Arc::clone(&handed.lines);
    let part = "stopped before the file was acknowledged";
    handed.row("handed over and interrupted", since, part, 130);
    let lines = lines.lock().unwrap();
    let left = |(_, line): &(Instant, String)| line.contains("1 of 2 files were not begun");
    assert!(lines.iter().any(left), "{lines:?}");
}

#[test]
fn a_gateway_that_dies_and_a_network_without_documents_are_named() {
    let network = Network::start(&["--rate", "50"]);
    let (sender, recipient, _) = network.under_way("gateway");
    let since = Instant::now();
    // Nodes 1 and 2 are the gateways.
    for id in children_of(network.lab.0.id()) {
        let command = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if ["nodes/1/node.toml", "nodes/2/node.toml"]
            .iter()
            .any(|node| command.contains(node))
        {
            signal(id, Signal::KILL);
        }
    }
    let part = "waiting: the gateway lab-";
    sender.row("the gateway is killed", since, part, 130);
    recipient.row("the same, at the recipient", since, part, 0);

    let network = Network::start(&["--rate", "50", "--epoch", "5s"]);
    let nobody = network.joins("nobody");
    network.joins("sender");
    let file = network.file("document").display().to_string();
    let sender = Told::by(network.fog("sender", &["send", &nobody, &file]));
    sender.line("waiting: the recipient has not answered yet");
    // The authority is part of the lab's own process; nodes are others.
    let since = Instant::now();
    signal(network.lab.0.id(), Signal::STOP);
    let part = "waiting: no valid document of the network: ";
    sender.row("the authorities are gone", since, part, 130);
}
