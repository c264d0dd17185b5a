//! Words that nobody reads, signals, and what a lab leaves behind. No root, no timing beyond generous patience.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

mod programs;
mod running;
use running::{Running, free_port, mixctl, stderr, wait_until};

fn kill(id: u32, signal: Signal) {
    kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
}

/// How `command` ends when nobody reads what it says.
fn unread(mut command: Command) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    command.status().unwrap().code()
}

#[test]
fn a_closed_pipe_ends_every_program_quietly() {
    let with = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command
    };
    let own = Path::new(env!("CARGO_BIN_EXE_mixctl"));
    let node = programs::program("mixnode", "mixnode");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    let text = format!(
        "[node]\nstate_dir = {0:?}\nlisten = [\"127.0.0.1:{1}\"]\n[network]\ndirectory = {0:?}\n",
        folder.path(),
        free_port()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    for (program, arguments, codes) in [
        (own, &["doctor"][..], &[0, 71][..]),
        (own, &["doctor", "--json"], &[0, 71]),
        (own, &["geometry"], &[0]),
        (own, &["geometry", "--json"], &[0]),
        (
            own,
            &["xdp", "status", "--socket", "/nowhere/socket"],
            &[71],
        ),
        (own, &["lab", "--send", "/nowhere"], &[64]),
        (&node, &["--config", config, "--check-config"], &[0]),
        (&node, &["--config", "/nowhere"], &[78]),
        (&node, &["--help"], &[0]),
    ] {
        let code = unread(with(program, arguments)).unwrap_or(-1);
        assert!(codes.contains(&code), "{arguments:?}: {code}");
    }
}

#[test]
fn output_that_can_not_be_written_is_an_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = mixctl().arg("geometry").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(71), "{}", stderr(&output));
    assert!(stderr(&output).contains("No space"), "{}", stderr(&output));
}

#[test]
fn a_lab_sends_regular_files_alone_and_says_so_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for (path, word) in [(folder.path(), "a folder"), (&pipe, "no regular file")] {
        let start = Instant::now();
        let output = mixctl().args(["lab", "--send"]).arg(path).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
        assert!(output.stdout.is_empty() && start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_lab_never_removes_what_it_did_not_make() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("nodes");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("diary"), "mine").unwrap();
    let output = mixctl()
        .args(["lab", "--udp-port", &free_port(), "--dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("new or empty folder"),
        "{}",
        stderr(&output)
    );
    assert_eq!(std::fs::read(precious.join("diary")).unwrap(), b"mine");
}

/// Folders of labs in `parent`.
fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn lab_in(parent: &Path, more: &[&str]) -> Running {
    let child = mixctl()
        .args(["lab", "--mixes", "1", "--udp-port", &free_port()])
        .args(more)
        .env("TMPDIR", parent)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lab = Running(child);
    wait_until("the lab's network", || {
        folders(parent)
            .iter()
            .any(|root| root.join("network").exists())
    });
    lab
}

#[test]
fn a_hangup_ends_a_lab_in_order_and_the_folder_of_a_killed_one_goes_at_the_next_start() {
    let parent = tempfile::tempdir().unwrap();
    let mut killed = lab_in(parent.path(), &[]);
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    let left = folders(parent.path());
    assert_eq!(left.len(), 1);
    let mut lab = lab_in(parent.path(), &[]);
    wait_until("the dead lab's folder gone", || !left[0].exists());
    kill(lab.0.id(), Signal::HUP);
    assert_eq!(lab.0.wait().unwrap().code(), Some(0));
    assert_eq!(folders(parent.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_node_that_is_gone_is_named_and_started_again_if_that_was_asked_for() {
    use std::io::{BufRead, BufReader};
    let mut child = mixctl()
        .args([
            "lab",
            "--mixes",
            "1",
            "--restart",
            "--udp-port",
            &free_port(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lab = Running(child);
    while !lines.next().unwrap().unwrap().contains("up after") {}
    let third = || node_of(lab.0.id(), 3);
    let first = third().unwrap();
    kill(first, Signal::KILL);
    let said = lines.find(|line| line.as_ref().unwrap().contains("is gone"));
    let said = said.unwrap().unwrap();
    assert!(
        said.contains("node 3 (mix) is gone") && said.contains("signal: 9"),
        "{said}"
    );
    wait_until("node 3 again", || third().is_some_and(|id| id != first));
    std::thread::spawn(move || lines.for_each(drop));
}

/// The process of a lab's node.
fn node_of(lab: u32, number: u16) -> Option<u32> {
    let config = format!("nodes/{number}/node.toml");
    running::children_of(lab).into_iter().find(|id| {
        let command = std::fs::read_to_string(format!("/proc/{id}/cmdline"));
        command.is_ok_and(|command| command.contains(&config))
    })
}

#[test]
fn a_lab_that_sends_ends_when_a_gateway_is_gone_for_good_and_says_why() {
    use std::io::{BufRead, BufReader, Read};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![7; 3_000_000]).unwrap();
    let mut child = mixctl()
        .args(["lab", "--mixes", "1", "--udp-port", &free_port(), "--send"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut words = child.stderr.take().unwrap();
    let mut lab = Running(child);
    while !lines.next().unwrap().unwrap().contains("up after") {}
    std::thread::spawn(move || lines.for_each(drop));
    kill(node_of(lab.0.id(), 2).unwrap(), Signal::KILL);
    wait_until("the lab's end", || lab.0.try_wait().unwrap().is_some());
    let mut said = String::new();
    words.read_to_string(&mut said).unwrap();
    assert!(
        said.contains("node 2, a gateway of the transfer, is gone"),
        "{said}"
    );
    assert_eq!(lab.0.wait().unwrap().code(), Some(71));
}

#[test]
fn a_hangup_does_not_end_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    let text = format!(
        "[node]\nstate_dir = {:?}\nlisten = [\"127.0.0.1:{}\"]\nport = \"plain\"\n[network]\ndirectory = {:?}\n",
        folder.path().join("state"),
        free_port(),
        folder.path()
    );
    std::fs::write(&config, text).unwrap();
    let child = Command::new(programs::program("mixnode", "mixnode"))
        .args(["--log", "info", "--config"])
        .arg(&config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut node = Running(child);
    let mut said = BufReader::new(node.0.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("INFO started")));
    kill(node.0.id(), Signal::HUP);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(node.0.try_wait().unwrap(), None);
    kill(node.0.id(), Signal::TERM);
    assert!(node.0.wait().unwrap().success());
}

#[test]
fn no_value_of_a_file_and_no_argument_moves_a_cursor_or_turns_a_line_around() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let odd = "\\u202e\\u001b[31m";
    let node = file("node.toml", &format!("[node]\nrole = \"{odd}\"\n"));
    let daemon = file("daemon.toml", &format!("[xdp]\nnode_user = \"{odd}\"\n"));
    let nowhere = "/nowhere/\u{202e}\x1b[31m";
    for (program, arguments, code) in [
        ("mixnode", &["--check-config", "--config", &node][..], 78),
        ("mixnode", &["--config", nowhere], 78),
        ("mixctld", &["--check-config", "--config", &daemon], 78),
        ("mixctl", &["lab", "--send", nowhere], 64),
        ("mixctl", &["xdp", "status", "--socket", nowhere], 71),
        ("fog", &["init", "--network", nowhere], 78),
    ] {
        let package = match program {
            "mixctld" => "control",
            "mixctl" => "operator",
            own => own,
        };
        let mut command = Command::new(programs::program(package, program));
        let output = command.args(arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains("\\u{202e}\\u{1b}[31m"), "{said}");
        let raw = |c: char| c != '\n' && program::is_unseen(c);
        assert!(!said.contains(raw), "{arguments:?}: {said:?}");
    }
}
