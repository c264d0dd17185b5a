//! What a gateway that cheats gets of two hundred clients, in numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use mixnode::path::reason::Reason;
use port::sim::Conditions;
use simulation::{Fault, Host, Plan, SECOND, World};

const CLIENTS: usize = 200;
const MS: u64 = 1_000_000;
/// Into the run: the end of an epoch of 80 s.
const TURN_NS: u64 = 12 * SECOND;
/// R / 2 and 3 R / 4 + 50 mean delays after it.
const ALL_TURNED_MS: u64 = 1_250;
const GRACE_MS: u64 = 2_875;

fn crowd(seed: u64) -> World {
    World::new(Plan {
        seed,
        mixes: 1,
        gateways: 4,
        crowd: CLIENTS,
        crowd_pps: 2.0,
        trios: 0,
        busy_pps: 2.0,
        file_bytes: 0,
        span_ns: 60 * SECOND,
        epoch_ms: 80_000,
        begins_ms: 68_000,
        mean_delay_us: 20_000,
        cover_ns: SECOND,
        conditions: Conditions {
            delay_ns: 2 * MS,
            ..Conditions::default()
        },
        crashes: 0,
        partitions: 0,
    })
    .unwrap()
}

fn refused_for_epoch(world: &World, node: usize) -> u64 {
    let node = world.nodes[node].as_ref().unwrap();
    node.counters().rejected(Reason::Epoch)
}

#[test]
fn attack_packets_that_a_gateway_keeps_back_of_one_of_200_clients_are_its_only_old_ones_0_times_after_the_grace()
 {
    const VICTIMS: usize = 24;
    const EACH_MS: u64 = 150;
    let mut world = crowd(11);
    world.run_until(TURN_NS - 5 * SECOND).unwrap();
    let mut made = Vec::new();
    for victim in &mut world.users[..VICTIMS] {
        assert!(victim.attached_ns.is_some());
        victim.keep_back(true);
        made.push(victim.cover());
    }
    world.run_until(TURN_NS).unwrap();
    for (victim, made) in world.users.iter_mut().zip(&mut made) {
        victim.keep_back(false);
        *made = victim.cover() - *made;
    }
    // One victim after the other gets its packets of the old epoch released, while nobody else sends any.
    let [mut within, mut after] = [[0; 2]; 2];
    for (victim, made) in made.into_iter().enumerate() {
        let at_ms = ALL_TURNED_MS + victim as u64 * EACH_MS;
        world.run_until(TURN_NS + at_ms * MS).unwrap();
        let gateway = world.users[victim].gateway;
        let before = refused_for_epoch(&world, gateway);
        world.users[victim].release();
        world.run_until(world.now_ns + 10 * MS).unwrap();
        let refused = refused_for_epoch(&world, gateway) - before;
        let sum = if at_ms < GRACE_MS {
            &mut within
        } else {
            &mut after
        };
        assert!(refused <= made, "{refused} of {made}");
        sum[0] += made - refused;
        sum[1] += made;
    }
    println!(
        "of packets kept back of {VICTIMS} of {CLIENTS} clients {within:?} were taken between R/2 and 3R/4 + 50 mean \
         delays after the turn, {after:?} later"
    );
    assert!(after[1] > 50);
    assert_eq!(after[0], 0);
    assert_eq!(within[0], within[1], "until then the threat model says so");
}

/// How often clients are looked at.
const LOOK_NS: u64 = 20 * MS;

/// What the clients of gateway 0 show over a turn of epochs at which it has no document for them.
#[derive(Debug, Default)]
struct Shown {
    clients: usize,
    /// Packets that they made without the document of now: before each knew that there is none, and after it.
    before: u64,
    after: u64,
    /// Clients that got the document elsewhere, and that were told that there is none.
    fetched: usize,
    denied: usize,
    /// When the last of them knew, seconds after the turn.
    last_s: f64,
    /// Packets that gateway 0 refused for their epoch once that is over.
    refused: u64,
    /// Of the other gateways that they wrote to: how many are reserves of theirs, and how many are not.
    reserves: usize,
    others: usize,
}

fn over_the_turn(mut world: World, span_ns: u64) -> Shown {
    let written: Arc<Mutex<BTreeMap<usize, BTreeSet<usize>>>> = Arc::default();
    let hears = Arc::clone(&written);
    world.observe(move |one| {
        if let (Host::User(user), Host::Node(node)) = (one.source, one.destination) {
            hears.lock().unwrap().entry(user).or_default().insert(node);
        }
    });
    world.run_until(TURN_NS).unwrap();
    let victims: Vec<usize> = (0..CLIENTS)
        .filter(|number| world.users[*number].gateway == 0)
        .collect();
    let mut shown = Shown {
        clients: victims.len(),
        ..Shown::default()
    };
    // What each had made, whether it was asking, whether it knows.
    let mut stands: Vec<(u64, bool, bool)> = victims
        .iter()
        .map(|victim| (world.users[*victim].cover(), false, false))
        .collect();
    let (mut over_ns, mut refused) = (TURN_NS + GRACE_MS * MS, None);
    while world.now_ns < TURN_NS + span_ns {
        world.run_until(world.now_ns + LOOK_NS).unwrap();
        if world.now_ns >= over_ns {
            (over_ns, refused) = (u64::MAX, Some(refused_for_epoch(&world, 0)));
        }
        for (victim, (made, was_asking, knows)) in victims.iter().zip(&mut stands) {
            let user = &world.users[*victim];
            let client = user.client.as_ref().unwrap();
            let (fetched, asks) = (
                client.documents().of(1).is_some(),
                client.is_asking_others(),
            );
            let new = user.cover() - std::mem::replace(made, user.cover());
            let learns = !*knows && (fetched || (*was_asking && !asks));
            if learns {
                *knows = true;
                shown.last_s = (world.now_ns - TURN_NS) as f64 / 1e9;
                *(if fetched {
                    &mut shown.fetched
                } else {
                    &mut shown.denied
                }) += 1;
            } else if !*knows {
                shown.before += new;
            } else if !fetched {
                shown.after += new;
            }
            *was_asking = asks;
        }
    }
    shown.refused = refused_for_epoch(&world, 0) - refused.unwrap();
    let written = written.lock().unwrap();
    for victim in victims {
        let reserves = world.users[victim].reserves();
        let reserves: BTreeSet<usize> = reserves.filter_map(|one| world.number_of(one)).collect();
        assert_eq!(reserves.len(), 2);
        for node in written[&victim].iter().filter(|node| **node != 0) {
            let is_reserve = reserves.contains(node);
            *(if is_reserve {
                &mut shown.reserves
            } else {
                &mut shown.others
            }) += 1;
        }
    }
    println!("{shown:?}");
    shown
}

#[test]
#[ignore = "minutes of cryptography"]
fn attack_a_gateway_that_withholds_a_document_from_50_of_200_clients_gets_0_old_packets() {
    let mut world = crowd(12);
    world.plan_fault(0, Fault::Withhold(0));
    let shown = over_the_turn(world, 76 * SECOND);
    assert_eq!((shown.before, shown.after, shown.refused), (0, 0, 0));
    assert_eq!((shown.fetched, shown.denied), (shown.clients, 0));
    assert_eq!(shown.others, 0, "reserves alone are asked");
}

#[test]
#[ignore = "minutes of cryptography"]
fn without_a_document_50_of_200_clients_send_nothing_of_the_old_epoch_until_two_reserves_have_none()
{
    let mut world = crowd(13);
    world.leave_out(1);
    let shown = over_the_turn(world, 76 * SECOND);
    assert_eq!(shown.before, 0);
    assert_eq!((shown.fetched, shown.denied), (0, shown.clients));
    assert_eq!((shown.reserves, shown.others), (2 * shown.clients, 0));
    assert!(shown.after > 500, "then they go on");
    assert_eq!(shown.refused, 0, "and all of it is taken");
}
