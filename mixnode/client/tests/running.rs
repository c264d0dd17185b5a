//! A `fog` that runs on a home, and the commands beside it: here in a network whose gateway nobody runs.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use rustix::process::Signal;
use serde_json::Value;

mod joined;

use joined::{Joined, signal, text};

/// So long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// `fog up`, which ends with the test.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn up(joined: &Joined) -> Up {
    let out = joined.path("out");
    let mut command = joined.command(&["up", "--quiet", "--out", out.to_str().unwrap()]);
    command.stdout(Stdio::null()).stderr(Stdio::inherit());
    let running = Up(command.spawn().unwrap());
    let began = Instant::now();
    while joined
        .command(&["status", "--quiet"])
        .output()
        .unwrap()
        .status
        .code()
        != Some(0)
    {
        assert!(began.elapsed() < PATIENCE, "it does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    running
}

fn status(joined: &Joined) -> Value {
    let output = joined.command(&["status", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn told(output: &Output) -> String {
    text(&output.stderr)
}

#[test]
fn where_none_runs_status_and_down_say_so_and_exit_with_69() {
    let joined = Joined::new();
    for command in ["status", "down"] {
        let output = joined.command(&[command]).output().unwrap();
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        assert!(told(&output).contains("no fog is running on"), "{output:?}");
    }
    let output = joined.command(&["status", "--json"]).output().unwrap();
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&event["event"], &event["code"]),
        (&"error".into(), &69.into())
    );
}

#[test]
fn a_file_is_handed_over_and_its_command_waits_and_ends_as_if_it_were_alone() {
    let joined = Joined::new();
    let mut running = up(&joined);
    let file = joined.path("file");
    std::fs::write(&file, "content").unwrap();
    // The time is over: the words of the wait, the code.
    let output = joined.send(&file, &["--timeout", "7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let said = told(&output);
    assert!(said.contains("waiting: the gateway operator ("), "{said}");
    assert!(said.contains("not done after 7 s (the gateway"), "{said}");
    assert_eq!(status(&joined)["sending"], Value::Array(vec![]));
    // Interrupted: nothing has arrived yet, so that nothing goes on.
    let mut child = joined.send(&file, &["--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (&first["event"], &first["phase"]),
        (&"progress".into(), &"key".into())
    );
    let shown = status(&joined);
    assert_eq!(shown["sending"][0]["name"], "file");
    assert_eq!(
        (&shown["attached"], &shown["waiting"]["for"]),
        (&false.into(), &"gateway".into())
    );
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(status(&joined)["sending"], Value::Array(vec![]));
    // Killed: the same.
    let mut child = joined.send(&file, &["--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let began = Instant::now();
    while status(&joined)["sending"] != Value::Array(vec![]) {
        assert!(began.elapsed() < PATIENCE, "a dead command's file is sent");
    }
    // People read it, too; and the end.
    let output = joined.command(&["status"]).output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("waiting: the gateway operator ("), "{said}");
    assert_eq!(
        joined.command(&["down"]).output().unwrap().status.code(),
        Some(0)
    );
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert!(!joined.path("home").join("control").exists());
}

#[test]
fn a_command_goes_on_alone_when_the_one_that_took_its_file_ends() {
    let joined = Joined::new();
    let mut running = up(&joined);
    let file = joined.path("file");
    std::fs::write(&file, "content").unwrap();
    let mut child = joined.send(&file, &["--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    // Killed, so that its socket stays behind: nobody listens there, and the next one replaces it.
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let alone = lines
        .map(Result::unwrap)
        .find(|line| line.contains("\"waiting\""));
    assert!(alone.unwrap().contains("does not answer"));
    // While it runs alone it holds the home, and takes what others ask, another file too.
    let output = joined.command(&["status"]).output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("sending alone"), "{output:?}");
    let other = joined.path("other");
    std::fs::write(&other, "content").unwrap();
    let output = joined.send(&other, &["--timeout", "1"]).output().unwrap();
    assert!(told(&output).contains("not done after 1 s"), "{output:?}");
    // Its own file it sends already, and nobody takes it away.
    let output = joined.send(&file, &[]).output().unwrap();
    assert!(
        told(&output).contains("is on its way to this recipient"),
        "{output:?}"
    );
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!joined.path("home").join("control").exists());
    let _next = up(&joined);
    assert_eq!(status(&joined)["sending"], Value::Array(vec![]));
}

fn stranger(joined: &Joined) -> OwnedFd {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let path = joined.path("home").join("control");
    connect(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    socket
}

#[test]
fn garbage_silence_and_crowds_at_the_socket_keep_nobody_out_for_long() {
    let joined = Joined::new();
    let mut running = up(&joined);
    // More connections than there is room for, which say nothing: the last ones hear why.
    let silent: Vec<OwnedFd> = (0..20).map(|_| stranger(&joined)).collect();
    let began = Instant::now();
    loop {
        let output = joined.command(&["status"]).output().unwrap();
        if output.status.code() == Some(0) {
            break;
        }
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        assert!(told(&output).contains("too many commands"), "{output:?}");
        assert!(began.elapsed() < PATIENCE, "the silent stay for ever");
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(silent);
    for said in [
        &b"garbage"[..],
        b"{}",
        b"{\"request\":\"send\"}",
        &[b'1'; 70_000],
        b"[[[[",
    ] {
        let socket = stranger(&joined);
        send(&socket, said, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(status(&joined)["event"], "status");
    }
    // One that asks and asks, and never reads: it is not waited for.
    let deaf = stranger(&joined);
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    for _ in 0..2_000 {
        if send(&deaf, b"{\"request\":\"status\"}", flags).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(status(&joined)["event"], "status");
    assert!(running.0.try_wait().unwrap().is_none());
}

#[test]
fn of_too_many_files_the_last_is_refused_with_75_and_others_are_sent() {
    let joined = Joined::new();
    let _running = up(&joined);
    let sent: Vec<Up> = (0..8)
        .map(|number| {
            let file = joined.path(&number.to_string());
            std::fs::write(&file, number.to_string()).unwrap();
            let mut command = joined.send(&file, &["--quiet"]);
            command.stdout(Stdio::null()).stderr(Stdio::inherit());
            Up(command.spawn().unwrap())
        })
        .collect();
    let began = Instant::now();
    while status(&joined)["sending"].as_array().unwrap().len() < 8 {
        assert!(began.elapsed() < PATIENCE, "they are not sent");
    }
    let file = joined.path("one too many");
    std::fs::write(&file, "content").unwrap();
    let output = joined.send(&file, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(
        told(&output).contains("sends 8 files already"),
        "{output:?}"
    );
    // One that is sent already is joined and not refused.
    let output = joined
        .send(&joined.path("3"), &["--timeout", "1"])
        .output()
        .unwrap();
    assert!(told(&output).contains("not done after 1 s"), "{output:?}");
    assert_eq!(status(&joined)["sending"].as_array().unwrap().len(), 8);
    drop(sent);
}
