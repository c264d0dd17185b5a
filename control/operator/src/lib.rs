//! The operator's command line `mixctl`: questions to a running node and its loader, and the lab, which runs a whole
//! network on this machine.

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

pub mod authority;
pub mod cli;
pub mod consensus;
pub mod doctor;
pub mod drain;
pub mod duration;
pub mod generate;
pub mod geometry;
pub mod lab;
pub mod network;
pub mod watch;
pub mod xdp;
