//! What a gateway that cheats gets of two hundred clients, in numbers.

use mixnode::path::reason::Reason;
use port::sim::Conditions;
use simulation::{Plan, SECOND, World};

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
