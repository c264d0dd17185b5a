//! What goes wrong, and when: all drawn from the seed.

use port::sim::Conditions;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use crate::plan::Plan;

/// Something that happens to the network.
#[derive(Clone, Debug)]
pub enum Fault {
    /// These nodes can't be reached from anywhere else, nor reach it.
    Partition(Vec<usize>),
    /// The partition ends.
    Heal,
    /// A node dies: what it held, its sessions and its epoch keys are gone.
    Crash(usize),
    /// It starts again, with what is on its disk.
    Restart(usize),
    /// A user's client dies.
    Kill(usize),
    /// It starts again.
    Revive(usize),
    /// The wires get better or worse.
    Weather(Conditions),
    /// From now on a gateway takes up what is signed and says to its clients that it has none of it.
    Withhold(usize),
}

/// The faults of a run, in order. `spared` are nodes that never crash, since a client of a gateway that lost its epoch
/// keys waits for the next consensus; `user` is killed once.
pub(crate) fn draw(
    plan: &Plan,
    spared: impl Fn(usize) -> bool,
    user: usize,
    rng: &mut ChaCha20Rng,
) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let nodes = plan.nodes();
    let at = |from: f64, until: f64, rng: &mut ChaCha20Rng| {
        (rng.random_range(from..until) * plan.span_ns as f64) as u64
    };
    for _ in 0..plan.partitions {
        let begins_ns = at(0.15, 0.6, rng);
        let count = (nodes / 10).max(1);
        let cut_off = (0..count).map(|_| rng.random_range(0..nodes)).collect();
        faults.push((begins_ns, Fault::Partition(cut_off)));
        faults.push((begins_ns + at(0.02, 0.05, rng), Fault::Heal));
    }
    // One gateway, and mixes.
    let gateway = (0..plan.gateways).rev().find(|node| !spared(*node));
    let mut victims: Vec<usize> = gateway.into_iter().collect();
    while victims.len() < plan.crashes {
        let mix = rng.random_range(plan.gateways..nodes);
        if !victims.contains(&mix) {
            victims.push(mix);
        }
    }
    for victim in victims {
        let dies_ns = at(0.1, 0.4, rng);
        faults.push((dies_ns, Fault::Crash(victim)));
        faults.push((dies_ns + at(0.01, 0.1, rng), Fault::Restart(victim)));
    }
    let killed_ns = at(0.2, 0.3, rng);
    faults.push((killed_ns, Fault::Kill(user)));
    faults.push((killed_ns + at(0.01, 0.05, rng), Fault::Revive(user)));
    // A storm: four times the loss, and long detours.
    let storm_ns = at(0.3, 0.6, rng);
    let storm = Conditions {
        loss: (4.0 * plan.conditions.loss).min(1.0),
        reorder: 0.3,
        ..plan.conditions
    };
    faults.push((storm_ns, Fault::Weather(storm)));
    faults.push((
        storm_ns + at(0.03, 0.06, rng),
        Fault::Weather(plan.conditions),
    ));
    faults.sort_by_key(|(at_ns, _)| *at_ns);
    faults
}
