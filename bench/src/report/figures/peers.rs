//! This node beside the one that one would write around sphinx-packet.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use super::hop::times;
use crate::envelope::Results;
use crate::peers::{Report, Row};
use crate::plot::{Bar, Bars, Chart};
use crate::rows::thousands;

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let (one, report) = stored.find(|results| match results {
        Results::Peers(report) => Some(report),
        _ => None,
    })?;
    let ratio = |name: &str| one.envelope.ratios.get(name);
    let reached = ratio("tokio_of_bare_process").map(|ratio| {
        format!(
            "The tokio node reaches {:.2} ({:.2} to {:.2}) of what its cryptography alone does.",
            ratio.median, ratio.low, ratio.high
        )
    });
    let best = ["xsk", "plain"].iter().find_map(|port| {
        let ratio = ratio(&format!("{port}_vs_tokio"))?;
        Some(format!(
            "This node forwards {} the packets of tokio with sphinx-packet",
            times(ratio)
        ))
    });
    let packets = figure(
        one,
        report,
        best.unwrap_or_else(|| "Packets a second and core".to_owned()),
        "packets a second and core",
        reached.unwrap_or_default(),
        |row| (row.packets_per_s_core, 1.0),
    );
    let bytes = figure(
        one,
        report,
        "In bytes of users, with the larger packets of Nym's network too".to_owned(),
        "users' MB a second and core",
        "Packets of 2,413 bytes carry 2,048 of a user's: more a packet, for one multiplication's price.".to_owned(),
        |row| (row.goodput_bytes_per_s_core / 1e6, row.payload_bytes as f64 / 1e6),
    );
    let jobs = report.nodes.iter().map(|row| {
        vec![
            row.name.clone(),
            format!("{:.2}", row.cpu_ns_per_byte),
            format!(
                "{} of {}",
                thousands(row.payload_bytes as f64),
                thousands(row.datagram_bytes as f64)
            ),
            row.hops_dh.to_string(),
            row.batching.clone(),
            row.replay.clone(),
            row.delay.clone(),
            row.links.clone(),
        ]
    });
    let head = [
        "the jobs differ",
        "CPU ns a user's byte",
        "user's bytes of a packet",
        "DH a hop",
        "batches",
        "replay",
        "delay",
        "links",
    ];
    Some(Section {
        title: "Beside a plain mix node",
        text: vec![
            "The peer is a plain node written here on tokio around the crate sphinx-packet 0.8: what Nym's mix node does at \
             its core, and not Nym's code. It speaks TCP on loopback, this node datagrams; the table says what else differs."
                .to_owned(),
        ],
        figures: vec![packets, bytes],
        table: Some(Table::new(&head, jobs.collect())),
    })
}

/// `value` gives what is drawn, and what it is of a packet a second.
fn figure(
    one: &One,
    report: &Report,
    title: String,
    axis: &str,
    reading: String,
    value: impl Fn(&Row) -> (f64, f64),
) -> Figure {
    let bars = report.nodes.iter().map(|row| {
        let (shown, unit) = value(row);
        let [fast, slow] = row.cpu_per_packet.median_95_ns;
        Bar {
            name: row.name.clone(),
            note: match shown < 1_000.0 {
                true => format!("{shown:.1}"),
                false => thousands(shown),
            },
            parts: vec![shown],
            interval: Some((1e9 / slow * unit, 1e9 / fast * unit)),
            series: usize::from(!row.name.starts_with("this node")),
        }
    });
    let table = report.nodes.iter().map(|row| {
        let [fast, slow] = row.cpu_per_packet.median_95_ns;
        vec![
            row.name.clone(),
            thousands(row.packets_per_s_core),
            format!("{} to {}", thousands(1e9 / slow), thousands(1e9 / fast)),
            format!("{:.1}", row.goodput_bytes_per_s_core / 1e6),
        ]
    });
    let head = ["", "packets/s a core", "95 %", "users' MB/s a core"];
    Figure {
        title,
        chart: Chart::Bars(Bars {
            axis: axis.to_owned(),
            parts: Vec::new(),
            bars: bars.collect(),
            log: false,
        }),
        reading,
        table: Table::new(&head, table.collect()),
        source: one.source(),
    }
}
