//! The node's side of the loader: what it asks for, sockets behind the XDP program and memory for keys, and what it is
//! handed.

pub mod client;
mod connection;
pub mod indices;
mod kept;
mod report;

pub use client::Loader;
pub use connection::{Connection, Handover, LoaderError, WorkerMemory};
pub use indices::{Indices, Unfiltered};
pub use kept::Kept;
pub use report::Report;
