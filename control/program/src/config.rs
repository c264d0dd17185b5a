//! Reading a program's configuration: TOML, strict, and helpful about what is wrong.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};

/// Largest file read: a configuration is a page, a list of a network's nodes a few more.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Names that are less alike than this are not one name mistyped. By Jaro and Winkler: 0 nothing alike, 1 the same.
const LIKENESS_MIN: f64 = 0.75;

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

impl ConfigError {
    /// A value of `key` in `[section]` that can't be: found in the text, so that the line is named. With an empty key the
    /// section itself.
    pub fn of(
        (file, text): (&Path, &str),
        (section, key): (&str, &str),
        problem: &str,
        remedy: &str,
    ) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            line: line_of(text, section, key),
            problem: format!(
                "[{section}] {key}{}{problem}",
                if key.is_empty() { "" } else { ": " }
            ),
            remedy: remedy.to_owned(),
        }
    }
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

/// Refuses the value of `key` unless it is an absolute path: another would mean another place from each folder that the
/// program is started in.
///
/// # Errors
/// It is relative, or empty.
pub fn absolute(of: (&Path, &str), key: (&str, &str), path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() {
        return Ok(());
    }
    let problem = format!("`{}` is no absolute path", path.display());
    let remedy = "write it from the root on, or leave the key out for its default";
    Err(ConfigError::of(of, key, &problem, remedy))
}

/// An address, or none for an empty text: for `deserialize_with`.
///
/// # Errors
/// The text is no address.
pub fn optional_address<'de, D: Deserializer<'de>>(
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

/// The text of `file`, which was `opened` by the caller in the way it sees fit.
///
/// # Errors
/// It can't be read, is not UTF-8, or is too large to be a configuration.
pub fn read(file: &Path, opened: io::Result<File>) -> Result<String, ConfigError> {
    let unreadable = |problem: String| ConfigError {
        file: file.to_owned(),
        line: None,
        problem,
        remedy: "name a readable TOML file".to_owned(),
    };
    let size_and_text = opened.and_then(|opened| {
        let size = opened.metadata()?.len();
        let mut text = String::new();
        if size <= FILE_BYTES_MAX {
            opened.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        }
        Ok((size, text))
    });
    match size_and_text {
        Ok((size, _)) if size > FILE_BYTES_MAX => {
            Err(unreadable(format!("{size} bytes is no configuration")))
        }
        Ok((_, text)) => Ok(text),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// The value that `text` is.
///
/// # Errors
/// The first thing that is wrong; for a key that nobody knows the nearest known one.
pub fn parse<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        let (problem, remedy) = explain(error.message());
        ConfigError {
            file: file.to_owned(),
            line,
            problem,
            remedy,
        }
    })
}

/// Line number of a byte.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Line of `key` in `[section]`; of the section itself for an empty key.
fn line_of(text: &str, section: &str, key: &str) -> Option<usize> {
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
        let remedy = match message {
            // As the standard library puts it, which does not say what an address is.
            "invalid socket address syntax" => "write it as IP:PORT, such as 192.0.2.1:9000",
            _ if message.ends_with("expected a sequence") => {
                "write a list, in square brackets: [\"…\"]"
            }
            _ => "correct the value; the default file shows every key",
        };
        return (message.to_owned(), remedy.to_owned());
    };
    let mut names = rest.split('`');
    let unknown = names.next().unwrap_or_default();
    // What follows alternates between known names and the punctuation around them.
    let known: Vec<&str> = names.skip(1).step_by(2).collect();
    let likeness = |name: &str| strsim::jaro_winkler(unknown, name);
    let nearest = known
        .iter()
        .filter(|name| likeness(name) >= LIKENESS_MIN)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let remedy = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!(
            "remove it, or put it into the section that it belongs to; known here: {}",
            known.join(", ")
        ),
    };
    (format!("unknown key `{unknown}`"), remedy)
}
