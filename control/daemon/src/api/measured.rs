//! What the node measured, with the names that a document gives.

use handover::status::NodeStatus;

use super::shapes::{Anonymity, BadHop, Excess, HopLoops, HopState, Interval, Loops};
use super::witness::wilson;
use crate::board::Followed;

/// Who runs a node of an epoch.
fn operator(followed: &Followed, epoch: u32, index: u16) -> Option<String> {
    let mut documents = followed.documents.iter();
    let held = documents.find(|held| held.consensus.epoch() == epoch)?;
    Some(held.consensus.node(index)?.operator.clone())
}

fn bad(node: &NodeStatus, followed: &Followed) -> Vec<BadHop> {
    let name = |index: &u16| BadHop {
        index: *index,
        operator: operator(followed, node.found.epoch, *index),
    };
    node.found.bad.iter().map(name).collect()
}

pub(super) fn loops(node: &NodeStatus, followed: &Followed, loss: Option<Interval>) -> Loops {
    let (epoch, found) = (node.found.epoch, &node.found);
    let hop = |hop: &handover::status::HopLoops| HopLoops {
        index: hop.index,
        operator: operator(followed, epoch, hop.index),
        sent: hop.sent,
        returned: hop.returned,
        overdue: hop.overdue,
        loss: wilson(hop.overdue.into(), hop.sent.into()),
        excess_us: Excess {
            p50: hop.p50_us,
            p99: hop.p99_us,
        },
        state: match found.bad.contains(&hop.index) {
            true => HopState::Bad,
            false => HopState::Sound,
        },
    };
    Loops {
        loops: node.loops,
        loss,
        epoch,
        is_measured: !found.is_unmeasured,
        n1_suspected: found.n1_suspected,
        bad: bad(node, followed),
        hops: node.hops.iter().map(hop).collect(),
    }
}

/// None where the node says nothing of it: one of an earlier release.
pub(super) fn anonymity(node: &NodeStatus) -> Option<Anonymity> {
    let said = &node.anonymity;
    let bits = |tenths: Option<u16>| tenths.map(|tenths| f64::from(tenths) / 10.0);
    (*said != handover::status::Anonymity::default()).then(|| Anonymity {
        bits: bits(said.short),
        bits_without_largest: bits(said.short_apart),
        mean_bits: bits(said.long),
        mean_bits_without_largest: bits(said.long_apart),
        floor: f64::from(said.floor) / 10.0,
        is_low: said.is_low,
    })
}

/// What an operator should know of though the node forwards: each in a sentence, with what to do.
pub(super) fn warnings(node: &NodeStatus, followed: &Followed) -> Vec<String> {
    let mut warnings = Vec::new();
    if node.found.n1_suspected {
        warnings.push(
            "n-1 suspected: loop packets come home on no way; somebody may keep others' packets from this node to know the \
             few that pass: ask the provider, look at this host's network and at what other nodes say"
                .to_owned(),
        );
    }
    for hop in bad(node, followed) {
        let of = hop.operator.map(|operator| format!(" of {operator}"));
        warnings.push(format!(
            "node {}{} of epoch {} loses packets: loops through it do not come home, others do; tell who runs it",
            hop.index,
            of.unwrap_or_default(),
            node.found.epoch
        ));
    }
    if let Some(said) = anonymity(node).filter(|said| said.is_low) {
        warnings.push(format!(
            "few packets to hide among: {:.1} bits on average for five minutes, the floor is {:.1}; raise this node's part of \
             the traffic ([node] capacity_pps), take fewer workers ([worker] count: each mixes apart), or have the network \
             send more cover or hold packets longer",
            said.mean_bits.unwrap_or(0.0),
            said.floor
        ));
    }
    warnings
}
