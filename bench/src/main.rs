//! The command `mixbench`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::{
    anonymity, crypto, envelope, flood, lockstep, lost, network, node, peers, pktgen, report,
};
use clap::{Parser, Subcommand};

/// Wrong usage of the command line (EX_USAGE).
const USAGE: u8 = 64;

/// Measures the mixnet: its cryptography, its ports and nodes, and what junk costs them.
///
/// Ends with 0 if it measured, 1 if something got lost that must not or figures contradict each other, 64 for wrong usage, 69 if nothing could be measured.
#[derive(Parser)]
#[command(name = "mixbench", version)]
struct Arguments {
    /// Print one line of JSON in place of tables; `mixbench schema` says what is in it.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// X25519, whole hops, wrapping and links, beside their peers, in one run on one core.
    Crypto(crypto::Arguments),
    /// The whole node forwards packets on every port there is: in lockstep on one core, or paced, in real time.
    Node(node::Arguments),
    /// Receiving and sending alone, in lockstep on one core, on every port there is.
    Ports(lockstep::Arguments),
    /// What honest peers keep while junk of each kind comes at ten times their rate; as root, with XDP.
    Flood(flood::Arguments),
    /// This node beside a plain one on tokio around sphinx-packet: packets and users' bytes a core, in one run.
    Peers(peers::Arguments),
    /// A laboratory of real nodes and a thousand clients: what gets lost, how long it takes, and whether that is what theory says.
    Network(network::Arguments),
    /// Valid packets or junk to one node, at fixed times.
    Pktgen(pktgen::Arguments),
    /// What a watcher of all wires learns, by a model that is held against its law first.
    Anonymity(anonymity::Arguments),
    /// Measures the standard set and draws one page of it, or draws one of stored results.
    Report(report::Arguments),
    /// Prints the JSON schema of what the others say with --json, or holds their outputs against it.
    Schema {
        /// Files with outputs.
        #[arg(long, value_name = "FILE", num_args = 1..)]
        check: Vec<PathBuf>,
    },
    /// One node of a laboratory, started by `network` or `pktgen` itself.
    #[command(hide = true)]
    LabNode {
        #[arg(long)]
        config: PathBuf,
        /// Process that must be the parent, else the laboratory is gone already.
        #[arg(long)]
        parent: u32,
    },
}

/// How it ends: whether all is well with what was measured.
fn run(arguments: Arguments) -> io::Result<ExitCode> {
    let envelope = match arguments.command {
        Command::Crypto(arguments) => crypto::run(&arguments)?,
        Command::Node(arguments) => node::run(&arguments)?,
        Command::Ports(arguments) => lockstep::run(&arguments)?,
        Command::Flood(arguments) => flood::run(&arguments)?,
        Command::Peers(arguments) => peers::run(&arguments)?,
        Command::Anonymity(arguments) => anonymity::run(&arguments)?,
        Command::Pktgen(arguments) => pktgen::run(&arguments)?,
        Command::Network(arguments) => network::run(&arguments)?,
        Command::Report(arguments) => {
            return report::run(&arguments).map(|()| ExitCode::SUCCESS);
        }
        Command::Schema { check } if check.is_empty() => {
            let printed = program::print(envelope::SCHEMA_JSON.trim_end());
            return printed.map(|()| ExitCode::SUCCESS);
        }
        Command::Schema { check } => {
            let checked = check.iter().try_for_each(|file| envelope::check(file));
            return checked.map(|()| ExitCode::SUCCESS);
        }
        Command::LabNode { config, parent } => return Ok(network::node(&config, parent)),
    };
    envelope.show(arguments.json)?;
    Ok(match envelope.is_sound() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = !error.use_stderr();
            // There is nobody left to tell.
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { USAGE });
        }
    };
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            program::complain!("mixbench: {error}");
            ExitCode::from(lost::exit_code(&error))
        }
    }
}
