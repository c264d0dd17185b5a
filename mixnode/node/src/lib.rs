//! A mix node or gateway: ports, packet stages, delay wheel, replay filter, workers.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod affinity;
pub mod config;
pub mod core;
pub mod counters;
pub mod cover;
pub mod epoch;
pub mod epochs;
pub mod exit;
pub mod follower;
pub mod frontend;
pub mod gateway;
pub mod handshake;
pub mod keys;
pub mod log;
pub mod mail;
pub mod metrics;
pub mod neighbours;
pub mod node;
pub mod pool;
pub mod port;
pub mod reason;
pub mod replay;
pub mod sandbox;
pub mod stage;
pub mod status;
pub mod wheel;
pub mod worker;
