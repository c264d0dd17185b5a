//! The standard set: which commands it is, one process each, and how long the rest takes.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::stored::{GAPS, Gaps};
use crate::envelope::Skipped;

/// One command.
pub(super) struct Part {
    pub(super) name: &'static str,
    arguments: &'static [&'static str],
    /// On two cores: in full, and with --quick.
    seconds: (f64, f64),
}

pub(super) const SET: [Part; 9] = [
    part("crypto", &["crypto"], (70.0, 8.0)),
    part("ports", &["ports"], (25.0, 5.0)),
    part("lockstep", &["node"], (60.0, 9.0)),
    part("peers", &["peers"], (120.0, 15.0)),
    part("anonymity", &["anonymity"], (330.0, 20.0)),
    part("flood", &["flood"], (120.0, 15.0)),
    part("network", &["network"], (690.0, 12.0)),
    part("scaling", &["network", "--scaling"], (180.0, 30.0)),
    part("paced", &["node", "--mode", "paced"], (1_700.0, 15.0)),
];

const fn part(name: &'static str, arguments: &'static [&'static str], seconds: (f64, f64)) -> Part {
    Part {
        name,
        arguments,
        seconds,
    }
}

impl Part {
    fn seconds(&self, quick: bool) -> f64 {
        if quick {
            self.seconds.1
        } else {
            self.seconds.0
        }
    }
}

/// Those that were asked for, or all.
pub(super) fn chosen(only: &[String]) -> io::Result<Vec<&'static Part>> {
    if let Some(name) = only
        .iter()
        .find(|name| SET.iter().all(|part| part.name != **name))
    {
        let names = SET.map(|part| part.name).join(", ");
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no {name} in the set: it is {names}"),
        ));
    }
    let wanted = |part: &&Part| only.is_empty() || only.iter().any(|name| name == part.name);
    Ok(SET.iter().filter(wanted).collect())
}

/// What is left, by how the parts that are done went.
fn left_s(parts: &[&Part], done: usize, spent_s: f64, quick: bool) -> f64 {
    let of = |parts: &[&Part]| parts.iter().map(|part| part.seconds(quick)).sum::<f64>();
    let expected = of(&parts[..done]);
    let pace = if expected > 0.0 {
        spent_s / expected
    } else {
        1.0
    };
    of(&parts[done..]) * pace
}

fn minutes(seconds: f64) -> String {
    match seconds >= 90.0 {
        true => format!("{:.0} min", seconds / 60.0),
        false => format!("{seconds:.0} s"),
    }
}

/// Measures them, and writes each into `folder`. What fails is noted there too.
pub(super) fn run(parts: &[&Part], folder: &Path, quick: bool) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let program = std::env::current_exe()?;
    let start = Instant::now();
    let mut gaps = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let left = left_s(parts, number, start.elapsed().as_secs_f64(), quick);
        program::complain!(
            "mixbench: {} of {}: {}, about {} left",
            number + 1,
            parts.len(),
            part.name,
            minutes(left)
        );
        let mut command = Command::new(&program);
        command.arg("--json").args(part.arguments);
        if quick {
            command.arg("--quick");
        }
        // What it says on standard error is for people, who see it.
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let file = folder.join(format!("{}.json", part.name));
        // A measurement whose figures contradict each other ends with 1, and says so in what it prints.
        if output.stdout.is_empty() {
            let why = format!(
                "`mixbench {}` ended with {}",
                part.arguments.join(" "),
                output.status
            );
            program::complain!("mixbench: {}: {why}", part.name);
            gaps.push(Skipped::new(part.name, why));
            remove(&file)?;
            continue;
        }
        std::fs::write(file, output.stdout)?;
    }
    let gaps = serde_json::to_string(&Gaps::new(gaps))?;
    std::fs::write(folder.join(GAPS), gaps + "\n")?;
    program::complain!(
        "mixbench: measured in {}",
        minutes(start.elapsed().as_secs_f64())
    );
    Ok(())
}

/// An earlier run's.
fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_takes_an_hour_at_most_and_names_that_are_none_are_refused() {
        let all = chosen(&[]).unwrap();
        assert!(left_s(&all, 0, 0.0, false) < 3_600.0);
        assert!(left_s(&all, 0, 0.0, true) < 150.0);
        assert_eq!(chosen(&["ports".into()]).unwrap().len(), 1);
        let refused = chosen(&["port".into()]).err().unwrap().to_string();
        assert!(
            refused.contains("no port in the set: it is crypto, ports"),
            "{refused}"
        );
    }

    #[test]
    fn time_left_follows_the_pace_so_far() {
        let all = chosen(&[]).unwrap();
        let first = all[0].seconds(false);
        let rest = left_s(&all, 0, 0.0, false) - first;
        assert!((left_s(&all, 1, first * 2.0, false) - rest * 2.0).abs() < 1e-6);
        assert_eq!(left_s(&all, all.len(), 1.0, false), 0.0);
        assert_eq!(
            (minutes(30.4), minutes(600.0)),
            ("30 s".into(), "10 min".into())
        );
    }
}
