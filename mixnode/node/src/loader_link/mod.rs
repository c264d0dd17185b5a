//! The node's side of the XDP front end: what it asks of the loader, and what it is handed.

pub mod client;
mod connection;
pub mod indices;

pub use client::Loader;
pub use connection::{Connection, Handover, LoaderError, WorkerMemory};
pub use indices::{Indices, Unfiltered};
