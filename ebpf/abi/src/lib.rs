//! What the XDP program and the host agree on: the layouts of the maps between them and the one
//! packet parser, compiled for both sides.
//!
//! The kernel side is compiled without panics: everything here indexes through `get` or checked
//! reads, and arithmetic is wrapping or saturating.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

// The test frames, shared with `tests/kernel.rs`, speak of this crate by its name.
#[cfg(test)]
extern crate self as ebpf_abi;

mod limits;
mod maps;
mod parse;
mod reason;

pub use limits::{Tables, admit};
pub use maps::{
    Beyond, Bucket, Config, Counters, Handshakes, Rate, Rates, SESSIONS_MAX, SOURCES_MAX, XSKS_MAX,
};
pub use parse::{
    Address, DATAGRAM_BYTES, Datagram, EXTENSIONS_MAX, Packet, Parsed, Receiver, TAGS_MAX, parse,
};
pub use reason::{Action, REASONS, Reason};
