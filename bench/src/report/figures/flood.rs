//! What honest peers keep under junk, and where junk dies.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use super::port_name;
use crate::envelope::Results;
use crate::flood::report::{Report, Row};
use crate::plot::{Bar, Bars, Chart};
use crate::rows::thousands;

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let (one, report) = stored.find(|results| match results {
        Results::Flood(report) => Some(report),
        _ => None,
    })?;
    Some(Section {
        title: "Under a flood",
        text: vec![format!(
            "Honest peers send {} packets a second, half of what a core forwards; ten times as much junk comes on top. {} on \
             {}.",
            thousands(f64::from(report.honest_pps)),
            report.cores,
            port_name(&report.port)
        )],
        figures: vec![kept(one, report), cost(one, report)],
        table: None,
    })
}

fn figure(
    one: &One,
    report: &Report,
    (title, reading, axis): (String, String, &str),
    value: impl Fn(&Row) -> (f64, String),
) -> Figure {
    let bars = report.kinds.iter().map(|row| {
        let (shown, note) = value(row);
        Bar {
            name: row.kind.clone(),
            note,
            parts: vec![shown],
            interval: None,
            series: 0,
        }
    });
    let rows = report.kinds.iter().map(|row| {
        let places = row
            .deaths
            .iter()
            .map(|(place, count)| format!("{place}: {}", thousands(*count as f64)));
        vec![
            row.kind.clone(),
            thousands(row.junk_pps),
            format!("{:.3}", row.kept),
            format!("{:.3}", row.kept_attacked),
            thousands(row.p99_us as f64),
            thousands(row.cpu_ns_per_junk),
            row.xdp_ns.map_or("-".to_owned(), thousands),
            places.collect::<Vec<_>>().join("; "),
        ]
    });
    let head = [
        "junk",
        "a second",
        "kept",
        "kept by the peer it names",
        "p99 µs",
        "worker's ns each",
        "XDP ns",
        "died at",
    ];
    Figure {
        title,
        chart: Chart::Bars(Bars {
            axis: axis.to_owned(),
            parts: Vec::new(),
            bars: bars.collect(),
            log: false,
        }),
        reading,
        table: Table::new(&head, rows.collect()),
        source: one.source(),
    }
}

fn kept(one: &One, report: &Report) -> Figure {
    let kept = report.kinds.iter().map(|row| row.kept);
    let least = kept.fold(f64::MAX, f64::min);
    let words = (
        format!(
            "Honest peers keep {:.0} % or more of their packets under every kind of junk",
            least.min(1.0) * 100.0
        ),
        "Of peers in whose name no junk came; the table has the one it names too.".to_owned(),
        "share of honest packets kept",
    );
    figure(one, report, words, |row| {
        (row.kept, format!("{:.3}", row.kept))
    })
}

fn cost(one: &One, report: &Report) -> Figure {
    let dearest = report
        .kinds
        .iter()
        .max_by(|a, b| a.cpu_ns_per_junk.total_cmp(&b.cpu_ns_per_junk));
    let dearest = dearest.map_or(String::new(), |row| {
        format!(
            "The dearest junk, {}, takes {} ns of the worker each",
            row.kind,
            thousands(row.cpu_ns_per_junk)
        )
    });
    let words = (
        dearest,
        "Beside each bar: where most of that junk died.".to_owned(),
        "worker's CPU ns a junk datagram",
    );
    figure(one, report, words, |row| {
        (row.cpu_ns_per_junk, row.died_at.clone())
    })
}
