//! A host: a network namespace with processes of its own, and with its own /etc, /var/lib, /run, /usr/local/bin and home,
//! so that commands are typed there as they stand in the README.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use loader::netns::{End, Namespace, Switch};

use crate::running::{Running, children_of, stderr, stdout};

/// Where an operator sits: a checkout's files are there.
const DESK: &str = "/root/tree";
const FOLDERS: [(&str, &str); 5] = [
    ("etc", "/etc"),
    ("lib", "/var/lib"),
    ("run", "/run"),
    ("bin", "/usr/local/bin"),
    ("root", "/root"),
];

pub struct Host {
    pub name: String,
    pub address: Ipv4Addr,
    folder: PathBuf,
    /// What stays in the foreground, each in a terminal of its own.
    terminals: Vec<Running>,
    /// The first process; with it all end.
    _boot: Running,
    init: u32,
    pub namespace: Namespace,
}

impl Host {
    /// Boots a host at `address` in a /24 of its own. `tree` is a checkout, `programs` the folder of the programs that are
    /// installed.
    pub fn boot(
        switch: &Switch,
        root: &Path,
        (name, address): (String, Ipv4Addr),
        tree: &Path,
        programs: &Path,
    ) -> Host {
        let namespace = Namespace::create("founded").unwrap();
        let end = End {
            namespace: &namespace,
            interface: "eth0",
            addresses: &[(address.into(), 24)],
            queues: 1,
        };
        switch.plug(&end).unwrap();
        namespace
            .ip(&["route", "add", "default", "dev", "eth0"])
            .unwrap();
        let folder = root.join(&name);
        for (own, _) in FOLDERS {
            fs::create_dir_all(folder.join(own)).unwrap();
        }
        // A checkout's configurations, copied: the checkout itself may lie in the home that is hidden here.
        for part in ["control/daemon", "mixnode/node"] {
            let desk = folder.join("root/tree").join(part);
            fs::create_dir_all(&desk).unwrap();
            for file in fs::read_dir(tree.join(part)).unwrap() {
                let file = file.unwrap();
                if file.path().extension().is_some_and(|kind| kind == "toml") {
                    fs::copy(file.path(), desk.join(file.file_name())).unwrap();
                }
            }
        }
        copy(&[Path::new("/etc/."), &folder.join("etc")]);
        copy(&[&programs.join("."), &folder.join("bin")]);
        // As before Fogmix was there.
        let _ = fs::remove_dir_all(folder.join("etc/fogmix"));
        for list in ["passwd", "group", "shadow", "gshadow"] {
            let path = folder.join("etc").join(list);
            let text = fs::read_to_string(&path).unwrap_or_default();
            let others = text.lines().filter(|line| !line.starts_with("fogmix:"));
            let others: Vec<_> = others.collect();
            fs::write(&path, others.join("\n") + "\n").unwrap();
        }
        let mut boot = Command::new("nsenter");
        boot.arg(format!("--net={}", namespace.path().display()));
        boot.args([
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        // It ends with its standard input at the latest, and takes in the orphans.
        let mut boot = boot
            .args(["bash", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mounts = FOLDERS.map(|(own, place)| {
            let own = folder.join(own);
            format!("mount --bind '{}' {place} || exit 1\n", own.display())
        });
        let lines = mounts.concat() + "echo up\n";
        let stdin = boot.stdin.as_mut().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        let mut said = String::new();
        let stdout = boot.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n", "{name} does not boot");
        let init = children_of(boot.id())[0];
        Host {
            name,
            address,
            folder,
            terminals: Vec::new(),
            _boot: Running(boot),
            init,
            namespace,
        }
    }

    /// A file of the host, for the test.
    pub fn file(&self, path: &str) -> PathBuf {
        let of = |(own, place): &(&str, &str)| {
            let rest = path.strip_prefix(place)?.strip_prefix('/')?;
            Some(self.folder.join(own).join(rest))
        };
        FOLDERS.iter().find_map(of).unwrap()
    }

    /// A file where commands are typed.
    pub fn on_desk(&self, name: &str) -> PathBuf {
        self.file(&format!("{DESK}/{name}"))
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("nsenter");
        shell.arg(format!("--target={}", self.init));
        shell.args(["--mount", "--net", "--pid", "bash", "-c"]);
        shell.arg(format!("cd {DESK} && {command}"));
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        shell
            .env("PATH", path)
            .env("HOME", "/root")
            .stdin(Stdio::null());
        shell.env_remove("XDG_DATA_HOME");
        shell
    }

    pub fn tries(&self, command: &str) -> Output {
        self.shell(command).output().unwrap()
    }

    /// What the command says; it has to succeed.
    pub fn types(&self, command: &str) -> String {
        let output = self.tries(command);
        let ok = output.status.success();
        assert!(
            ok,
            "{}: {command}: {}\n{}",
            self.name,
            stderr(&output),
            self.log()
        );
        stdout(&output)
    }

    pub fn json(&self, command: &str) -> serde_json::Value {
        serde_json::from_str(&self.types(&format!("{command} --json"))).unwrap()
    }

    /// Types a command that ends with `&`. What it says goes to the host's log.
    pub fn types_aside(&self, command: &str) {
        self.types(&format!("{{ {command} }} >>/root/log 2>&1"));
    }

    /// Types a command that stays in the foreground, in a terminal of its own.
    pub fn leaves(&mut self, command: &str) {
        let mut append = fs::File::options();
        let append = append.append(true).create(true);
        let log = append.open(self.file("/root/log")).unwrap();
        let mut shell = self.shell(&format!("exec {command}"));
        let child: Child = shell
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.terminals.push(Running(child));
    }

    /// All that ran in the foreground was ended.
    pub fn clears_terminals(&mut self) {
        self.terminals.clear();
    }

    /// What is in the foreground still runs.
    pub fn is_at_work(&mut self) -> bool {
        let mut terminals = self.terminals.iter_mut();
        terminals.all(|terminal| terminal.0.try_wait().unwrap().is_none())
    }

    /// What daemons said last.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.file("/root/log")).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(20).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn copy(paths: &[&Path]) {
    let copied = Command::new("cp").arg("-a").args(paths).status();
    assert!(copied.unwrap().success(), "{paths:?}");
}
