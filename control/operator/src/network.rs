//! `mixctl network`: joining a network.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use control::config::NETWORK_PATH;
use control::exit::{self, Failure};
use control::folder;
use directory::Bootstrap;
use directory::store::{hex, open_regular};
use mixnode::keys::files;
use mixnode::process::config;
use serde_json::json;
use sphinx::Generator;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Installs a network's file, and says what the authorities need to know of the node here
    Join {
        /// The file, from one of the authorities' operators
        file: PathBuf,
        /// Where to install it
        #[arg(long, value_name = "FILE", default_value = NETWORK_PATH)]
        to: PathBuf,
        /// The configuration of the node here, if there is one
        #[arg(long, value_name = "FILE")]
        node: Option<PathBuf>,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs one command.
///
/// # Errors
/// A file can't be read or written, or is of another network than the one joined before.
pub fn run(command: Command) -> Result<(), Failure> {
    let Command::Join {
        file,
        to,
        node,
        json,
    } = command;
    let mut bootstrap = read_network(&file)?;
    if to.exists() {
        let known = read_network(&to)?;
        bootstrap
            .check_network(&known.chain)
            .map_err(|error| Failure::new(exit::CONFIG, format!("{}: {error}", file.display())))?;
        // An old file does not roll back what is known of the authorities, nor the document.
        for set in known.chain.sets() {
            let kept = bootstrap.chain.extend(set.clone());
            kept.map_err(|error| Failure::new(exit::CONFIG, format!("{}: {error}", to.display())))?;
        }
        let epoch = |bootstrap: &Bootstrap| bootstrap.verify().ok().map(|held| held.epoch());
        if epoch(&known) > epoch(&bootstrap) {
            bootstrap.consensus = known.consensus;
        }
    }
    folder::make_for(&to, Path::new(NETWORK_PATH))?;
    bootstrap
        .write(&to)
        .and_then(|()| std::fs::set_permissions(&to, PermissionsExt::from_mode(0o644)))
        .map_err(|error| of_file(&to, error))?;
    let node = node.map(|file| of_node(&file)).transpose()?;
    let network = hex(bootstrap.chain.network());
    if json {
        let node = node.map(|(identity, role, operator)| {
            json!({ "identity": identity, "role": role, "operator": operator })
        });
        let document = json!({ "network": network, "file": to, "node": node });
        return Ok(program::print(&document.to_string())?);
    }
    let mut lines = vec![format!(
        "network {network}: compare it with what the authorities' operators say\ninstalled as {}",
        to.display()
    )];
    if let Some((identity, role, operator)) = node {
        lines.push(format!(
            "each authority admits this node: mixctl authority nodes add {identity} --role {role} --operator {operator:?}"
        ));
    }
    Ok(program::print(&lines.join("\n"))?)
}

/// Identity, role and operator of the node with this configuration. Its keys are made where there are none yet, for the
/// user whose folder they lie in.
fn of_node(file: &Path) -> Result<(String, String, String), Failure> {
    let refused = |message: String| Failure::new(exit::CONFIG, message);
    // Of the host nothing is asked: the folder that the node shares with mixctld may come later.
    let config = program::config::read(file, open_regular(file))
        .and_then(|text| config::parse(&text, file))
        .map_err(|error| refused(error.to_string()))?;
    let folder = &config.node.state_dir;
    let made = !files::are_all_there(folder);
    let mut rng = Generator::seeded(getrandom::fill)
        .map_err(|error| Failure::new(exit::OS, format!("no random bytes: {error}")))?;
    let keys = files::load_or_create(folder, &mut rng)
        .map_err(|error| refused(format!("{error}: {}", error.remedy())))?;
    if made {
        give_to_owner(folder).map_err(|error| of_file(folder, error))?;
    }
    let node = config.node;
    let identity = hex(&keys.identity.public());
    Ok((identity, node.role.to_string(), node.operator))
}

fn give_to_owner(folder: &Path) -> io::Result<()> {
    let owner = std::fs::metadata(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let now = std::fs::metadata(&path)?;
        if (now.uid(), now.gid()) != (owner.uid(), owner.gid()) {
            chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

/// Reads a network's file.
///
/// # Errors
/// It can't be read, or is none.
pub fn read_network(file: &Path) -> Result<Bootstrap, Failure> {
    Bootstrap::read(file).map_err(|error| {
        let is_unjoined =
            error.kind() == io::ErrorKind::NotFound && file == Path::new(NETWORK_PATH);
        let mut failure = of_file(file, error);
        if is_unjoined {
            failure.message += ": `mixctl network join FILE` puts it there";
        }
        failure
    })
}

/// What became of a file.
pub fn of_file(file: &Path, error: io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::InvalidData => exit::CONFIG,
        _ => Failure::from(io::Error::from(error.kind())).code,
    };
    Failure::new(code, format!("{}: {error}", file.display()))
}
