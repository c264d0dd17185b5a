//! `mixbench node`: the whole node, in lockstep ([`crate::lockstep`]) or paced: packets come at fixed times, whatever
//! becomes of those before them.

mod paced;
pub(crate) mod pacer;
pub(crate) mod points;
mod traffic;

use std::io;

use serde::{Deserialize, Serialize};
use sphinx::lanes::Lanes;

use crate::envelope::Envelope;
use crate::lockstep::breakdown::Lockstep;
use crate::lockstep::{self, What};
use crate::scene::place::NEXT_HOPS;
use crate::scene::{PortName, Shape};
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
    /// Next hops of the node: packets go to one of them at random.
    #[arg(long, default_value_t = NEXT_HOPS, value_parser = next_hops)]
    next_hops: usize,
    /// Backend of the wide arithmetic: portable, graviola, avx2 or ifma [default: what FOGMIX_LANES says, else the fastest].
    #[arg(long, value_parser = lanes)]
    lanes: Option<Lanes>,
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

impl Arguments {
    fn shape(&self) -> Shape {
        let shape = Shape::default();
        Shape {
            lanes: self.lanes.unwrap_or(shape.lanes),
            next_hops: self.next_hops,
        }
    }
}

/// Each has an address of its own in one /24, on loopback beside the node and who sends to it.
pub(crate) const NEXT_HOPS_MAX: usize = 200;

fn next_hops(text: &str) -> Result<usize, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (1..=NEXT_HOPS_MAX).contains(number));
    number.ok_or_else(|| format!("there are 1 to {NEXT_HOPS_MAX} next hops"))
}

/// One that is asked for by name is never replaced by another.
fn lanes(text: &str) -> Result<Lanes, String> {
    let named = Lanes::from_name(text).filter(|lanes| lanes.is_available());
    named.ok_or_else(|| {
        let there: Vec<&str> = Lanes::available().map(Lanes::name).collect();
        format!("this machine has {}", there.join(", "))
    })
}

/// Measures the node.
///
/// # Errors
/// Sockets or cores can't be had, or in lockstep packets got lost on the way.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    match arguments.mode {
        Mode::Lockstep => lockstep::measure_all(What::Node, arguments.shape(), arguments.quick),
        Mode::Paced => paced::run(arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_without_an_address_and_lanes_that_are_not_there_are_refused() {
        assert_eq!((next_hops("1"), next_hops("200")), (Ok(1), Ok(200)));
        for refused in ["0", "201", "-1", "many"] {
            assert!(next_hops(refused).is_err(), "{refused}");
        }
        assert_eq!(lanes("portable"), Ok(Lanes::Portable));
        let refused = lanes("wide").unwrap_err();
        assert!(refused.contains("portable"), "{refused}");
        for lanes_of_all in [Lanes::Graviola, Lanes::Avx2, Lanes::Ifma] {
            let name = lanes_of_all.name();
            assert_eq!(lanes(name).is_ok(), lanes_of_all.is_available(), "{name}");
        }
    }
}
