//! A whole network on one machine: two gateways and two layers of two mixes, one authority, and a daemon beside the first
//! node. Real processes, no root.

#![allow(dead_code)] // Each test uses a part of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use control::api::client;
use control::api::shapes::Updates;
use directory::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::programs;
use crate::running::{Running, free_port, mixctl, stderr, stdout, wait_until};

pub const NODES: usize = 6;

fn says(arguments: &[&str]) -> String {
    let output = mixctl().args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What is on the way, and for how long it stays dealt alike.
#[derive(Clone, Copy)]
pub struct Traffic {
    pub epoch: &'static str,
    pub loop_interval_ms: u32,
    pub max_pps: u32,
}

/// What goes first is dropped first: nodes, daemons, their folder.
pub struct Scene {
    pub nodes: Vec<Running>,
    pub daemons: Vec<Running>,
    folder: tempfile::TempDir,
    port: String,
    traffic: Traffic,
}

impl Scene {
    /// All of it runs, and everybody is in a document.
    pub fn open(traffic: Traffic) -> Scene {
        let mut scene = Scene {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            nodes: Vec::new(),
            daemons: Vec::new(),
            traffic,
        };
        scene.found();
        (0..NODES).for_each(|number| scene.prepare(number));
        scene.start(("control", "mixctld"), "authority.toml", &[]);
        scene.start(("control", "mixctld"), "mixctld.toml", &["--no-xdp"]);
        let folder = scene.path("directory");
        let store = || Store::open(&folder).ok()?.read_authorities().ok()?;
        wait_until("the follower's folder", || store().is_some());
        for number in 0..NODES {
            scene.start(
                ("mixnode", "mixnode"),
                &format!("{number}.toml"),
                &["--status-lines"],
            );
        }
        wait_until("a document with all nodes", || scene.layers().is_some());
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self, program: (&str, &str), config: &str, more: &[&str]) {
        let child = Command::new(programs::program(program.0, program.1))
            .arg("--config")
            .arg(self.path(config))
            .args(more)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(self.path(&format!("{config}.out"))).unwrap())
            .stderr(std::fs::File::create(self.path(&format!("{config}.log"))).unwrap())
            .spawn();
        let running = Running(child.unwrap());
        match program.1 {
            "mixnode" => self.nodes.push(running),
            _ => self.daemons.push(running),
        }
    }

    /// Founds a network of one authority, and starts it.
    fn found(&mut self) {
        let (set, key) = (self.path("set"), self.path("authority.key"));
        let made = says(&["authority", "init", "--key", text(&key), "--json"]);
        let made: Value = serde_json::from_str(&made).unwrap();
        let public = made["authority"].as_str().unwrap();
        let member = format!("--member={public}=http://127.30.0.1:{}", self.port);
        let propose = ["authority", "set", "propose", text(&set), &member];
        let of = [
            "--epoch",
            self.traffic.epoch,
            "--mean-delay",
            "1ms",
            "--layers",
            "2",
        ];
        says(&[&propose[..], &of[..]].concat());
        says(&["authority", "set", "sign", text(&set), "--key", text(&key)]);
        let network = self.path("network");
        let publish = ["authority", "set", "publish", text(&set)];
        says(&[&publish[..], &["--network", text(&network)]].concat());
        let config = format!(
            "[authority]\nkey = {key:?}\nlisten = \"127.30.0.1:{}\"\nadmission = {:?}\nnetwork = {network:?}\n\
             state_dir = {:?}\n",
            self.port,
            self.path("nodes.toml"),
            self.path("authority")
        );
        std::fs::write(self.path("authority.toml"), config).unwrap();
        let follower = format!(
            "[xdp]\nsocket = {:?}\n[keys]\n[directory]\nnetwork = {network:?}\nfolder = {:?}\n[http]\nsocket = {:?}\n\
             node_metrics = \"{}\"\nlisten = \"127.30.0.2:{}\"\ntoken = {:?}\n",
            self.path("mixctld.sock"),
            self.path("directory"),
            self.path("http.sock"),
            self.metrics(0),
            self.port,
            self.path("control/http.token")
        );
        std::fs::write(self.path("mixctld.toml"), follower).unwrap();
    }

    /// Has node `number` admitted; the first one says to the daemon how it is.
    fn prepare(&self, number: usize) {
        let role = if number >= NODES - 2 {
            "gateway"
        } else {
            "mix"
        };
        let keys = match number {
            0 => format!(
                "[keys]\nvault = true\nloader = {:?}\n",
                self.path("mixctld.sock")
            ),
            _ => String::new(),
        };
        let node = format!(
            "[node]\nrole = \"{role}\"\noperator = \"operator {number}\"\nlisten = [\"127.31.{number}.1:{}\"]\n\
             state_dir = {:?}\n[network]\ndirectory = {:?}\n[metrics]\nlisten = \"{}\"\n\
             [worker]\nmax_pps = {}\n[cover]\nloop_interval_ms = {}\n{keys}",
            self.port,
            self.path(&format!("state-{number}")),
            self.path("directory"),
            self.metrics(number),
            self.traffic.max_pps,
            self.traffic.loop_interval_ms,
        );
        let config = self.path(&format!("{number}.toml"));
        std::fs::write(&config, node).unwrap();
        let (to, network) = (self.path("joined"), self.path("network"));
        let join = [
            "network",
            "join",
            text(&network),
            "--to",
            text(&to),
            "--node",
        ];
        let joined = says(&[&join[..], &[text(&config), "--json"]].concat());
        let joined: Value = serde_json::from_str(&joined).unwrap();
        let of = |key: &str| joined["node"][key].as_str().unwrap().to_owned();
        let list = self.path("nodes.toml");
        let (identity, role, operator) = (of("identity"), of("role"), of("operator"));
        let add = ["authority", "nodes", "add", &identity, "--role", &role];
        says(&[&add[..], &["--operator", &operator, "--file", text(&list)]].concat());
    }

    pub fn ask(&self, what: &str) -> Value {
        let socket = self.path("http.sock");
        let asked = mixctl()
            .args([what, "--json", "--socket", text(&socket)])
            .output()
            .unwrap();
        serde_json::from_slice(&asked.stdout).unwrap_or_default()
    }

    /// Where node `number` says what it counts.
    fn metrics(&self, number: usize) -> String {
        format!("127.31.{number}.1:{}", self.port)
    }

    /// What node `number` counts, asked of itself.
    pub fn page_of(&self, number: usize) -> String {
        let mut stream = TcpStream::connect(self.metrics(number)).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// All that the daemon says of the first node; none while it is busy or lacks something.
    pub fn updates(&self) -> Option<Updates> {
        client::get(&self.path("http.sock"), "/api/v1/updates").ok()
    }

    /// A number of the first node's page; none while it has none.
    pub fn measured(&self, metric: &str) -> Option<f64> {
        let mut stream = UnixStream::connect(self.path("http.sock")).ok()?;
        let head = "GET /metrics/node HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(head.as_bytes()).ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        let mut lines = page.lines();
        let said = lines.find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))?;
        said.parse().ok()
    }

    /// How many lines of the first node's log have these words.
    pub fn log_lines(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.path("0.toml.log")).unwrap();
        log.lines().filter(|line| line.contains(words)).count()
    }

    pub fn is_suspected(&self) -> Option<bool> {
        Some(self.measured("mixnode_n1_suspected")? == 1.0)
    }

    /// By operator's number, where everybody is in a document; none while it lacks somebody.
    pub fn layers(&self) -> Option<Vec<u64>> {
        let nodes = self.ask("nodes");
        let mut layers = vec![255; NODES];
        for node in nodes["nodes"].as_array()? {
            let number: usize = node["operator"].as_str()?.split(' ').nth(1)?.parse().ok()?;
            layers[number] = node["layer"].as_u64()?;
        }
        (!layers.contains(&255)).then_some(layers)
    }

    pub fn signal(&self, number: usize, kind: Signal) {
        let id = Pid::from_raw(self.nodes[number].0.id() as i32).unwrap();
        kill_process(id, kind).unwrap();
    }
}
