//! The mixnode process: command line, configuration, signals, exit codes.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use mixnode::process::config::Config;
use mixnode::process::{self, Arguments, NodeError, config, exit};
use program::complain;
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return ExitCode::from(if asked { exit::OK } else { exit::USAGE });
        }
    };
    if let Err(why) = arguments.log.start(LevelFilter::INFO) {
        complain!("mixnode: {why}");
        return ExitCode::from(exit::USAGE);
    }
    match start(arguments) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            complain!("mixnode: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(arguments: Arguments) -> Result<(), NodeError> {
    let mut config = config::load(&arguments.config)?;
    if arguments.check_config {
        return check(&arguments.config, &config);
    }
    for doubt in config::doubts(&config) {
        tracing::warn!("{}: {doubt}", arguments.config.display());
    }
    config.status_lines = arguments.status_lines;
    let stop = program::signals::of_daemon().map_err(|error| NodeError::System {
        what: "can't handle signals",
        error,
    })?;
    process::run(config, &stop)
}

/// What a start would look at, and what it would take.
fn check(file: &Path, config: &Config) -> Result<(), NodeError> {
    let unchecked = process::examine(config)?;
    // The epoch's length is the network's; 20 minutes is the usual one.
    let replay = process::replay_bytes(config.worker.max_pps, 20 * 60 * 1_000);
    let frames = u64::from(process::pool_frames(config, 100_000)) * u64::from(config.worker.count);
    let budget = process::budget(config, 100_000);
    let mut lines = vec![
        format!("{}: good", file.display()),
        format!(
            "replay tables: {replay} bytes at most, in memory from before their epoch on (epochs of 20 min)"
        ),
        format!(
            "frame pools: {} bytes (mean delay of 100 ms)",
            frames * port::pool::CHUNK_BYTES as u64
        ),
        format!(
            "frames of a worker: {} held for their delay, {} queued for clients, {} in rings",
            budget.wheel_frames, budget.queue_frames, budget.ring_frames
        ),
    ];
    lines.extend(
        config::doubts(config)
            .iter()
            .map(|doubt| format!("warning: {doubt}")),
    );
    lines.extend(unchecked.iter().map(|what| format!("unchecked: {what}")));
    program::print(&lines.join("\n")).map_err(|error| NodeError::System {
        what: "can't print",
        error,
    })
}
