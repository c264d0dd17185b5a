//! `mixnode` under a service manager that is played here: what it says from its start to its end, sandboxed.

use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node that knows no network yet.
fn start(folder: &Path, manager: &str, sandbox: &str) -> Ends {
    let (state, directory) = (folder.join("state"), folder.join("directory"));
    for made in [&state, &directory] {
        std::fs::create_dir_all(made).unwrap();
    }
    let config = folder.join("mixnode.toml");
    let socket = UdpSocket::bind("127.3.9.1:0").unwrap();
    let listen = socket.local_addr().unwrap();
    drop(socket);
    let text = format!(
        "[node]\nrole = \"mix\"\noperator = \"one\"\nport = \"plain\"\nlisten = [\"{listen}\"]\n\
         state_dir = {state:?}\n[network]\ndirectory = {directory:?}\n[worker]\nmax_pps = 100\n\
         [sandbox]\nmode = {sandbox:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_mixnode"))
        .arg("--config")
        .arg(&config)
        .env("NOTIFY_SOCKET", manager)
        .env("WATCHDOG_USEC", "600000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Ends(child)
}

fn heard(played: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let count = played.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

fn says_all_there_is_to_say(played: &UnixDatagram, manager: &str, sandbox: &str) {
    let folder = tempfile::tempdir().unwrap();
    played.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut node = start(folder.path(), manager, sandbox);
    assert_eq!(heard(played), "READY=1");
    let (mut beats, mut status) = (0, false);
    while beats < 3 || !status {
        match heard(played).as_str() {
            "WATCHDOG=1" => beats += 1,
            text => {
                assert!(text.starts_with("STATUS=not ready: "), "{text}");
                status = true;
            }
        }
    }
    let pid = Pid::from_raw(node.0.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    while heard(played) != "STOPPING=1" {}
    assert!(node.0.wait().unwrap().success());
}

#[test]
fn a_node_says_when_it_is_up_what_it_does_that_its_workers_turn_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let played = UnixDatagram::bind(&path).unwrap();
    says_all_there_is_to_say(&played, path.to_str().unwrap(), "off");
}

#[test]
fn a_sandboxed_node_says_it_to_an_abstract_address_too() {
    let name = format!("fogmix-node-manager-{}", std::process::id());
    let played = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    // As far as this kernel and these rights allow.
    says_all_there_is_to_say(&played, &format!("@{name}"), "on");
}
