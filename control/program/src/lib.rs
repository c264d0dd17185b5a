//! What every program of the tree does alike towards those who run it: words that may find no reader, configuration,
//! logs, signals, limits of the process, the service manager.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        // They panic when nobody reads: see crate `program`.
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

pub mod config;
pub mod limits;
pub mod log;
pub mod manager;
pub mod signals;
mod words;

pub use words::{complain_line, is_unseen, print, say_line, visible};
