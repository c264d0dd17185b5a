//! The command line of `mixctl`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::lab::{self, Options};
use crate::{
    authority, consensus, doctor, drain, duration, generate, geometry, network, watch, xdp,
};
use control::config::HTTP_SOCKET_PATH;
use control::exit::{self, Failure};
use program::complain;

/// Runs, watches and explains Fogmix networks.
#[derive(Debug, Parser)]
#[command(name = "mixctl", version = directory::version(), max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a whole network on this machine: no root, no configuration, gone with this process
    Lab(Box<Options>),
    /// Prints the packet's layout
    Geometry {
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Examines this host: kernel, CPU, io_uring, limits, ports, cards, clock, and the node if mixctld answers
    Doctor {
        /// The UDP port nodes would listen on
        #[arg(long, value_name = "PORT", default_value_t = lab::UDP_PORT)]
        udp_port: u16,
        /// Where mixctld answers, if it runs here: its [http] socket
        #[arg(long, value_name = "PATH", default_value = HTTP_SOCKET_PATH)]
        socket: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Says how the node on this host fares: asks mixctld
    Status {
        #[command(flatten)]
        asking: watch::Asking,
        /// Ends with 1 unless the node would forward a packet now
        #[arg(long)]
        ready: bool,
    },
    /// Lists the nodes of the network that the node on this host is in: asks mixctld
    Nodes {
        #[command(flatten)]
        asking: watch::Asking,
    },
    /// Says which epoch it is, and which documents are here: asks mixctld
    Epoch {
        #[command(flatten)]
        asking: watch::Asking,
    },
    /// Says what became of the node's own packets that should come back to it: asks mixctld
    Loops {
        #[command(flatten)]
        asking: watch::Asking,
    },
    /// Says what is dropped here, why, and what to do: asks mixctld
    WhyDropped {
        #[command(flatten)]
        asking: watch::Asking,
        /// What rates are taken over, an hour at most
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_since)]
        since: Duration,
        /// Prints what every reason means, as a page, and asks nobody
        #[arg(long, conflicts_with_all = ["json", "since"])]
        all: bool,
    },
    /// Shows how the node on this host fares, each second anew: asks mixctld
    Top {
        #[command(flatten)]
        asking: watch::Asking,
    },
    /// Says where the dashboard of this host is, with the token that opens it: asks mixctld
    Dashboard {
        #[command(flatten)]
        asking: watch::Asking,
    },
    /// Keys, sets and the list of nodes of those who make a network's documents
    #[command(subcommand)]
    Authority(authority::Command),
    /// Shows, fetches and verifies a network's documents
    #[command(subcommand)]
    Consensus(consensus::Command),
    /// Joins a network
    #[command(subcommand)]
    Network(network::Command),
    /// Has the node here leave the network without a packet lost, and waits for it: about two epochs
    ///
    /// It goes on running and uploading, so that its registration stays; a restart ends it. A gateway's clients are told,
    /// for their addresses change: this is for leaving for good, not for upgrades.
    Drain(drain::Options),
    /// Steers packets past the kernel into nodes: asks mixctld, which must be running
    #[command(subcommand)]
    Xdp(xdp::Command),
    /// Writes man pages and completions of all programs, for packages
    #[command(subcommand, hide = true)]
    Generate(generate::Command),
    /// One node of a lab, started by the lab itself
    #[command(hide = true)]
    LabNode {
        #[arg(long)]
        config: PathBuf,
        /// Process that must be the parent, else the lab is gone already
        #[arg(long)]
        parent: u32,
        /// Network namespace to run in, as user nobody
        #[arg(long)]
        namespace: Option<PathBuf>,
    },
    /// One of several authorities of a lab, started by the lab itself
    #[command(hide = true)]
    LabAuthority {
        #[arg(long)]
        config: PathBuf,
        /// Process that must be the parent, else the lab is gone already
        #[arg(long)]
        parent: u32,
    },
    /// The loader of one host of a lab with XDP, started by the lab itself
    #[command(hide = true)]
    LabLoader {
        /// Process that must be the parent, else the lab is gone already
        #[arg(long)]
        parent: u32,
        /// Network namespace to run in
        #[arg(long)]
        namespace: PathBuf,
        /// Where to listen
        #[arg(long)]
        socket: PathBuf,
        /// Folder on the BPF file system
        #[arg(long)]
        pins: PathBuf,
    },
}

/// A time that mixctld remembers drops for.
fn parse_since(text: &str) -> Result<Duration, String> {
    let since = duration::parse(text)?;
    match since.as_secs() {
        1..=3_600 => Ok(since),
        _ => Err("mixctld remembers an hour: ask for 1s to 1h".to_owned()),
    }
}

/// Runs the command line and says how the process ends.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { exit::USAGE });
        }
    };
    match run(arguments.command) {
        Ok(code) => code,
        Err(failure) => {
            complain!("mixctl: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Lab(options) => lab::run(&options),
        Command::Geometry { json } => {
            geometry::print(json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor {
            udp_port,
            socket,
            json,
        } => Ok(if doctor::print(udp_port, &socket, json)? {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(exit::OS)
        }),
        Command::Status { asking, ready } => Ok(match watch::status(&asking)? || !ready {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(1),
        }),
        Command::Nodes { asking } => {
            watch::nodes(&asking)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Epoch { asking } => {
            watch::epoch(&asking)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Loops { asking } => {
            watch::loops(&asking)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::WhyDropped { all: true, .. } => {
            watch::reasons()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::WhyDropped { asking, since, .. } => {
            watch::why_dropped(&asking, since)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Top { asking } => {
            watch::top(&asking)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Dashboard { asking } => {
            watch::dashboard(&asking)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Authority(command) => {
            authority::run(command)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Consensus(command) => {
            consensus::run(command)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Network(command) => {
            network::run(command)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Drain(options) => {
            drain::run(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Xdp(command) => {
            xdp::run(command)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Generate(command) => {
            generate::run(&command)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::LabNode {
            config,
            parent,
            namespace,
        } => lab::child::run(&config, parent, namespace.as_deref()),
        Command::LabAuthority { config, parent } => lab::child::run_authority(&config, parent),
        Command::LabLoader {
            parent,
            namespace,
            socket,
            pins,
        } => lab::child::run_loader(parent, &namespace, &socket, &pins),
    }
}
