//! Turns of epochs: what is accepted for how long, what nodes send, and what jumping clocks do not break.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::mesh::{Client, MS, Mesh, SECOND, Shape, address, attached, shape};
use link::Kind;
use mixnode::keys::epoch::Clocks;
use mixnode::path::reason::Reason;
use sphinx::PACKET_BYTES;

/// Rounds of a second.
fn thirty_two_seconds() -> Shape {
    Shape {
        epoch_ms: 32_000,
        ..shape()
    }
}

fn send(client: &mut Client, epoch: u32, packet: &[u8; PACKET_BYTES]) {
    let frame = client.seal(epoch, Kind::Sphinx, packet);
    client.endpoint.send(address(0, 0), &frame);
}

fn run_to(mesh: &mut Mesh, at_ns: u64) {
    mesh.run(at_ns - mesh.now_ns);
}

#[test]
fn old_packets_that_a_gateway_keeps_back_get_through_0_times_once_nobody_else_sends_any() {
    let mut shape = thirty_two_seconds();
    shape.settings.loop_interval_ns = 20 * MS;
    shape.settings.drop_interval_ns = 20 * MS;
    let mut mesh = Mesh::new(&shape, 40);
    let mut alice = attached(&mut mesh, 1, 0, 1_000);
    let mut bob = attached(&mut mesh, 2, 1, 1_000);
    let kept: Vec<_> = (0..60)
        .map(|number| mesh.packet_for(bob.tag(), (0, 1), 1_000, &[number; 896]))
        .collect();
    mesh.run(18 * SECOND);
    mesh.turn_epoch(1);
    let turn_ns = 32 * SECOND;
    run_to(&mut mesh, turn_ns);
    bob.receive();
    for (number, packet) in (0u64..).zip(&kept) {
        run_to(&mut mesh, turn_ns + number * 50 * MS);
        send(&mut alice, 0, packet);
    }
    mesh.run(SECOND);
    let arrived: Vec<u64> = bob
        .deliveries()
        .iter()
        .map(|body| u64::from(body[0]) * 50)
        .collect();
    // 3R/4 and 50 mean delays.
    let grace_ms = mesh.consensus.parameters().grace_ms();
    assert_eq!(grace_ms, 1_250);
    let within = |from: u64, to: u64| arrived.iter().filter(|at| (from..to).contains(*at)).count();
    let late = within(grace_ms, u64::MAX);
    println!(
        "of 60 old packets, one in 50 ms: {} got through in the first R/2, {} of 15 until 3R/4 + 50 means, {late} of \
         35 after it",
        within(0, 500),
        within(500, grace_ms),
    );
    assert_eq!(late, 0);
    assert_eq!(within(0, 500), 10);
    // Everything that nodes sent themselves, each turning when it liked, was in time.
    let mut refused = 0;
    for number in 0..mesh.nodes.len() {
        let counters = mesh.counters(number);
        refused += counters.rejected(Reason::Epoch);
        assert_eq!(counters.loop_lost, 0, "{counters:?}");
    }
    assert_eq!(refused, 60 - arrived.len() as u64);
}

#[test]
fn without_the_next_document_a_key_lives_to_the_end_of_the_next_epoch_and_is_used_almost_as_long() {
    key_of_an_epoch_that_none_follows(|_| ());
}

#[test]
fn the_document_after_the_next_one_ends_no_key_before_its_time() {
    key_of_an_epoch_that_none_follows(|mesh| {
        run_to(mesh, 48 * SECOND);
        mesh.turn_epoch(2);
    });
}

/// What lives of epoch 0, of which there is no document of epoch 1, when something `happens` in the middle of that.
fn key_of_an_epoch_that_none_follows(happens: impl Fn(&mut Mesh)) {
    let mut shape = thirty_two_seconds();
    shape.settings.loop_interval_ns = 20 * MS;
    let mut mesh = Mesh::new(&shape, 41);
    let mut alice = attached(&mut mesh, 1, 0, 1_000);
    let packets: Vec<_> = (0..2)
        .map(|_| mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]))
        .collect();
    happens(&mut mesh);
    run_to(&mut mesh, 63 * SECOND + 300 * MS);
    let sent = mesh.counters(0).loop_sent;
    assert!(sent > 2_500, "{sent}");
    send(&mut alice, 0, &packets[0]);
    run_to(&mut mesh, 64 * SECOND - MS);
    assert_eq!(mesh.counters(0).rejected(Reason::Epoch), 0);
    assert_eq!(mesh.counters(1).rejected(Reason::NoClient), 1);
    let stopped = mesh.counters(0).loop_sent - sent;
    assert!(
        (2..35).contains(&stopped),
        "none in the last 500 ms: {stopped}"
    );
    run_to(&mut mesh, 64 * SECOND + MS);
    send(&mut alice, 0, &packets[1]);
    mesh.run(10 * MS);
    assert_eq!(mesh.counters(0).rejected(Reason::Epoch), 1);
    assert!(mesh.nodes[0].follower.parameters().is_some());
}

#[test]
fn nothing_of_an_epoch_is_accepted_before_its_start() {
    let mut mesh = Mesh::new(&thirty_two_seconds(), 42);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    run_to(&mut mesh, 20 * SECOND);
    mesh.turn_epoch(1);
    let early = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
    send(&mut alice, 1, &early);
    mesh.run(10 * MS);
    assert_eq!(mesh.counters(0).rejected(Reason::Epoch), 1);
    run_to(&mut mesh, 32 * SECOND + MS);
    send(&mut alice, 1, &early);
    mesh.run(300 * MS);
    assert_eq!(mesh.counters(0).rejected(Reason::Epoch), 1);
    assert_eq!(mesh.counters(1).rejected(Reason::NoClient), 1);
}

#[test]
fn a_clock_that_jumps_ahead_or_back_and_is_put_right_erases_no_live_key() {
    for jump_ms in [96_000, 320_000, 10_000_000_000] {
        let mut mesh = Mesh::new(&thirty_two_seconds(), 43);
        let mut alice = attached(&mut mesh, 1, 0, 1);
        let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
        mesh.ahead_ms = jump_ms;
        // A second with the wrong clock, in which nodes look after their keys as usual.
        for _ in 0..20 {
            mesh.run(50 * MS);
            let (now_ns, unix_ms) = (mesh.now_ns, mesh.unix_ms());
            for node in &mut mesh.nodes {
                let clocks = node.clocks(now_ns, unix_ms);
                node.follower.describe(clocks, &mut node.rng);
            }
        }
        mesh.ahead_ms = 0;
        mesh.run(MS);
        send(&mut alice, 0, &packet);
        mesh.run(300 * MS);
        assert_eq!(
            mesh.counters(1).rejected(Reason::NoClient),
            1,
            "{jump_ms} ms: it arrived, {:?}",
            mesh.counters(0)
        );
        // The keys of the epochs to come are still the published ones: everyone is in the next document.
        run_to(&mut mesh, 20 * SECOND);
        mesh.turn_epoch(1);
        run_to(&mut mesh, 33 * SECOND);
        let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
        send(&mut alice, 1, &packet);
        mesh.run(300 * MS);
        assert_eq!(mesh.counters(1).rejected(Reason::NoClient), 2);
    }
}

#[test]
fn a_machine_that_slept_finds_the_lifetimes_of_its_keys_spent() {
    let mut mesh = Mesh::new(&thirty_two_seconds(), 44);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
    // Neither the steady clock nor, before somebody sets it, the wall clock has moved.
    mesh.nodes[0].slept_ns = 61 * SECOND;
    mesh.run(MS);
    send(&mut alice, 0, &packet);
    mesh.run(10 * MS);
    assert_eq!(mesh.counters(0).rejected(Reason::Epoch), 0, "61 s of 64");
    mesh.nodes[0].slept_ns = 64 * SECOND;
    let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
    mesh.run(MS);
    send(&mut alice, 0, &packet);
    mesh.run(10 * MS);
    assert_eq!(mesh.counters(0).rejected(Reason::Epoch), 1);
}

#[test]
fn the_hosts_own_clocks_decide_as_the_simulated_ones_do() {
    let mut mesh = Mesh::new(&shape(), 45);
    let node = &mut mesh.nodes[0];
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let clocks = |ahead_ms: u64| Clocks {
        unix_ms: wall().as_millis() as u64 + ahead_ms,
        boot_ns: port::boot_ns(),
    };
    let keys = |node: &mut simulation::Node<port::SimPort>, ahead_ms| {
        let published = node.follower.describe(clocks(ahead_ms), &mut node.rng);
        published.map(|descriptor| descriptor.epoch_keys.clone())
    };
    let before = keys(node, 0).unwrap();
    let ahead = keys(node, 3_000_000).unwrap();
    assert!(before.iter().all(|key| !ahead.contains(key)));
    assert_eq!(keys(node, 0).unwrap(), before, "put right a moment later");
}

#[test]
fn an_error_after_a_document_was_taken_up_does_not_lose_its_epoch() {
    let mut mesh = Mesh::new(&thirty_two_seconds(), 46);
    let folder = std::env::temp_dir().join(format!("fogmix-follower-{}", std::process::id()));
    let store = directory::store::Store::create(&folder).unwrap();
    store.publish_authorities(mesh.authority.chain()).unwrap();
    let document = mesh.authority.make(Some(&mesh.consensus), 1, &[]).unwrap();
    store.publish_consensus(1, &document).unwrap();
    std::fs::write(folder.join("consensus/2"), b"junk").unwrap();
    run_to(&mut mesh, 40 * SECOND);
    let (now_ns, unix_ms) = (mesh.now_ns, mesh.unix_ms());
    let node = &mut mesh.nodes[0];
    let clocks = node.clocks(now_ns, unix_ms);
    let taken = node.follower.turn(&store, clocks, &mut node.rng).unwrap();
    let epochs: Vec<u32> = taken.iter().map(|state| state.epoch()).collect();
    assert_eq!(epochs, [1], "although that of epoch 2 can't be read");
    let again = node.follower.turn(&store, clocks, &mut node.rng);
    assert!(again.is_err(), "which is told with the next round");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn of_three_documents_that_lie_there_one_is_taken_a_round_the_oldest_first() {
    let mut mesh = Mesh::new(&thirty_two_seconds(), 47);
    let folder = tempfile::tempdir().unwrap();
    let store = directory::store::Store::create(folder.path()).unwrap();
    store.publish_authorities(mesh.authority.chain()).unwrap();
    let mut before = mesh.consensus.clone();
    for epoch in 1..=3 {
        let document = mesh.authority.make(Some(&before), epoch, &[]).unwrap();
        store.publish_consensus(epoch, &document).unwrap();
        let known = directory::Held::default();
        before = document.verify(mesh.authority.chain(), &known).unwrap();
    }
    // In epoch 2; the node has a key of the one before.
    run_to(&mut mesh, 65 * SECOND);
    let (now_ns, unix_ms) = (mesh.now_ns, mesh.unix_ms());
    let node = &mut mesh.nodes[0];
    let clocks = node.clocks(now_ns, unix_ms);
    let rounds = (0..4).map(|_| {
        let taken = node.follower.turn(&store, clocks, &mut node.rng).unwrap();
        taken.into_iter().map(|state| state.epoch()).collect()
    });
    let rounds: Vec<Vec<u32>> = rounds.collect();
    // Between two rounds the watchdog hears that the node lives.
    assert_eq!(rounds, [vec![1], vec![2], vec![3], vec![]]);
}

#[test]
fn a_node_that_is_no_next_hop_any_more_does_not_count_as_one_although_it_answered_to_the_last() {
    let shape = Shape {
        mixes: 2,
        ..thirty_two_seconds()
    };
    let mut mesh = Mesh::new(&shape, 48);
    let gone = mesh.a_mix();
    let key = *mesh.key_of(gone).public_key();
    let peers = |mesh: &Mesh| mesh.nodes[0].members.reached().peers();
    assert!(peers(&mesh).contains_key(&key));
    mesh.remove(gone);
    let left = *mesh.key_of(mesh.a_mix()).public_key();
    for epoch in 1..=4 {
        run_to(&mut mesh, (u64::from(epoch) * 32 - 12) * SECOND);
        mesh.turn_epoch(epoch);
    }
    mesh.run(SECOND);
    let peers: Vec<[u8; 32]> = peers(&mesh).into_keys().collect();
    assert_eq!(peers, [left]);
}
