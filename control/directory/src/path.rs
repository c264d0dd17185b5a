//! Path selection: at random, weighted, under the constraints that keep two hops of one
//! path from belonging together.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use rand_core::CryptoRng;
use sphinx::{HOPS_MAX, PathHop};

use crate::consensus::{Consensus, Node};
use crate::epoch::DELAY_CAP_MEANS;
use crate::record::WAITING;

/// The hops of a packet, first to last.
pub type Path = ArrayVec<PathHop, HOPS_MAX>;

/// Draws before selection gives up. A network in which a random draw breaks a constraint nine times in
/// ten still fails less than once in 10^46 selections.
const ATTEMPTS_MAX: usize = 1_024;
/// Pairs of end mixes drawn before selection gives up because no mix between fits.
const ENDS_MAX: usize = 64;

/// Why no path could be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// An end of the path is no gateway of this consensus.
    #[error("node {0} is not a gateway in this epoch")]
    NotGateway(u16),
    /// The node a loop starts at is not in this consensus, or waits.
    #[error("node {0} carries nothing in this epoch")]
    Unknown(u16),
    /// A layer has no node.
    #[error("layer {0} has no node")]
    EmptyLayer(u8),
    /// Nodes share operators or prefixes so much that no allowed path was found.
    #[error("no path satisfies the operator and prefix constraints")]
    Constraints,
}

/// A client's path: `entry`, one mix of each layer, `exit`. The two gateways may be one node.
///
/// Mix 1 differs from `entry` in operator and prefix, the last mix from `exit`, the mixes between from everyone. The
/// mixes at the two ends are drawn on their own, each by weight under its own gateway's constraint and nothing else:
/// what a gateway sees of a packet, its neighbour on the path, must not depend on who the far gateway is. (If all had
/// to differ from both gateways, an exit would see that one operator never is the last mix, and sixty packets would
/// name the client's gateway.) In a network of one layer its mix is at both ends.
///
/// # Errors
/// See [`PathError`].
pub fn select_path<R: CryptoRng + ?Sized>(
    consensus: &Consensus,
    rng: &mut R,
    entry: u16,
    exit: u16,
) -> Result<Path, PathError> {
    let gateway = |index: u16| {
        consensus
            .node(index)
            .filter(|node| node.layer == 0)
            .ok_or(PathError::NotGateway(index))
    };
    let (entry, exit) = (gateway(entry)?, gateway(exit)?);
    let last = consensus.parameters().layers;
    for layer in 1..=last {
        if consensus.layer(layer).next().is_none() {
            return Err(PathError::EmptyLayer(layer));
        }
    }
    if last == 1 {
        let mix = pick_apart(consensus, rng, 1, &[entry, exit])?;
        return Ok(with_delays(consensus, rng, &[entry, mix, exit]));
    }
    // Again only where no mix between fits: a network so poor in operators that neighbours can tell anyway.
    for _ in 0..ENDS_MAX {
        let first = pick_apart(consensus, rng, 1, &[entry])?;
        let before_exit = pick_apart(consensus, rng, last, &[exit])?;
        let mut others: ArrayVec<&Node, HOPS_MAX> =
            [entry, exit, first, before_exit].into_iter().collect();
        let mut nodes: ArrayVec<&Node, HOPS_MAX> = [entry, first].into_iter().collect();
        for layer in 2..last {
            if let Ok(node) = pick_apart(consensus, rng, layer, &others) {
                others.push(node);
                nodes.push(node);
            }
        }
        nodes.extend([before_exit, exit]);
        if nodes.len() == usize::from(last) + 2 {
            return Ok(with_delays(consensus, rng, &nodes));
        }
    }
    Err(PathError::Constraints)
}

/// A node's loop: one node of each following layer around the cyclic layer graph, ending at `from`
/// itself. One hop more than there are mix layers.
///
/// # Errors
/// See [`PathError`].
pub fn loop_path<R: CryptoRng + ?Sized>(
    consensus: &Consensus,
    rng: &mut R,
    from: u16,
) -> Result<Path, PathError> {
    let own = consensus
        .node(from)
        .filter(|node| node.layer != WAITING)
        .ok_or(PathError::Unknown(from))?;
    for _ in 0..ATTEMPTS_MAX {
        let mut nodes: ArrayVec<&Node, HOPS_MAX> = ArrayVec::new();
        let mut layer = consensus.next_layer(own.layer);
        while layer != own.layer {
            nodes.push(pick(consensus, rng, layer)?);
            layer = consensus.next_layer(layer);
        }
        nodes.push(own);
        if allowed(&nodes) {
            return Ok(with_delays(consensus, rng, &nodes));
        }
    }
    Err(PathError::Constraints)
}

/// A gateway at random, by weight.
///
/// # Errors
/// [`PathError::EmptyLayer`] where there is none.
pub fn pick_gateway<R: CryptoRng + ?Sized>(
    consensus: &Consensus,
    rng: &mut R,
) -> Result<u16, PathError> {
    pick(consensus, rng, 0).map(|node| node.index)
}

/// A gateway at random, weighted by capacity, among those whose operator is none of `operators`; `None` where there is
/// none.
pub fn pick_gateway_besides<R: CryptoRng + ?Sized>(
    consensus: &Consensus,
    rng: &mut R,
    operators: &[String],
) -> Option<u16> {
    let table = consensus.table(0)?;
    let mut before = 0;
    let mut others = Vec::new();
    for (index, sum) in table.members.iter().zip(&table.cumulative) {
        let weight = sum - core::mem::replace(&mut before, *sum);
        let is_other = !operators.contains(&consensus.node(*index)?.operator);
        others.extend((is_other && weight > 0).then_some((*index, weight)));
    }
    let total: u64 = others.iter().map(|(_, weight)| weight).sum();
    let mut ticket = (total > 0).then(|| below(rng, total))?;
    let drawn = others.iter().find(|(_, weight)| {
        let is_here = ticket < *weight;
        ticket = ticket.saturating_sub(*weight);
        is_here
    });
    drawn.map(|(index, _)| *index)
}

/// An exponential delay in microseconds with the network's mean, resampled below the cap that nodes
/// enforce (a share of e^-10 of all samples).
pub fn sample_delay_us<R: CryptoRng + ?Sized>(mean_us: u32, rng: &mut R) -> u32 {
    let mean = f64::from(mean_us);
    let cap = mean * f64::from(DELAY_CAP_MEANS);
    loop {
        // 53 random bits, in (0, 1]: the logarithm is finite.
        let uniform = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let delay = -uniform.ln() * mean;
        if delay < cap {
            return delay as u32;
        }
    }
}

/// A node of `layer`, with probability proportional to its weight.
fn pick<'a, R: CryptoRng + ?Sized>(
    consensus: &'a Consensus,
    rng: &mut R,
    layer: u8,
) -> Result<&'a Node, PathError> {
    let empty = PathError::EmptyLayer(layer);
    let table = consensus.table(layer).ok_or(empty)?;
    let total = *table.cumulative.last().ok_or(empty)?;
    let ticket = below(rng, total);
    let position = table.cumulative.partition_point(|sum| *sum <= ticket);
    let index = *table.members.get(position).ok_or(empty)?;
    consensus.node(index).ok_or(empty)
}

/// A node of `layer` that belongs together with none of `others`, by weight among those that do not.
fn pick_apart<'a, R: CryptoRng + ?Sized>(
    consensus: &'a Consensus,
    rng: &mut R,
    layer: u8,
    others: &[&Node],
) -> Result<&'a Node, PathError> {
    for _ in 0..ATTEMPTS_MAX {
        let node = pick(consensus, rng, layer)?;
        if others.iter().all(|other| are_apart(node, other)) {
            return Ok(node);
        }
    }
    Err(PathError::Constraints)
}

/// Uniform below `bound` (not zero): masked rejection, no modulo bias.
fn below<R: CryptoRng + ?Sized>(rng: &mut R, bound: u64) -> u64 {
    let mask = u64::MAX >> bound.saturating_sub(1).leading_zeros().min(63);
    loop {
        let candidate = rng.next_u64() & mask;
        if candidate < bound {
            return candidate;
        }
    }
}

/// Whether no two nodes belong together; two gateways may.
fn allowed(nodes: &[&Node]) -> bool {
    nodes.iter().enumerate().all(|(position, a)| {
        let mut later = nodes.iter().skip(position + 1);
        later.all(|b| (a.layer == 0 && b.layer == 0) || are_apart(a, b))
    })
}

/// Whether two nodes have different operators and no prefix in common.
fn are_apart(a: &Node, b: &Node) -> bool {
    a.operator != b.operator && !share_prefix(&a.addresses, &b.addresses)
}

fn share_prefix(a: &[SocketAddr], b: &[SocketAddr]) -> bool {
    a.iter()
        .any(|a| b.iter().any(|b| same_prefix(a.ip(), b.ip())))
}

/// Same /24 or /48.
fn same_prefix(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.to_bits() >> 8 == b.to_bits() >> 8,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() >> 80 == b.to_bits() >> 80,
        _ => false,
    }
}

/// Every hop but the last holds the packet; the last hands it over (a gateway in the client's own
/// Poisson slots, which mix again).
fn with_delays<R: CryptoRng + ?Sized>(consensus: &Consensus, rng: &mut R, nodes: &[&Node]) -> Path {
    let mean_us = consensus.parameters().mean_delay_us;
    let last = nodes.len().saturating_sub(1);
    nodes
        .iter()
        .enumerate()
        .map(|(position, node)| PathHop {
            public_key: node.epoch_key,
            node: node.index,
            delay_us: if position == last {
                0
            } else {
                sample_delay_us(mean_us, rng)
            },
        })
        .collect()
}
