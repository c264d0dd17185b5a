//! What `promtool check metrics` looks at, as far as it concerns a program that writes its own text: the grammar,
//! families whole and once, types that fit their samples, names as Prometheus asks for them.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

/// The first thing that is wrong with the text.
pub fn check(text: &str) -> Result<(), String> {
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    let mut family: Option<(String, String)> = None;
    let mut helped = String::new();
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in text.lines() {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("no help")?;
            if help.trim().is_empty() || !families.insert(name.to_owned()) {
                return wrong("no help, or a family twice");
            }
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            if name != helped || !["counter", "gauge", "histogram", "summary"].contains(&kind) {
                return wrong("a type without its help, or an unknown one");
            }
            if (kind == "counter") != name.ends_with("_total") {
                return wrong("counters end with _total, and nothing else does");
            }
            if ["_count", "_sum", "_bucket"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                return wrong("a name as of a histogram's part");
            }
            family = Some((name.to_owned(), kind.to_owned()));
            buckets.clear();
        } else {
            let (series, value) = line.rsplit_once(' ').ok_or(format!("no sample: {line}"))?;
            let value: f64 = value.parse().map_err(|_| format!("no number: {line}"))?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(good) {
                return wrong("no name");
            }
            if !samples.insert(series.to_owned()) {
                return wrong("a sample twice");
            }
            let (of, kind) = family.as_ref().ok_or(format!("no family: {line}"))?;
            if labels.contains("quantile=") && kind != "summary" {
                return wrong("a quantile, and no summary");
            }
            if kind != "histogram" {
                if name != of {
                    return wrong("a sample of another family");
                }
                continue;
            }
            match name.strip_prefix(of.as_str()) {
                Some("_bucket") => {
                    let bound = labels
                        .strip_prefix("le=\"")
                        .and_then(|le| le.strip_suffix("\"}"));
                    let bound = bound.ok_or(format!("no bound: {line}"))?;
                    let bound = bound.replace("+Inf", "inf").parse::<f64>();
                    let bound = bound.map_err(|_| format!("no bound: {line}"))?;
                    if buckets
                        .last()
                        .is_some_and(|last| last.0 >= bound || last.1 > value)
                    {
                        return wrong("buckets that do not grow");
                    }
                    buckets.push((bound, value));
                }
                Some("_sum") => {}
                Some("_count") => {
                    if buckets.last() != Some(&(f64::INFINITY, value)) {
                        return wrong("another count than in the last bucket");
                    }
                }
                _ => return wrong("no part of a histogram"),
            }
        }
    }
    Ok(())
}

/// The same by Prometheus' own tool where it is installed (Debian: package prometheus): its words, if it has any.
pub fn check_by_promtool(text: &str) -> Result<(), String> {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = match started {
        Ok(tool) => tool,
        Err(error) => {
            eprintln!("SKIPPED: promtool: {error}");
            return Ok(());
        }
    };
    let mut stdin = tool.stdin.take().ok_or("no standard input")?;
    stdin
        .write_all(text.as_bytes())
        .map_err(|error| error.to_string())?;
    drop(stdin);
    let output = tool.wait_with_output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.trim().is_empty() {
        Ok(())
    } else {
        Err(said.into_owned())
    }
}
