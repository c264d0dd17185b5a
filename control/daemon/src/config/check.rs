//! Reading the file, and what its values must be.

use std::path::Path;

use directory::store::open_regular;
use loader::User;
use program::config::ConfigError;

use super::Config;

/// Reads and checks the file: what `--check-config` does and what every start does.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = program::config::read(file, open_regular(file))?;
    parse(&text, file)
}

/// Reads and checks a text.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let config: Config = program::config::parse(text, file)?;
    let error = |key, problem: &str, remedy| ConfigError::of((file, text), key, problem, remedy);
    if config.authority.is_some() && config.xdp.is_some() {
        return Err(error(
            ("authority", ""),
            "together with [xdp]: who listens to the Internet does not touch the kernel for a node",
            "run an authority as a second mixctld with a file, a user and a unit of its own",
        ));
    }
    if config.authority.is_some() && config.keys.is_some() {
        return Err(error(
            ("authority", ""),
            "together with [keys]: who listens to the Internet holds no keys of a node",
            "run an authority as a second mixctld with a file, a user and a unit of its own",
        ));
    }
    if let Some(xdp) = &config.xdp
        && !xdp.node_user.is_empty()
        && let Err(why) = User::parse(&xdp.node_user)
    {
        return Err(error(
            ("xdp", "node_user"),
            &why,
            "name the user that runs mixnode",
        ));
    }
    let Some(authority) = &config.authority else {
        return Ok(config);
    };
    if authority.listen.port() == 0 {
        let remedy = "name a port, such as 7070";
        return Err(error(
            ("authority", "listen"),
            "port 0 is another one at every start",
            remedy,
        ));
    }
    if authority.admission != "open" && !Path::new(&authority.admission).is_absolute() {
        let problem = format!("{:?} is no absolute path", authority.admission);
        let remedy = "name the list of nodes, or \"open\" in a laboratory";
        return Err(error(("authority", "admission"), &problem, remedy));
    }
    Ok(config)
}
