//! What the node measured, with the names that a document gives.

use handover::status::NodeStatus;

use super::shapes::{Anonymity, BadHop, Excess, HopLoops, HopState, Interval, Loops, Silence};
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
        silence: silence(found),
        hops: node.hops.iter().map(hop).collect(),
    }
}

/// What the silence of the layer before says of a suspicion: whether packets are kept from this node, or its own do not
/// get out.
fn silence(found: &handover::status::Found) -> Option<Silence> {
    let (silent, of) = (found.previous_silent?, found.previous);
    let share = f64::from(silent) / f64::from(of.max(1));
    let (meaning, remedy) = match (found.n1_suspected, silent) {
        (true, _) if share >= 0.5 => (
            "half or more of the nodes that send to this one are silent: somebody keeps their packets from it, or its host takes none in",
            "look whether this host receives at all (mixctl doctor, its firewall), then ask the provider",
        ),
        (true, _) => (
            "most of the nodes that send to this one are heard, so packets get in: rather its own do not get out",
            "look at what this host sends: its firewall, its route, mixctl why-dropped",
        ),
        (false, 0) => ("all nodes that send to this one are heard", "nothing"),
        (false, _) if silent == of => (
            "no node that sends to this one is heard: its host takes none in, or somebody keeps them from it",
            "look whether this host receives at all (mixctl doctor, its firewall), then ask the provider",
        ),
        (false, _) => (
            "some of the nodes that send to this one are down, or the way from them is",
            "if they stay silent, see who loses packets above and ask who runs them",
        ),
    };
    Some(Silence {
        silent,
        of,
        share,
        meaning: meaning.to_owned(),
        remedy: remedy.to_owned(),
    })
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
        // Figures are left to who asks: the sentence stays the same while they change.
        let silence = silence(&node.found).map(|said| format!("; {}", said.meaning));
        warnings.push(format!(
            "n-1 suspected: loop packets come home on no way; somebody may keep others' packets from this node to know the \
             few that pass: ask the provider, look at this host's network and at what other nodes say{}",
            silence.unwrap_or_default()
        ));
    }
    for hop in bad(node, followed) {
        let of = hop.operator.map(|operator| format!(" of {operator}"));
        warnings.push(format!(
            "node {}{} loses packets: loops through it do not come home, others do; tell who runs it (its number is of epoch {})",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use handover::status::Found;

    #[test]
    fn silence_beside_a_suspicion_tells_what_is_kept_away_from_what_does_not_get_out() {
        let said = |n1_suspected, previous_silent| {
            let found = Found {
                n1_suspected,
                previous_silent,
                previous: 3,
                ..Found::default()
            };
            silence(&found)
        };
        assert_eq!(said(true, None), None);
        for (suspected, silent, words) in [
            (true, 3, "somebody keeps their packets from it"),
            (true, 1, "its own do not get out"),
            (false, 1, "are down"),
            (false, 0, "are heard"),
        ] {
            let said = said(suspected, Some(silent)).unwrap();
            assert!(said.meaning.contains(words), "{said:?}");
            assert!(!said.remedy.is_empty());
            assert_eq!((said.silent, said.of), (silent, 3));
        }
        let node = NodeStatus {
            found: Found {
                n1_suspected: true,
                previous_silent: Some(3),
                previous: 3,
                ..Found::default()
            },
            ..NodeStatus::default()
        };
        let chain = crate::network::authority().chain().clone();
        let followed = Board::new(&chain).read();
        assert!(loops(&node, &followed, None).silence.is_some());
        let warned = warnings(&node, &followed);
        assert!(
            warned[0].contains("somebody keeps their packets from it"),
            "{warned:?}"
        );
    }
}
