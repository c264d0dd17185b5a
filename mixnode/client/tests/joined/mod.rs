//! What the tests of the command share: the command, and a store in a network whose gateway nobody runs.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use authority::Authority;
use directory::{Bootstrap, Descriptor, EpochKey, Identity, LinkKey, Parameters, Role};
use link::LinkKeys;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub fn fog(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fog"))
        .arg("--home")
        .arg(home)
        .args(arguments)
        .output()
        .expect("it runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A network of one gateway.
pub struct Network {
    pub gateway: SocketAddr,
    pub genesis_unix_ms: u64,
    /// Of its document.
    pub epoch: u32,
}

impl Default for Network {
    /// Nobody runs its gateway.
    fn default() -> Self {
        Self {
            gateway: SocketAddr::from(([127, 0, 0, 1], 9)),
            genesis_unix_ms: 1_700_000_000_000,
            epoch: 0,
        }
    }
}

/// Who makes all these networks' documents.
pub fn authority() -> Identity {
    Identity::from_bytes(&[1; 32])
}

/// A network file with one gateway that nobody runs.
pub fn write_network(path: &Path) {
    Network::default().write(path);
}

pub fn write_network_of(path: &Path, epoch: u32) {
    let network = Network {
        epoch,
        ..Network::default()
    };
    network.write(path);
}

impl Network {
    fn write(&self, path: &Path) {
        let epoch = self.epoch;
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let authority = authority();
        let parameters = Parameters {
            genesis_unix_ms: self.genesis_unix_ms,
            epoch_ms: 60_000,
            mean_delay_us: 20_000,
            client_rate_pps: 100,
            layers: 1,
        };
        let authority = Authority::found(authority, parameters).unwrap();
        let link = LinkKeys::generate(rng).public();
        let identity = Identity::generate(rng);
        let gateway = Descriptor {
            network: *authority.chain().network(),
            identity: identity.public(),
            role: Role::Gateway,
            operator: "operator".to_owned(),
            addresses: vec![self.gateway],
            link: LinkKey {
                x25519: link.x25519,
                kem: link.kem,
            },
            epoch_keys: vec![EpochKey {
                epoch,
                public_key: [9; 32],
            }],
            capacity_pps: 10,
            vrf_key: [1; 32],
            vrf_proof: None,
            flags: 0,
            published_unix_ms: 1,
        };
        let gateway = gateway.sign(&identity).unwrap();
        let bootstrap = Bootstrap {
            chain: authority.chain().clone(),
            consensus: Some(authority.make(None, epoch, &[gateway]).unwrap()),
        };
        bootstrap.write(path).unwrap();
    }
}

/// A store in a network whose gateway nobody runs, and a command on it.
pub struct Joined {
    folder: tempfile::TempDir,
    /// Somebody else's.
    pub address: String,
}

impl Joined {
    pub fn new() -> Joined {
        Self::with(&Network::default())
    }

    pub fn with(of: &Network) -> Joined {
        let folder = tempfile::tempdir().unwrap();
        let network = folder.path().join("network");
        of.write(&network);
        let init = |home: &str| {
            let home = folder.path().join(home);
            fog(&home, &["init", "--network", network.to_str().unwrap()])
        };
        init("home");
        let address = text(&init("peer").stdout).trim().to_owned();
        Joined { folder, address }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        // Whoever runs the tests may do so under nohup, and what is ignored is inherited.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_fog")]);
        command.arg("--home").arg(self.path("home")).args(arguments);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn send(&self, file: &Path, more: &[&str]) -> Command {
        let mut command = self.command(&["send", &self.address]);
        command.arg(file).args(more);
        command
    }
}

pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}
