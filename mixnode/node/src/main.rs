//! The mixnode process: command line, configuration, signals, exit codes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use clap::error::ErrorKind;
use mixnode::process::{self, config, exit, log};

/// A mix node or gateway of a Fogmix network.
#[derive(Parser)]
#[command(name = "mixnode", version = directory::version())]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/fogmix/mixnode.toml")]
    config: PathBuf,
    /// Check the configuration as a start would, print what it takes, and end.
    #[arg(long)]
    check_config: bool,
    /// Print a status line (JSON) a second.
    #[arg(long, hide = true)]
    status_lines: bool,
}

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
    let mut config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mixnode: {error}");
            return ExitCode::from(exit::CONFIG);
        }
    };
    if arguments.check_config {
        // The epoch's length is the network's; 20 minutes is the usual one.
        let replay = process::replay_bytes(config.worker.max_pps, 20 * 60 * 1_000);
        println!("{}: good", arguments.config.display());
        println!(
            "replay tables: {replay} bytes at most, in memory from before their epoch on (epochs of 20 min)"
        );
        let frames =
            u64::from(process::pool_frames(&config, 100_000)) * u64::from(config.worker.count);
        println!(
            "frame pools: {} bytes (mean delay of 100 ms)",
            frames * port::pool::CHUNK_BYTES as u64
        );
        let budget = process::budget(&config, 100_000);
        println!(
            "frames of a worker: {} held for their delay, {} queued for clients, {} in rings",
            budget.wheel_frames, budget.queue_frames, budget.ring_frames
        );
        return ExitCode::from(exit::OK);
    }
    config.status_lines = arguments.status_lines;
    log::init();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("mixnode: can't handle signals: {error}");
            return ExitCode::from(exit::OS);
        }
    }
    match process::run(config, &stop) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("mixnode: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
