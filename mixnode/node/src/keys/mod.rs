//! Keys: those that lie in files, those of epochs, which never do, and the replay tables that die with them.

pub mod epoch;
pub mod files;
pub mod replay;
