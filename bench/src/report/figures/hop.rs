//! What forwarding a packet costs, by part, and the cryptography beside its peers.

use super::super::page::{Figure, Section, Table};
use super::super::stored::{One, Stored};
use super::{cheapest, crypto, lockstep, port_name};
use crate::lockstep::breakdown::{Breakdown, Lockstep};
use crate::plot::{Bar, Bars, Chart};
use crate::rows::{Row, micros, thousands};
use crate::stats::Ratio;

const PARTS: [&str; 6] = [
    "port and kernel",
    "link AES-GCM",
    "Sphinx",
    "replay table",
    "wheel",
    "other",
];

fn parts_of(breakdown: &Breakdown) -> [f64; 6] {
    let one = breakdown;
    [
        one.port_ns,
        one.link_ns,
        one.sphinx_ns,
        one.replay_ns,
        one.wheel_ns,
        one.other_ns,
    ]
}

pub(in super::super) fn section(stored: &Stored) -> Option<Section> {
    let mut figures = Vec::new();
    if let Some((one, lockstep)) = lockstep(stored) {
        figures.extend(by_part(one, lockstep));
    }
    if let Some((one, rows)) = crypto(stored) {
        figures.extend(hops(one, rows, stored));
        figures.extend(x25519(one, rows));
    }
    let text = "CPU time of one pinned thread, cases in an order drawn anew each round. A bar is the median; the whisker is \
                the median's 95 % interval by bootstrap. veth copies each packet for the XDP program; the delivery to the \
                node's port is billed to the sender and is not in the whole.";
    (!figures.is_empty()).then(|| Section {
        title: "What a packet costs",
        text: vec![text.to_owned()],
        figures,
        table: None,
    })
}

fn by_part(one: &One, lockstep: &Lockstep) -> Option<Figure> {
    let best = cheapest(lockstep)?;
    let median = best.cpu_per_packet.median_ns;
    let whole = |row: &crate::lockstep::breakdown::PortRow| {
        let [low, high] = row.cpu_per_packet.median_95_ns;
        format!(
            "{} µs ({} to {})",
            micros(row.cpu_per_packet.median_ns),
            micros(low),
            micros(high)
        )
    };
    let bars = lockstep.ports.iter().map(|row| {
        let [low, high] = row.cpu_per_packet.median_95_ns;
        Bar {
            name: port_name(&row.port).to_owned(),
            note: whole(row),
            parts: match &row.breakdown {
                Some(breakdown) => parts_of(breakdown).to_vec(),
                None => vec![row.cpu_per_packet.median_ns],
            },
            interval: Some((low, high)),
            series: 0,
        }
    });
    let crypto = best.breakdown.as_ref().map(|parts| {
        let share = (parts.sphinx_ns + parts.link_ns) / parts.sum_ns * 100.0;
        format!(
            "Sphinx and the link's AES-GCM are {share:.0} % of it on {}. ",
            port_name(&best.port)
        )
    });
    let off = lockstep.ports.iter().filter_map(|row| {
        let parts = row.breakdown.as_ref()?;
        let off = parts.sum_off * 100.0;
        Some(format!("{} {off:+.1} %", port_name(&row.port)))
    });
    let off = off.collect::<Vec<_>>().join(", ");
    let reading = format!(
        "{}The whiskers are of rounds without reading the clock at the borders; the parts together differ from them by: {off}.",
        crypto.unwrap_or_default()
    );
    let rows = lockstep.ports.iter().map(|row| {
        let mut cells = vec![row.port.clone(), whole(row)];
        let parts = row.breakdown.as_ref();
        let parts = parts.map(|one| (parts_of(one), one.clock_ns, one.delivery_ns));
        if let Some((parts, clock, delivery)) = parts {
            cells.extend(
                parts
                    .iter()
                    .chain([&clock, &delivery])
                    .map(|ns| thousands(*ns)),
            );
        }
        cells
    });
    let mut head = vec!["port", "whole"];
    head.extend(PARTS);
    head.extend(["reading the clock", "delivery, the sender's"]);
    Some(Figure {
        title: format!(
            "Forwarding a packet takes {} µs of a core on {}",
            micros(median),
            port_name(&best.port)
        ),
        chart: Chart::Bars(Bars {
            axis: "CPU ns a packet".to_owned(),
            parts: PARTS.map(str::to_owned).to_vec(),
            bars: bars.collect(),
            log: false,
        }),
        reading,
        table: Table::new(&head, rows.collect()),
        source: one.source(),
    })
}

/// Bars of rows of the command `crypto`.
fn crypto_figure<'a>(
    one: &One,
    rows: impl Iterator<Item = &'a Row>,
    ours: &str,
    title: String,
    reading: String,
) -> Figure {
    let rows: Vec<&Row> = rows.collect();
    let name = |row: &Row| match row.batch {
        Some(batch) if batch > 1 => format!("{}, {batch} at once", row.name),
        _ => row.name.clone(),
    };
    let interval = |row: &Row| row.spread.median_95_ns.map(micros).join(" to ");
    let bars = rows.iter().map(|row| {
        let [low, high] = row.spread.median_95_ns;
        Bar {
            name: name(row),
            note: format!("{} µs ({})", micros(row.spread.median_ns), interval(row)),
            parts: vec![row.spread.median_ns / 1_000.0],
            interval: Some((low / 1_000.0, high / 1_000.0)),
            series: usize::from(!row.name.contains(ours)),
        }
    });
    let table = rows.iter().map(|row| {
        vec![
            name(row),
            micros(row.spread.median_ns),
            interval(row),
            micros(row.spread.min_ns),
            micros(row.spread.p10_ns),
            micros(row.spread.p90_ns),
            thousands(row.per_second),
        ]
    });
    let head = ["", "median µs", "its 95 %", "min", "p10", "p90", "a second"];
    Figure {
        title,
        chart: Chart::Bars(Bars {
            axis: "CPU µs".to_owned(),
            parts: Vec::new(),
            bars: bars.collect(),
            log: false,
        }),
        reading,
        table: Table::new(&head, table.collect()),
        source: one.source(),
    }
}

/// How many times, or that it is no difference.
pub(in super::super) fn times(ratio: &Ratio) -> String {
    let Ratio { median, low, high } = *ratio;
    // Near 1 a tenth is the whole difference.
    let digits = if median < 2.0 { 2 } else { 1 };
    match ratio.spans_one() {
        true => format!("no difference ({low:.2} to {high:.2})"),
        false => format!("{median:.digits$} × ({low:.digits$} to {high:.digits$})"),
    }
}

fn hops(one: &One, rows: &[Row], stored: &Stored) -> Option<Figure> {
    let ratio = one.envelope.ratios.get("hop_native_vs_sphinx_packet")?;
    let is_hop = |row: &&Row| row.name.starts_with("hop ") && !row.name.contains("sum of");
    let outfox = stored.outfox.as_ref().map(|(file, outfox)| {
        format!(
            " A hop of nym-outfox takes {:.1} × the native one's ({file}, {} rounds).",
            outfox.ratios.hop_native_vs_nym_outfox, outfox.runs
        )
    });
    Some(crypto_figure(
        one,
        rows.iter().filter(is_hop),
        "native",
        format!("A hop costs {} less than with sphinx-packet", times(ratio)),
        format!(
            "Lanes: {}. The ratio is the median of single rounds' ratios.{}",
            one.envelope.machine.lanes,
            outfox.unwrap_or_default()
        ),
    ))
}

fn x25519(one: &One, rows: &[Row]) -> Option<Figure> {
    let ratio = one.envelope.ratios.get("x25519_vs_aws_lc")?;
    let is_x25519 = |row: &&Row| row.name.starts_with("x25519 ");
    Some(crypto_figure(
        one,
        rows.iter().filter(is_x25519),
        "ours",
        format!("X25519 in wide lanes: {} as fast as aws-lc-rs", times(ratio)),
        "Lanes pay from batches on; one multiplication at a time takes the fastest library there is.".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_one_is_told_to_two_digits_and_what_is_far_from_it_to_one() {
        let said = |median, low, high| times(&Ratio { median, low, high });
        assert_eq!(said(0.943, 0.938, 0.951), "0.94 × (0.94 to 0.95)");
        assert_eq!(said(1.094, 1.09, 1.999), "1.09 × (1.09 to 2.00)");
        assert_eq!(said(2.162, 1.98, 2.175), "2.2 × (2.0 to 2.2)");
        assert_eq!(said(1.0, 0.99, 1.01), "no difference (0.99 to 1.01)");
    }
}
