//! Why a node did not start or ended early, and the exit code that says it.

use std::io;
use std::net::SocketAddr;

use crate::keys::files::KeyError;
use crate::loader_link::LoaderError;
use crate::process::config::ConfigError;
use crate::process::exit;
use crate::process::sandbox::SandboxError;
use port::{ExclusiveError, UringUnavailable};
use program::limits::TooFewDescriptors;

/// Why a node did not start or ended early.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The UDP address can't be had.
    #[error(transparent)]
    Address(#[from] ExclusiveError),
    /// The management address can't be had.
    #[error(
        "[metrics] listen: can't listen on {address}: {error}; see `ss -ltnp`, or choose another port"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// More pinned workers than cores.
    #[error(
        "[worker] pin: {workers} workers need a core each, and this process may use {cores}: lower [worker] count, set \
         pin = false, or give it more (CPUAffinity=, cpuset)"
    )]
    Cores {
        /// Workers.
        workers: usize,
        /// Cores.
        cores: usize,
    },
    /// Descriptors.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The program is on no interface with the node's port.
    #[error(
        "[node] port = \"xsk\": the XDP program is attached nowhere for UDP port {port}: `mixctl xdp attach INTERFACE \
         --port {port}`"
    )]
    NotAttached {
        /// The node's UDP port.
        port: u16,
    },
    /// Fewer queues than workers.
    #[error(
        "[worker] count: {workers} workers need a queue each, and {interface} has {queues}: lower it, or `ethtool -L \
         {interface} combined {workers}`"
    )]
    Queues {
        /// The interface.
        interface: String,
        /// Its queues.
        queues: u32,
        /// Workers.
        workers: u32,
    },
    /// The program's map can't hold all receiver indices.
    #[error(
        "[worker] count: {workers} workers can have {needed} receiver indices in use, and the XDP program on {interface} has \
         room for {room}: lower it or [gateway] clients_max, or after an upgrade detach the program and attach it anew"
    )]
    Indices {
        /// The interface.
        interface: String,
        /// Workers.
        workers: u8,
        /// Receiver indices of all of them, at most.
        needed: u64,
        /// Receiver indices in the program's map.
        room: u32,
    },
    /// Asked to stop before it was up.
    #[error("stopped before it was up")]
    Stopped,
    /// io_uring was asked for by name.
    #[error("[node] port: {0}; or use port = \"plain\"")]
    Uring(#[from] UringUnavailable),
    /// The loader has no sockets for this node.
    #[error("[node] port = \"xsk\": {0}")]
    Loader(#[from] LoaderError),
    /// The loader has no keys for this node.
    #[error("[keys] vault: {0}")]
    Vault(#[source] LoaderError),
    /// A part of the sandbox is required and missing.
    #[error("{0}; or set [sandbox] mode = \"on\" to run without it")]
    Sandbox(#[from] SandboxError),
    /// A key file.
    #[error("{}: {}", .0, .0.remedy())]
    Keys(#[from] KeyError),
    /// The operating system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        error: io::Error,
    },
    /// A thread ended by itself.
    #[error("a worker ended: {0}")]
    Worker(String),
}

impl NodeError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        let of_io = |error: &io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => exit::PERMISSION,
            _ => exit::OS,
        };
        match self {
            NodeError::Config(_)
            | NodeError::Cores { .. }
            | NodeError::Queues { .. }
            | NodeError::Indices { .. }
            | NodeError::Keys(KeyError::Length { .. } | KeyError::Mode { .. }) => exit::CONFIG,
            NodeError::Keys(KeyError::Io { error, .. })
            | NodeError::Metrics { error, .. }
            | NodeError::System { error, .. } => of_io(error),
            NodeError::Stopped => exit::OK,
            NodeError::Address(ExclusiveError::Permission(_)) => exit::PERMISSION,
            NodeError::Loader(LoaderError::Refused(refusal))
            | NodeError::Vault(LoaderError::Refused(refusal)) => refusal.code,
            NodeError::Loader(LoaderError::Unreachable { error, .. })
            | NodeError::Vault(LoaderError::Unreachable { error, .. }) => of_io(error),
            NodeError::Address(_)
            | NodeError::Descriptors(_)
            | NodeError::NotAttached { .. }
            | NodeError::Uring(_)
            | NodeError::Sandbox(_)
            | NodeError::Loader(_)
            | NodeError::Vault(_)
            | NodeError::Worker(_) => exit::OS,
        }
    }
}

pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> NodeError {
    move |error| NodeError::System { what, error }
}
