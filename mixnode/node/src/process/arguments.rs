//! The command line of `mixnode`: its man page and completions are made from this too.

use std::path::PathBuf;

use clap::Parser;

/// A mix node or gateway of a Fogmix network.
#[derive(Parser)]
#[command(name = "mixnode", version = directory::version(), max_term_width = 100)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/fogmix/mixnode.toml")]
    pub config: PathBuf,
    /// Check the configuration as a start would, print what it takes, and end.
    #[arg(long)]
    pub check_config: bool,
    /// Print a status line (JSON) a second.
    #[arg(long, hide = true)]
    pub status_lines: bool,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: program::log::Arguments,
}
