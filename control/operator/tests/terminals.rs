//! A file between two terminals through a running lab, whatever is killed meanwhile. No root; timings decide nothing.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use directory::Bootstrap;
use tempfile::TempDir;

mod programs;
mod running;
use running::{Running, children_of, free_port, wait_until};

fn fog() -> Command {
    let mut command = Command::new(programs::program("fog", "fog"));
    command.stdin(Stdio::null());
    command
}

/// A lab with short delays.
struct Lab {
    running: Running,
    folder: TempDir,
}

/// Used by tests that do nothing to it, as long as one of them runs: a lab takes longer to start than a file to arrive.
static SHARED: Mutex<Weak<Lab>> = Mutex::new(Weak::new());

impl Lab {
    fn start(flags: &[&str]) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lab").display().to_string();
        let mut arguments = vec!["--dir", &root, "--mean-delay", "5ms"];
        arguments.extend(flags);
        let (running, _) = Running::lab(&free_port(), &arguments);
        Arc::new(Self { running, folder })
    }

    fn shared() -> Arc<Self> {
        // One that could not be started failed its test; the next test tries again.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let lab = Self::start(&["--mixes", "1"]);
            *shared = Arc::downgrade(&lab);
            lab
        })
    }
}

/// A lab, and the stores of two users of it.
struct Network {
    lab: Arc<Lab>,
    folder: TempDir,
    address: String,
    file: PathBuf,
}

impl Network {
    /// A file of `bytes` for alice to send to bob.
    fn on(lab: Arc<Lab>, bytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let content: Vec<u8> = (0..bytes)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        std::fs::write(&file, content).unwrap();
        let mut network = Self {
            lab,
            folder,
            address: String::new(),
            file,
        };
        network.init("alice");
        network.address = network.init("bob");
        network
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bootstrap(&self) -> PathBuf {
        self.lab.folder.path().join("lab/network")
    }

    /// The epoch of now, as the lab last said.
    fn epoch(&self) -> u32 {
        let bootstrap = Bootstrap::read(&self.bootstrap()).unwrap();
        bootstrap.verify().unwrap().epoch()
    }

    fn init(&self, name: &str) -> String {
        let output = fog()
            .arg("--home")
            .arg(self.home(name))
            .args(["init", "--network"])
            .arg(self.bootstrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn receive(&self) -> Terminal {
        let mut command = fog();
        command
            .arg("--home")
            .arg(self.home("bob"))
            .args(["recv", "--out"])
            .arg(self.home("inbox"));
        Terminal::open(command)
    }

    fn send(&self) -> Terminal {
        let mut command = fog();
        command
            .arg("--home")
            .arg(self.home("alice"))
            .args(["send", "--linger", "10ms", &self.address])
            .arg(&self.file);
        Terminal::open(command)
    }

    /// The sender ends well, bob has the file whole, once, and says so once.
    fn arrives(&self, mut sender: Terminal, bob: &Terminal, earlier: &[&Terminal]) {
        let ended = sender.ended();
        assert!(ended.success(), "{ended}: {}", sender.said());
        wait_until("the recipient's word", || bob.done() > 0);
        let files: Vec<_> = std::fs::read_dir(self.home("inbox"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(
            std::fs::read(&files[0]).unwrap() == std::fs::read(&self.file).unwrap(),
            "the file is not what was sent"
        );
        let before: usize = earlier.iter().map(|terminal| terminal.done()).sum();
        assert_eq!((before, bob.done()), (0, 1), "{}", bob.said());
    }
}

/// A program in a terminal of its own: what it says is kept.
struct Terminal {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Terminal {
    fn open(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for stream in streams {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        Self { child, lines }
    }

    fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn wait_for(&mut self, text: &str) {
        wait_until(text, || {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "{ended:?} before `{text}`: {}",
                self.said()
            );
            self.said().contains(text)
        });
    }

    /// Files received whole: a line with the path each.
    fn done(&self) -> usize {
        let lines = self.lines.lock().unwrap();
        let place = |line: &&String| line.starts_with('/') && line.contains("/inbox/");
        lines.iter().filter(place).count()
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the end of a program", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What bob says when the first chunks are there.
const STARTED: &str = "\"file\": ";

#[test]
fn a_file_arrives_when_the_recipient_starts_late() {
    let network = Network::on(Lab::shared(), 20_000);
    let sender = network.send();
    // Time to attach, ask for bob's key in vain, and ask again.
    std::thread::sleep(Duration::from_secs(2));
    let bob = network.receive();
    network.arrives(sender, &bob, &[]);
}

#[test]
fn a_file_arrives_once_when_the_sender_is_killed_and_started_again() {
    let network = Network::on(Lab::shared(), 125_000);
    let mut bob = network.receive();
    let mut first = network.send();
    bob.wait_for(STARTED);
    first.kill();
    assert_eq!(bob.done(), 0, "the file was whole before the kill");
    network.arrives(network.send(), &bob, &[]);
}

#[test]
fn a_file_arrives_once_when_the_recipient_is_killed_and_started_again() {
    let network = Network::on(Lab::shared(), 125_000);
    let mut first = network.receive();
    let sender = network.send();
    first.wait_for(STARTED);
    first.kill();
    let bob = network.receive();
    network.arrives(sender, &bob, &[&first]);
}

#[test]
fn a_file_arrives_when_a_mix_of_a_layer_is_killed() {
    let network = Network::on(Lab::start(&[]), 30_000);
    let mut bob = network.receive();
    let sender = network.send();
    bob.wait_for(STARTED);
    // Nodes 1 and 2 are the gateways.
    let mix = children_of(network.lab.running.0.id())
        .into_iter()
        .find(|id| {
            let command = std::fs::read_to_string(format!("/proc/{id}/cmdline"));
            command.is_ok_and(|command| command.contains("nodes/3/node.toml"))
        })
        .unwrap();
    let mix = rustix::process::Pid::from_raw(mix as i32).unwrap();
    rustix::process::kill_process(mix, rustix::process::Signal::KILL).unwrap();
    assert_eq!(bob.done(), 0, "the file was whole before the kill");
    network.arrives(sender, &bob, &[]);
}

#[test]
fn a_file_arrives_once_when_the_epoch_turns_twice_on_its_way() {
    // Some 350 packets at 30 a second: longer than two epochs.
    let network = Network::on(
        Lab::start(&["--mixes", "1", "--rate", "30", "--epoch", "5s"]),
        300_000,
    );
    let mut bob = network.receive();
    let sender = network.send();
    bob.wait_for(STARTED);
    let before = network.epoch();
    network.arrives(sender, &bob, &[]);
    assert!(network.epoch() >= before + 2);
}

#[test]
fn a_recipient_goes_on_when_nobody_reads_its_words() {
    let network = Network::on(Lab::shared(), 10_000);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let recipient = fog()
        .arg("--home")
        .arg(network.home("bob"))
        .args(["recv", "--out"])
        .arg(network.home("inbox"))
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut recipient = Running(recipient);
    let mut sender = network.send();
    let ended = sender.ended();
    assert!(ended.success(), "{ended}: {}", sender.said());
    assert_eq!(recipient.0.try_wait().unwrap(), None, "it ended");
    assert_eq!(
        std::fs::read(network.home("inbox").join("file")).unwrap(),
        std::fs::read(&network.file).unwrap()
    );
}

#[test]
fn several_files_arrive_once_each_when_the_command_is_killed_in_the_second_and_given_again() {
    let network = Network::on(Lab::shared(), 125_000);
    let small = network.home("small");
    std::fs::write(&small, [7; 3_000]).unwrap();
    let send = || {
        let mut command = fog();
        command
            .arg("--home")
            .arg(network.home("alice"))
            .args(["send", "--linger", "10ms", &network.address])
            .args([&small, &network.file]);
        Terminal::open(command)
    };
    let mut bob = network.receive();
    let mut first = send();
    bob.wait_for(STARTED);
    first.kill();
    assert_eq!(bob.done(), 1, "{}", bob.said());
    let mut second = send();
    let ended = second.ended();
    assert!(ended.success(), "{ended}: {}", second.said());
    wait_until("the recipient's words", || bob.done() == 2);
    let mut names: Vec<_> = std::fs::read_dir(network.home("inbox"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["file", "small"]);
    let left = std::fs::read_dir(network.home("alice").join("sending")).unwrap();
    assert_eq!(left.count(), 0, "the journal is empty at the end");
}

#[test]
fn two_users_who_are_up_send_to_each_other_at_once_and_names_that_are_no_text_arrive() {
    use std::os::unix::ffi::OsStrExt;
    let network = Network::on(Lab::shared(), 75_000);
    let run = |name: &str, arguments: &[&str]| {
        let mut command = fog();
        command
            .arg("--home")
            .arg(network.home(name))
            .args(arguments);
        command
    };
    let up = |name: &str| {
        let out = network.home(name).join("inbox").display().to_string();
        let mut terminal = Terminal::open(run(name, &["up", "--out", &out]));
        terminal.wait_for("your address");
        terminal
    };
    let (mut alice, mut bob) = (up("alice"), up("bob"));
    let address = run("alice", &["address"]).output().unwrap().stdout;
    let address = String::from_utf8(address).unwrap();
    let odd = network
        .home("")
        .join(std::ffi::OsStr::from_bytes(b"caf\xe9.txt"));
    std::fs::write(&odd, [7; 3_000]).unwrap();
    let mut there = run("alice", &["send", &network.address]);
    there.arg(&network.file);
    let mut there = Terminal::open(there);
    let mut back = run("bob", &["send", address.trim()]);
    back.arg(&odd);
    let mut back = Terminal::open(back);
    bob.wait_for(STARTED);
    let status = run("alice", &["status", "--json"]).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["sending"][0]["name"], "file", "{status}");
    for sender in [&mut there, &mut back] {
        let ended = sender.ended();
        assert!(ended.success(), "{ended}: {}", sender.said());
        assert!(sender.said().contains("bytes in"), "{}", sender.said());
    }
    wait_until("both files", || (alice.done(), bob.done()) == (1, 1));
    assert!(
        alice.said().contains("/inbox/caf\\xe9.txt"),
        "{}",
        alice.said()
    );
    let arrived = network
        .home("alice")
        .join("inbox")
        .join(odd.file_name().unwrap());
    assert_eq!(std::fs::read(arrived).unwrap(), [7; 3_000]);
    let sent = std::fs::read(&network.file).unwrap();
    assert!(std::fs::read(network.home("bob/inbox/file")).unwrap() == sent);
    for (name, terminal) in [("alice", &mut alice), ("bob", &mut bob)] {
        assert!(run(name, &["down"]).status().unwrap().success());
        assert_eq!(terminal.ended().code(), Some(0));
        let left = std::fs::read_dir(network.home(name).join("sending")).unwrap();
        assert_eq!(left.count(), 0, "the journal is empty at the end");
    }
}
