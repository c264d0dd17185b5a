//! The packet path: what a worker does to a packet, from its port and back, and all that it keeps meanwhile.

pub mod anonymity;
pub mod clients;
pub mod core;
pub mod counters;
pub mod cover;
pub mod epochs;
pub mod grant;
pub mod half_open;
pub mod ledger;
pub mod loops;
pub mod mail;
pub mod neighbours;
pub mod prefix;
pub mod reason;
pub mod restart;
pub mod stage;
pub mod wheel;
pub mod worker;
