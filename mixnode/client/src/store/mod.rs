//! What outlives a run of the client: its keys and documents, and the files that arrive.

mod disk;
mod files;
pub mod home;
mod keys;
pub(crate) mod names;
pub(crate) mod paths;
mod reserves;
mod source;
mod storage;
mod used;

pub use disk::DiskStorage;
pub(crate) use source::{SentFile, Stamp};
pub use storage::{Finish, MemoryStorage, Once, Source, Standing, Storage};
