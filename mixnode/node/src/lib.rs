//! A mix node or gateway: ports, packet stages, delay wheel, replay filter, workers.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        // They panic when nobody reads: see crate `program`.
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

pub mod assembly;
pub mod handshake;
pub mod keys;
pub mod loader_link;
pub mod measure;
pub mod path;
pub mod process;

// The datagram of the ports is the link's, and a burst fits the batches of the cryptography.
const _: () = assert!(
    port::pool::DATAGRAM_BYTES == link::DATAGRAM_BYTES && port::BATCH_MAX == sphinx::BATCH_MAX
);
// What a gateway answers in chunks is a consensus.
const _: () = assert!(link::control::DOCUMENT_BYTES_MAX == directory::CONSENSUS_BYTES_MAX);
