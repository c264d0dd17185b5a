//! `mixctld`, the daemon: command line and exit codes.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use control::{exit, node};
use handover::protocol::SOCKET_PATH;
use loader::{Options, PINS, User};
use program::complain;
use tracing::level_filters::LevelFilter;

/// Puts the XDP program on interfaces and hands nodes their AF_XDP sockets.
///
/// Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW. What it attached stays when it ends, and the next one
/// takes it over: `mixctl xdp detach` takes it off.
#[derive(Parser)]
#[command(name = "mixctld", version = directory::version(), max_term_width = 100)]
struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// Folder on a BPF file system for what outlives the daemon
    #[arg(long, value_name = "FOLDER", default_value = PINS)]
    pins: PathBuf,
    /// Who may be a node besides root and the daemon's own user: a name, a UID, or UID:GID
    #[arg(long, value_name = "USER", value_parser = User::parse)]
    node_user: Option<User>,
    #[command(flatten)]
    log: program::log::Arguments,
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
            return ExitCode::from(if asked { 0 } else { exit::USAGE });
        }
    };
    if let Err(why) = arguments.log.start(LevelFilter::INFO) {
        complain!("mixctld: {why}");
        return ExitCode::from(exit::USAGE);
    }
    let options = Options {
        socket: arguments.socket,
        pins: arguments.pins,
        node_user: arguments.node_user,
    };
    match node::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain!("mixctld: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
