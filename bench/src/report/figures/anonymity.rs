//! What a watcher of all wires learns.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use crate::anonymity::{Curve, Report};
use crate::envelope::Results;
use crate::plot::{Axis, Chart, Lines, Point, Series, Style, label};

pub(in super::super) fn find(stored: &Stored) -> Option<(&One, &Report)> {
    stored.find(|results| match results {
        Results::Anonymity(report) => Some(report),
        _ => None,
    })
}

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let (one, report) = find(stored)?;
    Some(Section {
        title: "What a watcher of all wires learns",
        text: text(report),
        figures: report
            .curves
            .iter()
            .map(|curve| figure(one, curve))
            .collect(),
        table: None,
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
        checks(report),
    ]
}

fn checks(report: &Report) -> String {
    let checks = report.checks.iter().map(|check| {
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
