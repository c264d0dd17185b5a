//! The lab's folder: the store that nodes read, a config file a node, the bootstrap file for clients.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use authority::Authority;
use directory::store::{Store, hex};
use directory::{Bootstrap, Chain, Consensus, Held, Identity, Role, WAITING};
use handover::status::NodeStatus;
use port::{Exclusive, PortKind, Resolved};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::authorities::Authorities;
use super::child::Node;
use super::folder::Folder;
use super::options::Options;
use control::api::Laboratory;
use control::exit::{self, Failure};
use program::signals::Stop;

/// How long nodes may take to appear on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often a dashboard's sums are made anew.
const SECOND: Duration = Duration::from_secs(1);

/// The right to run a lab on one UDP port. An abstract unix socket: gone with the process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its life")] UnixListener);

impl Lock {
    /// Takes the right.
    ///
    /// # Errors
    /// Another lab has it, or another program has the port of a node.
    pub fn take(options: &Options) -> Result<Self, Failure> {
        let port = options.udp_port;
        // In namespaces nobody else has the nodes' addresses.
        let on_loopback = !options.xdp;
        let kind = if options.xdp { "lab-xdp" } else { "lab" };
        let name = SocketAddr::from_abstract_name(format!("fogmix/{kind}/{port}"))?;
        let lock = UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Failure::new(
                exit::OS,
                format!(
                    "another lab runs on UDP port {port}: stop it, or choose another with --udp-port"
                ),
            ),
            _ => error.into(),
        })?;
        for (number, _) in options.nodes().filter(|_| on_loopback) {
            // Taken and given back: the node itself takes it for good.
            Exclusive::acquire(options.address(number)).map_err(|error| {
                Failure::new(
                    exit::OS,
                    format!("{error}; or choose another with --udp-port"),
                )
            })?;
        }
        Ok(Self(lock))
    }
}

/// Which port the nodes use, and why not a better one.
///
/// # Errors
/// io_uring was asked for by name and can't be had.
pub fn resolve_port(options: &Options) -> Result<(&'static str, Option<String>), Failure> {
    if options.xdp {
        return Ok(("xsk", None));
    }
    match options.port.resolve() {
        Ok(Resolved::Uring) => Ok(("uring", None)),
        Ok(Resolved::Xsk) => Err(Failure::new(
            exit::USAGE,
            "--port xsk: the nodes of this lab share one interface: use auto, uring or plain",
        )),
        Ok(Resolved::Plain(reason)) => Ok(("plain", reason.map(|reason| reason.to_string()))),
        Err(reason) => Err(Failure::new(
            exit::OS,
            format!("--port uring: {reason}, or use --port plain"),
        )),
    }
}

/// Who makes the documents.
#[derive(Debug)]
enum Makers {
    /// The lab's parent itself.
    Alone(Authority),
    /// Processes of their own.
    Several(Authorities),
}

/// A network's authorities and folder.
#[derive(Debug)]
pub struct Network {
    root: PathBuf,
    store: Store,
    makers: Makers,
    current: Option<Consensus>,
    page: Option<Page>,
}

/// Its dashboard.
struct Page {
    laboratory: Laboratory,
    /// When what the nodes say is added up again.
    next: Instant,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}

/// A generator seeded by the kernel.
///
/// # Errors
/// The kernel has no randomness to give.
pub fn system_rng() -> Result<ChaCha20Rng, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::new(exit::OS, format!("no randomness: {error}")))?;
    Ok(ChaCha20Rng::from_seed(seed))
}

impl Network {
    /// Makes a network of its own in `folder`, with its own authorities, in place of an earlier lab's.
    ///
    /// Its epochs begin now.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(folder: &mut Folder, options: &Options) -> Result<Self, Failure> {
        for part in ["directory", "nodes", "network", "authorities"] {
            folder.claim(part)?;
        }
        let root = folder.root();
        let store = Store::create(&root.join("directory"))?;
        let makers = match options.authorities {
            1 => {
                let key = Identity::generate(&mut system_rng()?);
                let authority = Authority::found(key, options.parameters(unix_ms()))
                    .map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
                store.publish_authorities(authority.chain())?;
                Makers::Alone(authority)
            }
            _ => Makers::Several(Authorities::found(root, options)?),
        };
        for (number, role) in options.nodes() {
            let folder = root.join("nodes").join(number.to_string());
            fs::create_dir_all(folder.join("state"))?;
            fs::write(
                folder.join("node.toml"),
                config(root, options, number, role)?,
            )?;
        }
        Ok(Self {
            root: root.to_owned(),
            store,
            makers,
            current: None,
            page: None,
        })
    }

    /// Shows its nodes at `listen`, and says where exactly.
    ///
    /// # Errors
    /// Another process listens there; the file system's.
    pub fn show_at(
        &mut self,
        listen: std::net::SocketAddr,
        options: &Options,
    ) -> Result<String, Failure> {
        let operators = options.nodes().map(|(number, _)| operator_of(number));
        let laboratory = Laboratory::open(listen, &self.root, self.chain(), operators)
            .map_err(|failure| Failure::new(failure.code, format!("--http: {failure}")))?;
        let url = laboratory.url().to_owned();
        let next = Instant::now();
        self.page = Some(Page { laboratory, next });
        Ok(url)
    }

    /// Where node `number`'s words go, if there is a dashboard.
    pub fn ear(&self, number: u16) -> Option<impl Fn(Option<NodeStatus>) + Send + use<>> {
        let page = self.page.as_ref()?;
        Some(page.laboratory.ear(&operator_of(number)))
    }

    /// Where node `number`'s config file is.
    pub fn config_path(&self, number: u16) -> PathBuf {
        self.root
            .join("nodes")
            .join(number.to_string())
            .join("node.toml")
    }

    /// The file that clients start from.
    pub fn bootstrap_path(&self) -> PathBuf {
        self.root.join("network")
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The newest document that is in force.
    pub fn current(&self) -> Option<&Consensus> {
        self.current.as_ref()
    }

    /// Who makes the documents.
    pub fn chain(&self) -> &Chain {
        match &self.makers {
            Makers::Alone(authority) => authority.chain(),
            Makers::Several(authorities) => authorities.chain(),
        }
    }

    /// Waits for the first document that has all nodes in it; less if it is asked to stop.
    ///
    /// # Errors
    /// A node or an authority ended, or a node did not appear in time.
    pub fn open(&mut self, nodes: &mut [Node], stop: &Stop) -> Result<(), Failure> {
        let parameters = *self.chain().parameters();
        let patience = match self.makers {
            Makers::Alone(_) => START_PATIENCE,
            // Who comes late to the first document waits three more.
            Makers::Several(_) => START_PATIENCE + 6 * Duration::from_millis(parameters.epoch_ms),
        };
        let deadline = Instant::now() + patience;
        while !stop.is_asked() {
            for node in nodes.iter_mut() {
                if let Some(status) = node.gone() {
                    return Err(node.failure(status));
                }
            }
            let epoch = parameters.epoch_at(unix_ms());
            let present = match &mut self.makers {
                Makers::Alone(authority) => {
                    let descriptors = self.store.read_descriptors()?;
                    let have = descriptors
                        .iter()
                        .filter(|descriptor| descriptor.is_for(epoch));
                    let present = have.count();
                    if present == nodes.len() {
                        let document = authority
                            .make(None, epoch, &descriptors)
                            .map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
                        self.store.publish_consensus(epoch, &document)?;
                    }
                    present
                }
                Makers::Several(authorities) => {
                    if let Some(failure) = authorities.failure() {
                        return Err(failure);
                    }
                    // Who is listed and waits carries nothing yet.
                    let document = self.current.iter().filter(|held| held.epoch() == epoch);
                    let placed = document.flat_map(Consensus::nodes);
                    placed.filter(|node| node.layer != WAITING).count()
                }
            };
            self.refresh(epoch)?;
            if present == nodes.len() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let message = format!("only {present} of {} nodes came up", nodes.len());
                return Err(Failure::new(exit::OS, message));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The network's housekeeping; call it several times an epoch.
    ///
    /// # Errors
    /// The file system's.
    pub fn turn(&mut self) -> Result<(), Failure> {
        if let Makers::Alone(authority) = &self.makers {
            control::authority::turn(authority, &self.store, unix_ms())?;
        }
        self.refresh(self.chain().parameters().epoch_at(unix_ms()))
    }

    /// Authorities that ended since this was asked last, in words.
    pub fn gone_authorities(&mut self) -> Vec<String> {
        match &mut self.makers {
            Makers::Alone(_) => Vec::new(),
            Makers::Several(authorities) => authorities.gone(),
        }
    }

    /// Takes over the document of `epoch`, if it is news, and rewrites the bootstrap file with it.
    fn refresh(&mut self, epoch: u32) -> Result<(), Failure> {
        if let Some(page) = self
            .page
            .as_mut()
            .filter(|page| Instant::now() >= page.next)
        {
            page.next = Instant::now() + SECOND;
            page.laboratory.turn();
        }
        let held = self.current.as_ref().map(Consensus::epoch);
        if held >= Some(epoch) {
            return Ok(());
        }
        let software =
            |error: &dyn std::error::Error| Failure::new(exit::SOFTWARE, error.to_string());
        let Some(consensus) = self.store.read_consensus(epoch)? else {
            return Ok(());
        };
        let held = consensus
            .verify(self.chain(), &Held::default())
            .map_err(|error| software(&error))?;
        let chain = self.chain().clone();
        if let Some(page) = &mut self.page {
            page.laboratory.show(&consensus, &held, &chain);
        }
        let bootstrap = Bootstrap {
            chain,
            consensus: Some(consensus),
        };
        bootstrap.write(&self.bootstrap_path())?;
        self.current = Some(held);
        Ok(())
    }
}

/// A path as config files can say it.
///
/// # Errors
/// They can't.
pub fn utf8(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    let message = "the lab's folder must have a name in UTF-8 (--dir)";
    text.ok_or_else(|| Failure::new(exit::USAGE, message))
}

/// A node's config file. Its pool is sized by `max_pps` and the mean delay.
fn config(root: &Path, options: &Options, number: u16, role: Role) -> Result<String, Failure> {
    let max_pps = options.max_pps();
    let port = match options.port {
        _ if options.xdp => "xsk",
        PortKind::Auto => "auto",
        PortKind::Uring => "uring",
        PortKind::Plain => "plain",
        PortKind::Xsk => "xsk",
    };
    let state = utf8(&root.join("nodes").join(number.to_string()).join("state"))?;
    let directory = utf8(&root.join("directory"))?;
    let mut document = toml::Table::new();
    let mut section = |name: &str, entries: Vec<(&str, toml::Value)>| {
        let table: toml::Table = entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        document.insert(name.to_owned(), table.into());
    };
    section(
        "node",
        vec![
            ("role", role.to_string().into()),
            ("operator", operator_of(number).into()),
            ("listen", vec![options.address(number).to_string()].into()),
            ("port", port.into()),
            ("state_dir", state.into()),
            ("capacity_pps", i64::from(max_pps).into()),
        ],
    );
    section("network", vec![("directory", directory.into())]);
    section(
        "worker",
        vec![
            ("count", 1.into()),
            ("pin", false.into()),
            ("max_pps", i64::from(max_pps).into()),
        ],
    );
    if let Some(clients_max) = options.clients_max().filter(|_| role == Role::Gateway) {
        section(
            "gateway",
            vec![("clients_max", i64::from(clients_max).into())],
        );
    }
    if options.xdp {
        let loader = utf8(&super::hosts::socket_path(root, number))?;
        section("xdp", vec![("loader", loader.into())]);
    }
    if options.loss > 0.0 {
        section("fault", vec![("loss", options.loss.into())]);
    }
    toml::to_string(&document).map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))
}

/// Who runs a lab's node: each its own operator.
fn operator_of(number: u16) -> String {
    format!("lab-{number}")
}

/// The number a lab gave to the node of this identity: its operator's name says it.
pub fn number_of(operator: &str) -> Option<u16> {
    operator.strip_prefix("lab-")?.parse().ok()
}

/// A short name of a document for people: epoch and the first bytes of the beacon.
pub fn name_of(consensus: &Consensus) -> String {
    let beacon = hex(consensus.beacon());
    format!(
        "epoch {} ({})",
        consensus.epoch(),
        beacon.get(..8).unwrap_or("")
    )
}
