//! Logs: to standard error, for journald or a file. Never peers, clients or paths of packets.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at `info`, or as the variable `RUST_LOG` says (`debug`, or `info,TARGET=debug`). Does nothing if
/// logging was started before.
pub fn init() {
    let asked = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| text.parse().ok());
    let filter: Targets = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let output = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // Whatever other crates of the build enable.
        .with_ansi(false)
        .with_target(false);
    let _ = tracing_subscriber::registry()
        .with(output)
        .with(filter)
        .try_init();
}
