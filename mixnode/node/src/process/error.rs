//! Why a node did not start or ended early, and the exit code that says it.

use std::io;

use crate::keys::files::KeyError;
use crate::loader_link::LoaderError;
use crate::process::config::ConfigError;
use crate::process::exit;
use crate::process::sandbox::SandboxError;
use port::{ExclusiveError, UringUnavailable};

/// Why a node did not start or ended early.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The UDP address can't be had.
    #[error(transparent)]
    Address(#[from] ExclusiveError),
    /// io_uring was asked for by name.
    #[error("[node] port: {0}; or use port = \"plain\"")]
    Uring(#[from] UringUnavailable),
    /// The loader has no sockets for this node.
    #[error("[node] port = \"xsk\": {0}")]
    Loader(#[from] LoaderError),
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
            | NodeError::Keys(KeyError::Length { .. } | KeyError::Mode { .. }) => exit::CONFIG,
            NodeError::Keys(KeyError::Io { error, .. }) | NodeError::System { error, .. } => {
                of_io(error)
            }
            NodeError::Address(ExclusiveError::Permission(_)) => exit::PERMISSION,
            NodeError::Loader(LoaderError::Refused(refusal)) => refusal.code,
            NodeError::Loader(LoaderError::Unreachable { error, .. }) => of_io(error),
            NodeError::Address(_)
            | NodeError::Uring(_)
            | NodeError::Sandbox(_)
            | NodeError::Loader(_)
            | NodeError::Worker(_) => exit::OS,
        }
    }
}

pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> NodeError {
    move |error| NodeError::System { what, error }
}
