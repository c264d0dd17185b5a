//! Reading the file.

use std::path::Path;

use directory::Role;
use directory::store::open_regular;
pub use program::config::ConfigError;
use serde::{Deserialize, Deserializer, de};

use super::{Config, check};
use crate::process::sandbox;
use port::PortKind;

/// Reads and checks the file: what `--check-config` does and what every start does.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = program::config::read(file, open_regular(file))?;
    let config = parse(&text, file)?;
    check::check_host(&config, &text, file)?;
    Ok(config)
}

/// Reads and checks a text as far as the text alone goes.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let config: Config = program::config::parse(text, file)?;
    check::check(&config, text, file)?;
    Ok(config)
}

pub(super) fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "mix" => Ok(Role::Mix),
        "gateway" => Ok(Role::Gateway),
        other => Err(de::Error::custom(format!(
            "unknown role `{other}`: use \"mix\" or \"gateway\""
        ))),
    }
}

pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PortKind, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

pub(super) fn sandbox<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<sandbox::Mode, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "on" => Ok(sandbox::Mode::On),
        "require" => Ok(sandbox::Mode::Require),
        "off" => Ok(sandbox::Mode::Off),
        other => Err(de::Error::custom(format!(
            "unknown mode `{other}`: use \"on\", \"require\" or \"off\""
        ))),
    }
}
