//! Results as they lie in a folder.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::page::Source;
use crate::envelope::{Envelope, Results, SCHEMA, Skipped};

/// The file of what a run of the set could not measure.
pub(super) const GAPS: &str = "gaps.json";
const GAPS_SCHEMA: &str = "fogmix-gaps/1";

/// What a run of the set could not measure.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gaps {
    schema: String,
    pub(super) gaps: Vec<Skipped>,
}

impl Gaps {
    pub(super) fn new(gaps: Vec<Skipped>) -> Gaps {
        Gaps {
            schema: GAPS_SCHEMA.to_owned(),
            gaps,
        }
    }
}

/// What the program beside this one says: `bench/outfox`.
#[derive(Debug, Deserialize)]
pub(super) struct Outfox {
    pub(super) runs: usize,
    pub(super) ratios: OutfoxRatios,
}

#[derive(Debug, Deserialize)]
pub(super) struct OutfoxRatios {
    pub(super) hop_native_vs_nym_outfox: f64,
}

/// One command's output.
pub(super) struct One {
    pub(super) file: String,
    pub(super) envelope: Envelope,
}

/// All of a folder, in the order of its files' names.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) all: Vec<One>,
    pub(super) outfox: Option<(String, Outfox)>,
    pub(super) gaps: Vec<Skipped>,
}

impl One {
    pub(super) fn source(&self) -> Source {
        Source {
            command: self.command(),
            file: self.file.clone(),
        }
    }

    /// As it was given, but for the form of the output.
    pub(super) fn command(&self) -> String {
        let arguments = self.envelope.arguments.iter();
        let arguments = arguments.filter(|argument| *argument != "--json");
        let words = std::iter::once("mixbench").chain(arguments.map(String::as_str));
        words.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn results(&self) -> &Results {
        &self.envelope.results
    }
}

fn broken(file: &str, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {what}"))
}

impl Stored {
    /// Reads all JSON files of a folder.
    pub(super) fn read(folder: &Path) -> io::Result<Stored> {
        let entries = std::fs::read_dir(folder).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
        })?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().filter(|name| name.ends_with(".json")) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        let mut stored = Stored::default();
        for name in names {
            let text = std::fs::read_to_string(folder.join(&name))?;
            stored.add(&name, &text)?;
        }
        Ok(stored)
    }

    /// Whether a page may be drawn of it.
    pub(super) fn may_be_drawn(&self, folder: &Path, allow_quick: bool) -> io::Result<()> {
        let quick = self.all.iter().find(|one| one.envelope.quick);
        if let Some(one) = quick.filter(|_| !allow_quick) {
            let why = "it is of --quick, and its figures are for no report; --allow-quick takes it all the same";
            return Err(broken(&one.file, why));
        }
        match self.all.is_empty() {
            true => {
                let why = "holds no results: `mixbench report --out DIR` makes them";
                Err(broken(&folder.display().to_string(), why))
            }
            false => Ok(()),
        }
    }

    fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|error| broken(name, error))?;
        match json["schema"].as_str() {
            Some(SCHEMA) => {
                let envelope = serde_json::from_value(json).map_err(|error| broken(name, error))?;
                self.all.push(One {
                    file: name.to_owned(),
                    envelope,
                });
            }
            Some(GAPS_SCHEMA) => {
                let gaps: Gaps =
                    serde_json::from_value(json).map_err(|error| broken(name, error))?;
                self.gaps.extend(gaps.gaps);
            }
            None if json["ratios"]["hop_native_vs_nym_outfox"].is_number() => {
                let outfox = serde_json::from_value(json).map_err(|error| broken(name, error))?;
                self.outfox = Some((name.to_owned(), outfox));
            }
            _ => {
                let why = format!("its schema is not {SCHEMA}: another mixbench made it, or none");
                return Err(broken(name, why));
            }
        }
        Ok(())
    }

    /// The first result of a kind.
    pub(super) fn find<'a, T>(
        &'a self,
        of: impl Fn(&'a Results) -> Option<&'a T>,
    ) -> Option<(&'a One, &'a T)> {
        self.all
            .iter()
            .find_map(|one| of(one.results()).map(|found| (one, found)))
    }
}
