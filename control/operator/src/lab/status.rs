//! What a node's status lines tell the lab.

use handover::status::NodeStatus;
use serde::Deserialize;

/// The last status line of a node, as far as the lab shows it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `uring` or `plain`.
    pub port: String,
    /// Datagrams received since the start.
    pub received: u64,
    /// Datagrams sent since the start.
    pub transmitted: u64,
    /// Datagrams refused since the start, all reasons.
    pub rejected: u64,
    /// Packets waiting for their delay to end.
    pub held: u64,
    /// Share of loop packets that did not come back; none before the first was due.
    pub loop_loss: Option<f64>,
    /// What `mixctld` would be told, for the dashboard.
    pub told: Option<Box<NodeStatus>>,
}

impl Status {
    /// All datagrams sent since the start.
    pub fn sent(&self) -> u64 {
        self.transmitted
    }

    /// Reads a status line; anything else a node prints is passed over.
    pub fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}
