//! The node's way to `mixctld`: reached before keys are made, because they may lie there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover::protocol::RefusalKind;
use port::Resolved;

use super::examine::is_absent;
use super::{NodeError, clocks};
use crate::keys::vault::{Vault, VaultMemory};
use crate::loader_link::{Connection, Kept, Loader, LoaderError};
use crate::process::config::Config;
use crate::process::follower::Follower;

/// Between looks for a loader that is not there yet.
const LOADER_PAUSE: Duration = Duration::from_millis(100);
/// How long a node that needs mixctld for its keys alone waits for it: both may be started at once, in any order.
const KEEPER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a node waits for its predecessor's connection to end: what a killed process had mapped goes first.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(10);

/// Where the epoch keys of a node come from that keeps them itself: it makes them at its start.
pub(super) const KEYS_OF_THIS_PROCESS: &str = "new";

/// A connection that is kept, on a thread of its own.
pub(super) struct Link {
    pub loader: Loader,
    pub keeper: JoinHandle<()>,
    /// Where the epoch keys came from, in a word.
    pub keys_origin: &'static str,
}

impl Link {
    /// Connects, if the node has a use for it, and gives `follower` the keys that lie there. `None`: there is no need
    /// for the loader, or it is not there and only keys would be.
    ///
    /// # Errors
    /// The loader is needed and of no use; another node has this one's keys; asked to stop meanwhile.
    pub fn open(
        config: &Config,
        resolved: &Resolved,
        follower: &mut Follower,
        stop: &AtomicBool,
    ) -> Result<Option<Link>, NodeError> {
        let needs_sockets = *resolved == Resolved::Xsk;
        let wants_vault = config.wants_vault();
        if !needs_sockets && !wants_vault {
            tracing::info!(
                keys_origin = "new",
                "epoch keys live in this process and end with it: after a restart the node sits out until the next \
                 document; [keys] vault = true has mixctld keep them"
            );
            return Ok(None);
        }
        let path = config.loader();
        let patience = (!needs_sockets).then_some(KEEPER_PATIENCE);
        let Some(connection) = connect(path, patience, stop)? else {
            tracing::warn!(
                loader = %path.display(),
                keys_origin = "new",
                "mixctld is not there: epoch keys live in this process and end with it"
            );
            return Ok(None);
        };
        let handed = match wants_vault {
            true => vault(&connection, &follower.identity(), stop)?,
            false => None,
        };
        let failed = super::system("can't hold on to the vault");
        let kept = handed
            .as_ref()
            .map(|handed| Kept::of(follower.identity(), handed))
            .transpose()
            .map_err(failed)?;
        if !needs_sockets && kept.is_none() {
            return Ok(None);
        }
        let (loader, keeper) = Loader::new(connection, PathBuf::from(path), kept);
        let keeper = super::threads::start("loader", move || keeper.run())?;
        let keys_origin = match handed {
            Some(handed) => keep(follower, handed, &loader),
            None => KEYS_OF_THIS_PROCESS,
        };
        Ok(Some(Link {
            loader,
            keeper,
            keys_origin,
        }))
    }
}

/// Has the follower keep its keys in what was handed over, and says where those come from.
fn keep(follower: &mut Follower, handed: VaultMemory, loader: &Loader) -> &'static str {
    match Vault::new(follower.identity(), handed, Box::new(loader.clone())) {
        Ok(vault) => {
            let origin = vault.origin();
            let keys = follower.keep_keys_in(vault, clocks().boot_ns);
            tracing::info!(
                keys_origin = origin.name(),
                keys,
                "epoch keys and replay tables outlive this process"
            );
            origin.name()
        }
        Err(error) => {
            tracing::error!(%error, keys_origin = "new", "epoch keys live in this process and end with it");
            KEYS_OF_THIS_PROCESS
        }
    }
}

/// The vault of this node; `None` if this loader has none to give, which is said.
fn vault(
    connection: &Connection,
    identity: &[u8; 32],
    stop: &AtomicBool,
) -> Result<Option<VaultMemory>, NodeError> {
    let until = Instant::now() + PREDECESSOR_PATIENCE;
    loop {
        let refusal = match connection.vault(identity) {
            Ok(handed) => return Ok(Some(handed)),
            Err(LoaderError::Refused(refusal)) => refusal,
            Err(error) => return Err(NodeError::Vault(error)),
        };
        match refusal.kind {
            RefusalKind::VaultTaken if Instant::now() < until => {
                if stop.load(Ordering::Acquire) {
                    return Err(NodeError::Stopped);
                }
                std::thread::sleep(LOADER_PAUSE);
            }
            RefusalKind::VaultTaken | RefusalKind::OtherIdentity => {
                return Err(NodeError::Vault(LoaderError::Refused(refusal)));
            }
            _ => {
                tracing::error!(
                    %refusal,
                    keys_origin = "new",
                    "mixctld keeps no keys for this node: they live in this process and end with it"
                );
                return Ok(None);
            }
        }
    }
}

/// Waits for a loader that is not there yet: for good, or with a patience.
fn connect(
    loader: &Path,
    patience: Option<Duration>,
    stop: &AtomicBool,
) -> Result<Option<Connection>, NodeError> {
    let until = patience.map(|patience| Instant::now() + patience);
    let mut said = false;
    loop {
        match Connection::connect(loader) {
            Ok(connection) => return Ok(Some(connection)),
            Err(error) if is_absent(&error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(loader = %loader.display(), "waits for mixctld");
                }
            }
            Err(error) if patience.is_some() => return Err(NodeError::Vault(error)),
            Err(error) => return Err(error.into()),
        }
        if stop.load(Ordering::Acquire) {
            return Err(NodeError::Stopped);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(None);
        }
        std::thread::sleep(LOADER_PAUSE);
    }
}
