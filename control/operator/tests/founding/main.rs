//! A network of many hosts from empty folders, by the commands of the README: three authorities, three mixes, two
//! gateways, each its own operator in its own /24; a file goes through it, and an authority goes and comes back. What a
//! node measures, answers and logs meanwhile names no client, no mailbox and no way. Real processes, no root; how long it
//! takes decides nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use directory::store::Store;
use serde_json::Value;

#[path = "../../../../mixnode/node/tests/exposition/mod.rs"]
mod exposition;
#[path = "../programs/mod.rs"]
mod programs;
#[path = "../running/mod.rs"]
mod running;
mod telling;
#[path = "../../../daemon/src/api/tests/web_socket.rs"]
mod web_socket;

use running::{Running, free_port, mixctl, stderr, stdout, wait_until};

const AUTHORITIES: usize = 3;
const ROLES: [&str; 5] = ["gateway", "gateway", "mix", "mix", "mix"];

/// What a command says; it must succeed.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    stdout(&output)
}

fn says(arguments: &[&str]) -> String {
    let mut command = mixctl();
    command.args(arguments);
    said(command)
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&says(&[arguments, &["--json"]].concat())).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn start(program: &Path, config: &Path) -> Running {
    start_with(program, config, &[])
}

fn start_with(program: &Path, config: &Path, more: &[&str]) -> Running {
    let child = Command::new(program)
        .arg("--config")
        .arg(config)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

/// The same, with all that it can log in a file, in colour of no kind.
fn logged(program: &Path, config: &Path, more: &[&str], log: &Path) -> Running {
    let child = Command::new(program)
        .arg("--config")
        .arg(config)
        .args(more)
        .stdin(Stdio::null())
        .env("RUST_LOG", "trace")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).unwrap())
        .spawn();
    Running(child.unwrap())
}

/// A folder a host, and what runs on them.
struct Hosts {
    folder: tempfile::TempDir,
    running: Vec<Running>,
}

impl Hosts {
    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Makes keys, founds the network, and gives each authority its configuration. The network's file.
    fn found(&self, port: &str) -> PathBuf {
        let (set, network) = (self.path("set"), self.path("network"));
        let mut members = Vec::new();
        for number in 0..AUTHORITIES {
            let key = self.path(&format!("authority-{number}/authority.key"));
            let made = json(&["authority", "init", "--key", text(&key)]);
            let public = made["authority"].as_str().unwrap().to_owned();
            members.push(format!("--member={public}=http://127.10.{number}.1:{port}"));
        }
        let mut propose = mixctl();
        propose
            .args(["authority", "set", "propose", text(&set)])
            .args(&members);
        propose.args([
            "--epoch",
            "8s",
            "--mean-delay",
            "1ms",
            "--client-rate",
            "100",
        ]);
        said(propose);
        for number in 0..AUTHORITIES {
            let key = self.path(&format!("authority-{number}/authority.key"));
            says(&["authority", "set", "sign", text(&set), "--key", text(&key)]);
        }
        says(&[
            "authority",
            "set",
            "publish",
            text(&set),
            "--network",
            text(&network),
        ]);
        for number in 0..AUTHORITIES {
            let of = |name: &str| self.path(&format!("authority-{number}/{name}"));
            says(&[
                "network",
                "join",
                text(&network),
                "--to",
                text(&of("network")),
            ]);
            let config = format!(
                "[authority]\nkey = {:?}\nlisten = \"127.10.{number}.1:{port}\"\nadmission = {:?}\nnetwork = {:?}\n\
                 state_dir = {:?}\n",
                of("authority.key"),
                of("nodes.toml"),
                of("network"),
                of("state"),
            );
            std::fs::write(of("authority.toml"), config).unwrap();
        }
        network
    }

    /// Writes the configurations of node `number`, joins the network with it and has all authorities admit it.
    fn prepare(&self, number: usize, port: &str, network: &Path) {
        let of = |name: &str| self.path(&format!("node-{number}/{name}"));
        let node = format!(
            "[node]\nrole = \"{}\"\noperator = \"operator {number}\"\nlisten = [\"127.20.{number}.1:{port}\"]\n\
             state_dir = {:?}\n[network]\ndirectory = {:?}\n[worker]\nmax_pps = 2000\n\
             [metrics]\nlisten = \"127.20.{number}.1:{port}\"\n[keys]\nvault = true\nloader = {:?}\n",
            ROLES[number],
            of("state"),
            of("directory"),
            of("mixctld.sock"),
        );
        std::fs::write(of("mixnode.toml"), node).unwrap();
        let follower = format!(
            "[xdp]\nsocket = {:?}\n[keys]\n[directory]\nnetwork = {:?}\nfolder = {:?}\n[http]\nsocket = {:?}\n\
             node_metrics = \"127.20.{number}.1:{port}\"\n",
            of("mixctld.sock"),
            of("network"),
            of("directory"),
            of("http.sock")
        );
        std::fs::write(of("mixctld.toml"), follower).unwrap();
        let (to, config) = (of("network"), of("mixnode.toml"));
        let joined = json(&[
            "network",
            "join",
            text(network),
            "--to",
            text(&to),
            "--node",
            text(&config),
        ]);
        let node = |key: &str| joined["node"][key].as_str().unwrap().to_owned();
        for authority in 0..AUTHORITIES {
            let list = self.path(&format!("authority-{authority}/nodes.toml"));
            says(&[
                "authority",
                "nodes",
                "add",
                &node("identity"),
                "--role",
                &node("role"),
                "--operator",
                &node("operator"),
                "--file",
                text(&list),
            ]);
        }
    }
}

fn fog(home: &Path) -> Command {
    let mut command = Command::new(programs::program("fog", "fog"));
    command.arg("--home").arg(home).stdin(Stdio::null());
    command
}

#[test]
fn hosts_become_a_network_that_carries_a_file_and_bears_the_loss_of_an_authority() {
    let mut hosts = Hosts {
        folder: tempfile::tempdir().unwrap(),
        running: Vec::new(),
    };
    let port = free_port();
    let network = hosts.found(&port);
    for number in 0..ROLES.len() {
        hosts.prepare(number, &port, &network);
    }
    let (mixctld, mixnode) = (
        programs::program("control", "mixctld"),
        programs::program("mixnode", "mixnode"),
    );
    for number in 0..AUTHORITIES {
        let config = hosts.path(&format!("authority-{number}/authority.toml"));
        hosts.running.push(start(&mixctld, &config));
    }
    for number in 0..ROLES.len() {
        let of = |name: &str| hosts.path(&format!("node-{number}/{name}"));
        let (follower, node, folder) = (of("mixctld.toml"), of("mixnode.toml"), of("directory"));
        let (daemon_log, node_log) = (of("mixctld.log"), of("mixnode.log"));
        let daemon = logged(&mixctld, &follower, &["--no-xdp"], &daemon_log);
        hosts.running.push(daemon);
        // The follower makes the folder that both share.
        let store = || Store::open(&folder).ok()?.read_authorities().ok()?;
        wait_until("the follower's folder", || store().is_some());
        let node = logged(&mixnode, &node, &[], &node_log);
        hosts.running.push(node);
    }
    // A document that has all nodes in it, whoever is asked.
    let mut dealt = Value::Null;
    wait_until("a document with all nodes", || {
        let mut fetch = mixctl();
        fetch.args(["consensus", "fetch", "--network", text(&network)]);
        if !fetch.output().unwrap().status.success() {
            return false;
        }
        dealt = json(&["consensus", "show", "--network", text(&network)]);
        dealt["nodes"].as_array().unwrap().len() == ROLES.len()
    });
    let mut layers: Vec<u64> = dealt["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["layer"].as_u64().unwrap())
        .collect();
    layers.sort_unstable();
    assert_eq!(layers, [0, 0, 1, 2, 3], "{dealt}");
    says(&[
        "consensus",
        "verify",
        text(&network),
        "--network",
        text(&hosts.path("node-0/network")),
    ]);
    let config = hosts.path("authority-1/authority.toml");
    let status = json(&["authority", "status", "--config", text(&config)]);
    assert_eq!(status["others"].as_array().unwrap().len(), AUTHORITIES - 1);
    assert!(
        status["evidence"].as_array().unwrap().is_empty(),
        "{status}"
    );

    let (alice, bob, received) = (
        hosts.path("alice"),
        hosts.path("bob"),
        hosts.path("received"),
    );
    std::fs::create_dir(&received).unwrap();
    let mut addresses = Vec::new();
    for home in [&alice, &bob] {
        let mut init = fog(home);
        init.args(["init", "--network", text(&network)]);
        said(init);
        let mut address = fog(home);
        address.arg("address");
        addresses.push(said(address).trim().to_owned());
    }
    let file = hosts.path("letter.txt");
    let letter = "from many hosts one network\n".repeat(100);
    std::fs::write(&file, &letter).unwrap();
    let mut recv = fog(&bob);
    recv.args([
        "recv",
        "--count",
        "1",
        "--timeout",
        "150s",
        "--linger",
        "10ms",
        "--out",
        text(&received),
    ]);
    let mut receiving = Running(recv.stdout(Stdio::null()).spawn().unwrap());
    let mut send = fog(&alice);
    send.args(["send", &addresses[1], text(&file), "--timeout", "150s"]);
    send.args(["--linger", "10ms"]);
    said(send);
    assert!(receiving.0.wait().unwrap().success());
    let arrived = std::fs::read_to_string(received.join("letter.txt")).unwrap();
    assert!(arrived == letter);
    hosts.tell(&addresses);

    // One authority of three may be gone, and takes the documents over when it comes back.
    let third = hosts.running.remove(2);
    let epoch_at = |number: usize| {
        let config = hosts.path(&format!("authority-{number}/authority.toml"));
        let mut status = mixctl();
        status.args(["authority", "status", "--json", "--config", text(&config)]);
        let status = status.output().unwrap();
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        status["document"]["epoch"].as_u64()
    };
    let before = epoch_at(0).unwrap();
    drop(third);
    let two_later = Some(before + 2);
    wait_until("documents of two authorities", || {
        epoch_at(0) >= two_later && epoch_at(1) >= two_later
    });
    let config = hosts.path("authority-2/authority.toml");
    let returned = start(&mixctld, &config);
    wait_until("the authority that was gone", || epoch_at(2) >= two_later);
    drop(returned);
}
