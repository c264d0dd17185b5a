//! The command line of `mixctld`: its man page and completions are made from this too.

use std::path::PathBuf;

use clap::Parser;

/// Beside a node: puts the XDP program on interfaces, hands a node its AF_XDP sockets, and keeps its epoch keys and replay
/// tables while it is away. With [authority] in its file: makes a network's documents together with the other
/// authorities.
///
/// Beside a node it needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW, but for --no-xdp. Keys return from the
/// service manager (FileDescriptorStoreMax=32 in its unit) or from the node. What it attached stays when it ends, and
/// the next one takes it over: `mixctl xdp detach` takes it off. An authority needs no capability.
#[derive(Parser)]
#[command(name = "mixctld", version = directory::version(), max_term_width = 100)]
pub struct Arguments {
    /// The configuration file [default: /etc/fogmix/mixctld.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration and end
    #[arg(long)]
    pub check_config: bool,
    /// Where to listen, in place of [xdp] socket; /run/fogmix/mixctld.sock where that section is left out
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Folder on a BPF file system for what outlives the daemon, in place of [xdp] pins
    #[arg(long, value_name = "FOLDER")]
    pub pins: Option<PathBuf>,
    /// Who may be a node besides root and the daemon's own user: a name, a UID, or UID:GID; in place of node_user in [xdp]
    /// and [keys]
    #[arg(long, value_name = "USER")]
    pub node_user: Option<String>,
    /// Beside a node on another port: keep its keys and load no program, which needs no capability, as [keys] without
    /// [xdp] has it too
    #[arg(long)]
    pub no_xdp: bool,
    /// What all replay tables together may take, in place of [keys] tables_bytes_max; half the machine's memory unless
    /// said otherwise
    #[arg(long, value_name = "BYTES")]
    pub tables_bytes_max: Option<u64>,
    /// What is logged, and how
    #[command(flatten)]
    pub log: program::log::Arguments,
}
