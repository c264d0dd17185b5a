//! What outlives a run of the client: its keys and documents, and the files that arrive.

mod disk;
pub mod home;
pub(crate) mod names;
mod paths;
mod storage;

pub use disk::DiskStorage;
pub(crate) use storage::NoStorage;
pub use storage::{Finish, MemoryStorage, Source, Standing, Storage};
