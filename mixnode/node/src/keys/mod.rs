//! Keys: those that lie in files, those of epochs, which never do, and the replay tables that die with them; and the
//! memory beyond this process that keeps both, where there is such.

pub mod epoch;
pub mod files;
pub mod heard;
pub mod replay;
pub mod vault;
