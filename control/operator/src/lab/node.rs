//! A lab's child process as a node: the mixnode library under this program's name.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mixnode::process::{Node, NodeError};

use control::exit::{self, Failure};

/// Opens what the node of `config` needs, and confines this process. No other thread may run yet.
pub fn prepare(config: &Path) -> Result<Node, Failure> {
    program::log::start().map_err(|why| Failure::new(exit::USAGE, why))?;
    let mut config = mixnode::process::config::load(config)
        .map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
    // For the lab's table.
    config.status_lines = true;
    // All nodes of the lab share this machine's memory.
    config.tables_as_needed = true;
    Node::prepare(config).map_err(failure)
}

/// Runs the node until `stop`.
pub fn run(node: Node, stop: &Arc<AtomicBool>) -> Result<ExitCode, Failure> {
    node.run(stop).map_err(failure)?;
    Ok(ExitCode::SUCCESS)
}

fn failure(error: NodeError) -> Failure {
    Failure::new(error.exit_code(), error.to_string())
}
