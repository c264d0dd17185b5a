//! The way of packets: forwarded, refused, replayed, kept through epochs, conserved.

use crate::mesh::{Client, MS, Mesh, SECOND, Shape, attached, shape};
use link::Kind;
use mixnode::path::mail::Mail;
use mixnode::path::reason::Reason;
use port::sim::Conditions;
use sphinx::Terminal;

fn five_hops() -> Shape {
    Shape {
        layers: 3,
        ..shape()
    }
}

#[test]
fn a_packet_passes_five_hops_and_reaches_the_client_it_names() {
    let mut mesh = Mesh::new(&five_hops(), 1);
    let mut bob = attached(&mut mesh, 2, 1, 100);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    let body = std::array::from_fn(|at| at as u8);
    let packet = mesh.packet_for(bob.tag(), (0, 1), 10_000, &body);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(SECOND);
    assert_eq!(bob.deliveries(), [body]);
    assert!(alice.deliveries().is_empty());
    assert_eq!(mesh.counters(1).delivered, 1);
}

#[test]
fn packets_leave_no_earlier_than_their_delay_and_no_later_than_a_tick() {
    let mut mesh = Mesh::new(&shape(), 2);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let packet = mesh.packet_for([9; 16], (0, 1), 50_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    let mix = mesh.a_mix();
    // However long the gateway holds it: ten means at most, and two wires.
    let mut waited = 0;
    while mesh.counters(mix).held == 0 {
        mesh.run(MS / 10);
        waited += 1;
        assert!(waited < 1_025, "the gateway's draw is bounded");
    }
    mesh.run(49 * MS);
    assert_eq!(mesh.counters(mix).held, 1);
    mesh.run(2 * MS);
    assert_eq!(mesh.counters(mix).held, 0);
}

/// How long gateway 0 holds packets in whose headers its delay is `delay_us`: counted at the mix, 200 of them.
fn held_at_the_entry_us(delay_us: u32) -> Vec<u64> {
    let mut mesh = Mesh::new(&shape(), 12);
    let mut alice = attached(&mut mesh, 1, 0, 1_000);
    let mix = mesh.a_mix();
    mesh.run(SECOND);
    (0..200)
        .map(|_| {
            let before = mesh.counters(mix).received;
            let mut path = mesh.path(0, 1, 0);
            path[0].delay_us = delay_us;
            let packet = mesh.packet(&path, &Terminal::Drop, &[0; 896]);
            alice.send(&mesh, Kind::Sphinx, &packet);
            let mut us = 0;
            while mesh.counters(mix).received == before {
                mesh.run(MS / 10);
                us += 100;
            }
            us
        })
        .collect()
}

#[test]
fn the_maker_of_a_reply_block_does_not_choose_how_long_the_repliers_gateway_holds_it() {
    // A reply block's header names a delay for the replier's own gateway: none at all, or the longest there may be.
    let (none, longest) = (held_at_the_entry_us(0), held_at_the_entry_us(100_000));
    assert_eq!(none, longest, "the same draws, whatever the header says");
    let mean = none.iter().sum::<u64>() / none.len() as u64;
    // Two wires of 1 ms, and an exponential delay with a mean of 10 ms; its average of 200 is off by 0.7 ms or so.
    assert!((9_000..15_500).contains(&mean), "{mean} us");
    assert!(none.iter().all(|us| *us <= 102_200), "the bound holds");
}

#[test]
fn frames_are_conserved_under_loss_reordering_overload_and_stop() {
    let mut shape = five_hops();
    shape.mixes = 2;
    shape.settings.pool_frames = 256;
    shape.settings.loop_interval_ns = 20 * MS;
    shape.settings.drop_interval_ns = 20 * MS;
    shape.settings.loss = 0.02;
    shape.conditions = Conditions {
        loss: 0.05,
        delay_ns: MS,
        jitter_ns: 3 * MS,
        reorder: 0.1,
        reorder_ns: 20 * MS,
    };
    let mut mesh = Mesh::new(&shape, 3);
    let mut clients = Vec::new();
    for number in 1..=6 {
        let mut client = Client::new(&mut mesh, number, usize::from(number % 2));
        while !client.connect(&mut mesh) {}
        client.attach(&mut mesh, 200);
        clients.push(client);
    }
    let tags: Vec<_> = clients.iter().map(Client::tag).collect();
    for round in 0..60 {
        for (client, tag) in clients.iter_mut().zip(tags.iter().cycle().skip(round)) {
            for _ in 0..8 {
                let packet = mesh.packet_for(*tag, (client.gateway, round % 2), 30_000, &[7; 896]);
                client.send(&mesh, Kind::Sphinx, &packet);
            }
        }
        // Every turn inside asserts conservation.
        mesh.run(10 * MS);
    }
    for node in &mut mesh.nodes {
        for worker in &mut node.workers {
            assert!(worker.counters().held > 0 || worker.counters().transmitted > 0);
            worker.stop();
            let counters = worker.counters();
            assert!(counters.is_conserved(), "{counters:?}");
            assert_eq!(
                (counters.held, counters.pool_in_use),
                (0, 0),
                "{counters:?}"
            );
        }
    }
    let refused: u64 = (0..mesh.nodes.len())
        .map(|number| mesh.counters(number).rejected_total())
        .sum();
    assert!(refused > 0);
}

#[test]
fn a_drained_node_takes_nothing_new_and_sends_all_it_holds_in_its_time() {
    let mut shape = shape();
    shape.mean_delay_us = 1_000_000;
    let mut mesh = Mesh::new(&shape, 4);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    for _ in 0..20 {
        let packet = mesh.packet_for([9; 16], (0, 1), 80_000, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
    }
    mesh.run(5 * MS);
    let before = mesh.counters(0);
    assert_eq!(before.held, 20);
    assert!(mesh.nodes[0].mailboxes[0].post(Mail::Drain));
    let packet = mesh.packet_for([9; 16], (0, 1), 80_000, &[1; 896]);
    mesh.run(MS);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(11 * SECOND);
    let after = mesh.counters(0);
    assert_eq!(after.held, 0);
    assert!(after.transmitted >= before.transmitted + 20);
    assert!(after.rejected(Reason::Stopping) >= 1);
    assert!(mesh.nodes[0].workers[0].is_drained());
}

#[test]
fn a_replayed_packet_is_refused_also_under_another_link_counter() {
    let mut mesh = Mesh::new(&shape(), 5);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let mut mallory = attached(&mut mesh, 2, 0, 1);
    let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
    let frame = alice.seal(0, Kind::Sphinx, &packet);
    let destination = crate::mesh::address(0, 0);
    alice.endpoint.send(destination, &frame);
    alice.endpoint.send(destination, &frame);
    mesh.run(10 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::Counter),
        1,
        "the same frame"
    );
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(10 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::Replay),
        1,
        "another counter"
    );
    mallory.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(10 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::Replay),
        2,
        "another session"
    );
}

#[test]
fn a_copy_in_the_same_batch_is_refused_too() {
    let mut mesh = Mesh::new(&shape(), 6);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
    let (first, second) = (
        alice.seal(0, Kind::Sphinx, &packet),
        alice.seal(0, Kind::Sphinx, &packet),
    );
    for frame in [first, first, second] {
        alice.endpoint.send(crate::mesh::address(0, 0), &frame);
    }
    mesh.run(10 * MS);
    let counters = mesh.counters(0);
    assert_eq!(
        (
            counters.rejected(Reason::Counter),
            counters.rejected(Reason::Replay)
        ),
        (1, 1)
    );
}

#[test]
fn what_breaks_a_rule_is_refused_for_its_reason() {
    let mut mesh = Mesh::new(&shape(), 7);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let destination = crate::mesh::address(0, 0);
    let good = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);

    alice.endpoint.send(destination, &[4; 1_000]);
    alice.endpoint.send(destination, &[9; 1_232]);
    alice.endpoint.send(destination, &[1; 1_232]);
    let mut stranger = alice.seal(0, Kind::Sphinx, &good);
    stranger[8] ^= 1;
    alice.endpoint.send(destination, &stranger);
    let mut forged = alice.seal(0, Kind::Sphinx, &good);
    forged[600] ^= 1;
    alice.endpoint.send(destination, &forged);
    let mut altered = good;
    altered[40] ^= 1;
    alice.send(&mesh, Kind::Sphinx, &altered);
    alice.send(&mesh, Kind::Delivery, &good);
    alice.send(&mesh, Kind::Control, &good);
    let late = alice.seal(2, Kind::Sphinx, &good);
    alice.endpoint.send(destination, &late);
    let low_order = [0; 1_200];
    alice.send(&mesh, Kind::Sphinx, &low_order);
    let slow = mesh.packet_for([9; 16], (0, 1), 100_001, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &slow);
    let mut backwards = mesh.path(0, 1, 1_000);
    backwards[1].node = backwards[2].node;
    let backwards = mesh.packet(&backwards, &Terminal::Drop, &[0; 896]);
    alice.send(&mesh, Kind::Sphinx, &backwards);
    let short = mesh.path(0, 1, 1_000)[..1].iter().copied().collect();
    let altered_drop = mesh.packet(&short, &Terminal::Drop, &[0; 896]);
    let mut altered_body = altered_drop;
    altered_body[900] ^= 1;
    alice.send(&mesh, Kind::Sphinx, &altered_body);
    let unknown_loop = mesh.packet(&short, &Terminal::Loop { id: [0; 8] }, &[0; 896]);
    alice.send(&mesh, Kind::Sphinx, &unknown_loop);
    let nobody = mesh.packet(
        &short,
        &Terminal::Deliver {
            destination: [5; 16],
            id: [1; 8],
        },
        &[0; 896],
    );
    alice.send(&mesh, Kind::Sphinx, &nobody);
    mesh.run(20 * MS);

    let counters = mesh.counters(0);
    for (reason, count) in [
        (Reason::Size, 1),
        (Reason::Type, 1),
        (Reason::Reserved, 1),
        (Reason::UnknownSession, 1),
        (Reason::Forged, 1),
        (Reason::Mac, 1),
        (Reason::Kind, 1),
        (Reason::Control, 1),
        (Reason::Epoch, 1),
        (Reason::LowOrder, 1),
        (Reason::Delay, 1),
        (Reason::Body, 1),
        // Past the first layer, back to this gateway, or to its clients without a mix between.
        (Reason::ClientRoute, 3),
    ] {
        assert_eq!(
            counters.rejected(reason),
            count,
            "{}: {counters:?}",
            reason.name()
        );
    }
    assert_eq!(counters.rejected_total(), 15);

    // The same at the hops behind it.
    let mut standing = mesh.path(0, 1, 1_000);
    standing[2].node = standing[1].node;
    let standing = mesh.packet(&standing, &Terminal::Drop, &[0; 896]);
    let whole = mesh.path(0, 1, 1_000);
    let unknown_loop = mesh.packet(&whole, &Terminal::Loop { id: [0; 8] }, &[0; 896]);
    let nobody = mesh.packet_for([5; 16], (0, 1), 1_000, &[0; 896]);
    for packet in [standing, unknown_loop, nobody] {
        alice.send(&mesh, Kind::Sphinx, &packet);
    }
    mesh.run(300 * MS);
    let mix = mesh.a_mix();
    assert_eq!(mesh.counters(mix).rejected(Reason::Layer), 1);
    assert_eq!(mesh.counters(1).rejected(Reason::UnknownLoop), 1);
    assert_eq!(mesh.counters(1).rejected(Reason::NoClient), 1);
}

#[test]
fn a_mix_answers_no_client_and_a_mix_delivers_nothing() {
    let mut mesh = Mesh::new(&shape(), 8);
    let mix = mesh.a_mix();
    let mut alice = Client::new(&mut mesh, 1, mix);
    assert!(!alice.connect(&mut mesh));
    let mut bob = attached(&mut mesh, 2, 0, 1);
    let to_mix = mesh.path(0, 1, 0)[..2].iter().copied().collect();
    let packet = mesh.packet(
        &to_mix,
        &Terminal::Deliver {
            destination: bob.tag(),
            id: [1; 8],
        },
        &[0; 896],
    );
    bob.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(200 * MS);
    assert_eq!(mesh.counters(mix).rejected(Reason::NotGateway), 1);
}

#[test]
fn loops_come_home_and_measure_while_drop_cover_ends_elsewhere() {
    let mut shape = five_hops();
    shape.settings.loop_interval_ns = 50 * MS;
    shape.settings.drop_interval_ns = 50 * MS;
    let mut mesh = Mesh::new(&shape, 10);
    mesh.run(20 * SECOND);
    for number in 0..mesh.nodes.len() {
        let counters = mesh.counters(number);
        assert!((300..550).contains(&counters.loop_sent), "{counters:?}");
        assert_eq!(counters.loop_lost, 0);
        assert!(
            counters.loop_returned + 20 > counters.loop_sent,
            "{counters:?}"
        );
        assert_eq!(counters.rejected_total(), 0, "{counters:?}");
    }
    // Without the mix of one layer no loop comes home.
    let mix = mesh.a_mix();
    let lost_host = crate::mesh::address(mix, 0).ip();
    mesh.network.partition(&[lost_host]);
    mesh.run(10 * SECOND);
    assert!(mesh.counters(0).loop_lost > 50);
}

#[test]
fn the_same_seed_gives_the_same_counters() {
    let run = || {
        let mut shape = five_hops();
        shape.settings.loop_interval_ns = 10 * MS;
        shape.settings.loss = 0.01;
        shape.conditions.loss = 0.05;
        let mut mesh = Mesh::new(&shape, 11);
        mesh.run(3 * SECOND);
        (0..mesh.nodes.len())
            .map(|number| mesh.counters(number))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
