//! mixbench: measurements of the mixnet's parts and of the whole, and reports on them.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod clock;
pub mod crypto;
pub mod flood;
mod host;
pub mod lockstep;
mod rounds;
mod scene;
mod stats;
