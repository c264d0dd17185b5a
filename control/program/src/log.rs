//! Logs: to standard error, for a terminal, journald or a program. Never peers, clients or paths of packets.
//!
//! Whatever is logged may be caused by strangers as often as they like, so each place in the source may speak only so
//! often; what was left out is counted in the next line of that place.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::words::visible;

/// Lines of one place in the source at once, and how often one more after that.
const BURST: f64 = 20.0;
const SECONDS_A_LINE: f64 = 5.0;

/// The variable with levels, as everywhere, and the one with the format.
const LEVELS_VARIABLE: &str = "RUST_LOG";
const FORMAT_VARIABLE: &str = "FOGMIX_LOG_FORMAT";

/// The flags for logs.
#[derive(Clone, Debug, Default, clap::Args)]
// Its name is every program's for its own flags.
#[group(skip)]
pub struct Arguments {
    /// What is logged: error, warn, info, debug, trace or off (of libraries no more than info), or TARGET=LEVEL, several
    /// with commas [default: $RUST_LOG, or info, and of fog warn]
    #[arg(long, value_name = "LEVELS", global = true)]
    pub log: Option<String>,
    /// How: text, json (one object a line), journald (priorities, no times) [default: $FOGMIX_LOG_FORMAT, or journald
    /// where standard error is the journal, or text]
    #[arg(long, value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
}

impl Arguments {
    /// Starts logging. The flags count before the environment, that before `otherwise`. Does nothing more if logging
    /// was started before.
    ///
    /// # Errors
    /// Flag or variable can't be understood: which one, and what can be.
    pub fn start(&self, otherwise: LevelFilter) -> Result<(), String> {
        let levels = match chosen(self.log.as_deref(), "--log", LEVELS_VARIABLE)? {
            Some((text, from)) => {
                levels(&text, otherwise).map_err(|why| format!("{from}: {why}"))?
            }
            None => Targets::new().with_default(otherwise),
        };
        let format = match chosen(self.log_format.as_deref(), "--log-format", FORMAT_VARIABLE)? {
            Some((text, from)) => format(&text).map_err(|why| format!("{from}: {why}"))?,
            None if is_journal() => Format::Journald,
            None => Format::Text,
        };
        let output = Output::new(format, |line| {
            // Nobody is left to tell of a failure.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        });
        let _ = tracing_subscriber::registry()
            .with(output.with_filter(levels))
            .try_init();
        Ok(())
    }
}

/// Starts logging as the environment says, for processes without flags of their own.
///
/// # Errors
/// As for [`Arguments::start`].
pub fn start() -> Result<(), String> {
    Arguments::default().start(LevelFilter::INFO)
}

/// A flag's text or a variable's, with the name of what it comes from.
fn chosen(
    flag: Option<&str>,
    name: &'static str,
    variable: &'static str,
) -> Result<Option<(String, &'static str)>, String> {
    if let Some(text) = flag {
        return Ok(Some((text.to_owned(), name)));
    }
    match std::env::var(variable) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some((text, variable))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{variable} is no text")),
    }
}

/// This workspace's own crates, as targets of their events.
const OWN: &str = "authority bench control directory ebpf_abi fog handover link loader mixbench mixctl mixctld mixnode \
    operator port program simulation sphinx";

/// `LEVEL` and `TARGET=LEVEL`, with commas. A level by itself is meant for what these programs say: libraries print at
/// `trace` whatever they transmit, tokens and all, and do so only for who asks for them by name.
fn levels(text: &str, otherwise: LevelFilter) -> Result<Targets, String> {
    let level = |word: &str| {
        // Numbers and nothing are levels to that crate, and to nobody else.
        let known = word.trim().parse::<LevelFilter>();
        known
            .ok()
            .filter(|_| word.trim().starts_with(|c: char| c.is_ascii_alphabetic()))
            .ok_or_else(|| {
                format!(
                    "`{}` is no level: use error, warn, info, debug, trace or off, or TARGET=LEVEL",
                    visible(word.trim().as_bytes())
                )
            })
    };
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    let (named, whole): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.contains('='));
    let mut all = otherwise;
    for word in whole {
        all = level(word)?;
    }
    let mut targets = Targets::new()
        .with_targets(OWN.split(' ').map(|name| (name, all)))
        .with_default(all.min(LevelFilter::INFO));
    for (target, word) in named.iter().filter_map(|part| part.split_once('=')) {
        targets = targets.with_target(target.trim(), level(word)?);
    }
    Ok(targets)
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Journald,
}

fn format(text: &str) -> Result<Format, String> {
    match text.trim() {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "journald" => Ok(Format::Journald),
        other => Err(format!(
            "`{}` is no format: use text, json or journald",
            visible(other.as_bytes())
        )),
    }
}

/// Whether standard error is the journal's, as systemd says with the file's device and number (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}

/// How often one place in the source has spoken.
struct Bucket {
    left: f64,
    at: Instant,
    kept_back: u64,
}

/// Writes events as lines.
struct Output<W> {
    format: Format,
    buckets: Mutex<HashMap<Identifier, Bucket>>,
    write: W,
}

impl<W: Fn(&str) + Send + Sync + 'static> Output<W> {
    fn new(format: Format, write: W) -> Self {
        Self {
            format,
            buckets: Mutex::new(HashMap::new()),
            write,
        }
    }

    /// Whether this place may speak now, and how many of its lines were kept back before.
    fn admit(&self, event: &Event<'_>, now: Instant) -> Option<u64> {
        if *event.metadata().level() >= Level::DEBUG {
            return Some(0);
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets
            .entry(event.metadata().callsite())
            .or_insert(Bucket {
                left: BURST,
                at: now,
                kept_back: 0,
            });
        let passed_s = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed_s / SECONDS_A_LINE).min(BURST);
        bucket.at = now;
        if bucket.left < 1.0 {
            bucket.kept_back += 1;
            return None;
        }
        bucket.left -= 1.0;
        Some(std::mem::take(&mut bucket.kept_back))
    }
}

impl<S: Subscriber, W: Fn(&str) + Send + Sync + 'static> Layer<S> for Output<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(kept_back) = self.admit(event, Instant::now()) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        if kept_back > 0 {
            let more = Value::from(kept_back);
            fields.others.push(("more_like_this", more));
        }
        let mut time = String::new();
        // Writing to a string can't fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let metadata = event.metadata();
        (self.write)(&line(
            self.format,
            &time,
            *metadata.level(),
            metadata.target(),
            fields,
        ));
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// One line, its end included. Whatever strangers wrote stays in it.
fn line(format: Format, time: &str, level: Level, target: &str, fields: Fields) -> String {
    if format == Format::Json {
        let mut object = Map::new();
        object.insert("time".to_owned(), time.into());
        object.insert("level".to_owned(), level.as_str().to_lowercase().into());
        object.insert("target".to_owned(), target.into());
        object.insert("message".to_owned(), fields.message.into());
        let others = fields.others.into_iter();
        object.extend(others.map(|(name, value)| (name.to_owned(), value)));
        return format!("{}\n", Value::Object(object));
    }
    let mut text = visible(fields.message.as_bytes());
    for (name, value) in fields.others {
        let _ = match &value {
            Value::String(value) if value.contains(' ') || value.is_empty() => {
                write!(text, " {name}=\"{}\"", visible(value.as_bytes()))
            }
            Value::String(value) => write!(text, " {name}={}", visible(value.as_bytes())),
            value => write!(text, " {name}={value}"),
        };
    }
    if format == Format::Journald {
        // Priorities of sd-daemon(3); the journal knows the time.
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        return format!("<{priority}>{text}\n");
    }
    format!("{time} {level:>5} {text}\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The lines that `speak` causes.
    fn logged(format: Format, levels: Targets, speak: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let output = Output::new(format, move |line| {
            into.lock().unwrap().push(line.to_owned())
        });
        let subscriber = tracing_subscriber::registry().with(output.with_filter(levels));
        tracing::subscriber::with_default(subscriber, speak);
        lines.lock().unwrap().clone()
    }

    fn info() -> Targets {
        Targets::new().with_default(LevelFilter::INFO)
    }

    #[test]
    fn the_journal_gets_priorities_and_no_times() {
        let lines = logged(Format::Journald, info(), || {
            tracing::error!("down");
            tracing::warn!(epoch = 7, "missing");
            tracing::info!(why = "two words", port = "plain", "up");
            tracing::debug!("unheard");
        });
        assert_eq!(
            lines,
            [
                "<3>down\n",
                "<4>missing epoch=7\n",
                "<6>up why=\"two words\" port=plain\n"
            ]
        );
    }

    #[test]
    fn a_line_of_text_has_its_time_and_stays_one_line() {
        let lines = logged(Format::Text, info(), || {
            tracing::info!(name = %"a\nb\u{202e}", "said");
        });
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert!(
            line.ends_with("  INFO said name=a\\u{a}b\\u{202e}\n"),
            "{line}"
        );
        assert!(
            line.starts_with("20") && line.contains('T') && line.contains("Z "),
            "{line}"
        );
    }

    #[test]
    fn json_is_one_object_a_line_with_numbers_as_numbers() {
        let lines = logged(Format::Json, info(), || {
            tracing::warn!(count = 3, ok = true, error = %"no", "words");
        });
        let read: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(read["level"], "warn");
        assert_eq!(read["message"], "words");
        assert_eq!((&read["count"], &read["ok"]), (&3.into(), &true.into()));
        assert_eq!(read["error"], "no");
        assert!(lines[0].ends_with("}\n") && lines[0].matches('\n').count() == 1);
    }

    #[test]
    fn what_a_stranger_can_cause_is_logged_only_so_often() {
        let lines = logged(Format::Journald, info(), || {
            for number in 0..3_000 {
                tracing::warn!(number, "refused");
            }
            tracing::warn!("another place");
        });
        assert!((20..=22).contains(&lines.len()), "{}", lines.len());
        assert_eq!(lines.last().unwrap(), "<4>another place\n");
    }

    #[test]
    fn lines_that_were_kept_back_are_counted_in_the_next() {
        let output = Output::new(Format::Text, |_| {});
        let now = Instant::now();
        let subscriber = tracing_subscriber::registry().with(Probe(output, now));
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..30 {
                tracing::info!("again");
            }
        });
    }

    /// Asks the bucket itself, with a clock of its own.
    struct Probe<W>(Output<W>, Instant);

    impl<S: Subscriber, W: Fn(&str) + Send + Sync + 'static> Layer<S> for Probe<W> {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            for _ in 0..20 {
                assert_eq!(self.0.admit(event, self.1), Some(0));
            }
            assert_eq!(self.0.admit(event, self.1), None);
            assert_eq!(self.0.admit(event, self.1), None);
            let later = self.1 + std::time::Duration::from_secs(6);
            assert_eq!(self.0.admit(event, later), Some(2));
            assert_eq!(self.0.admit(event, later), None);
            // The next event finds it full again.
            self.0.buckets.lock().unwrap().clear();
        }
    }

    #[test]
    fn attack_libraries_asked_by_nobody_print_nothing_of_what_they_transmit() {
        let said = |text: &str| {
            let levels = levels(text, LevelFilter::INFO).unwrap();
            logged(Format::Journald, levels, || {
                tracing::trace!(target: "tungstenite::protocol", "Sending frame");
                tracing::info!(target: "tungstenite::protocol", "bound");
                tracing::trace!(target: "mixnode::worker", "turn");
            })
        };
        assert_eq!(said("trace"), ["<6>bound\n", "<7>turn\n"]);
        assert_eq!(said("warn"), [""; 0]);
        assert_eq!(said("info"), ["<6>bound\n"]);
        for text in ["info,tungstenite=trace", "tungstenite=trace,info"] {
            assert_eq!(said(text).len(), 2, "{text}");
        }
        // All crates of the workspace are its own.
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let workspace = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let (_, members) = workspace.split_once("members = [").unwrap();
        let (members, _) = members.split_once(']').unwrap();
        let mut names = 0;
        for member in members
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|member| !member.ends_with("loom"))
        {
            let manifest = std::fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
            let mut section = "";
            for line in manifest.lines() {
                section = if line.starts_with('[') { line } else { section };
                let is_program = ["[package]", "[lib]", "[[bin]]"].contains(&section);
                if let Some(name) = line.strip_prefix("name = \"").filter(|_| is_program) {
                    let name = name.trim_end_matches('"').replace('-', "_");
                    assert!(OWN.split(' ').any(|own| own == name), "{name}");
                    names += 1;
                }
            }
        }
        assert!(names > 10, "{members}");
    }

    #[test]
    fn levels_are_read_and_what_is_none_is_refused_by_name() {
        let lines = logged(
            Format::Journald,
            levels("warn,here=debug", LevelFilter::INFO).unwrap(),
            || {
                tracing::info!("too little");
                tracing::debug!(target: "here::inside", "wanted");
            },
        );
        assert_eq!(lines, ["<7>wanted\n"]);
        for text in ["loud", "info,noise=9", "4", "x=", "inf"] {
            let error = levels(text, LevelFilter::INFO).unwrap_err();
            assert!(error.contains("is no level"), "{text}: {error}");
        }
        assert!(format("xml").unwrap_err().contains("journald"));
        assert_eq!(format("json"), Ok(Format::Json));
    }
}
