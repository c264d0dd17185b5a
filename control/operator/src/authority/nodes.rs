//! `mixctl authority nodes`: who may be in the network.

use std::path::{Path, PathBuf};

use authority::admission::Admitted;
use clap::{Args, Subcommand};
use control::authority::nodes::{
    self, Admissions, NODES_PATH, parse_identity, parse_operator, parse_role,
};
use control::exit::{self, Failure};
use control::folder;
use directory::Role;
use directory::store::hex;
use serde_json::{Value, json};

/// What to do with the list.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lets a node in, or changes what is said of it
    Add {
        /// Its identity, as `mixctl network join` prints it there
        #[arg(value_parser = parse_identity)]
        identity: [u8; 32],
        /// mix or gateway
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// Who runs it
        #[arg(long, value_parser = parse_operator)]
        operator: String,
        /// What it may weigh at most, packets a second
        #[arg(long, value_name = "PACKETS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
        weight: u32,
        #[command(flatten)]
        file: File,
    },
    /// Lets a node in no more
    Remove {
        /// Its identity
        #[arg(value_parser = parse_identity)]
        identity: [u8; 32],
        #[command(flatten)]
        file: File,
    },
    /// Keeps a node listed and has it carry nothing, or ends that
    Pause {
        /// Its identity
        #[arg(value_parser = parse_identity)]
        identity: [u8; 32],
        /// It carries again
        #[arg(long)]
        end: bool,
        #[command(flatten)]
        file: File,
    },
    /// Prints the list
    List {
        #[command(flatten)]
        file: File,
    },
}

/// Where the list lies.
#[derive(Debug, Args)]
pub struct File {
    /// The list, as [authority] admission names it
    #[arg(long = "file", value_name = "FILE", default_value = NODES_PATH)]
    path: PathBuf,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs one command.
///
/// # Errors
/// The list can't be read or written, or knows no such node.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Add {
            identity,
            role,
            operator,
            weight,
            file,
        } => change(&file, &identity, |list| {
            let paused = list.get(&identity).is_some_and(|node| node.paused);
            let admitted = Admitted {
                role,
                operator,
                weight_max: weight,
                paused,
            };
            list.insert(identity, admitted);
            Ok(format!("{}: admitted as a {role}", hex(&identity)))
        }),
        Command::Remove { identity, file } => change(&file, &identity, |list| {
            list.remove(&identity).ok_or_else(|| unknown(&identity))?;
            Ok(format!("{}: not admitted any more", hex(&identity)))
        }),
        Command::Pause {
            identity,
            end,
            file,
        } => change(&file, &identity, |list| {
            let node = list.get_mut(&identity).ok_or_else(|| unknown(&identity))?;
            node.paused = !end;
            let now = if end { "carries again" } else { "paused" };
            Ok(format!("{}: {now}", hex(&identity)))
        }),
        Command::List { file } => {
            let list = read(&file.path)?;
            Ok(program::print(&if file.json {
                document(&list)
            } else {
                table(&list)
            })?)
        }
    }
}

/// The list; where there is none yet, it is empty.
fn read(file: &Path) -> Result<Admissions, Failure> {
    let read = nodes::read(file);
    read.map(Option::unwrap_or_default)
        .map_err(|error| Failure::new(exit::CONFIG, error.to_string()))
}

fn unknown(identity: &[u8; 32]) -> Failure {
    Failure::new(
        exit::USAGE,
        format!(
            "no node {} in the list: `mixctl authority nodes list`",
            hex(identity)
        ),
    )
}

/// Changes what the list says of one node, and says how it is now.
fn change(
    file: &File,
    identity: &[u8; 32],
    change: impl FnOnce(&mut Admissions) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let path = &file.path;
    let mut list = read(path)?;
    let done = change(&mut list)?;
    folder::make_for(path, Path::new(NODES_PATH))?;
    nodes::write(path, &list).map_err(|error| {
        let failure = Failure::from(error);
        Failure::new(
            failure.code,
            format!("{}: {}", path.display(), failure.message),
        )
    })?;
    Ok(program::print(&match file.json {
        true => {
            let node = list.get(identity).map(|node| described(identity, node));
            json!({ "identity": hex(identity), "node": node, "file": path.display().to_string() })
                .to_string()
        }
        false => format!(
            "{done}; a running authority reads {} at SIGHUP (kill -HUP PID)",
            path.display()
        ),
    })?)
}

fn described(identity: &[u8; 32], node: &Admitted) -> Value {
    json!({
        "identity": hex(identity), "role": node.role.to_string(), "operator": node.operator,
        "weight": node.weight_max, "paused": node.paused,
    })
}

fn document(list: &Admissions) -> String {
    let nodes = list
        .iter()
        .map(|(identity, node)| described(identity, node));
    json!({ "nodes": nodes.collect::<Vec<_>>() }).to_string()
}

fn table(list: &Admissions) -> String {
    let mut lines = vec![format!("{} nodes", list.len())];
    lines.extend(list.iter().map(|(identity, node)| {
        format!(
            "{}  {:<7}  {:>9}  {}{}",
            hex(identity),
            node.role.to_string(),
            node.weight_max,
            node.operator,
            if node.paused { "  (paused)" } else { "" }
        )
    }));
    lines.join("\n")
}
