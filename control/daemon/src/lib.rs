//! The control daemon `mixctld`, in one of two roles that never meet in one process: beside a node it loads the XDP
//! program ([`node`]); as an authority it makes documents ([`authority`]) and holds no node's keys and no capability.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod authority;
pub mod exit;
pub mod log;
pub mod node;
