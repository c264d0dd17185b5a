//! The node's side of the XDP front end: what it asks of the loader, and what it is handed.

pub mod channel;
pub mod protocol;
