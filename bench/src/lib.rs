//! mixbench: measurements of the mixnet's parts and of the whole, and reports on them.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod anonymity;
mod cases;
mod clock;
pub mod crypto;
pub mod envelope;
pub mod flood;
mod hdr;
mod host;
pub mod lockstep;
pub mod lost;
pub mod network;
pub mod node;
pub mod peers;
pub mod pktgen;
mod plot;
pub mod report;
mod rounds;
mod rows;
mod scene;
mod stats;
mod validator;
