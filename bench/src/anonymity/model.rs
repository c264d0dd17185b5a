//! The engine: users' slots, paths and delays of production code, and pools as counts. Nothing is encrypted and nothing has
//! bytes, which is what lets a core move a million users.

use std::io;
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::calendar::{Calendar, Event, OUTSIDE};
use super::law::gap_us;
use super::network::Network;
use directory::DELAY_CAP_MEANS;

/// Who sends how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) users: u32,
    /// Slots a second of each.
    pub(super) rate_pps: f64,
    pub(super) seconds: f64,
    pub(super) seed: u64,
}

/// What happened in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) packets: u64,
    pub(super) events: u64,
}

/// Packets that a node holds, by node. Gateways hold what users send; what they deliver waits in another place.
#[derive(Clone, Debug)]
pub(super) struct Pools(pub(super) Vec<u32>);

impl Pools {
    pub(super) fn new(nodes: usize) -> Pools {
        Pools(vec![0; nodes])
    }

    /// Gives how many the packet was among when it left, if it left a node.
    pub(super) fn follow(&mut self, network: &Network, event: &Event) -> Option<u32> {
        if network.is_mix(event.to) || event.from == OUTSIDE {
            self.0[usize::from(event.to)] += 1;
        }
        (event.from != OUTSIDE).then(|| {
            let pool = &mut self.0[usize::from(event.from)];
            let among = *pool;
            *pool -= 1;
            among
        })
    }
}

/// Runs it; `see` is shown each packet that passes from one place to the next, in order of time.
///
/// Users' Poisson processes together are one, in which each slot is any user's with the same chance; whom a packet is for
/// is drawn likewise, for cover as for letters: on the wires they are the same.
///
/// # Errors
/// The network has no path.
pub(super) fn run(
    network: &Network,
    traffic: &Traffic,
    see: impl FnMut(&Event),
) -> io::Result<Tally> {
    run_part(network, traffic, 0..traffic.users, 0, see)
}

/// What these senders alone do. They know nothing of the others, so parts that draw of streams of their own add up to the
/// whole.
///
/// # Errors
/// The network has no path.
pub(super) fn run_part(
    network: &Network,
    traffic: &Traffic,
    senders: Range<u32>,
    stream: u64,
    mut see: impl FnMut(&Event),
) -> io::Result<Tally> {
    let mut rng = ChaCha8Rng::seed_from_u64(traffic.seed);
    rng.set_stream(stream);
    let hops = u64::from(network.size.layers) + 2;
    let longest_us = u64::from(network.size.mean_delay_us) * u64::from(DELAY_CAP_MEANS) * hops;
    let mut calendar = Calendar::new(longest_us);
    let mut tally = Tally::default();
    if senders.is_empty() {
        return Ok(tally);
    }
    let rate_pps = f64::from(senders.end - senders.start) * traffic.rate_pps;
    let end_us = traffic.seconds * 1e6;
    let mut slot_us = gap_us(rate_pps, &mut rng);
    while slot_us < end_us {
        while let Some(event) = calendar.pop(slot_us as u64) {
            tally.events += 1;
            see(&event);
        }
        let sender = rng.random_range(senders.clone());
        let recipient = rng.random_range(0..traffic.users);
        let path = network.path(&mut rng, sender, recipient)?;
        let mut event = Event {
            at_us: slot_us as u64,
            packet: tally.packets as u32,
            user: sender,
            from: OUTSIDE,
            to: 0,
        };
        for hop in &path {
            event.to = hop.node;
            calendar.push(event);
            event.at_us += u64::from(hop.delay_us);
            event.from = hop.node;
            event.user = recipient;
        }
        tally.packets += 1;
        slot_us += gap_us(rate_pps, &mut rng);
    }
    while let Some(event) = calendar.pop(end_us as u64) {
        tally.events += 1;
        see(&event);
    }
    Ok(tally)
}
