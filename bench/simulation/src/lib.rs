//! The whole network under one clock and one seed: production workers, handshakers, gateways and clients on the
//! simulated network, one authority beside them, and accidents.
//!
//! A [`Plan`] says how many of what, for how long, over which wires and with how many faults; [`World::new`] builds it
//! and [`World::run_until`] moves its clock. Everything random comes from the plan's seed, and nothing reads a clock or
//! the system's generator, so that a seed fixes every byte on every wire: [`Watcher::digest`] is one hash over them.
//! What a watcher of all wires learns of each datagram is an [`Observation`] ([`World::observe`]); what nodes count is
//! in [`World::counters`]. One thread does it all.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod error;
mod faults;
mod host;
mod node;
mod plan;
mod trace;
mod user;
mod world;

pub use error::SimulationError;
pub use faults::Fault;
pub use host::Host;
pub use node::{Node, Place};
pub use plan::Plan;
pub use trace::{Observation, Watcher, Wire};
pub use user::{Kept, Part, User};
pub use world::{SECOND, World};
