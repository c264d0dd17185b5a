//! A lab's child process as a node: the mixnode library under this program's name.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::exit::{self, Failure};

/// Runs the node of `config` until `stop`, with a status line a second for the lab's table.
pub fn run(config: &Path, stop: &Arc<AtomicBool>) -> Result<ExitCode, Failure> {
    mixnode::log::init();
    let mut config = mixnode::config::load(config)
        .map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
    config.status_lines = true;
    mixnode::node::run(config, stop)
        .map_err(|error| Failure::new(error.exit_code(), error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}
