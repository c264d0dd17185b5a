//! What a whole network did: how long messages took, what got lost, what its nodes took.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use super::port_name;
use crate::envelope::Results;
use crate::network::{Report, Share};
use crate::plot::{Axis, Bar, Bars, Chart, Lines, Point, Series, Style};
use crate::rows::thousands;

pub(in super::super) fn find(stored: &Stored) -> Option<(&One, &Report)> {
    stored.find(|results| match results {
        Results::Network(report) => Some(report.as_ref()),
        _ => None,
    })
}

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let (one, report) = find(stored)?;
    let law = format!(
        "By theory a probe takes {}. What machine and network add is not taken off.",
        report.theory.distribution
    );
    Some(Section {
        title: "A whole network",
        text: vec![setting(report), law],
        figures: vec![one_way(one, report), cpu(one, report)],
        table: Some(counts(report)),
    })
}

fn setting(report: &Report) -> String {
    format!(
        "{} clients with {} slots a second each, {} gateways and three layers of {} mixes: one process a node, on {}. \
         Probes are letters of one packet between clients that send nothing else; {} more send files of {} bytes.",
        thousands(f64::from(report.clients)),
        report.rate_pps,
        report.gateways,
        report.mixes,
        port_name(&report.port),
        thousands(report.files.senders as f64),
        thousands(report.files.file_bytes as f64)
    )
}

/// What may be concluded. Of what was lost nobody knows how long it would have taken.
pub(in super::super) fn verdict(report: &Report) -> String {
    let theory = &report.theory;
    if theory.is_judged && theory.ks_d >= theory.ks_d_most {
        return "Messages do NOT take as long as theory says".to_owned();
    }
    if report.lost_messages > 0 {
        let lost = thousands(report.lost_messages as f64);
        return format!("{lost} messages got lost, so times of the others prove nothing");
    }
    match theory.is_judged {
        true => format!(
            "Messages take as long as theory says, to within about {:.0} ms",
            theory.unseen_us / 1e3
        ),
        false => "Whether messages take as long as theory says is not judged".to_owned(),
    }
}

fn one_way(one: &One, report: &Report) -> Figure {
    let theory = &report.theory;
    let series = |label: &str, style, value: fn(&Share) -> f64| Series {
        label: label.to_owned(),
        style,
        points: theory
            .shares
            .iter()
            .map(|share| Point {
                x: share.one_way_us / 1e3,
                y: value(share),
                interval: None,
            })
            .collect(),
    };
    let rows = theory.shares.iter().map(|share| {
        vec![
            format!("{:.1}", share.one_way_us / 1e3),
            format!("{:.4}", share.measured),
            format!("{:.4}", share.law),
        ]
    });
    let unseen_ms = theory.unseen_us / 1e3;
    let why_not = theory.why_not_judged.as_ref();
    let why_not = why_not.map_or(String::new(), |why| format!(" Not judged: {why}."));
    Figure {
        title: format!("{}: D = {:.4}", verdict(report), theory.ks_d),
        chart: Chart::Lines(Lines {
            x: Axis::new("one way, ms", false),
            y: Axis::new("share of probes that took no longer", false),
            series: vec![
                series("measured", Style::Marked, |share| share.measured),
                series("law", Style::Line, |share| share.law),
            ],
            levels: Vec::new(),
            places: Vec::new(),
        }),
        reading: format!(
            "Kolmogorov and Smirnov's distance of {} probes from a million draws of the law; less than {} is asked. That does \
             not see about {unseen_ms:.0} ms more for each, {:.0} % of the {:.0} ms that hops hold it. The median measured is \
             {:.1} ms off the law's.{why_not}",
            thousands(theory.n as f64),
            theory.ks_d_most,
            unseen_ms / report.held_ms() * 100.0,
            report.held_ms(),
            theory.added_us / 1e3
        ),
        table: Table::new(&["one way, ms", "measured", "law"], rows.collect()),
        source: one.source(),
    }
}

/// CPU time by role, of each datagram that clients sent.
fn cpu(one: &One, report: &Report) -> Figure {
    let us = |seconds: f64| seconds * 1e6 / report.datagrams.max(1) as f64;
    let bars = report.cpu_s_by_role.iter().map(|(role, seconds)| Bar {
        name: role.clone(),
        note: format!("{:.0} µs", us(*seconds)),
        parts: vec![us(*seconds)],
        interval: None,
        series: 0,
    });
    let rows = report.cpu_s_by_role.iter().map(|(role, seconds)| {
        vec![
            role.clone(),
            format!("{seconds:.2}"),
            format!("{:.1}", us(*seconds)),
        ]
    });
    let all: f64 = report.cpu_s_by_role.values().sum();
    Figure {
        title: format!(
            "A client's packet takes {:.0} µs of CPU time from end to end, cover of nodes and gateways' streams and all",
            us(all)
        ),
        chart: Chart::Bars(Bars {
            axis: "CPU µs for each datagram of a client".to_owned(),
            parts: Vec::new(),
            bars: bars.collect(),
            log: false,
        }),
        reading: "Of all processes of a role together, over the datagrams that clients sent meanwhile. Processes on few cores \
                  sleep and wake for each packet, which costs more than in lockstep."
            .to_owned(),
        table: Table::new(&["role", "CPU s", "µs each"], rows.collect()),
        source: one.source(),
    }
}

fn counts(report: &Report) -> Table {
    let (probes, files) = (&report.probes, &report.files);
    let count = |count: u64| thousands(count as f64);
    let ms = |us: u64| format!("{:.1} ms", us as f64 / 1e3);
    let memory = report.rss_bytes.iter();
    let memory = memory.map(|bytes| format!("{:.1}", *bytes as f64 / 1e6));
    let growth = report
        .memory_growth
        .map_or("not known".to_owned(), |growth| {
            format!("{:+.1} %, 2 % are allowed", (growth - 1.0) * 100.0)
        });
    let rows = [
        ("messages lost", count(report.lost_messages)),
        (
            "probes sent, delivered",
            format!("{}, {}", count(probes.sent), count(probes.delivered)),
        ),
        (
            "probes not sent, another in line; by the law",
            format!(
                "{}; {}",
                count(probes.crowded),
                thousands(probes.crowded_by_law)
            ),
        ),
        (
            "files sent, delivered",
            format!("{}, {}", count(files.sent), count(files.delivered)),
        ),
        ("chunks sent again", count(files.chunks_retransmitted)),
        (
            "files' bytes a second, all together, while probes were sent",
            thousands(files.goodput_bytes_per_s),
        ),
        (
            "one way, p50, p99, most",
            format!(
                "{}, {}, {}",
                ms(report.one_way.p50_us),
                ms(report.one_way.p99_us),
                ms(report.one_way.max_us)
            ),
        ),
        (
            "slots filled late, p50, p99, most",
            format!(
                "{}, {}, {} µs",
                count(report.late.p50_us),
                count(report.late.p99_us),
                count(report.late.max_us)
            ),
        ),
        (
            "datagrams without room in a socket",
            count(report.kernel_drops),
        ),
        (
            "memory of all nodes by epoch, MB",
            memory.collect::<Vec<_>>().join(", "),
        ),
        ("memory, third and fourth epoch to the last two", growth),
    ];
    let rows = rows.map(|(what, value)| vec![what.to_owned(), value]);
    Table::new(&["of the whole run", ""], rows.into())
}
