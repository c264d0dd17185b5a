//! `mixctl generate`: man pages and completions of the programs' command lines, for packages.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use control::exit::Failure;

/// What to make of them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes a man page of each program, and of each command of mixctl and fog
    Man {
        /// Where to; it is made
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Writes completions of each program for bash, zsh and fish
    Completions {
        /// Where to; it is made
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// People's programs.
fn programs() -> [clap::Command; 2] {
    [
        crate::cli::Arguments::command(),
        fog::arguments::Arguments::command(),
    ]
}

/// Those that a service manager starts: administrators' section of the manual has them.
fn daemons() -> [clap::Command; 2] {
    [
        control::arguments::Arguments::command(),
        mixnode::process::Arguments::command(),
    ]
}

/// Runs one command.
///
/// # Errors
/// The file system's.
pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Man { folder } => man(folder),
        Command::Completions { folder } => completions(folder),
    }
}

fn man(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    for program in programs() {
        clap_mangen::generate_to(program, folder)?;
    }
    for daemon in daemons() {
        Man::new(daemon).section("8").generate_to(folder)?;
    }
    Ok(())
}

fn completions(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    for program in programs().iter().chain(&daemons()) {
        let (mut program, name) = (shown(program), program.get_name());
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut program, name, folder)?;
        }
    }
    Ok(())
}

/// A command line as its help shows it: completions would offer what is hidden, too.
fn shown(command: &clap::Command) -> clap::Command {
    // clap keeps names for ever, and this process ends soon.
    let kept = |text: &str| -> &'static str { text.to_owned().leak() };
    let arguments = command.get_arguments().filter(|one| !one.is_hide_set());
    let commands = command.get_subcommands().filter(|one| !one.is_hide_set());
    clap::Command::new(kept(command.get_name()))
        .version(command.get_version().map(kept))
        .about(command.get_about().cloned().unwrap_or_default())
        .args(arguments.cloned())
        .subcommands(commands.map(shown))
}
