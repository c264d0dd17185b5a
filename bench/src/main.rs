//! The command `mixbench`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use bench::flood;
use bench::lockstep::{self, What};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures the mixnet: its cryptography, its ports and nodes, and what junk costs them.
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
    /// The whole node forwards packets, in lockstep on one core, on every port there is.
    Node(lockstep::Arguments),
    /// Receiving and sending alone, in lockstep on one core, on every port there is.
    Ports(lockstep::Arguments),
    /// What honest peers keep while junk of each kind comes at ten times their rate; as root, with XDP.
    Flood(flood::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Crypto(arguments) => bench::crypto::run(&arguments),
        Command::Node(arguments) => lockstep::run(What::Node, &arguments),
        Command::Ports(arguments) => lockstep::run(What::Ports, &arguments),
        Command::Flood(arguments) => flood::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            program::complain!("mixbench: {error}");
            ExitCode::FAILURE
        }
    }
}
