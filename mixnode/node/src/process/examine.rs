//! What a start would find wrong, found before it takes anything: `--check-config` is this, and every start begins so.

use std::io;
use std::net::{SocketAddr, TcpListener};

use handover::protocol::InterfaceStatus;
use port::{Exclusive, ExclusiveError, PortKind};

use super::error::system;
use super::{NodeError, sandbox};
use crate::loader_link::{Connection, LoaderError};
use crate::process::config::Config;
use crate::process::metrics::CONNECTIONS_MAX;

/// Descriptors beside those of workers and scrapers: streams, directory, keys, loader, netlink, and room.
const DESCRIPTORS: u64 = 48;
/// Descriptors of one worker: sockets, rings, events, memory.
const WORKER_DESCRIPTORS: u64 = 8;

/// Looks at everything a start needs that the host may lack. What is returned can't be known without starting: a
/// sentence each.
///
/// # Errors
/// What a start would end with.
pub fn examine(config: &Config) -> Result<Vec<String>, NodeError> {
    let mut unchecked = Vec::new();
    program::limits::descriptors(descriptors(config))?;
    cores(config)?;
    config.node.port.resolve()?;
    let mut runs_already = false;
    if let Some(listen) = config.node.listen.first() {
        match Exclusive::examine(*listen) {
            Ok(()) => {}
            Err(ExclusiveError::OtherNode(address)) => {
                runs_already = true;
                unchecked.push(format!(
                    "[node] listen: a mixnode receives on {address} now; if it is not the one of this file, a start is \
                     refused"
                ));
            }
            Err(error) => return Err(error.into()),
        }
        if config.node.port == PortKind::Xsk {
            unchecked.extend(front_end(config, *listen)?);
        }
    }
    if config.node.port != PortKind::Xsk && config.wants_vault() {
        match Connection::connect(config.loader()) {
            Ok(_) => {}
            Err(error) if is_absent(&error) => unchecked.push(format!(
                "[keys] vault: nobody listens at {} yet; a start waits five seconds for mixctld, then epoch keys end with \
                 the process",
                config.loader().display()
            )),
            Err(error) => return Err(NodeError::Vault(error)),
        }
    }
    if let Some(listen) = config.metrics.listen {
        match TcpListener::bind(listen) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs_already => unchecked
                .push(format!(
                    "[metrics] listen: {listen} is taken, perhaps by the node that runs now"
                )),
            Err(error) => {
                return Err(NodeError::Metrics {
                    address: listen,
                    error,
                });
            }
        }
    }
    if config.sandbox.mode == sandbox::Mode::Require {
        unchecked.push(
            "[sandbox] mode = \"require\": what of it this kernel has, for giving up rights can't be tried".to_owned(),
        );
    }
    Ok(unchecked)
}

fn descriptors(config: &Config) -> u64 {
    let workers = u64::from(config.worker.count);
    let sockets = if config.node.port == PortKind::Xsk {
        handover::XSKS_MAX as u64
    } else {
        0
    };
    DESCRIPTORS + CONNECTIONS_MAX as u64 + workers * WORKER_DESCRIPTORS + sockets
}

/// Each pinned worker needs a core of its own.
fn cores(config: &Config) -> Result<(), NodeError> {
    let workers = usize::from(config.worker.count);
    let allowed = rustix::thread::sched_getaffinity(None).map_err(io::Error::from);
    let allowed = allowed.map_err(system("can't tell which cores may be used"))?;
    let cores = allowed.count() as usize;
    if config.worker.pin && workers > cores {
        return Err(NodeError::Cores { workers, cores });
    }
    Ok(())
}

/// What the loader says of the interface; a loader that is not there yet is waited for at a start.
fn front_end(config: &Config, listen: SocketAddr) -> Result<Option<String>, NodeError> {
    let loader = config.loader();
    let connection = match Connection::connect(loader) {
        Ok(connection) => connection,
        Err(error) if is_absent(&error) => {
            return Ok(Some(format!(
                "[xdp] loader: nobody listens at {} yet; a start waits for mixctld",
                loader.display()
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let interfaces = connection.status()?;
    let steers = |found: &&InterfaceStatus| found.port == listen.port();
    let Some(found) = interfaces.iter().find(steers) else {
        return Err(NodeError::NotAttached {
            port: listen.port(),
        });
    };
    let workers = u32::from(config.worker.count);
    if found.queues < workers {
        return Err(NodeError::Queues {
            interface: found.interface.clone(),
            queues: found.queues,
            workers,
        });
    }
    Ok(None)
}

/// Whether it may yet come.
pub(super) fn is_absent(error: &LoaderError) -> bool {
    matches!(error, LoaderError::Unreachable { error, .. }
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
}
