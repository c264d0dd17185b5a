//! A small network of real `mixnode` processes around an authority played here: one gateway, two layers of one mix,
//! unless said otherwise.

#![allow(dead_code, reason = "each test target uses its part")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use authority::Authority;
use directory::store::Store;
use directory::{Bootstrap, Identity, Parameters};
use mixnode::process::status::NodeStatus;
use mixnode::process::unix_ms;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rustix::process::Signal;

pub const PATIENCE: Duration = Duration::from_secs(120);
/// Roles of the nodes numbered from 1.
pub const ROLES: [&str; 3] = ["gateway", "mix", "mix"];

/// Folder and authority.
pub struct Network {
    folder: tempfile::TempDir,
    pub store: Store,
    authority: Authority,
    roles: &'static [&'static str],
    /// Whom the nodes run as, if not as this process.
    user: Option<u32>,
    program: PathBuf,
    /// Everything that nodes can say goes to `log-NUMBER` there.
    pub is_logged: bool,
}

impl Network {
    pub fn new(epoch_ms: u64, user: Option<u32>) -> Network {
        let parameters = Parameters {
            genesis_unix_ms: unix_ms(),
            epoch_ms,
            mean_delay_us: 1_000,
            client_rate_pps: 10,
            layers: 2,
        };
        Network::of(&ROLES, parameters, user)
    }

    /// The same of any size: the nodes' roles, and what they agree on.
    pub fn of(
        roles: &'static [&'static str],
        parameters: Parameters,
        user: Option<u32>,
    ) -> Network {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut rng = ChaCha20Rng::seed_from_u64(unix_ms());
        let authority = Authority::found(Identity::generate(&mut rng), parameters).unwrap();
        let store = Store::create(&root.join("directory")).unwrap();
        store.publish_authorities(authority.chain()).unwrap();
        // Where any user may run it. Copied by another process: a descriptor that writes to it, inherited by what some
        // other test starts meanwhile, would keep it from being run.
        let program = root.join("mixnode");
        let copied = Command::new("cp")
            .args([&crate::programs::program("mixnode", "mixnode"), &program])
            .status();
        assert!(copied.unwrap().success());
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root, open).unwrap();
        if user.is_some() {
            chown(store.descriptors_path(), user, user).unwrap();
        }
        Network {
            folder,
            store,
            authority,
            roles,
            user,
            program,
            is_logged: false,
        }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Starts node `number` from the calling thread, hence in its network namespace; `more` is the end of its
    /// configuration.
    pub fn start(&self, number: usize, listen: SocketAddr, port: &str, more: &str) -> Node {
        let state = self.root().join(format!("state-{number}"));
        std::fs::create_dir_all(&state).unwrap();
        chown(&state, self.user, self.user).unwrap();
        // A test that counts packets wants none of the node's own.
        let cover = match more.contains("[cover]") {
            true => "",
            false => "[cover]\nloop_interval_ms = 50\n",
        };
        let text = format!(
            "[node]\nrole = {:?}\noperator = \"operator {number}\"\nport = {port:?}\nlisten = [\"{listen}\"]\n\
             state_dir = {state:?}\ncapacity_pps = 100000\n[network]\ndirectory = {:?}\n\
             {cover}[sandbox]\nmode = \"require\"\n{more}",
            self.roles[number - 1],
            self.store.root(),
        );
        let config = self.root().join(format!("{number}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["--status-lines", "--config"]).arg(&config);
        if self.is_logged {
            let log = self.root().join(format!("log-{number}"));
            let log = File::options().append(true).create(true).open(log);
            command.env("RUST_LOG", "trace").stderr(log.unwrap());
        }
        // Where a core would lie.
        command.current_dir(self.root());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, statuses) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Node { child, statuses }
    }

    /// Waits for all nodes' descriptors and signs the first document that has them.
    pub fn open(&self, nodes: &mut [Node]) {
        self.open_with(nodes, 0);
    }

    /// The same, where `played` more have no process.
    pub fn open_with(&self, nodes: &mut [Node], played: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let epoch = self.authority.parameters().epoch_at(unix_ms());
            let descriptors = self.store.read_descriptors().unwrap();
            let ready = descriptors.iter().filter(|one| one.is_for(epoch));
            if ready.count() == nodes.len() + played {
                let document = self.authority.make(None, epoch, &descriptors).unwrap();
                self.store.publish_consensus(epoch, &document).unwrap();
                return;
            }
            assert!(Instant::now() < until, "a node published no descriptor");
            for node in &mut *nodes {
                assert_eq!(node.child.try_wait().unwrap(), None, "a node ended");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What users join with, once there is a document.
    pub fn bootstrap(&self) -> Bootstrap {
        let epoch = self.authority.parameters().epoch_at(unix_ms());
        Bootstrap {
            chain: self.authority.chain().clone(),
            consensus: self.store.read_consensus(epoch).unwrap(),
        }
    }

    /// What an authority does all the time.
    pub fn turn(&self) {
        control::authority::turn(&self.authority, &self.store, unix_ms()).unwrap();
    }
}

/// A process that ends with the test, however that ends.
pub struct Node {
    pub child: Child,
    statuses: Receiver<NodeStatus>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// The first status from now on that `fits`, while the network goes on.
    pub fn await_status(
        &mut self,
        network: &Network,
        what: &str,
        mut fits: impl FnMut(&NodeStatus) -> bool,
    ) -> NodeStatus {
        let until = Instant::now() + PATIENCE;
        let _ = self.statuses.try_iter().count();
        let mut last = NodeStatus::default();
        loop {
            network.turn();
            match self.statuses.recv_timeout(Duration::from_millis(200)) {
                Ok(status) if fits(&status) => return status,
                Ok(status) => last = status,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the node ended before {what}"),
            }
            assert!(Instant::now() < until, "{what} did not come: {last:?}");
        }
    }

    /// Waits until `count` more loop packets have come back than now.
    pub fn await_loops(&mut self, network: &Network, count: u64) -> NodeStatus {
        let before = self
            .await_status(network, "a status", |_| true)
            .loop_returned;
        self.await_status(network, "loops that return", |status| {
            status.loop_returned >= before + count
        })
    }

    /// Asks the process to stop; its last status.
    pub fn stop(&mut self) -> NodeStatus {
        self.stop_while(|| ())
    }

    /// The same, while other things go on.
    pub fn stop_while(&mut self, mut meanwhile: impl FnMut()) -> NodeStatus {
        self.signal(Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the node does not stop");
            meanwhile();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.child.wait().unwrap().success());
        self.statuses.iter().last().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }
}
