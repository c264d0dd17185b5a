//! What a watcher of the wires learns of clients: nothing of what they do.

use std::net::SocketAddr;

use mixnode::path::reason::Reason;
use port::sim::Conditions;
use simulation::{Part, Plan, SECOND, User, World};

use crate::poisson::{are_alike, gaps, is_poisson};
use crate::{WIRES, small};

/// Fewest gaps that a test of a distribution is worth.
const GAPS_MIN: usize = 1_000;

/// Gaps on the wires of all users with this part, to or from their gateways, while every file is under way.
fn gaps_of(world: &World, part: Part, window: (u64, u64), upward: bool) -> Vec<f64> {
    let mut all = Vec::new();
    for (number, user) in world.users.iter().enumerate() {
        if user.part != part || user.was_killed() {
            continue;
        }
        let gateway = world.gateway_address(number);
        let wire = if upward {
            (user.address, gateway)
        } else {
            (gateway, user.address)
        };
        all.extend(gaps(&world.watcher.departures(wire), window.0, window.1));
    }
    all
}

/// Senders, recipients and idlers, in both directions: each a Poisson process of the configured rate, and any two of
/// them alike. Looks at the time between the last attachment and the first file's end.
pub fn assert_one_poisson_process(world: &World) {
    let busy = || world.users.iter().filter(|user| user.part != Part::Crowd);
    let attached = busy().map(|user| user.attached_ns.unwrap()).max().unwrap();
    let complete = busy().filter_map(|user| user.completed_ns).min();
    let window = (attached + SECOND, complete.unwrap_or(world.plan.span_ns));
    let down_pps = (world.plan.busy_pps * 1.25).ceil();
    for (upward, rate_pps) in [(true, world.plan.busy_pps), (false, down_pps)] {
        let parts = [Part::Idle, Part::Sends, Part::Receives];
        let groups = parts.map(|part| (part, gaps_of(world, part, window, upward)));
        for (part, gaps) in &groups {
            assert!(gaps.len() >= GAPS_MIN, "{part:?}: {} gaps", gaps.len());
            let (is, distance, allowed) = is_poisson(gaps, rate_pps);
            assert!(is, "{part:?}, upward {upward}: {distance} of {allowed}");
        }
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let ((a, of_a), (b, of_b)) = (&groups[one], &groups[other]);
            let (are, distance, allowed) = are_alike(of_a, of_b);
            assert!(
                are,
                "{a:?} and {b:?}, upward {upward}: {distance} of {allowed}"
            );
        }
    }
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn idle_sending_and_receiving_clients_show_one_poisson_process_in_both_directions() {
    let mut world = World::new(Plan {
        crowd: 0,
        trios: 8,
        busy_pps: 10.0,
        file_bytes: 400_000,
        crashes: 0,
        partitions: 0,
        span_ns: 60 * SECOND,
        ..small(3)
    })
    .unwrap();
    world.run().unwrap();
    assert!(
        world.users.iter().all(|user| user.completed_ns.is_none()),
        "the files are under way all the time"
    );
    assert_one_poisson_process(&world);
}

fn late(departures: Vec<u64>) -> Vec<u64> {
    let late = |at_ns: &u64| *at_ns >= 20 * SECOND;
    departures.into_iter().filter(late).collect()
}

/// When a trio's members sent, from 20 s on, and to whom: after all of them are attached, whatever the wires are like.
fn departures(plan: Plan) -> Vec<Vec<u64>> {
    let mut world = World::new(plan).unwrap();
    world.run().unwrap();
    let members = [Part::Sends, Part::Receives, Part::Idle].map(|part| world.member(0, part));
    let wire = |number: &usize| -> (SocketAddr, SocketAddr) {
        (world.users[*number].address, world.gateway_address(*number))
    };
    members
        .iter()
        .map(|number| {
            let all = world.watcher.departures(wire(number));
            let user: &User = &world.users[*number];
            assert!(user.attached_ns.is_some_and(|at_ns| at_ns < 20 * SECOND));
            late(all)
        })
        .collect()
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_client_does_not_react_visibly_to_loss_consensus_fetches_or_queues() {
    let quiet = Plan {
        trios: 1,
        crowd: 0,
        file_bytes: 0,
        epoch_ms: 1_200_000,
        begins_ms: 0,
        conditions: Conditions {
            delay_ns: WIRES.delay_ns,
            ..Conditions::default()
        },
        crashes: 0,
        partitions: 0,
        ..small(5)
    };
    let lossy = Conditions {
        loss: 0.15,
        reorder: 0.3,
        ..WIRES
    };
    let expected = departures(quiet);
    assert!(expected.iter().all(|times| times.len() > 100));
    let short_epochs = (small(5).epoch_ms, small(5).begins_ms);
    for (what, plan) in [
        (
            "a file under way",
            Plan {
                file_bytes: 50_000,
                ..quiet
            },
        ),
        (
            "loss and reordering",
            Plan {
                conditions: lossy,
                ..quiet
            },
        ),
        (
            "a file through loss and reordering",
            Plan {
                file_bytes: 50_000,
                conditions: lossy,
                ..quiet
            },
        ),
        (
            "two consensuses to fetch",
            Plan {
                epoch_ms: short_epochs.0,
                begins_ms: short_epochs.1,
                ..quiet
            },
        ),
        (
            "other users",
            Plan {
                trios: 2,
                file_bytes: 20_000,
                ..quiet
            },
        ),
    ] {
        assert_eq!(departures(plan), expected, "{what}");
    }
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_dead_gateway_and_a_full_queue_show_in_no_departure() {
    let quiet = Plan {
        trios: 8,
        crowd: 0,
        crashes: 0,
        partitions: 0,
        file_bytes: 0,
        ..small(5)
    };
    let expected = departures(quiet);

    let mut world = World::new(quiet).unwrap();
    world.run_until(25 * SECOND).unwrap();
    let sender = world.member(0, Part::Sends);
    let gateway = world.users[sender].gateway;
    world.nodes[gateway] = None;
    world.run().unwrap();
    // Some slots ask others for the document that it does not hand over any more: the same slots.
    let all = world.watcher.departures_from(world.users[sender].address);
    let own = (world.users[sender].address, world.gateway_address(sender));
    assert!(world.watcher.departures(own).len() < all.len());
    assert_eq!(late(all), expected[0]);

    // Eight senders fill the queue of one recipient at its gateway.
    let mut world = World::new(quiet).unwrap();
    let recipient = world.member(0, Part::Receives);
    for trio in 0..8 {
        world
            .send(world.member(trio, Part::Sends), recipient, 200_000)
            .unwrap();
    }
    world.run().unwrap();
    let full = world.counters().rejected(Reason::ClientQueueFull);
    assert!(full > 100, "{full} deliveries found the queue full");
    let (user, gateway) = (
        world.users[recipient].address,
        world.gateway_address(recipient),
    );
    assert_eq!(late(world.watcher.departures((user, gateway))), expected[1]);
    let down = gaps(
        &world.watcher.departures((gateway, user)),
        20 * SECOND,
        60 * SECOND,
    );
    let (is, distance, allowed) = is_poisson(&down, (quiet.busy_pps * 1.25).ceil());
    assert!(
        is && down.len() > 150,
        "{distance} of {allowed}, {} gaps",
        down.len()
    );
}
