//! The daemon's own metrics, for Prometheus. No peer, no client, no path.

use std::fmt::Write;

use super::shapes::{State, Status};

/// The text.
pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, labels: &str, value: f64, help: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{labels} {value}"
        );
    };
    let version = format!("{{version=\"{}\"}}", status.version);
    gauge(
        "mixctld_build_info",
        &version,
        1.0,
        "What this program was built from.",
    );
    let up = !matches!(status.state, State::Down | State::Unknown);
    gauge(
        "mixctld_node_up",
        "",
        f64::from(u8::from(up)),
        "1 while the node here says how it is. 0: it is down, or neither connected to mixctld nor named by [http] node_metrics.",
    );
    let ready = status.is_ready();
    gauge(
        "mixctld_node_ready",
        "",
        f64::from(u8::from(ready)),
        "What /readyz says: 1 if the node would forward a packet now.",
    );
    gauge(
        "mixctld_epoch",
        "",
        f64::from(status.epoch),
        "The epoch of now.",
    );
    if let Some(held) = &status.document {
        gauge(
            "mixctld_document_epoch",
            "",
            f64::from(held.epoch),
            "The epoch whose document is in force. Behind mixctld_epoch: the authorities made none, or none is reached.",
        );
        gauge(
            "mixctld_document_age_seconds",
            "",
            held.age_ms as f64 / 1_000.0,
            "Since the epoch of the document in force began.",
        );
        gauge(
            "mixctld_document_nodes",
            "",
            held.nodes as f64,
            "Nodes that it lists.",
        );
    }
    if let Some(clock) = &status.clock {
        gauge(
            "mixctld_clock_offset_seconds",
            "",
            clock.ahead_ms as f64 / 1_000.0,
            "How far this host's clock is ahead of the authorities', at least; negative: behind. Not 0: have a time service set it.",
        );
    }
    text
}
