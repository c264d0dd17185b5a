//! A lab without a screen, for other programs: `mixbench network` measures it.
//!
//! Such a program has a subcommand `lab-node` too, for the nodes are it again: see [`super::child::run`].

use std::path::PathBuf;

use directory::{Chain, Consensus, Role};

use super::child::{self, Node};
use super::folder::Folder;
use super::network::{Lock, Network};
use super::options::Options;
use control::exit::{self, Failure};
use program::signals::Stop;

/// Nodes and their authority. They end with it, and with the thread that started it.
#[derive(Debug)]
pub struct Bed {
    network: Network,
    nodes: Vec<Node>,
    port: &'static str,
    // After all that lives in it.
    _folder: Folder,
    _lock: Lock,
}

impl Bed {
    /// Starts a network by those options that are about nodes, and waits until all of them are in its document.
    ///
    /// # Errors
    /// Everything that keeps it from coming up, or that it was asked to stop.
    pub fn start(options: &Options, stop: &Stop) -> Result<Self, Failure> {
        let (port, _) = super::network::resolve_port(options)?;
        let lock = Lock::take(options)?;
        let mut folder = Folder::temporary()?;
        let network = Network::create(&mut folder, options)?;
        let mut bed = Self {
            network,
            nodes: Vec::new(),
            port,
            _folder: folder,
            _lock: lock,
        };
        for (number, role) in options.nodes() {
            let config = bed.network.config_path(number);
            let ear = bed.network.ear(number);
            let node = Node::start(number, role, &config, None, ear)?;
            bed.nodes.push(node);
        }
        bed.network.open(&mut bed.nodes, stop)?;
        if stop.is_asked() {
            return Err(Failure::new(stop.exit_code(), "interrupted"));
        }
        Ok(bed)
    }

    /// Makes the documents that are due; call it several times an epoch.
    ///
    /// # Errors
    /// The file system's, or a node has ended.
    pub fn turn(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            if let Some(status) = node.gone() {
                return Err(node.failure(status));
            }
        }
        self.network.turn()
    }

    /// Who makes the documents, and the one in force.
    ///
    /// # Errors
    /// There is none.
    pub fn documents(&self) -> Result<(&Chain, &Consensus), Failure> {
        let none = || Failure::new(exit::SOFTWARE, "no document is in force");
        let consensus = self.network.current().ok_or_else(none)?;
        Ok((self.network.chain(), consensus))
    }

    /// Kills a node, as it may happen to one; from then on [`Bed::turn`] says so.
    pub fn kill(&mut self, number: u16) {
        let node = self.nodes.iter_mut().find(|node| node.number == number);
        if let Some(node) = node {
            node.kill();
        }
    }

    /// The file that clients start from.
    pub fn bootstrap_path(&self) -> PathBuf {
        self.network.bootstrap_path()
    }

    /// The folder of a node's keys.
    pub fn state_of(&self, number: u16) -> PathBuf {
        self.network.config_path(number).with_file_name("state")
    }

    /// Processes of the nodes, with what each is.
    pub fn processes(&self) -> impl Iterator<Item = (Role, u32)> {
        self.nodes.iter().map(|node| (node.role, node.process()))
    }

    /// How they receive and send.
    pub fn port(&self) -> &'static str {
        self.port
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        child::stop_all(&mut self.nodes);
    }
}
