//! What an operator hears of an attack that keeps all packets from a node, and of a dead neighbour, from real processes: two
//! gateways and two layers of two mixes, one authority. The daemon is asked, the node's page by way of it, and its log. No
//! root; how long it takes decides nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use control::api::client;
use control::api::shapes::{Level, Loops, Status, Updates};
use directory::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

mod programs;
mod running;
use running::{Running, free_port, mixctl, stderr, stdout, wait_until};

const NODES: usize = 6;

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

/// What goes first is dropped first: nodes, daemons, their folder.
struct Scene {
    nodes: Vec<Running>,
    daemons: Vec<Running>,
    folder: tempfile::TempDir,
    port: String,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self, program: (&str, &str), config: &str, more: &[&str]) {
        let child = Command::new(programs::program(program.0, program.1))
            .arg("--config")
            .arg(self.path(config))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
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
        let of = ["--epoch", "30s", "--mean-delay", "1ms", "--layers", "2"];
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
             node_metrics = \"127.31.0.1:{}\"\n",
            self.path("mixctld.sock"),
            self.path("directory"),
            self.path("http.sock"),
            self.port
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
                "[keys]\nvault = true\nloader = {:?}\n[metrics]\nlisten = \"127.31.0.1:{}\"\n",
                self.path("mixctld.sock"),
                self.port
            ),
            _ => String::new(),
        };
        let node = format!(
            "[node]\nrole = \"{role}\"\noperator = \"operator {number}\"\nlisten = [\"127.31.{number}.1:{}\"]\n\
             state_dir = {:?}\n[network]\ndirectory = {:?}\n[worker]\nmax_pps = 2000\n[cover]\nloop_interval_ms = 50\n{keys}",
            self.port,
            self.path(&format!("state-{number}")),
            self.path("directory"),
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

    fn ask(&self, what: &str) -> Value {
        let socket = self.path("http.sock");
        let asked = mixctl()
            .args([what, "--json", "--socket", text(&socket)])
            .output()
            .unwrap();
        serde_json::from_slice(&asked.stdout).unwrap_or_default()
    }

    /// All that the daemon says of the first node; none while it is busy or lacks something.
    fn updates(&self) -> Option<Updates> {
        client::get(&self.path("http.sock"), "/api/v1/updates").ok()
    }

    /// A number of the first node's page; none while it has none.
    fn measured(&self, metric: &str) -> Option<f64> {
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
    fn log_lines(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.path("0.toml.log")).unwrap();
        log.lines().filter(|line| line.contains(words)).count()
    }

    fn is_suspected(&self) -> Option<bool> {
        Some(self.measured("mixnode_n1_suspected")? == 1.0)
    }

    /// By operator's number, where everybody is in a document; none while it lacks somebody.
    fn layers(&self) -> Option<Vec<u64>> {
        let nodes = self.ask("nodes");
        let mut layers = vec![255; NODES];
        for node in nodes["nodes"].as_array()? {
            let number: usize = node["operator"].as_str()?.split(' ').nth(1)?.parse().ok()?;
            layers[number] = node["layer"].as_u64()?;
        }
        (!layers.contains(&255)).then_some(layers)
    }

    fn signal(&self, number: usize, kind: Signal) {
        let id = Pid::from_raw(self.nodes[number].0.id() as i32).unwrap();
        kill_process(id, kind).unwrap();
    }
}

fn warns_of(status: &Status, words: &str) -> bool {
    status.warnings.iter().any(|text| text.contains(words))
}

fn has_event(updates: &Updates, level: Level, text: &str) -> bool {
    let mut events = updates.events.iter();
    events.any(|event| event.level == level && event.text == text)
}

fn names(loops: &Loops, operator: &str) -> bool {
    let mut bad = loops.bad.iter();
    bad.any(|hop| hop.operator.as_deref() == Some(operator))
}

#[test]
fn a_node_that_gets_nothing_warns_until_that_is_over_and_one_with_a_dead_neighbour_names_it() {
    let mut scene = Scene {
        folder: tempfile::tempdir().unwrap(),
        port: free_port(),
        nodes: Vec::new(),
        daemons: Vec::new(),
    };
    scene.found();
    (0..NODES).for_each(|number| scene.prepare(number));
    scene.start(("control", "mixctld"), "authority.toml", &[]);
    scene.start(("control", "mixctld"), "mixctld.toml", &["--no-xdp"]);
    let folder = scene.path("directory");
    let store = || Store::open(&folder).ok()?.read_authorities().ok()?;
    wait_until("the follower's folder", || store().is_some());
    for number in 0..NODES {
        scene.start(("mixnode", "mixnode"), &format!("{number}.toml"), &[]);
    }
    wait_until("a document with all nodes", || scene.layers().is_some());
    wait_until("loops that come home", || {
        scene.measured("mixnode_loop_returned_total") > Some(100.0)
    });
    wait_until("a node that suspects nobody", || {
        scene.is_suspected() == Some(false)
    });

    // Nothing that others send reaches the first node: the layer before it stands still.
    let of_layer = |layers: &[u64], layer: u64| -> Vec<usize> {
        (0..NODES)
            .filter(|number| layers[*number] == layer)
            .collect()
    };
    // A turn may deal them anew: then others are stopped.
    let mut stopped: Vec<usize> = Vec::new();
    wait_until("a warning of n-1", || {
        let before = scene
            .layers()
            .map(|layers| of_layer(&layers, layers[0] - 1));
        if let Some(before) = before
            && before != stopped
        {
            stopped
                .iter()
                .for_each(|number| scene.signal(*number, Signal::CONT));
            before
                .iter()
                .for_each(|number| scene.signal(*number, Signal::STOP));
            stopped = before;
        }
        // Those before it are silent, which tells this from a fault of its own on the way out.
        let silent = scene.measured("mixnode_previous_silent_ratio");
        let told = scene.updates().and_then(|updates| {
            let silence = updates.loops?.silence?;
            let is_told = warns_of(&updates.status, "somebody keeps their packets from it");
            Some((silence.silent, silence.of, is_told))
        });
        scene.is_suspected() == Some(true) && silent == Some(1.0) && told == Some((2, 2, true))
    });
    stopped
        .iter()
        .for_each(|number| scene.signal(*number, Signal::CONT));
    wait_until("its end", || scene.is_suspected() == Some(false));
    let log = std::fs::read_to_string(scene.path("0.toml.log")).unwrap();
    assert!(log.contains("n-1 suspected"), "{log}");
    let last = "no longer: n-1 suspected";
    wait_until("the events of it", || {
        scene.updates().is_some_and(|updates| {
            has_event(&updates, Level::Warning, "n-1 suspected")
                && has_event(&updates, Level::Info, last)
        })
    });

    // A gateway dies: half of all loops are lost. It is named, and nobody is suspected as long as it is listed.
    wait_until("a quiet node in a whole network", || {
        let is_quiet = |loops: Loops| loops.bad.is_empty() && !loops.n1_suspected;
        let loops = scene.updates().and_then(|updates| updates.loops);
        scene.layers().is_some() && loops.is_some_and(is_quiet)
    });
    let before = scene.log_lines("n-1 suspected");
    let dead = NODES - 1;
    let named = format!("operator {dead}");
    scene.signal(dead, Signal::KILL);
    wait_until("the dead one's name", || {
        let updates = scene.updates();
        updates.is_some_and(|updates| {
            let is_named = updates.loops.is_some_and(|loops| names(&loops, &named));
            is_named && warns_of(&updates.status, &named)
        })
    });
    wait_until("a document without it", || {
        let nodes = scene.updates().map(|updates| updates.nodes);
        nodes.is_some_and(|nodes| {
            !nodes.is_empty() && nodes.iter().all(|node| node.operator != named)
        })
    });
    assert_eq!(scene.log_lines("n-1 suspected"), before);
}
