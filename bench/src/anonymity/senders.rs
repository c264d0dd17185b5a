//! Who may have sent a packet that was delivered: what a watcher of all wires who knows the law of delays can say.
//!
//! Delays are exponential, so all ways to match a node's arrivals with its departures that are possible are as likely as
//! each other: seen from its departure back, a packet that is still to be matched is any of those that the node then held
//! with the same chance. Going back through a node's events with the chance that is still to be matched gives the chances
//! of all arrivals; those are departures of the layer before. At a hostile node both ends are known.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::calendar::OUTSIDE;
use super::model::{Pools, Traffic, run};
use super::network::Network;

/// What is left of a chance that is not followed any more.
const LITTLE: f64 = 1e-6;

/// Something that happened at a node.
#[derive(Clone, Copy)]
struct Seen {
    packet: u32,
    arrived: bool,
    /// Packets that the node held once it had arrived.
    among: u32,
}

/// All that a watcher saw.
struct Record {
    /// By node, in order of time.
    nodes: Vec<Vec<Seen>>,
    /// By packet: who sent it, and the nodes that held it.
    packets: Vec<(u32, Vec<u16>)>,
    /// Packets that were delivered, in order.
    delivered: Vec<u32>,
}

fn record(network: &Network, traffic: &Traffic) -> io::Result<Record> {
    let mut pools = Pools::new(network.nodes());
    let mut record = Record {
        nodes: vec![Vec::new(); network.nodes()],
        packets: Vec::new(),
        delivered: Vec::new(),
    };
    run(network, traffic, |event| {
        pools.follow(network, event);
        let packet = event.packet;
        if event.from == OUTSIDE {
            record.packets.push((event.user, Vec::new()));
        } else {
            record.nodes[usize::from(event.from)].push(Seen {
                packet,
                arrived: false,
                among: 0,
            });
        }
        if network.is_mix(event.to) || event.from == OUTSIDE {
            record.packets[packet as usize].1.push(event.to);
            record.nodes[usize::from(event.to)].push(Seen {
                packet,
                arrived: true,
                among: pools.0[usize::from(event.to)],
            });
        } else {
            record.delivered.push(packet);
        }
    })?;
    Ok(record)
}

/// Chances of arrivals at a node, of those of departures.
fn back(events: &[Seen], departures: &BTreeMap<u32, f64>) -> BTreeMap<u32, f64> {
    let mut arrivals = BTreeMap::new();
    let (mut open, mut left) = (0.0, departures.len());
    for seen in events.iter().rev() {
        if !seen.arrived {
            if let Some(chance) = departures.get(&seen.packet) {
                open += chance;
                left -= 1;
            }
        } else if open > 0.0 {
            let chance = open / f64::from(seen.among.max(1));
            arrivals.insert(seen.packet, chance);
            open -= chance;
        }
        if left == 0 && open < LITTLE {
            break;
        }
    }
    arrivals
}

/// Bits of uncertainty about the sender of so many delivered packets, ascending. Of the mixes this share is hostile.
pub(super) fn entropies(
    network: &Network,
    traffic: &Traffic,
    hostile: f64,
    targets: usize,
) -> io::Result<Vec<f64>> {
    let record = record(network, traffic)?;
    let mut rng = ChaCha8Rng::seed_from_u64(traffic.seed + 7);
    let first = network.size.gateways;
    let mut mixes: Vec<u16> = (first..network.nodes() as u16).collect();
    mixes.shuffle(&mut rng);
    let bad = (mixes.len() as f64 * hostile).round() as usize;
    let bad: BTreeSet<u16> = mixes.into_iter().take(bad).collect();
    // Only of late ones the past is known far enough.
    let late = &record.delivered[record.delivered.len() / 2..];
    if late.is_empty() {
        return Err(io::Error::other("too few packets for a target"));
    }
    let mut bits: Vec<f64> = (0..targets)
        .map(|_| entropy(&record, &bad, late[rng.random_range(0..late.len())]))
        .collect();
    bits.sort_by(f64::total_cmp);
    Ok(bits)
}

fn entropy(record: &Record, bad: &BTreeSet<u16>, target: u32) -> f64 {
    let mut chances = BTreeMap::from([(target, 1.0)]);
    let hops = record.packets[target as usize].1.len();
    for hop in (0..hops).rev() {
        let mut by_node: BTreeMap<u16, BTreeMap<u32, f64>> = BTreeMap::new();
        for (packet, chance) in chances {
            let node = record.packets[packet as usize].1[hop];
            by_node.entry(node).or_default().insert(packet, chance);
        }
        chances = BTreeMap::new();
        for (node, departures) in by_node {
            match bad.contains(&node) {
                true => chances.extend(departures),
                false => chances.extend(back(&record.nodes[usize::from(node)], &departures)),
            }
        }
    }
    let mut senders: BTreeMap<u32, f64> = BTreeMap::new();
    for (packet, chance) in chances {
        *senders
            .entry(record.packets[packet as usize].0)
            .or_default() += chance;
    }
    let all: f64 = senders.values().sum();
    let shares = senders.values().map(|chance| chance / all);
    let bits: f64 = shares.map(|share| -share * share.log2()).sum();
    bits.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::network::Size;
    use super::*;

    fn seen(packet: u32, arrived: bool, among: u32) -> Seen {
        Seen {
            packet,
            arrived,
            among,
        }
    }

    #[test]
    fn chances_are_those_of_all_matchings_that_are_possible() {
        // 0 and 1 arrive, 8 leaves, 2 arrives, 9 leaves: 9 is 2 in half of the matchings, else the one that 8 was not.
        let events = [
            seen(0, true, 1),
            seen(1, true, 2),
            seen(8, false, 0),
            seen(2, true, 2),
            seen(9, false, 0),
        ];
        let of = |departure| back(&events, &BTreeMap::from([(departure, 1.0)]));
        assert_eq!(of(9), BTreeMap::from([(0, 0.25), (1, 0.25), (2, 0.5)]));
        assert_eq!(of(8), BTreeMap::from([(0, 0.5), (1, 0.5)]));
    }

    #[test]
    fn more_users_hide_more_and_hostile_mixes_less() {
        let network = Network::new(Size {
            gateways: 3,
            mixes: 3,
            layers: 3,
            mean_delay_us: 50_000,
        })
        .unwrap();
        let median = |users, hostile| {
            let traffic = Traffic {
                users,
                rate_pps: 1.0,
                seconds: 20.0,
                seed: 2,
            };
            let bits = entropies(&network, &traffic, hostile, 200).unwrap();
            assert!(
                bits.iter()
                    .all(|bits| *bits <= f64::from(users).log2() + 1e-9)
            );
            bits[100]
        };
        let (few, many) = (median(60, 0.0), median(600, 0.0));
        assert!(few > 3.0 && many > few + 2.0, "{few} {many}");
        assert!(median(600, 0.5) < many);
        // Who owns all mixes is left with what gateways hold.
        assert!(median(600, 1.0) < 6.0);
    }
}
