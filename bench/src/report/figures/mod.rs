//! One section of the page for each thing that is measured.

pub(super) mod anonymity;
pub(super) mod flood;
pub(super) mod hop;
pub(super) mod network;
pub(super) mod paced;
pub(super) mod peers;
pub(super) mod scaling;

use super::stored::{One, Stored};
use crate::envelope::Results;
use crate::lockstep::breakdown::{Lockstep, PortRow};
use crate::rows::Row;

/// What a port is called where people read.
pub(super) fn port_name(port: &str) -> &str {
    match port {
        "xsk" => "AF_XDP",
        "uring" => "io_uring",
        "plain" => "plain UDP",
        other => other,
    }
}

pub(super) fn lockstep(stored: &Stored) -> Option<(&One, &Lockstep)> {
    stored.find(|results| match results {
        Results::Node(node) => node.lockstep.as_ref(),
        _ => None,
    })
}

/// The port that costs least.
pub(super) fn cheapest(lockstep: &Lockstep) -> Option<&PortRow> {
    let by = |row: &&PortRow| row.cpu_per_packet.median_ns;
    lockstep.ports.iter().min_by(|a, b| by(a).total_cmp(&by(b)))
}

pub(super) fn crypto(stored: &Stored) -> Option<(&One, &[Row])> {
    stored.all.iter().find_map(|one| match one.results() {
        Results::Crypto(rows) => Some((one, rows.rows.as_slice())),
        _ => None,
    })
}

/// A row by its name and batch.
pub(super) fn row<'a>(rows: &'a [Row], name: &str, batch: Option<usize>) -> Option<&'a Row> {
    rows.iter()
        .find(|row| row.name == name && row.batch == batch)
}
