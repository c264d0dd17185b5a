//! The curves of n−1: after how long a node warns, and what another threshold would find and cost.

use super::Effort;
use super::curves::{Curve, Level, Line, Place, named, spread};
use super::n1::{Blocked, Calm, Run, SOON_S, THRESHOLDS, WATCHED_S, attack, calm};
use crate::rows::thousands;

/// Shares of what others send that are dropped.
const DROPPED: [f64; 5] = [0.2, 0.3, 0.5, 0.8, 1.0];
/// Loops that are lost anyway.
const LOSSES: [f64; 3] = [0.0, 0.01, 0.05];
/// For 95 % of the intervals.
const Z: f64 = 1.96;

/// What was played at one background loss.
struct Played {
    loss: f64,
    /// By share dropped.
    attacks: Vec<Vec<Run>>,
    calm: Calm,
}

fn played(effort: Effort, seed: u64) -> Vec<Played> {
    let at = |loss| Played {
        loss,
        attacks: DROPPED
            .map(|dropped| {
                let runs = 0..effort.n1_runs;
                runs.map(|run| attack(Blocked { dropped, loss }, seed + run))
                    .collect()
            })
            .into(),
        calm: calm(loss, effort.n1_hours, seed),
    };
    LOSSES.map(at).into()
}

/// Both.
pub(super) fn curves(effort: Effort, seed: u64) -> Vec<Curve> {
    let played = played(effort, seed);
    vec![times(&played), thresholds(&played)]
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Who was not warned within the time that was watched counts as warned at its end.
fn times(played: &[Played]) -> Curve {
    let mut reading = String::new();
    let mut series = Vec::new();
    for one in played {
        let mut points = Vec::new();
        for (dropped, runs) in DROPPED.iter().zip(&one.attacks) {
            let found = runs.iter().filter_map(|run| run.warned_s).count();
            let after = runs.iter().map(|run| run.warned_s.unwrap_or(WATCHED_S));
            let mut after: Vec<f64> = after.collect();
            after.sort_by(f64::total_cmp);
            points.push(Place::new(dropped * 100.0, spread(&after), runs.len()));
            if found < runs.len() {
                reading.push_str(&format!(
                    "Of {} attacks that drop {} at {} loss {found} were found in {WATCHED_S} s. ",
                    runs.len(),
                    percent(*dropped),
                    percent(one.loss)
                ));
            }
        }
        series.push(Line {
            label: format!("{} of loops lost anyway", percent(one.loss)),
            is_theory: false,
            points,
        });
    }
    let all = |line: usize| series.get(line).and_then(|line: &Line| line.points.last());
    let title = match (all(1), all(2)) {
        (Some(one), Some(five)) => format!(
            "A node that is cut off says so after {:.1} s, or {:.1} where five loops of 100 are lost anyway",
            one.y, five.y
        ),
        _ => String::new(),
    };
    let calm: Vec<String> = played
        .iter()
        .map(|one| format!("{} at {}", one.calm.warnings, percent(one.loss)))
        .collect();
    let hours = played.first().map_or(0.0, |one| one.calm.hours);
    reading.push_str(&format!(
        "False warnings in {} hours without an attack: {}. The detector that nodes run, three mixes a layer, five loops a \
         second, 100 ms a hop. Whiskers: 5 and 95 of 100 attacks. It warns and does no more.",
        thousands(hours),
        calm.join(", ")
    ));
    Curve {
        curve: "n1".to_owned(),
        title,
        x: named("dropped of what others send to the node", "%", false),
        y: named("until it warns", "s", true),
        levels: Vec::new(),
        series,
        reading,
    }
}

/// A share, with its interval (E. Wilson, JASA 22, 1927).
fn share(count: usize, all: usize) -> [f64; 3] {
    let n = all.max(1) as f64;
    let share = count as f64 / n;
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    [
        (middle - half).clamp(0.0, share),
        share,
        (middle + half).clamp(share, 1.0),
    ]
}

/// Of events that were not seen in so long there are not more than this, at 95 %.
fn an_hour(count: f64, hours: f64) -> f64 {
    (count.max(3.0) / hours * 1e4).round() / 1e4
}

/// What is found soon against what is said falsely. Of thresholds that never said a false word the lowest is shown.
fn thresholds(played: &[Played]) -> Curve {
    let mut series = Vec::new();
    for one in played.iter().filter(|one| one.loss > 0.0) {
        let shown = THRESHOLDS.iter().rev().skip_while(|threshold| {
            let lower = THRESHOLDS.iter().rev().find(|lower| lower < threshold);
            lower.is_some_and(|lower| one.calm.above(*lower) == 0)
        });
        let shown: Vec<f64> = shown.copied().collect();
        let calm = |threshold: f64| an_hour(one.calm.above(threshold) as f64, one.calm.hours);
        let picked = [1, 2, 4];
        for (dropped, runs) in picked.map(|place| (DROPPED[place], &one.attacks[place])) {
            let points = shown.iter().map(|threshold| {
                let found = runs.iter().filter(|run| run.peak > *threshold).count();
                Place::new(calm(*threshold), share(found, runs.len()), runs.len())
            });
            series.push(Line {
                label: format!("{} dropped, {} loss", percent(dropped), percent(one.loss)),
                is_theory: false,
                points: points.collect(),
            });
        }
        let nodes = picked.map(|place| {
            let runs = &one.attacks[place];
            let soon = |run: &&Run| run.warned_s.is_some_and(|warned_s| warned_s < SOON_S);
            let found = runs.iter().filter(soon).count();
            let false_ones = an_hour(one.calm.warnings as f64, one.calm.hours);
            Place::new(false_ones, share(found, runs.len()), runs.len())
        });
        series.push(Line {
            label: format!("what nodes do, {} loss", percent(one.loss)),
            is_theory: false,
            points: nodes.into(),
        });
    }
    let hours = played.first().map_or(0.0, |one| one.calm.hours);
    Curve {
        curve: "n1 thresholds".to_owned(),
        title: "What a lower threshold would find more, and how often it would be wrong".to_owned(),
        x: named(
            "false warnings an hour, of thresholds from 20 to 4",
            "",
            true,
        ),
        y: named("attacks found within 10 s", "", false),
        levels: vec![Level {
            y: 1.0,
            label: "all".to_owned(),
        }],
        series,
        reading: format!(
            "Lines: one sum over all loops alone (CUSUM), by its threshold. Points of nodes: the sum above 12, and only if no \
             single hop explains it, of attacks that drop 30, 50 and 100 %. Three in {} hours is drawn where there were three \
             or fewer: none seen is no more than that, at 95 %. Whiskers: 95 %.",
            thousands(hours)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(warned_s: Option<f64>, peak: f64) -> Run {
        Run { warned_s, peak }
    }

    #[test]
    fn attacks_that_are_not_found_are_told_and_count_as_the_longest() {
        let found = run(Some(4.0), 13.0);
        let played = LOSSES.map(|loss| Played {
            loss,
            attacks: vec![
                vec![run(None, 3.0); 4],
                vec![run(None, 3.0), found, found, found],
                vec![found; 4],
                vec![found; 4],
                vec![found; 4],
            ],
            calm: Calm {
                hours: 2.0,
                warnings: 1,
                ..Calm::default()
            },
        });
        let curve = times(&played);
        let points = &curve.series[1].points;
        assert_eq!((points[0].x, points[0].y), (20.0, WATCHED_S));
        assert_eq!((points[1].y, points[1].high), (4.0, WATCHED_S));
        assert!(curve.title.contains("after 4.0 s"), "{}", curve.title);
        for said in [
            "Of 4 attacks that drop 20 % at 1 % loss 0 were found",
            "Of 4 attacks that drop 30 % at 5 % loss 3 were found",
            "in 2 hours without an attack: 1 at 0 %, 1 at 1 %, 1 at 5 %",
        ] {
            assert!(curve.reading.contains(said), "{said}: {}", curve.reading);
        }
        let curve = thresholds(&played);
        let [.., nodes] = curve.series.as_slice() else {
            panic!("no series");
        };
        // One warning in two hours is no more than three are.
        assert_eq!(nodes.points[0].x, 1.5);
        assert_eq!(nodes.points[0].y, 0.75);
        assert_eq!(nodes.points[2].y, 1.0);
        // Nothing went above any threshold: the lowest is shown alone.
        let line = &curve.series[0].points;
        assert_eq!((line.len(), line[0].y), (1, 0.75));
    }

    #[test]
    fn a_share_has_the_interval_of_the_tables() {
        // Of ten: Brown, Cai and DasGupta, Statistical Science 16 (2001).
        let [low, middle, high] = share(1, 10);
        assert!((low - 0.0179).abs() < 1e-3 && (high - 0.4042).abs() < 1e-3);
        assert_eq!(middle, 0.1);
        assert_eq!(share(0, 10)[0], 0.0);
        assert_eq!(share(10, 10)[2], 1.0);
    }
}
