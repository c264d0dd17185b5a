//! A laboratory of real nodes, one of which makes way for the generator.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use directory::Role;
use operator::lab::{Bed, Options};
use program::signals::Stop;

use crate::network::SETTLES;

/// The gateway that makes way: all nodes are numbered, gateways first.
const AWAY: u16 = 1;
const TURN: Duration = Duration::from_millis(50);

/// Nodes, and what the generator has to know of them. They end with it.
pub(super) struct Laboratory {
    /// A mix after the gateway that is away.
    pub(super) target: SocketAddr,
    /// A gateway that is there.
    pub(super) gateway: SocketAddr,
    /// The network's file.
    pub(super) network: PathBuf,
    /// State folder of the gateway that is away.
    pub(super) keys: PathBuf,
    _bed: Bed,
}

fn said(failure: impl std::fmt::Display) -> io::Error {
    io::Error::other(failure.to_string())
}

impl Laboratory {
    /// Founds one on this UDP port.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) fn found(udp_port: u16, stop: &Stop) -> io::Result<Laboratory> {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            options: Options,
        }
        let flags: Flags = clap::Parser::try_parse_from(["lab"]).map_err(io::Error::other)?;
        let options = Options {
            udp_port,
            ..flags.options
        };
        let mut bed = Bed::start(&options, stop).map_err(said)?;
        let start = Instant::now();
        while start.elapsed() < SETTLES && !stop.is_asked() {
            bed.turn().map_err(said)?;
            thread::sleep(TURN);
        }
        bed.kill(AWAY);
        let (_, consensus) = bed.documents().map_err(said)?;
        let away = options.address(AWAY);
        let one = |fits: &dyn Fn(&directory::Node) -> bool| {
            let mut nodes = consensus.nodes().iter().filter(|node| fits(node));
            let address = nodes.find_map(|node| node.addresses.first().copied());
            address.ok_or_else(|| io::Error::other("the laboratory lacks a node"))
        };
        Ok(Laboratory {
            target: one(&|node| node.layer == 1)?,
            gateway: one(&|node| node.role == Role::Gateway && !node.addresses.contains(&away))?,
            network: bed.bootstrap_path(),
            keys: bed.state_of(AWAY),
            _bed: bed,
        })
    }
}
