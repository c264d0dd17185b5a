//! Why keys and replay tables are not handed out, or not taken back.

use std::io;

use handover::protocol::RefusalKind as Kind;
use handover::vault::{NotAVault, SLOTS};

use super::class::of_io;
use crate::exit;

/// Why keys and replay tables are not handed out, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The vault is another node's.
    #[error(
        "mixctld holds the keys of a node with another identity: give this node that state_dir, or let go of those keys: \
         `systemctl stop mixctld`, then start it"
    )]
    OtherIdentity,
    /// Another connection has it.
    #[error(
        "process {pid} has this node's keys: stop that one first, for two nodes must not share an identity"
    )]
    Taken {
        /// The other node's process.
        pid: i32,
    },
    /// The connection has no vault.
    #[error("this connection has no vault: ask for it first")]
    NoVault,
    /// Asked again, of another size.
    #[error(
        "the replay table of epoch {epoch} has {there} bytes and not {bytes}: erase that epoch first"
    )]
    OtherSize {
        /// The epoch.
        epoch: u32,
        /// What it has.
        there: u64,
        /// What was asked for.
        bytes: u64,
    },
    /// A table of nothing.
    #[error("a replay table has at least one byte")]
    NoBytes,
    /// One more than the vault has slots.
    #[error("there are {SLOTS} replay tables already: erase an epoch first")]
    TooMany,
    /// All tables together are too large.
    #[error(
        "replay tables of {bytes} bytes in all are more than the {bytes_max} allowed: give mixctld a larger \
         [keys] tables_bytes_max, or the node a smaller [worker] max_pps"
    )]
    Budget {
        /// What they would have.
        bytes: u64,
        /// What they may have.
        bytes_max: u64,
    },
    /// Memory can't be made.
    #[error("no memory for {what}: {error}")]
    Memory {
        /// For what.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// More or fewer descriptors than tables and a vault.
    #[error("{found} descriptors came and {expected} belong to it: the vault, then each table")]
    Descriptors {
        /// How many came.
        found: usize,
        /// How many should have.
        expected: usize,
    },
    /// Two tables of one epoch.
    #[error("epoch {epoch} has two replay tables")]
    Twice {
        /// The epoch.
        epoch: u32,
    },
    /// What came is no memory file.
    #[error("{what} is no memory that mixctld made: {error}")]
    NotMemory {
        /// Vault or table.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Its size can be changed.
    #[error("{what} is not sealed: it could be cut under mixctld")]
    Unsealed {
        /// Vault or table.
        what: String,
    },
    /// It has another size.
    #[error("{what} has {found} bytes and should have {expected}")]
    Size {
        /// Vault or table.
        what: String,
        /// What it has.
        found: u64,
        /// What it should have.
        expected: u64,
    },
    /// What came as a vault is none, or another node's.
    #[error("what came as the vault can't be one of this node: {0}")]
    NotAVault(NotAVault),
    /// The loader has this node's vault, and what came is another one.
    #[error(
        "mixctld holds keys of this node already, and those that came are others: start the node anew, which takes up \
         what mixctld holds"
    )]
    OtherMemory,
}

impl VaultError {
    /// As [`super::LoaderError::code`].
    pub(super) fn code(&self) -> u8 {
        use VaultError as E;
        match self {
            E::OtherIdentity | E::Budget { .. } => exit::CONFIG,
            E::Memory { error, .. } => of_io(error),
            E::Taken { .. } => exit::OS,
            _ => exit::USAGE,
        }
    }

    /// As [`super::LoaderError::kind`].
    pub(super) fn kind(&self) -> Kind {
        use VaultError as E;
        match self {
            E::OtherIdentity => Kind::OtherIdentity,
            E::Taken { .. } => Kind::VaultTaken,
            E::NoVault => Kind::NoVault,
            E::OtherSize { .. } | E::NoBytes | E::TooMany | E::Budget { .. } => Kind::TableUnfit,
            E::Memory { .. } => Kind::Resources,
            E::Descriptors { .. }
            | E::Twice { .. }
            | E::NotMemory { .. }
            | E::Unsealed { .. }
            | E::Size { .. }
            | E::NotAVault(_)
            | E::OtherMemory => Kind::MemoryUnfit,
        }
    }
}
