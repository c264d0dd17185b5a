//! Descriptors, consensus, epochs, path selection: what every role knows of the network.
//!
//! A node describes itself in a [`Descriptor`] and signs it. During epoch e the authorities collect
//! descriptors, deal the mixes to layers and sign one [`Consensus`] for epoch e + 1. Everyone else
//! verifies that document and selects paths from it.
//!
//! Time and randomness come in as parameters; only [`store`] touches the file system. Every decoder
//! checks the size first, then the signature, then parses strictly: one encoding a value, no trailing
//! bytes, every count bounded.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod authority_set;
pub mod beacon;
mod bootstrap;
mod consensus;
mod descriptor;
mod diff;
mod epoch;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
#[allow(clippy::panic)] // An oracle speaks by panicking.
pub mod fuzz;
mod head;
mod identity;
pub mod layers;
mod path;
mod record;
mod report;
pub mod signatures;
mod signed;
pub mod store;
pub mod vrf;
pub mod wire;

pub use authority_set::Chain;
pub use bootstrap::{BOOTSTRAP_BYTES_MAX, Bootstrap, BootstrapError};
pub use consensus::{Consensus, ConsensusError, NODES_MAX, Node};
pub use descriptor::{
    ADDRESSES_MAX, DESCRIPTOR_BYTES_MAX, Descriptor, DescriptorError, EPOCH_KEYS_MAX, EpochKey,
    FLAG_LEAVING, FLAG_PAUSED, KEM_KEY_BYTES, LinkKey, OPERATOR_BYTES_MAX, Role, SignedDescriptor,
    VRF_PROOF_BYTES,
};
pub use diff::{DIFF_BYTES_MAX, Diff, DiffError};
pub use epoch::{DELAY_CAP_MEANS, LAYERS_MAX, Parameters};
pub use head::{Head, Part, Previous};
pub use identity::{AuthorError, Authorship, Identity, verify as verify_signature};
pub use path::{
    Path, PathError, loop_path, pick_gateway, pick_gateway_besides, sample_delay_us, select_path,
};
pub use record::{RECORD_BYTES_MAX, Record, WAITING};
pub use report::{Mark, REPORT_BYTES_MAX, Report, ReportError, SignedReport};
pub use signed::{
    AUTHORITIES_MAX, Authorities, CONSENSUS_BYTES_MAX, ConsensusSignature, Held, SIGNATURE_BYTES,
    SignedConsensus, VerifyError,
};
pub use wire::DecodeError;

/// What every binary prints for `--version`: the version of the release and the git commit it was
/// built from ("unknown" when built outside a repository).
pub fn version() -> &'static str {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (commit ",
        env!("FOGMIX_COMMIT"),
        ")"
    )
}
