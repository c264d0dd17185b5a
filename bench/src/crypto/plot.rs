//! The results as horizontal bars, in SVG: linear scales that start at zero, one scale a panel.

use super::report::{Report, Row, SUM_OF_PARTS, micros};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LABEL: f64 = 320.0;
const BAR: f64 = 400.0;
const ROW: f64 = 22.0;

struct Panel {
    title: &'static str,
    /// First words of the names of its rows.
    prefix: &'static str,
}

const PANELS: [Panel; 2] = [
    Panel {
        title: "X25519, µs an operation",
        prefix: "x25519",
    },
    Panel {
        title: "One hop, µs a packet",
        prefix: "hop",
    },
];

pub(super) fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 56.0;
    for panel in &PANELS {
        let rows: Vec<&Row> = report
            .results
            .iter()
            .filter(|row| row.name.starts_with(panel.prefix) && row.name != SUM_OF_PARTS)
            .collect();
        y = draw(&mut body, panel, &rows, y);
    }
    let note = format!(
        "{}; lanes {}; medians of {} rounds, whiskers from the fastest to the 90th percentile; mixbench crypto --plot",
        report.cpu, report.lanes, report.runs
    );
    let height = y + 14.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"11\" fill=\"#555555\">{}</text>\n{body}</svg>\n",
        escape(&note)
    )
}

/// Draws a panel from `y` down, and returns where the next begins.
fn draw(body: &mut String, panel: &Panel, rows: &[&Row], y: f64) -> f64 {
    let longest = rows.iter().map(|row| row.spread.p90_ns).fold(1.0, f64::max);
    let scale = BAR / longest;
    let _ = writeln!(
        body,
        "<text x=\"16\" y=\"{y}\" font-size=\"15\" font-weight=\"600\">{}</text>",
        panel.title
    );
    let mut top = y + 12.0;
    for row in rows {
        // Ours in one colour, the peers in another.
        let ours = row.name.contains("ours") || row.name == "hop native" || row.name == "hop nym";
        let colour = if ours { "#1f6f8b" } else { "#b8bfc6" };
        let label = row
            .name
            .strip_prefix(panel.prefix)
            .unwrap_or(&row.name)
            .trim();
        let (middle, width) = (top + ROW / 2.0, row.spread.median_ns * scale);
        let (from, to) = (
            LABEL + row.spread.min_ns * scale,
            LABEL + row.spread.p90_ns * scale,
        );
        let _ = writeln!(
            body,
            "<text x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{label}, batch {batch}</text>\
             <rect x=\"{LABEL}\" y=\"{bar}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222222\"/>\
             <text x=\"{value:.1}\" y=\"{text}\">{micros}</text>",
            x = LABEL - 8.0,
            text = middle + 4.5,
            label = escape(label),
            batch = row.batch,
            bar = top + 4.0,
            value = to.max(LABEL + width) + 6.0,
            micros = micros(row.spread.median_ns),
        );
        top += ROW;
    }
    top + 30.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
