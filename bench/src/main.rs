//! The command `mixbench`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures the mixnet: its cryptography, its nodes, whole networks.
#[derive(Parser)]
#[command(name = "mixbench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// X25519, whole hops, wrapping and links, beside their peers, in one run on one core.
    Crypto(bench::crypto::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Crypto(arguments) => bench::crypto::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mixbench: {error}");
            ExitCode::FAILURE
        }
    }
}
