//! The control plane: mixctld (daemon) and mixctl (the operator's command line, with the lab).

#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod cli;
pub mod doctor;
pub mod duration;
pub mod exit;
pub mod geometry;
pub mod lab;
pub mod loader;
pub mod netns;
pub mod xdp;
