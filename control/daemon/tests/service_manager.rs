//! `mixctld` under a service manager that is played here: what it is given to keep, and what the next one makes of it.

use std::io::{BufRead, BufReader, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use handover::channel::Channel;
use handover::protocol::{Reply, Request};
use handover::vault::{self, Origin, Table};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

const IDENTITY: [u8; 32] = [7; 32];
const PATIENCE: Duration = Duration::from_secs(60);

/// Its socket, and what it keeps by name.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
    kept: Vec<(String, OwnedFd)>,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager {
            folder,
            socket,
            kept: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes one message, does what it says, and returns it.
    fn hear(&mut self) -> String {
        let mut bytes = [0; 512];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let came = rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .unwrap();
        let text = String::from_utf8(bytes[..came.bytes].to_vec()).unwrap();
        let name = text.split_once("FDNAME=").map(|(_, name)| name.to_owned());
        if text.starts_with("FDSTORE=1") {
            let rights = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
                _ => None,
            });
            self.kept.push((name.unwrap(), rights.unwrap()));
        } else if text.starts_with("FDSTOREREMOVE=1") {
            self.kept.retain(|(other, _)| Some(other) != name.as_ref());
        }
        text
    }

    fn hear_until(&mut self, wanted: &str) {
        while self.hear() != wanted {}
    }

    /// Starts it as a unit would be, with all that is kept from descriptor 3 on.
    fn start(&self) -> Daemon {
        let own = std::process::id();
        let mut script = "export LISTEN_PID=$$; exec \"$@\"".to_owned();
        let mut names = Vec::new();
        for (at, (name, memory)) in (3..).zip(&self.kept) {
            script += &format!(" {at}<>/proc/{own}/fd/{}", memory.as_raw_fd());
            names.push(name.as_str());
        }
        let mut child = Command::new("bash")
            .args(["-c", &script, "bash", env!("CARGO_BIN_EXE_mixctld")])
            .args(["--no-xdp", "--tables-bytes-max", "1000000", "--socket"])
            .arg(self.path("socket"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("WATCHDOG_USEC", "600000")
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        Daemon(child)
    }
}

struct Daemon(Child);

impl Daemon {
    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(channel: &Channel, request: &Request) -> (Reply, Vec<OwnedFd>) {
    channel.send(request, &[]).unwrap();
    channel.receive().unwrap().unwrap()
}

fn open(socket: &Path) -> (Channel, Vec<Table>, Origin, Vec<OwnedFd>) {
    let node = Channel::connect(socket).unwrap();
    let identity = IDENTITY;
    match ask(&node, &Request::Vault { identity }) {
        (Reply::Vault { tables, origin }, memory) => (node, tables, origin, memory),
        (other, _) => panic!("{other:?}"),
    }
}

fn number(memory: impl AsFd) -> u64 {
    rustix::fs::fstat(memory).unwrap().st_ino
}

#[test]
fn killed_ten_times_it_still_returns_keys_and_tables_and_lives_by_the_watchdog() {
    let mut manager = Manager::new();
    let socket = manager.path("socket");
    let mut daemon = manager.start();
    manager.hear_until("READY=1");
    let (node, none, origin, memory) = open(&socket);
    assert_eq!((none, origin), (vec![], Origin::New));
    manager.hear_until("FDSTORE=1\nFDNAME=vault");
    // A key that goes on for long.
    let mut slot = [0x5a; vault::SLOT_BYTES];
    slot[..4].copy_from_slice(&1u32.to_ne_bytes());
    slot[4..8].copy_from_slice(&412u32.to_ne_bytes());
    let at = vault::slot_offset(412) as u64;
    rustix::io::pwrite(&memory[0], &slot, at).unwrap();
    let table = Table {
        epoch: 412,
        bytes: 65_536,
    };
    let (done, made) = ask(&node, &Request::Table(table));
    assert_eq!((done, made.len()), (Reply::Done, 1));
    manager.hear_until("FDSTORE=1\nFDNAME=table-412");
    rustix::io::pwrite(&made[0], b"a tag", 99).unwrap();
    let (vault_number, table_number) = (number(&memory[0]), number(&made[0]));
    // The node dies too: nobody but the manager has any of it.
    drop((node, memory, made));
    for round in 0..10 {
        daemon.kill();
        daemon = manager.start();
        manager.hear_until("READY=1");
        if round % 3 > 0 {
            // Killed before any node came.
            continue;
        }
        let (_node, tables, origin, memory) = open(&socket);
        assert_eq!((tables, origin), (vec![table], Origin::Returned));
        assert_eq!(number(&memory[0]), vault_number);
        assert_eq!(number(&memory[1]), table_number);
        let mut tag = [0; 5];
        rustix::io::pread(&memory[1], &mut tag, 99).unwrap();
        assert_eq!(&tag, b"a tag");
    }
    manager.hear_until("WATCHDOG=1");
    let (node, ..) = open(&socket);
    assert_eq!(ask(&node, &Request::Erase { epoch: 412 }).0, Reply::Done);
    manager.hear_until("FDSTOREREMOVE=1\nFDNAME=table-412");
    let names: Vec<&str> = manager.kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["vault"]);
}
