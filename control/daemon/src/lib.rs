//! The control daemon `mixctld`: beside a node it loads the XDP program and follows the network ([`node`]), or it is an authority
//! ([`authority::service`]); the two roles never meet in one process.

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

pub mod api;
pub mod arguments;
pub mod authority;
mod board;
mod clock;
pub mod config;
pub mod exit;
pub mod folder;
pub mod follower;
pub mod http;
pub mod node;

#[cfg(test)]
#[path = "../../authority/tests/network/mod.rs"]
mod network;
