//! The replay table's insert over the model checker's atomics.

use loom::sync::atomic::{AtomicU64, Ordering};

#[path = "../../src/keys/replay/insert.rs"]
mod insert;

pub use insert::*;
