//! What the node adds to the delays asked for, rate by rate.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use super::port_name;
use crate::envelope::Results;
use crate::node::points::{Paced, PacedPort, Point as Rate};
use crate::plot::{Axis, Chart, Lines, Point, Series, Style};
use crate::rows::thousands;

pub(in super::super) fn find(stored: &Stored) -> Option<(&One, &Paced)> {
    stored.find(|results| match results {
        Results::Node(node) => node.paced.as_ref(),
        _ => None,
    })
}

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let (one, paced) = find(stored)?;
    let mut figures: Vec<Figure> = paced.ports.iter().map(|port| curve(one, port)).collect();
    figures.extend(histogram(one, paced));
    Some(Section {
        title: "What it sustains in real time",
        text: vec![
            format!(
                "Packets come at fixed times and wait for nobody (open loop); {}; {}.",
                paced.cores, paced.network
            ),
            "Added: departure less arrival less the delay that the packet asked for.".to_owned(),
        ],
        figures,
        table: None,
    })
}

/// Of the packets that asked for no delay.
fn prompt(port: &PacedPort) -> impl Iterator<Item = &Rate> {
    let first = port.at_25k.delay.clone();
    let rates = port.points.iter();
    rates.filter(move |rate| rate.delay == first && rate.added.count > 0)
}

fn curve(one: &One, port: &PacedPort) -> Figure {
    let quantile = |label: &str, of: fn(&Rate) -> u64| Series {
        label: label.to_owned(),
        style: Style::Marked,
        points: prompt(port)
            .map(|rate| Point {
                x: rate.offered_pps,
                y: of(rate).max(1) as f64,
                interval: None,
            })
            .collect(),
    };
    let half = port.sustained_pps / 2.0;
    let near = prompt(port).min_by(|a, b| {
        let far = |rate: &&Rate| (rate.offered_pps - half).abs();
        far(a).total_cmp(&far(b))
    });
    let added = near.map_or("an unknown time".to_owned(), |rate| {
        format!(
            "{} µs at most in 99 of 100",
            thousands(rate.added.p99_us as f64)
        )
    });
    let rows = port.points.iter().chain([&port.at_25k]).map(|rate| {
        vec![
            rate.delay.clone(),
            thousands(rate.offered_pps),
            thousands(rate.forwarded_pps),
            thousands(rate.lost as f64),
            thousands(rate.behind as f64),
            thousands(rate.added.p50_us as f64),
            thousands(rate.added.p99_us as f64),
            thousands(rate.added.p999_us as f64),
            thousands(rate.lateness.p99_us as f64),
            format!("{:.2}", rate.busy_ratio),
            format!("{:.1}", rate.pool_bytes as f64 / 1_048_576.0),
        ]
    });
    let head = [
        "delay asked for",
        "offered/s",
        "forwarded/s",
        "lost",
        "not sent",
        "added p50 µs",
        "p99",
        "p99.9",
        "lateness p99",
        "busy",
        "pool MiB",
    ];
    Figure {
        title: format!(
            "{} sustains {} packets a second; at about half of it a packet is held up by {added}",
            port_name(&port.port),
            thousands(port.sustained_pps)
        ),
        chart: Chart::Lines(Lines {
            x: Axis::new("packets offered a second", false),
            y: Axis::new("added delay, µs", true),
            series: vec![
                quantile("p50", |rate| rate.added.p50_us),
                quantile("p99", |rate| rate.added.p99_us),
                quantile("p99.9", |rate| rate.added.p999_us),
            ],
            levels: vec![(1_000.0, "1 ms".to_owned())],
            places: vec![(
                port.sustained_pps,
                "sustained: 0.1 % lost at most".to_owned(),
            )],
        }),
        reading: format!(
            "Runs of the search: {}. 25,000 a second: {}, {} of {} lost, p99 {} µs, busy {:.2}.",
            port.sustained_runs_pps
                .iter()
                .map(|pps| thousands(*pps))
                .collect::<Vec<_>>()
                .join(", "),
            if port.sustained_25k {
                "passed"
            } else {
                "not passed"
            },
            thousands(port.at_25k.lost as f64),
            thousands(port.at_25k.sent as f64),
            thousands(port.at_25k.added.p99_us as f64),
            port.at_25k.busy_ratio
        ),
        table: Table::new(&head, rows.collect()),
        source: one.source(),
    }
}

/// How late packets are at 25,000 a second: the share that was held up by more than so much.
fn histogram(one: &One, paced: &Paced) -> Option<Figure> {
    let tail = |port: &PacedPort| {
        let all: u64 = port
            .at_25k
            .added_us_counts
            .iter()
            .map(|(_, count)| count)
            .sum();
        let mut left = all;
        let steps = port.at_25k.added_us_counts.iter().map(|(value, count)| {
            left -= count;
            Point {
                x: (*value).max(1) as f64,
                y: left as f64 / all.max(1) as f64,
                interval: None,
            }
        });
        let steps: Vec<Point> = steps.filter(|point| point.y > 0.0).collect();
        Series {
            label: port_name(&port.port).to_owned(),
            style: Style::Steps,
            points: steps,
        }
    };
    let series: Vec<Series> = paced.ports.iter().map(tail).collect();
    let series: Vec<Series> = series
        .into_iter()
        .filter(|one| !one.points.is_empty())
        .collect();
    let rows = paced.ports.iter().map(|port| {
        let added = &port.at_25k.added;
        let values = [added.p50_us, added.p99_us, added.p999_us, added.max_us];
        let values = values.map(|us| thousands(us as f64));
        [port.port.clone()].into_iter().chain(values).collect()
    });
    (!series.is_empty()).then(|| Figure {
        title: "How many packets are held up longer, at 25,000 a second".to_owned(),
        chart: Chart::Lines(Lines {
            x: Axis::new("added delay, µs", true),
            y: Axis::new("share held up longer", true),
            series,
            levels: vec![(0.01, "p99".to_owned())],
            places: Vec::new(),
        }),
        reading: "A line that falls early and steeply is a node that is never busy with something else for long.".to_owned(),
        table: Table::new(&["port", "p50 µs", "p99", "p99.9", "most"], rows.collect()),
        source: one.source(),
    })
}
