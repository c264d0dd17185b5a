//! Reading the file: strict, and helpful about what is wrong.

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use directory::Role;
use directory::store::open_regular;
use serde::{Deserialize, Deserializer, de};

use super::{Config, check};
use crate::process::sandbox;
use port::PortKind;

/// Largest file read: a config is a page.
const FILE_BYTES_MAX: u64 = 1 << 16;

/// What is wrong with a configuration, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}: {}", self.problem, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

/// Reads and checks the file: what `--check-config` does and what every start does.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let unreadable = |problem: String| ConfigError {
        file: file.to_owned(),
        line: None,
        problem,
        remedy: "name a readable TOML file with --config".to_owned(),
    };
    let opened = open_regular(file).map_err(|error| unreadable(error.to_string()))?;
    let size = opened
        .metadata()
        .map_err(|error| unreadable(error.to_string()))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("{size} bytes is no configuration")));
    }
    let mut text = String::new();
    opened
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    let config = parse(&text, file)?;
    check::check_host(&config, &text, file)?;
    Ok(config)
}

/// Reads and checks a text as far as the text alone goes.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let config: Config = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        let (problem, remedy) = explain(error.message());
        ConfigError {
            file: file.to_owned(),
            line,
            problem,
            remedy,
        }
    })?;
    check::check(&config, text, file)?;
    Ok(config)
}

/// Line number of a byte.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Line of `key` in `[section]`; of the section itself for an empty key.
pub(super) fn line_of(text: &str, section: &str, key: &str) -> Option<usize> {
    let mut current = "";
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            current = name.trim();
            if key.is_empty() && current == section {
                return Some(number);
            }
        } else if current == section
            && line
                .split('=')
                .next()
                .is_some_and(|name| name.trim() == key)
        {
            return Some(number);
        }
    }
    None
}

/// Problem and remedy of what the parser says.
fn explain(message: &str) -> (String, String) {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return (
            message.to_owned(),
            "correct the value; the default file shows every key".to_owned(),
        );
    };
    let mut names = rest.split('`');
    let unknown = names.next().unwrap_or_default();
    // What follows alternates between known names and the punctuation around them.
    let known = names.skip(1).step_by(2);
    let nearest = known.max_by(|a, b| {
        strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b))
    });
    let remedy = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "remove it".to_owned(),
    };
    (format!("unknown key `{unknown}`"), remedy)
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

pub(super) fn optional_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| de::Error::custom(format!("`{text}` is no address: use IP:PORT")))
}
