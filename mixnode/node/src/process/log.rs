//! Logs: to standard error, for journald or a file. Never peers, clients or paths of packets.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging at `info`, or as the variable `RUST_LOG` says. Does nothing if logging was started before.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}
