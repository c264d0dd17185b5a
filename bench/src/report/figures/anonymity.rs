//! What a watcher of all wires learns.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use crate::anonymity::{Check, Curve, Part, Report, merge};
use crate::envelope::Results;
use crate::plot::{Axis, Chart, Lines, Point, Series, Style, label};
use crate::rows::thousands;

pub(in super::super) fn find(stored: &Stored) -> Option<(&One, &Report)> {
    stored.find(|results| match results {
        // A part of a run has nothing to show alone.
        Results::Anonymity(report) if report.part.is_none() => Some(report),
        _ => None,
    })
}

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let found = find(stored);
    let parts = parts(stored);
    if found.is_none() && parts.is_none() {
        return None;
    }
    let mut text = found.map_or(Vec::new(), |(_, report)| text(report));
    text.extend(parts);
    let figures = found.map_or(Vec::new(), |(one, report)| {
        let curves = report.curves.iter();
        curves.map(|curve| figure(one, curve)).collect()
    });
    Some(Section {
        title: "What a watcher of all wires learns",
        text,
        figures,
        table: None,
    })
}

/// What the parts of a run come to, if there are any.
fn parts(stored: &Stored) -> Option<String> {
    let parts = stored.all.iter().filter_map(|one| match one.results() {
        Results::Anonymity(report) => report.part.clone(),
        _ => None,
    });
    let parts: Vec<Part> = parts.collect();
    let count = parts.len();
    if count == 0 {
        return None;
    }
    let checked = merge(parts).and_then(|whole| {
        let checks = whole.checks()?;
        Ok((whole, checks))
    });
    Some(match checked {
        Ok((whole, all)) => format!(
            "A run in {count} parts, added up: {} users at {}/s for {} s, {} packets. {}",
            thousands(f64::from(whole.users)),
            whole.rate_pps,
            whole.simulated_seconds,
            thousands(whole.counts.packets as f64),
            checks(&all)
        ),
        Err(error) => format!("The parts of a run that are here do not add up: {error}."),
    })
}

fn text(report: &Report) -> Vec<String> {
    if report.checks.is_empty() {
        return Vec::new();
    }
    vec![
        "A model of the network without bytes and cryptography: production path choice and delays, slots, pools as counts. \
         It is plotted only where it agrees with the law that it must follow."
            .to_owned(),
        checks(&report.checks),
    ]
}

fn checks(checks: &[Check]) -> String {
    let checks = checks.iter().map(|check| {
        let verdict = if check.passed { "passed" } else { "FAILED" };
        format!(
            "{}: {} = {:.4}, at most {} ({verdict})",
            check.what, check.statistic, check.value, check.at_most
        )
    });
    format!("Checks: {}.", checks.collect::<Vec<_>>().join("; "))
}

fn figure(one: &One, curve: &Curve) -> Figure {
    let series = curve.series.iter().map(|series| Series {
        label: series.label.clone(),
        style: if series.is_theory {
            Style::Line
        } else {
            Style::Marked
        },
        points: series
            .points
            .iter()
            .map(|point| Point {
                x: point.x,
                y: point.y,
                interval: (point.high > point.low).then_some((point.low, point.high)),
            })
            .collect(),
    });
    let rows = curve.series.iter().flat_map(|series| {
        series.points.iter().map(|point| {
            vec![
                series.label.clone(),
                label(point.x),
                format!("{:.4}", point.y),
                format!("{:.4} to {:.4}", point.low, point.high),
                point.n.to_string(),
            ]
        })
    });
    let axis = |axis: &crate::anonymity::Named| match axis.unit.as_str() {
        "" => axis.name.clone(),
        unit => format!("{}, {unit}", axis.name),
    };
    Figure {
        title: curve.title.clone(),
        chart: Chart::Lines(Lines {
            x: Axis::new(&axis(&curve.x), curve.x.log),
            y: Axis::new(&axis(&curve.y), curve.y.log),
            series: series.collect(),
            levels: curve
                .levels
                .iter()
                .map(|level| (level.y, level.label.clone()))
                .collect(),
            places: Vec::new(),
        }),
        reading: curve.reading.clone(),
        table: Table::new(
            &["series", &axis(&curve.x), &axis(&curve.y), "interval", "n"],
            rows.collect(),
        ),
        source: one.source(),
    }
}
