//! `mixctld`, the daemon: command line and exit codes.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;
use control::api;
use control::arguments::Arguments;
use control::authority::files;
use control::authority::service::{self, Signals};
use control::config::{self, CONFIG_PATH, Config};
use control::exit::{self, Failure};
use control::node::{self, Loading};
use loader::{Keeping, Options, User};
use program::complain;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tracing::level_filters::LevelFilter;

/// What the check of a daemon beside a node leaves open.
const UNCHECKED: &str = "unchecked: what the kernel grants and whether another mixctld runs: a start alone shows that \
                         (mixctl doctor examines the host)";

fn main() -> ExitCode {
    // Before anything opens descriptors of its own.
    let returned = loader::listen_fds();
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
    match start(arguments, returned) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain!("mixctld: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Whether a file is there, or may be: of one that this user may not see reading says why, and defaults are not meant.
fn may_be_there(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}

fn start(arguments: Arguments, returned: Vec<(String, OwnedFd)>) -> Result<(), Failure> {
    let usual = Path::new(CONFIG_PATH);
    let file = arguments
        .config
        .or_else(|| may_be_there(usual).then(|| usual.to_owned()));
    let config = match &file {
        Some(file) => {
            config::load(file).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?
        }
        None => Config::default(),
    };
    if arguments.check_config {
        let found = match (&config.authority, &config.directory) {
            (Some(authority), _) => files::check(authority)?,
            (None, Some(directory)) => {
                node::check(directory)?;
                config.http.as_ref().map_or(Ok(()), api::check)?;
                Vec::new()
            }
            (None, None) => Vec::new(),
        };
        let mut lines = vec![match &file {
            Some(file) => format!("{}: good", file.display()),
            None => format!("no file {}: built-in defaults", usual.display()),
        }];
        lines.extend(found);
        if config.authority.is_none() {
            lines.push(UNCHECKED.to_owned());
        }
        return Ok(program::print(&lines.join("\n"))?);
    }
    // An authority's key lies in this memory, and a node's keys in memory that it holds.
    if let Err(error) = program::limits::forbid_dumps() {
        tracing::warn!(%error, "core dumps are not forbidden, so one may have keys in it: set LimitCORE=0");
    }
    if let Some(authority) = &config.authority {
        let signals = Signals {
            stop: Arc::default(),
            reread: Arc::default(),
        };
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signals.stop))?;
        }
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reread))?;
        return service::run(authority, &signals);
    }
    let flags = [&arguments.socket, &arguments.pins]
        .into_iter()
        .any(Option::is_some)
        || arguments.node_user.is_some()
        || arguments.no_xdp;
    let keeps_alone = config.keys.is_some() && config.xdp.is_none() && arguments.pins.is_none();
    // Without a file it is a loader, as it always was.
    let loads = config.xdp.is_some() || config.directory.is_none() || flags || keeps_alone;
    let node_user = arguments.node_user.as_deref();
    let node_user = match node_user.unwrap_or(config.node_user()) {
        "" => None,
        text => Some(User::parse(text).map_err(|why| Failure::new(exit::USAGE, why))?),
    };
    let xdp = config.xdp.unwrap_or_default();
    let options = Options {
        socket: arguments.socket.unwrap_or(xdp.socket),
        pins: arguments.pins.unwrap_or(xdp.pins),
        node_user,
    };
    let keeping = Keeping::default();
    let keeping = Keeping {
        tables_bytes_max: arguments
            .tables_bytes_max
            .or(config.keys.map(|keys| keys.tables_bytes_max))
            .filter(|bytes| *bytes > 0)
            .unwrap_or(keeping.tables_bytes_max),
        returned,
        ..keeping
    };
    let loading = loads.then(|| Loading {
        options,
        keeping,
        xdp: !arguments.no_xdp && !keeps_alone,
    });
    node::run(loading, config.directory.as_ref(), config.http.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_not_be_looked_for_is_no_word_for_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(!may_be_there(&file));
        std::fs::write(&file, "").unwrap();
        assert!(may_be_there(&file));
        // As behind a folder that is somebody else's, which root would see.
        assert!(may_be_there(&file.join("mixctld.toml")));
    }
}
