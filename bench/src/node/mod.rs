//! `mixbench node`: the whole node, in lockstep ([`crate::lockstep`]) or paced: packets come at fixed times, whatever
//! becomes of those before them.

mod paced;
mod pacer;
pub(crate) mod points;
mod traffic;

use std::io;

use serde::{Deserialize, Serialize};

use crate::envelope::Envelope;
use crate::lockstep::breakdown::Lockstep;
use crate::lockstep::{self, What};
use crate::scene::PortName;
use points::Paced;

/// What `mixbench node` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// How the packets come.
    #[arg(long, value_enum, default_value_t = Mode::Lockstep)]
    mode: Mode,
    /// Few rounds, short phases: seconds less, figures less steady.
    #[arg(long)]
    quick: bool,
    /// Paced: this port alone [default: all there are].
    #[arg(long, value_enum)]
    port: Option<PortName>,
    /// Paced: rates, in percent of what a core forwards in lockstep.
    #[arg(long, value_delimiter = ',', value_name = "PERCENT")]
    rates: Vec<f64>,
    /// Paced: seconds of each rate [default: 10, with --quick 0.4].
    #[arg(long)]
    seconds: Option<f64>,
    /// Paced: the core of the node's worker.
    #[arg(long, default_value_t = 0)]
    node_core: usize,
    /// Paced: the core that sends, and looks at what comes out.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// In bursts, one after the other, each when the one before it has left: what a packet costs.
    Lockstep,
    /// At fixed times, in real time: what a core sustains, and what that adds to the delays.
    Paced,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) lockstep: Option<Lockstep>,
    pub(crate) paced: Option<Paced>,
}

impl From<Lockstep> for Report {
    fn from(lockstep: Lockstep) -> Report {
        Report {
            lockstep: Some(lockstep),
            paced: None,
        }
    }
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let lockstep = self.lockstep.as_ref().map(Lockstep::table);
        let paced = self.paced.as_ref().map(Paced::table);
        lockstep.into_iter().chain(paced).collect()
    }
}

/// Measures the node.
///
/// # Errors
/// Sockets or cores can't be had, or in lockstep packets got lost on the way.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    match arguments.mode {
        Mode::Lockstep => lockstep::measure_all(What::Node, arguments.quick),
        Mode::Paced => paced::run(arguments),
    }
}
