//! A node that leaves: no packet is lost by it, it stays registered, and a gateway's clients are told.

use crate::mesh::{Client, MS, Mesh, SECOND, Shape, address, attached, shape};
use directory::{FLAG_LEAVING, WAITING};
use link::Kind;
use link::control::Control;
use mixnode::path::mail::Mail;
use mixnode::path::reason::Reason;
use sphinx::PACKET_BYTES;

/// Three mixes in one layer; rounds of a second.
fn three_mixes() -> Shape {
    Shape {
        mixes: 3,
        epoch_ms: 32_000,
        max_pps: 100,
        ..shape()
    }
}

fn send(client: &mut Client, epoch: u32, packet: &[u8; PACKET_BYTES]) {
    let frame = client.seal(epoch, Kind::Sphinx, packet);
    client.endpoint.send(address(0, 0), &frame);
}

#[test]
fn a_mix_leaves_within_two_epochs_without_a_packet_lost_and_stays_registered() {
    let mut mesh = Mesh::new(&three_mixes(), 95);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    let mut bob = attached(&mut mesh, 2, 1, 1_000);
    let mix = mesh.a_mix();
    let unix_ms = mesh.unix_ms();
    mesh.nodes[mix].follower.leave(unix_ms);
    assert_eq!(mesh.nodes[mix].follower.serves_until(), Some(0));
    let old: Vec<_> = (0..120)
        .map(|number| mesh.packet_for(bob.tag(), (0, 1), 30_000, &[number; 896]))
        .collect();
    mesh.run(18 * SECOND - mesh.now_ns);
    mesh.turn_epoch(1);
    let node = mesh.consensus.find(&mesh.nodes[mix].identity).unwrap();
    assert_eq!((node.layer, node.flags), (WAITING, FLAG_LEAVING));
    let is_drained = |mesh: &Mesh| mesh.nodes[mix].follower.is_drained(mesh.unix_ms());
    let through = |mesh: &Mesh| mesh.counters(mix).transmitted;
    let before = through(&mesh);
    // To the last moment at which anyone sends packets of epoch 0.
    mesh.run(32 * SECOND - 70 * 20 * MS - mesh.now_ns);
    bob.receive();
    let mut delivered = 0;
    for packet in &old {
        send(&mut alice, 0, packet);
        mesh.run(15 * MS);
        delivered += bob.deliveries().len();
        assert!(!is_drained(&mesh));
    }
    assert!(mesh.now_ns > 32 * SECOND && through(&mesh) > before);
    for number in 0..60 {
        let packet = mesh.packet_for(bob.tag(), (0, 1), 30_000, &[200 + number % 50; 896]);
        send(&mut alice, 1, &packet);
        mesh.run(15 * MS);
        delivered += bob.deliveries().len();
    }
    // The key of epoch 0 is gone 1.25 s after the turn.
    mesh.run(3 * SECOND);
    assert!(is_drained(&mesh));
    delivered += bob.deliveries().len();
    assert_eq!(delivered, 180);
    mesh.run(50 * SECOND - mesh.now_ns);
    mesh.turn_epoch(2);
    let node = mesh.consensus.find(&mesh.nodes[mix].identity).unwrap();
    assert_eq!((node.layer, node.flags), (WAITING, FLAG_LEAVING));
    mesh.run(3 * SECOND);
    assert!(is_drained(&mesh));
}

#[test]
fn clients_of_a_gateway_that_leaves_are_told_in_three_of_their_slots_those_who_come_later_too() {
    let mut mesh = Mesh::new(&shape(), 96);
    let mut alice = attached(&mut mesh, 1, 0, 50);
    let told = |client: &mut Client| {
        let mut leaving = [0; PACKET_BYTES];
        Control::Leaving { epoch: 7 }.encode(&mut leaving);
        let got = client.receive();
        got.iter()
            .filter(|(_, content)| *content == leaving)
            .count()
    };
    assert!(mesh.nodes[0].mailboxes[0].post(Mail::Leaving { epoch: 7 }));
    mesh.run(2 * SECOND);
    assert_eq!(told(&mut alice), 3);
    let mut late = attached(&mut mesh, 2, 0, 50);
    mesh.run(2 * SECOND);
    assert_eq!((told(&mut alice), told(&mut late)), (0, 3));
}

#[test]
fn a_mix_that_has_no_place_any_more_sends_nothing_old_once_everybody_has_turned() {
    let mut shape = three_mixes();
    shape.settings.loop_interval_ns = 20 * MS;
    shape.settings.drop_interval_ns = 20 * MS;
    let mut mesh = Mesh::new(&shape, 96);
    let mix = mesh.a_mix();
    let unix_ms = mesh.unix_ms();
    mesh.nodes[mix].follower.leave(unix_ms);
    mesh.run(18 * SECOND - mesh.now_ns);
    mesh.turn_epoch(1);
    let sent = |mesh: &Mesh| mesh.counters(mix).loop_sent;
    let before = sent(&mesh);
    // R/2 after the turn.
    mesh.run(32 * SECOND + 501 * MS - mesh.now_ns);
    let turned = sent(&mesh);
    assert!(turned > before + 300, "{before}, then {turned}");
    mesh.run(4 * SECOND);
    assert_eq!(sent(&mesh), turned);
    for number in 0..mesh.nodes.len() {
        let counters = mesh.counters(number);
        assert_eq!(counters.rejected(Reason::Epoch), 0, "{counters:?}");
        assert_eq!(counters.loop_lost, 0, "{counters:?}");
    }
}
