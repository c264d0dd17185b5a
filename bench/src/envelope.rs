//! What every command says, in one form: who measured what, on which machine, and what is missing or doubtful.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sphinx::lanes::Lanes;

use crate::anonymity;
use crate::flood;
use crate::host::{Machine, Moment};
use crate::network;
use crate::node;
use crate::peers;
use crate::pktgen;
use crate::rows::Rows;
use crate::stats::Ratio;

/// The form's name. Whoever changes what a field means counts it up.
pub(crate) const SCHEMA: &str = "fogmix-bench/1";

/// A command's output. A number's unit is in its key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The form's name.
    pub(crate) schema: String,
    #[serde(flatten)]
    pub(crate) results: Results,
    /// As the command was given.
    pub(crate) arguments: Vec<String>,
    pub(crate) version: String,
    /// What it was built of; `-dirty` if that was changed since.
    pub(crate) commit: String,
    /// Few rounds: the figures are for no report.
    pub(crate) quick: bool,
    /// When it began, RFC 3339.
    pub(crate) started: String,
    /// How long it took.
    pub(crate) seconds: f64,
    pub(crate) machine: Machine,
    /// How many times one thing is another, by name.
    pub(crate) ratios: BTreeMap<String, Ratio>,
    /// What could not be measured.
    pub(crate) skipped: Vec<Skipped>,
    /// What makes the figures doubtful.
    pub(crate) warnings: Vec<String>,
    /// What must hold of the figures and does not: they are wrong.
    pub(crate) failures: Vec<String>,
}

/// What was measured, by command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", content = "results", rename_all = "snake_case")]
pub(crate) enum Results {
    Crypto(Rows),
    Ports(Rows),
    Node(node::Report),
    Flood(flood::Report),
    Peers(peers::Report),
    Anonymity(anonymity::Report),
    Network(Box<network::Report>),
    Pktgen(pktgen::Report),
    Scaling(network::Scaling),
}

/// Something that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) why: String,
}

impl Skipped {
    pub(crate) fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Skipped {
        Skipped {
            what: what.into(),
            why: why.to_string(),
        }
    }
}

/// A command under way.
pub(crate) struct Session {
    started: SystemTime,
    clock: Instant,
    before: Moment,
    threads_pinned: usize,
    lanes: Lanes,
    quick: bool,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) warnings: Vec<String>,
    pub(crate) failures: Vec<String>,
}

impl Session {
    pub(crate) fn begin(quick: bool, threads_pinned: usize) -> Session {
        Session {
            started: SystemTime::now(),
            clock: Instant::now(),
            before: Moment::now(),
            threads_pinned,
            lanes: Lanes::from_env_or_detect(),
            quick,
            skipped: Vec::new(),
            warnings: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Where the command was given a backend of the wide arithmetic.
    pub(crate) fn with_lanes(self, lanes: Lanes) -> Session {
        Session { lanes, ..self }
    }

    /// Whether this is for a smoke test.
    pub(crate) fn quick(&self) -> bool {
        self.quick
    }

    /// What came of it.
    pub(crate) fn end(self, results: Results, ratios: BTreeMap<String, Ratio>) -> Envelope {
        let machine = Machine::between(
            &self.before,
            &Moment::now(),
            self.threads_pinned,
            self.lanes,
        );
        let mut warnings = self.warnings;
        warnings.extend(machine.doubts());
        let since = self.started.duration_since(UNIX_EPOCH);
        Envelope {
            schema: SCHEMA.to_owned(),
            results,
            arguments: std::env::args().skip(1).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("MIXBENCH_COMMIT").to_owned(),
            quick: self.quick,
            started: rfc3339(since.map_or(0, |since| since.as_secs())),
            seconds: (self.clock.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            machine,
            ratios,
            skipped: self.skipped,
            warnings,
            failures: self.failures,
        }
    }
}

impl Envelope {
    /// Whether what must hold of the figures does.
    pub fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }

    /// On standard output, and what is missing on standard error too.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn show(&self, json: bool) -> io::Result<()> {
        for Skipped { what, why } in &self.skipped {
            program::complain!("mixbench: SKIPPED: {what}: {why}");
        }
        match json {
            true => program::print(&serde_json::to_string(self)?),
            false => program::print(self.text().trim_end()),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let machine = &self.machine;
        let percent = |value: Option<f64>| value.map_or("?".into(), |value| format!("{value:.1}"));
        let mut out = format!(
            "machine  {}, {} cores, Linux {}, lanes {}\nload     {} before, {} after, {} % stolen\ncommit   {}, {}\n",
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.lanes,
            percent(machine.load_before),
            percent(machine.load_after),
            percent(machine.steal_percent),
            self.commit,
            self.started,
        );
        out.push_str(&self.results.table());
        if !self.ratios.is_empty() {
            out.push_str("\nTimes, with the 95 % interval\n");
        }
        for (name, ratio) in &self.ratios {
            let _ = writeln!(out, "  {:<46} {ratio}", name.replace('_', " "));
        }
        for Skipped { what, why } in &self.skipped {
            let _ = writeln!(out, "skipped: {what}: {why}");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "warning: {warning}");
        }
        for failure in &self.failures {
            let _ = writeln!(out, "WRONG: {failure}");
        }
        out
    }
}

impl Results {
    fn table(&self) -> String {
        match self {
            Results::Crypto(rows) | Results::Ports(rows) => rows.table(),
            Results::Node(report) => report.table(),
            Results::Flood(report) => report.table(),
            Results::Peers(report) => report.table(),
            Results::Anonymity(report) => report.table(),
            Results::Network(report) => report.table(),
            Results::Pktgen(report) => report.table(),
            Results::Scaling(report) => report.table(),
        }
    }
}

/// The JSON schema (draft 2020-12) of every command's output.
pub const SCHEMA_JSON: &str = include_str!("../schema.json");

/// Holds a file with a command's output against the schema.
///
/// # Errors
/// It can't be read, or is not as the schema says.
pub fn check(file: &Path) -> io::Result<()> {
    let broken = |what: String| {
        let text = format!("{}: {what}", file.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let text = std::fs::read_to_string(file).map_err(|error| broken(error.to_string()))?;
    let json = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    let errors = crate::validator::errors(&serde_json::from_str(SCHEMA_JSON)?, &json);
    match errors.is_empty() {
        true => Ok(()),
        false => Err(broken(format!(
            "not as the schema says: {}",
            errors.join("; ")
        ))),
    }
}

/// Seconds since 1970 as a date and a time, UTC (days to a date: Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let second = second % 60;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Holds a command's output against the schema: also that no number is missing, for NaN is written as null.
#[cfg(test)]
pub(crate) fn assert_valid(envelope: &Envelope) -> serde_json::Value {
    let json = serde_json::to_value(envelope).unwrap();
    let schema = serde_json::from_str(SCHEMA_JSON).unwrap();
    assert_eq!(
        crate::validator::errors(&schema, &json),
        Vec::<String>::new()
    );
    // What was written can be read again, and says the same.
    let again: Envelope = serde_json::from_str(&json.to_string()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), json);
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Samples;
    use crate::validator;

    fn envelope(ns: f64) -> Envelope {
        let samples = Samples {
            name: "a case".into(),
            batch: None,
            ns: vec![ns; 3],
        };
        let rows = Rows::new(3, None, vec![samples]);
        let mut session = Session::begin(true, 1);
        session.skipped.push(Skipped::new("xsk", "not root"));
        let ratio = Ratio::of(&[2.0, 2.0], &[1.0, 1.0]);
        session.end(Results::Crypto(rows), [("a_vs_b".into(), ratio)].into())
    }

    #[test]
    fn times_are_written_as_rfc_3339_says() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn an_output_fits_its_schema_and_nothing_else_does() {
        let json = assert_valid(&envelope(5.0));
        assert_eq!(json["command"], "crypto");
        assert_eq!(json["schema"], SCHEMA);
        let schema = serde_json::from_str(SCHEMA_JSON).unwrap();
        let is_valid = |json: &_| validator::errors(&schema, json).is_empty();
        let breaks = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json = json.clone();
            change(&mut json);
            !is_valid(&json)
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json.to_string()).unwrap();
        check(file.path()).unwrap();
        std::fs::write(file.path(), json.to_string().replace("min_ns", "min_us")).unwrap();
        assert!(
            check(file.path())
                .unwrap_err()
                .to_string()
                .contains("not as the schema says")
        );
        assert!(breaks(&|json| json["schema"] = "fogmix-bench/2".into()));
        assert!(breaks(&|json| json["speed"] = 1.into()));
        assert!(breaks(
            &|json| json["results"]["rows"][0]["speed"] = 1.into()
        ));
        assert!(breaks(
            &|json| json["results"]["rows"][0]["min_ns"] = "5".into()
        ));
        assert!(breaks(&|json| json["command"] = "guess".into()));
        assert!(breaks(&|json| {
            json.as_object_mut().unwrap().remove("machine");
        }));
        // A figure that is none.
        let nothing = serde_json::to_value(envelope(f64::NAN)).unwrap();
        assert!(!is_valid(&nothing));
    }

    #[test]
    fn what_is_missing_and_doubtful_is_in_the_text() {
        let mut envelope = envelope(5.0);
        envelope.warnings.push("a neighbour was loud".into());
        let text = envelope.text();
        assert!(text.contains("skipped: xsk: not root"), "{text}");
        assert!(text.contains("warning: a neighbour was loud"), "{text}");
        assert!(text.contains("2.00 (2.00 to 2.00)"), "{text}");
    }
}
