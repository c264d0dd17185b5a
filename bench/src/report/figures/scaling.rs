//! Laboratories of several sizes, and the memory that rates take.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use super::port_name;
use crate::envelope::Results;
use crate::network::{By, Scale, Scaling};
use crate::node::points::{FRAME_BYTES, POOL_OVER};
use crate::plot::{Axis, Chart, Lines, Point, Series, Style};
use crate::rows::thousands;

/// Packets a second, and mean delays of a hop in milliseconds, of the table of memory.
const RATES: [f64; 4] = [1_000.0, 10_000.0, 25_000.0, 100_000.0];
const DELAYS_MS: [f64; 4] = [20.0, 50.0, 100.0, 500.0];

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let (one, scaling) = stored.find(|results| match results {
        Results::Scaling(scaling) => Some(scaling),
        _ => None,
    })?;
    let figures = [By::Users, By::Nodes, By::Cores]
        .into_iter()
        .filter_map(|by| figure(one, scaling, by));
    let cores = one.envelope.machine.cores;
    Some(Section {
        title: "Scaling",
        text: vec![
            format!(
                "Laboratories with one process a node, on {}; clients have {} slots a second each, and {} ms a hop. Nodes and \
                 clients share {cores} cores, so none of this says what nodes could bear, only whether something collapses \
                 and what a packet takes. Points are measured ones, and nothing is fitted to fewer than four.",
                port_name(&scaling.port),
                scaling.rate_pps,
                scaling.mean_delay_ms
            ),
            "Below: packet memory of a node in MiB, by rate and mean delay, which no figure of packets a second should be \
             read without."
                .to_owned(),
        ],
        figures: figures.collect(),
        table: Some(memory()),
    })
}

fn memory() -> Table {
    let columns = DELAYS_MS.map(|delay_ms| format!("{delay_ms} ms a hop"));
    let mut head = vec!["packets/s"];
    head.extend(columns.iter().map(String::as_str));
    let rows = RATES.map(|pps| {
        let bytes = |delay_ms: f64| pps * delay_ms / 1e3 * POOL_OVER * FRAME_BYTES;
        let cells = DELAYS_MS.map(|delay_ms| format!("{:.1}", bytes(delay_ms) / 1_048_576.0));
        std::iter::once(thousands(pps))
            .chain(cells)
            .collect::<Vec<String>>()
    });
    Table::new(&head, rows.into())
}

fn name(by: By) -> &'static str {
    match by {
        By::Users => "users",
        By::Nodes => "nodes",
        By::Cores => "cores that nodes may use",
    }
}

fn title(by: By, least: &Scale, most: &Scale, lost: u64) -> String {
    let (before, after) = (least.cpu_us(), most.cpu_us());
    let took = match by {
        By::Users => format!(
            "With {} users a packet takes {after:.0} µs of the nodes' CPU time, with {} it takes {before:.0}",
            thousands(f64::from(most.users)),
            thousands(f64::from(least.users))
        ),
        By::Nodes => format!(
            "Of {} nodes a packet takes {after:.0} µs of CPU time, of {} it takes {before:.0}",
            most.nodes, least.nodes
        ),
        By::Cores => format!(
            "{} nodes on {} of {} cores take {before:.0} µs of CPU time for a packet, on all {after:.0}",
            least.nodes, least.cores, most.cores
        ),
    };
    match lost {
        0 => format!("{took}, and nothing is lost"),
        lost => format!("{} messages got lost. {took}", thousands(lost as f64)),
    }
}

fn figure(one: &One, scaling: &Scaling, by: By) -> Option<Figure> {
    let scales = scaling.of(by);
    let (least, most) = (*scales.first()?, *scales.last()?);
    let point = |x: usize, y: f64| Point {
        x: x as f64,
        y,
        interval: None,
    };
    let measured = scales.iter().map(|one| point(one.count(), one.cpu_us()));
    let same = [least, most].map(|one| point(one.count(), least.cpu_us()));
    let rows = scales.iter().map(|one| {
        vec![
            one.users.to_string(),
            one.nodes.to_string(),
            one.cores.to_string(),
            thousands(one.pps),
            format!("{:.2}", one.cpu_s),
            format!("{:.0}", one.cpu_us()),
            one.lost_messages.to_string(),
            format!("{:.1}", one.one_way.p50_us as f64 / 1e3),
            format!("{:.1}", one.one_way.p99_us as f64 / 1e3),
            thousands(one.late.p99_us as f64),
        ]
    });
    let head = [
        "users",
        "nodes",
        "cores",
        "clients' datagrams/s",
        "nodes' CPU s",
        "µs each",
        "lost",
        "one way p50 ms",
        "p99 ms",
        "slots late p99 µs",
    ];
    let lost = scales.iter().map(|one| one.lost_messages).sum();
    Some(Figure {
        title: title(by, least, most, lost),
        chart: Chart::Lines(Lines {
            x: Axis::new(name(by), by == By::Users),
            y: Axis::new("nodes' CPU µs for each datagram of a client", false),
            series: vec![
                Series {
                    label: "measured".to_owned(),
                    style: Style::Marked,
                    points: measured.collect(),
                },
                Series {
                    label: "no dearer than the least".to_owned(),
                    style: Style::Line,
                    points: same.into(),
                },
            ],
            levels: Vec::new(),
            places: Vec::new(),
        }),
        reading: "Five hops, gateways' streams and nodes' own cover are in it: what nodes send for themselves is shared by few \
                  packets where there are few users or many nodes."
            .to_owned(),
        table: Table::new(&head, rows.collect()),
        source: one.source(),
    })
}
