//! The hosts of a network, and the operators who type the README's commands there.
//!
//! What stands in the README is typed as it stands. By these rules alone is it another:
//! - the first command builds and installs: here the programs that it names lie in /usr/local/bin already;
//! - KEY, IDENTITY and NAME are what the commands before printed, ADDRESS what `fog init` printed on another user's host;
//!   an epoch of 20 minutes lasts 16 seconds, and so short a one takes delays of 2 ms;
//! - the files `set` and `network` go from host to host: whoever needs one has the newest;
//! - configurations, once copied, are edited as the comment beside says;
//! - what waits for a document is repeated until one lists all nodes; what stays in the foreground has a terminal of its
//!   own, and the next command is typed when it is up.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use loader::netns::Switch;

use crate::guide::{self, Place, Step};
use crate::host::Host;
use crate::programs;
use crate::running::{stdout, wait_until};

pub const GATEWAYS: usize = 3;
pub const MIXES: usize = 9;
const USERS: usize = 2;
const EPOCH: &str = "--epoch 16s --mean-delay 2ms";
/// Files that go round.
const CARRIED: [&str; 2] = ["set", "network"];
/// How an authority and a node are started again later.
pub const AUTHORITY: &str = "mixctld --config /etc/fogmix/authority.toml";

pub struct Site {
    pub authorities: Vec<Host>,
    pub nodes: Vec<Host>,
    pub users: Vec<Host>,
    steps: Vec<Step>,
    carried: BTreeMap<&'static str, Vec<u8>>,
    keys: Vec<String>,
    /// What `mixctl network join` printed for the authorities.
    admitting: Vec<String>,
    pub addresses: Vec<String>,
    _switch: Switch,
    _folder: tempfile::TempDir,
}

fn tree() -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    tree.canonicalize().unwrap()
}

/// Puts the programs that the README installs into a folder where any user may run them.
fn install(step: &Step, folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for name in guide::programs(step) {
        let program = match name.as_str() {
            "mixctl" => PathBuf::from(env!("CARGO_BIN_EXE_mixctl")),
            "mixctld" => programs::program("control", &name),
            name => programs::program(name, name),
        };
        std::fs::copy(program, folder.join(&name)).unwrap();
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from} in: {text}");
    text.replacen(from, to, 1)
}

/// Sets the first `key` of a file, which is there, be it as a comment.
fn set(host: &Host, file: &str, key: &str, value: &str) {
    let path = host.file(&format!("/etc/fogmix/{file}"));
    let text = std::fs::read_to_string(&path).unwrap();
    let is_it = |line: &&str| {
        line.trim_start_matches("# ")
            .starts_with(&format!("{key} = "))
    };
    let line = text
        .lines()
        .find(is_it)
        .unwrap_or_else(|| panic!("{file}: {key}"));
    let text = replaced(&text, &format!("{line}\n"), &format!("{key} = {value}\n"));
    std::fs::write(&path, text).unwrap();
}

impl Site {
    /// Hosts with nothing but the programs.
    pub fn boot(readme: &str) -> Site {
        let steps = guide::steps(readme);
        let folder = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let installed = folder.path().join("programs");
        install(&steps[0], &installed);
        let switch = Switch::create("founded").unwrap();
        let tree = tree();
        let boot = |name: &str, addresses: &[Ipv4Addr]| -> Vec<Host> {
            let named = addresses.iter().enumerate();
            let named = named.map(|(n, address)| (format!("{name}-{n}"), *address));
            let boot = |named| Host::boot(&switch, folder.path(), named, &tree, &installed);
            named.map(boot).collect()
        };
        // Each in a /24 of its own.
        let own = |network: u8, count: usize| -> Vec<Ipv4Addr> {
            let numbers = 1..=u8::try_from(count).unwrap();
            numbers
                .map(|number| [10, network, number, 1].into())
                .collect()
        };
        Site {
            authorities: boot("authority", &guide::authorities(&steps)),
            nodes: boot("node", &own(20, GATEWAYS + MIXES)),
            users: boot("user", &own(30, USERS)),
            steps,
            carried: BTreeMap::new(),
            keys: Vec::new(),
            admitting: Vec::new(),
            addresses: Vec::new(),
            _switch: switch,
            _folder: folder,
        }
    }

    /// Types all of the README's commands, and prints them.
    pub fn follow_the_readme(&mut self) {
        for step in self.steps.clone() {
            println!("{:?}: {}", step.place, step.command);
            match step.place {
                Place::EveryHost => self.are_installed(&step),
                Place::EachAuthority if step.command.contains("IDENTITY") => {
                    for number in 0..self.admitting.len() {
                        let command = self.admission(&step.command, number);
                        (0..self.authorities.len()).for_each(|at| self.authority(at, &command));
                    }
                }
                Place::EachAuthority => {
                    (0..self.authorities.len()).for_each(|at| self.authority(at, &step.command));
                }
                Place::OneAuthority => self.authority(0, &step.command),
                Place::LastAuthority => self.authority(self.authorities.len() - 1, &step.command),
                Place::EachNode => {
                    (0..self.nodes.len()).for_each(|at| self.node(at, &step.command));
                }
                Place::EachUser => {
                    (0..self.users.len()).for_each(|at| self.user(at, &step.command));
                }
                Place::OneUser => self.user(0, &step.command),
            }
        }
    }

    fn are_installed(&self, step: &Step) {
        for program in guide::programs(step) {
            let hosts = self
                .authorities
                .iter()
                .chain(&self.nodes)
                .chain(&self.users);
            hosts.for_each(|host| {
                host.types(&format!("{program} --version"));
            });
        }
    }

    fn authority(&mut self, at: usize, command: &str) {
        let mut command = command.to_owned();
        if command.contains("set propose") {
            for key in &self.keys {
                command = replaced(&command, "KEY=", &format!("{key}="));
            }
            command = replaced(&command, "--epoch 20m", EPOCH);
        }
        let host = &mut self.authorities[at];
        if command == AUTHORITY {
            host.leaves(&command);
            let up = || host.tries("mixctl authority status").status.success();
            return wait_until("an authority that answers", up);
        }
        let said = typed(host, &mut self.carried, &command);
        if command.starts_with("mixctl authority init") {
            let key = said
                .lines()
                .find_map(|line| line.strip_prefix("authority "));
            self.keys.push(key.unwrap().to_owned());
        }
        if command.contains("cp control/daemon/authority.toml") {
            let listen = format!("\"{}:7070\"", host.address);
            set(host, "authority.toml", "listen", &listen);
        }
    }

    fn role(&self, at: usize) -> &'static str {
        if at < GATEWAYS { "gateway" } else { "mix" }
    }

    fn node(&mut self, at: usize, command: &str) {
        let role = self.role(at);
        let host = &mut self.nodes[at];
        if command.contains(" -- mixnode ") {
            return host.leaves(command);
        }
        if command.ends_with('&') {
            host.types_aside(command);
            let socket = host.file("/run/fogmix/http.sock");
            return wait_until("mixctld beside a node", || socket.exists());
        }
        let said = typed(host, &mut self.carried, command);
        if command.contains("cp mixnode/node/mixnode.toml") {
            set(host, "mixnode.toml", "role", &format!("{role:?}"));
            set(
                host,
                "mixnode.toml",
                "operator",
                &format!("\"operator {at}\""),
            );
            let listen = format!("[\"{}:9000\"]", host.address);
            set(host, "mixnode.toml", "listen", &listen);
            set(host, "mixnode.toml", "vault", "true");
            set(host, "mixctld.toml", "node_user", "\"fogmix\"");
            // Not of the README: every kernel has this one.
            set(host, "mixnode.toml", "port", "\"plain\"");
        }
        if command.starts_with("mixctl network join") {
            let (_, admitting) = said.trim_end().split_once("admits this node: ").unwrap();
            self.admitting.push(admitting.to_owned());
        }
    }

    /// The README's command that admits a node, which is the one that was printed on the node's host.
    fn admission(&self, command: &str, number: usize) -> String {
        let printed = &self.admitting[number];
        let identity = printed.split(' ').nth(4).unwrap();
        let command = replaced(command, "IDENTITY", identity);
        let command = replaced(
            &command,
            "--role mix",
            &format!("--role {}", self.role(number)),
        );
        let command = replaced(&command, "NAME", &format!("\"operator {number}\""));
        assert_eq!(command, *printed);
        command
    }

    fn user(&mut self, at: usize, command: &str) {
        let host = &self.users[at];
        if command.starts_with("mixctl consensus fetch") {
            return wait_until("a document that lists all nodes", || {
                carry_in(host, &self.carried);
                let fetched = host.tries(command);
                let shown = host.tries("mixctl consensus show --network network --json");
                let shown: serde_json::Value =
                    serde_json::from_str(&stdout(&shown)).unwrap_or_default();
                let nodes = shown["nodes"].as_array().map_or(0, Vec::len);
                fetched.status.success() && nodes == GATEWAYS + MIXES
            });
        }
        if command.ends_with('&') {
            host.types_aside(command);
            let up = || host.tries("fog status").status.success();
            return wait_until("a fog that is up", up);
        }
        if command.starts_with("fog send ") {
            std::fs::write(host.on_desk("letter.txt"), letter(0)).unwrap();
            host.types(&replaced(command, "ADDRESS", &self.addresses[1]));
            return;
        }
        let said = host.types(command);
        if command.starts_with("fog init") {
            self.addresses.push(said.trim().to_owned());
        }
    }
}

/// A file of a few hundred packets, another for each number.
pub fn letter(number: usize) -> String {
    let line = format!("letter {number}, from many hosts one network\n");
    line.repeat(1_000)
}

fn carry_in(host: &Host, carried: &BTreeMap<&'static str, Vec<u8>>) {
    for (name, content) in carried {
        std::fs::write(host.on_desk(name), content).unwrap();
    }
}

/// Brings what goes round, types the command, and takes along what it made of it.
fn typed(host: &Host, carried: &mut BTreeMap<&'static str, Vec<u8>>, command: &str) -> String {
    carry_in(host, carried);
    let said = host.types(command);
    for name in CARRIED {
        if let Ok(content) = std::fs::read(host.on_desk(name)) {
            carried.insert(name, content);
        }
    }
    said
}
