//! `mixnode --check-config` refuses whatever a start would refuse, with the same words and exit code, and says what it
//! could not know.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A node's folder, and its configuration beside that.
struct Node {
    folder: TempDir,
}

impl Node {
    /// `node`, `more`: lines of the section, and sections after it.
    fn new(node: &str, more: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let text = format!(
            "[node]\nstate_dir = {:?}\n{node}\n[network]\ndirectory = {:?}\n[sandbox]\nmode = \"off\"\n{more}",
            root.join("state"),
            root.join("directory"),
        );
        std::fs::create_dir(root.join("directory")).unwrap();
        std::fs::write(root.join("node.toml"), text).unwrap();
        Node { folder }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixnode"));
        command
            .arg("--config")
            .arg(self.folder.path().join("node.toml"));
        command
    }

    fn check(&self) -> Output {
        self.command().arg("--check-config").output().unwrap()
    }

    /// The check says `remedy` and what a start says.
    fn is_refused_as_by_a_start(&self, code: i32, remedy: &str) {
        // One that starts after all must not run for ever.
        let mut start = Command::new("timeout");
        start.arg("20").arg(env!("CARGO_BIN_EXE_mixnode"));
        start.args(self.command().get_args());
        let (check, start) = (self.check(), start.output().unwrap());
        let said = stderr(&check);
        assert!(said.contains(remedy), "{said}");
        // A start has logged its doubts by then.
        let start_said = stderr(&start);
        let refusal = start_said
            .lines()
            .filter(|line| !line.contains(" WARN "))
            .map(|line| format!("{line}\n"));
        assert_eq!(said, refusal.collect::<String>());
        assert_eq!(check.status.code(), Some(code), "{said}");
        assert_eq!(start.status.code(), Some(code), "{said}");
        assert!(check.stdout.is_empty());
    }

    fn is_good(&self, unchecked: &str) {
        let output = self.check();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            said.contains(": good\n") && said.contains(unchecked),
            "{said}"
        );
        if unchecked.is_empty() {
            assert!(!said.contains("unchecked"), "{said}");
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A UDP port that nobody has now.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn listen(address: &str) -> String {
    format!("listen = [\"{address}\"]")
}

#[test]
fn a_good_configuration_is_good_and_nothing_is_made_by_the_check() {
    let node = Node::new(&listen(&format!("127.0.0.1:{}", free_port())), "");
    node.is_good("");
    assert!(!node.folder.path().join("state").exists());
    assert!(!node.folder.path().join("directory/descriptors").exists());
}

#[test]
fn addresses_that_nobody_could_send_to_are_refused() {
    for (address, remedy) in [
        (
            "224.0.0.1:9000",
            "name the address that other nodes send to",
        ),
        (
            "255.255.255.255:9000",
            "name the address that other nodes send to",
        ),
        ("[::ffff:127.0.0.1]:9000", "write it as IPv4"),
        ("127.0.0.1:0", "name a port"),
        ("0.0.0.0:9000", "name the address that other nodes send to"),
        (
            "[fe80::1]:9000",
            "name the address that other nodes send to",
        ),
    ] {
        Node::new(&listen(address), "").is_refused_as_by_a_start(78, remedy);
    }
}

#[test]
fn an_operator_that_no_document_takes_is_refused() {
    let address = listen(&format!("127.0.0.1:{}", free_port()));
    for operator in ["a\\u001b[31mb", "caf\\u00e9"] {
        let node = format!("{address}\noperator = \"{operator}\"");
        Node::new(&node, "").is_refused_as_by_a_start(78, "use letters, digits");
    }
}

#[test]
fn a_foreign_address_is_refused() {
    Node::new(&listen("192.0.2.1:9000"), "")
        .is_refused_as_by_a_start(71, "not an address of this host");
}

#[test]
fn an_address_that_another_program_has_is_refused() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    Node::new(&listen(&address), "").is_refused_as_by_a_start(71, "ss -ulpn");
}

#[test]
fn an_address_that_a_node_has_may_be_this_ones_own() {
    let address = format!("127.0.0.1:{}", free_port());
    let held = port::Exclusive::acquire(address.parse().unwrap()).unwrap();
    let socket = UdpSocket::bind(held.address()).unwrap();
    Node::new(&listen(&address), "").is_good("unchecked: [node] listen: a mixnode receives");
    drop(socket);
}

#[test]
fn a_management_address_that_is_taken_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("[metrics]\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    let node = Node::new(&listen(&format!("127.0.0.1:{}", free_port())), &metrics);
    node.is_refused_as_by_a_start(71, "choose another port");
}

#[test]
fn two_pinned_workers_on_one_core_are_refused() {
    let more = "[worker]\ncount = 2\npin = true\n";
    let node = Node::new(&listen(&format!("127.0.0.1:{}", free_port())), more);
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..rustix::thread::CpuSet::MAX_CPU)
        .find(|core| all.is_set(*core))
        .unwrap();
    let mut one = rustix::thread::CpuSet::new();
    one.set(first);
    // Of this thread, and of what it starts.
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    node.is_refused_as_by_a_start(78, "set pin = false");
}

#[test]
fn too_few_descriptors_are_refused() {
    let node = Node::new(&listen(&format!("127.0.0.1:{}", free_port())), "");
    let config = node.folder.path().join("node.toml");
    for flag in ["--check-config", ""] {
        let script = format!(
            "ulimit -n 32; exec {} --config {} {flag}",
            env!("CARGO_BIN_EXE_mixnode"),
            config.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code(), Some(71), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("LimitNOFILE="),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn the_fast_path_without_a_loader_is_refused_and_one_that_is_not_there_yet_is_unchecked() {
    let address = format!("127.0.0.1:{}", free_port());
    let node = format!("{}\nport = \"xsk\"", listen(&address));
    Node::new(&node, "").is_refused_as_by_a_start(78, "add a section [xdp]");
    let more = "[xdp]\nloader = \"/nowhere/mixctld.sock\"\n";
    Node::new(&node, more)
        .is_good("unchecked: [xdp] loader: nobody listens at /nowhere/mixctld.sock yet");
}

#[test]
fn a_start_waits_for_the_loader_and_stops_when_it_is_asked_to() {
    let address = format!("127.0.0.1:{}", free_port());
    let node = format!("{}\nport = \"xsk\"", listen(&address));
    let node = Node::new(&node, "[xdp]\nloader = \"/nowhere/mixctld.sock\"\n");
    let mut child = node.command().spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(child.try_wait().unwrap(), None, "it does not wait");
    let id = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_required_sandbox_is_said_to_be_unchecked() {
    let node = Node::new(&listen(&format!("127.0.0.1:{}", free_port())), "");
    let file = node.folder.path().join("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"off\"", "\"require\"")).unwrap();
    node.is_good("unchecked: [sandbox] mode = \"require\"");
}

/// Runs as nobody, whom the test's folder is given to.
fn as_nobody(node: &Node, flag: Option<&str>) -> Output {
    const NOBODY: u32 = 65_534;
    // The program where nobody may run it.
    let program = node.folder.path().join("mixnode");
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_mixnode"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    give(node.folder.path(), NOBODY);
    give(&node.folder.path().join("directory"), NOBODY);
    Command::new(&program)
        .arg("--config")
        .arg(node.folder.path().join("node.toml"))
        .args(flag)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap()
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
}

#[test]
fn rights_that_the_user_lacks_are_refused() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can become another user");
    }
    let lowest = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if lowest.unwrap().trim().parse::<u16>().unwrap() > 1_000 {
        let node = Node::new(&listen("127.0.0.1:999"), "");
        for flag in [Some("--check-config"), None] {
            let output = as_nobody(&node, flag);
            assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
            assert!(stderr(&output).contains("CAP_NET_BIND_SERVICE"));
        }
    }
    let node = Node::new(&listen(&format!("127.0.0.1:{}", free_port())), "");
    let file = node.folder.path().join("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let own = format!("{:?}", node.folder.path().join("state"));
    std::fs::write(&file, text.replace(&own, "\"/root-of-nobody/state\"")).unwrap();
    for flag in [Some("--check-config"), None] {
        let output = as_nobody(&node, flag);
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        assert!(stderr(&output).contains("state_dir"), "{}", stderr(&output));
    }
}

#[test]
fn a_missing_folder_of_documents_is_said_to_be_the_one_of_mixctld() {
    let address = format!("127.0.0.1:{}", free_port());
    let node = Node::new(&listen(&address), "");
    std::fs::remove_dir(node.folder.path().join("directory")).unwrap();
    node.is_refused_as_by_a_start(
        78,
        "mixctld follows the network into: its [directory] folder",
    );
}
