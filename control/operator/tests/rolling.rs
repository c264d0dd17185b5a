//! A network of twelve nodes is upgraded node by node while files go through it: mixes drain first and lose nothing, a
//! gateway is started again in place and loses what arrives meanwhile; every file arrives. Real processes, no root.
//!
//! A node refuses what comes of an epoch later than 3R/4 and fifty mean delays after it, and may not wait longer: what
//! left in time comes later only if the machine held it up for the rest of that. Twelve nodes and their users on a few
//! cores, with other work beside them, do so for a tenth of a second and more. With delays of 1 ms and epochs of 10 s R/4
//! and the fifty delays would leave 128 ms to a whole path; with these they leave two seconds.
//! `cargo test --release --workspace --test rolling -- --ignored --nocapture`

mod live;
mod programs;
mod running;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use directory::Parameters;
use live::{Network, Node, PATIENCE};
use loader::{Handle, Keeping, Loader, Options};
use mixnode::process::status::NodeStatus;
use mixnode::process::unix_ms;
use running::{Running, mixctl, stderr, stdout};

const ROLES: [&str; 12] = [
    "gateway", "gateway", "gateway", "mix", "mix", "mix", "mix", "mix", "mix", "mix", "mix", "mix",
];
const GATEWAYS: usize = 3;
const LAYERS: u8 = 3;
/// Mixes that leave at a time: two a layer stay.
const AT_A_TIME: usize = 3;
const EPOCH_MS: u64 = 16_000;
const MEAN_DELAY_US: u32 = 40_000;
/// What of an epoch's turn or a restart would cost packets of others.
const COSTLY: [&str; 4] = ["epoch", "no_session", "layer", "unknown_session"];

struct World {
    folder: tempfile::TempDir,
    network: Network,
    listen: Vec<SocketAddr>,
    nodes: Vec<Node>,
    _loaders: Vec<Handle>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let parameters = Parameters {
            genesis_unix_ms: unix_ms(),
            epoch_ms: EPOCH_MS,
            mean_delay_us: MEAN_DELAY_US,
            client_rate_pps: 10,
            layers: LAYERS,
        };
        let network = Network::of(&ROLES, parameters, None);
        let listen = (1..=ROLES.len()).map(|number| {
            let socket = UdpSocket::bind((format!("127.9.{number}.1"), 0)).unwrap();
            socket.local_addr().unwrap()
        });
        let mut world = World {
            listen: listen.collect(),
            network,
            nodes: Vec::new(),
            _loaders: Vec::new(),
            folder,
        };
        for number in 1..=ROLES.len() {
            let options = Options {
                socket: world.socket(number),
                ..Options::default()
            };
            let loader = Loader::without_xdp(options, Keeping::default()).unwrap();
            world._loaders.push(loader.on_a_thread().unwrap());
            let node = world.start(number);
            world.nodes.push(node);
        }
        world.network.open(&mut world.nodes);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.path(&format!("mixctld-{number}"))
    }

    fn start(&self, number: usize) -> Node {
        let more = format!(
            "[worker]\nmax_pps = 1000\n[keys]\nvault = true\nloader = {:?}\n",
            self.socket(number)
        );
        self.network
            .start(number, self.listen[number - 1], "plain", &more)
    }

    fn status(&mut self, number: usize) -> NodeStatus {
        self.nodes[number - 1].await_status(&self.network, "a status", |_| true)
    }

    /// The new version in place of the old one: it takes its keys up again. The last status of the old one.
    fn restart(&mut self, number: usize) -> NodeStatus {
        let network = &self.network;
        let last = self.nodes[number - 1].stop_while(|| network.turn());
        self.nodes[number - 1] = self.start(number);
        self.nodes[number - 1]
            .await_status(&self.network, "a place", |status| status.layer.is_some());
        last
    }

    /// Loops that a node sent and that did not come back, of those sent until two hundred more are known about: the share
    /// is of those whose fate is known, all but the few that are on their way.
    fn lost(&mut self, number: usize) -> u64 {
        self.nodes[number - 1].await_loops(&self.network, 200);
        let status = self.status(number);
        (status.loop_loss.unwrap() * status.loop_sent as f64).round() as u64
    }

    fn drain(&mut self, numbers: &[usize]) {
        let drain = |number: &usize| -> Child {
            let mut command = mixctl();
            command.args(["drain", "--json", "--socket"]);
            let command = command.arg(self.socket(*number));
            command.stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut drains: Vec<Child> = numbers.iter().map(drain).collect();
        let until = Instant::now() + PATIENCE;
        for drain in &mut drains {
            while drain.try_wait().unwrap().is_none() {
                self.network.turn();
                assert!(Instant::now() < until, "a mix does not drain");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(drain.wait().unwrap().success());
        }
    }
}

fn fog(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::program("fog", "fog"));
    command.stdin(Stdio::null()).arg("--home").arg(home);
    command.args(arguments);
    command
}

fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    stdout(&output).trim().to_owned()
}

/// Ends the sending, also when something fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends files one after the other until told to stop. How many.
fn send_files(home: &Path, address: &str, folder: &Path, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let file = folder.join(format!("{count}.txt"));
        std::fs::write(&file, format!("letter {count}\n").repeat(500)).unwrap();
        let file = file.to_str().unwrap();
        said(fog(home, &["send", address, file, "--timeout", "150s"]));
        count += 1;
    }
    count
}

#[test]
#[ignore = "minutes: a dozen epochs, and the machine to itself"]
fn twelve_nodes_are_upgraded_under_load_mixes_lose_nothing_and_every_file_arrives() {
    // Built before the clock of the network runs.
    programs::program("fog", "fog");
    let mut world = World::new();
    for number in 1..=ROLES.len() {
        world.nodes[number - 1]
            .await_status(&world.network, "a place", |status| status.layer.is_some());
    }
    let bootstrap = world.path("network");
    world.network.bootstrap().write(&bootstrap).unwrap();
    let [alice, bob, letters, inbox] =
        ["alice", "bob", "letters", "inbox"].map(|name| world.path(name));
    std::fs::create_dir(&letters).unwrap();
    std::fs::create_dir(&inbox).unwrap();
    let init = |home| {
        said(fog(
            home,
            &["init", "--network", bootstrap.to_str().unwrap()],
        ))
    };
    init(&alice);
    init(&bob);
    let address = said(fog(&bob, &["address"]));
    let mut recv = fog(&bob, &["recv", "--out", inbox.to_str().unwrap()]);
    let _receiving = Running(recv.stdout(Stdio::null()).spawn().unwrap());
    // At their start nodes have no sessions yet: what they reject and lose then is not counted.
    let lost_before: Vec<u64> = (1..=GATEWAYS).map(|number| world.lost(number)).collect();
    println!("at the start the gateways lost {lost_before:?} loops");
    let before: Vec<NodeStatus> = (1..=ROLES.len())
        .map(|number| world.status(number))
        .collect();
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let _stopping = Stopping(&stop);
        let sending = scope.spawn(|| send_files(&alice, &address, &letters, &stop));
        let mixes: Vec<usize> = (GATEWAYS + 1..=ROLES.len()).collect();
        for leaving in mixes.chunks(AT_A_TIME) {
            world.drain(leaving);
            println!("mixes {leaving:?} drained");
            for &number in leaving {
                let last = world.restart(number);
                for reason in COSTLY {
                    let of = |status: &NodeStatus| status.rejected_by.get(reason).copied();
                    let then = of(&before[number - 1]);
                    assert_eq!(of(&last), then, "mix {number}: {reason}");
                }
            }
        }
        // The gateways were there all the time: each loop went through three mixes.
        for number in 1..=GATEWAYS {
            let sent = world.status(number).loop_sent;
            let lost = world.lost(number).saturating_sub(lost_before[number - 1]);
            println!("mixes upgraded: gateway {number} lost {lost} of {sent} loops");
            assert_eq!(lost, 0, "a mix lost packets");
        }
        for number in 1..=GATEWAYS {
            world.restart(number);
            println!("gateway {number} upgraded in place");
        }
        for number in 1..=GATEWAYS {
            println!("gateway {number}: {} of its loops lost", world.lost(number));
        }
        stop.store(true, Ordering::Relaxed);
        while !sending.is_finished() {
            world.network.turn();
            std::thread::sleep(Duration::from_millis(50));
        }
        sending.join().unwrap()
    });
    let until = Instant::now() + PATIENCE;
    for number in 0..sent {
        let name = format!("{number}.txt");
        let arrived = || std::fs::read(inbox.join(&name)).ok();
        let letter = std::fs::read(letters.join(&name)).ok();
        while arrived() != letter {
            assert!(Instant::now() < until, "{name} did not arrive whole");
            world.network.turn();
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    println!("{sent} files, all identical");
    assert!(sent > 0);
}
