//! The model beside the full engine: production workers, clients and cryptography in memory ([`simulation`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use port::sim::Conditions;
use simulation::{Host, Plan, SECOND, World};

use super::calendar::OUTSIDE;
use super::law::{chi_square_p, distance};
use super::model::{Pools, Traffic, run};
use super::network::{Network, Size};

/// By then all are attached and the pools are full.
const BEGINS_NS: u64 = 20 * SECOND;
const LOOK_NS: u64 = 100_000_000;

/// What a watcher of the full engine counted.
#[derive(Default)]
struct Seen {
    pools: Vec<i64>,
    links: BTreeMap<(usize, usize), u64>,
    looks: Vec<f64>,
    next_ns: u64,
    /// Packets that came from users, once it had begun.
    entered: u64,
}

fn full(plan: Plan) -> Seen {
    let mut world = World::new(plan).unwrap();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    {
        let mut seen = seen.lock().unwrap();
        seen.pools = vec![0; plan.nodes()];
        seen.next_ns = BEGINS_NS;
    }
    let sink = Arc::clone(&seen);
    let gateways = plan.gateways;
    world.observe(move |one| {
        let seen = &mut *sink.lock().unwrap();
        while one.sent_ns > seen.next_ns {
            seen.looks
                .extend(seen.pools[gateways..].iter().map(|pool| *pool as f64));
            seen.next_ns += LOOK_NS;
        }
        if !one.is_data {
            return;
        }
        if let Host::Node(to) = one.destination
            && let Host::Node(from) = one.source
        {
            if one.sent_ns > BEGINS_NS {
                *seen.links.entry((from, to)).or_default() += 1;
                seen.entered += u64::from(from < gateways);
            }
            seen.pools[from] -= i64::from(from >= gateways);
            seen.pools[to] += i64::from(to >= gateways);
        }
    });
    world.run().unwrap();
    world.conserved().unwrap();
    std::mem::take(&mut *seen.lock().unwrap())
}

/// The same network in the model, with as many packets as entered the other.
fn model(plan: &Plan, entered: u64) -> Vec<f64> {
    let network = Network::new(Size {
        gateways: plan.gateways as u16,
        mixes: plan.mixes as u16,
        layers: 3,
        mean_delay_us: plan.mean_delay_us,
    })
    .unwrap();
    let seconds = (plan.span_ns - BEGINS_NS) as f64 / 1e9;
    let traffic = Traffic {
        users: plan.crowd as u32,
        rate_pps: entered as f64 / seconds / plan.crowd as f64,
        seconds: plan.span_ns as f64 / 1e9,
        seed: plan.seed,
    };
    let mut pools = Pools::new(network.nodes());
    let (mut looks, mut next_us) = (Vec::new(), BEGINS_NS / 1_000);
    run(&network, &traffic, |event| {
        while event.at_us > next_us {
            looks.extend(pools.0[plan.gateways..].iter().map(|pool| f64::from(*pool)));
            next_us += LOOK_NS / 1_000;
        }
        assert!(event.from != OUTSIDE || !network.is_mix(event.to));
        pools.follow(&network, event);
    })
    .unwrap();
    looks
}

/// χ² of all links between the same two layers, which in both engines carry as much as each other.
fn links_p(plan: &Plan, links: &BTreeMap<(usize, usize), u64>) -> f64 {
    let mix = |node: usize| node >= plan.gateways;
    let first = |node: usize| links.keys().any(|(from, to)| *to == node && !mix(*from));
    let last = |node: usize| links.keys().any(|(from, to)| *from == node && !mix(*to));
    let layer = |node: usize| match (mix(node), first(node), last(node)) {
        (false, ..) => 0,
        (_, true, _) => 1,
        (_, _, true) => 3,
        _ => 2,
    };
    let mut stages: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for ((from, to), count) in links {
        assert_eq!((layer(*from) + 1) % 4, layer(*to), "{from} to {to}");
        stages.entry(layer(*from)).or_default().push(*count);
    }
    let (mut chi_square, mut degrees) = (0.0, 0.0);
    for (stage, counts) in stages {
        let ends = if stage == 0 || stage == 3 {
            plan.gateways
        } else {
            plan.mixes
        };
        assert_eq!(counts.len(), ends * plan.mixes, "every link is used");
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let far = counts
            .iter()
            .map(|count| (*count as f64 - expected).powi(2) / expected);
        chi_square += far.sum::<f64>();
        degrees += counts.len() as f64 - 1.0;
    }
    chi_square_p(chi_square, degrees)
}

/// Largest distance between the two engines' pools, and the chance of the links' differences.
fn compared(plan: Plan) -> (f64, f64) {
    let seen = full(plan);
    let looks = model(&plan, seen.entered);
    assert!(seen.looks.iter().all(|pool| *pool >= 0.0));
    (distance(&seen.looks, &looks), links_p(&plan, &seen.links))
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        mixes: 4,
        gateways: 4,
        crowd: 60,
        crowd_pps: 4.0,
        trios: 0,
        busy_pps: 4.0,
        file_bytes: 0,
        span_ns: 60 * SECOND,
        epoch_ms: 1_200_000,
        begins_ms: 100_000,
        mean_delay_us: 50_000,
        // Nodes' own cover would be packets that the model has not.
        cover_ns: 100_000 * SECOND,
        conditions: Conditions {
            loss: 0.0,
            delay_ns: 1_000,
            jitter_ns: 0,
            reorder: 0.0,
            reorder_ns: 0,
        },
        crashes: 0,
        partitions: 0,
    }
}

#[test]
fn pools_and_links_of_the_model_are_those_of_the_full_engine() {
    // 7,680 looks of two samples that hang together a little: twice what chance makes of it.
    let (pools, links) = compared(plan(1));
    assert!(pools < 0.04, "D = {pools}");
    assert!(links > 1e-4, "p = {links}");
}

#[test]
#[ignore = "minutes of cryptography"]
fn a_hundred_nodes_and_a_thousand_users_for_ten_minutes_agree_with_the_model() {
    let (pools, links) = compared(Plan {
        mixes: 30,
        gateways: 10,
        crowd: 1_000,
        crowd_pps: 1.0,
        span_ns: 600 * SECOND,
        ..plan(2)
    });
    assert!(pools < 0.02, "D = {pools}");
    assert!(links > 1e-4, "p = {links}");
}
