//! A node that comes back with its keys: who is told, what goes through at once, and what nobody gets by saying so.

use crate::mesh::{Client, MS, Mesh, SECOND, Shape, address, attached, shape};
use link::Kind;
use link::control::Control;
use mixnode::path::reason::Reason;
use sphinx::{PACKET_BYTES, Terminal};

const WORKERS: u8 = 2;

/// Two layers of two mixes and two gateways, whose keys outlive them. No document of theirs is replaced while a test runs.
fn layered() -> Shape {
    Shape {
        layers: 2,
        mixes: 2,
        workers: WORKERS,
        max_pps: 10,
        keys_are_kept: true,
        ..shape()
    }
}

/// A mix of this layer, by its number in the mesh.
fn mix_of(mesh: &Mesh, layer: u8) -> usize {
    let is_there = |number: &usize| {
        let node = mesh.consensus.find(&mesh.nodes[*number].identity);
        node.is_some_and(|node| node.layer == layer)
    };
    (0..mesh.nodes.len()).find(is_there).unwrap()
}

/// Handshakes that a node began and ended.
fn connected(mesh: &Mesh) -> Vec<u64> {
    let nodes = mesh.nodes.iter();
    nodes
        .map(|node| node.handshaker.counters().connected)
        .collect()
}

/// What a client sends to say that it was restarted.
fn restarted() -> [u8; PACKET_BYTES] {
    let mut frame = [0; PACKET_BYTES];
    Control::Restarted.encode(&mut frame);
    frame
}

/// Sends packets for Bob through a node; how many he gets.
fn through(mesh: &mut Mesh, (alice, bob): (&mut Client, &mut Client), number: usize) -> usize {
    let by = mesh.index_of(number);
    for at in 0..20 {
        let path = loop {
            let path = mesh.path(0, 1, 1_000);
            if path.iter().any(|hop| hop.node == by) {
                break path;
            }
        };
        let destination = bob.tag();
        let terminal = Terminal::Deliver {
            destination,
            id: [at; 8],
        };
        let packet = mesh.packet(&path, &terminal, &[at; 896]);
        alice.send(mesh, Kind::Sphinx, &packet);
        mesh.run(20 * MS);
    }
    mesh.run(SECOND);
    bob.deliveries().len()
}

#[test]
fn after_a_restart_packets_get_through_at_once_because_those_before_it_were_told() {
    let mut mesh = Mesh::new(&layered(), 90);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    let mut bob = attached(&mut mesh, 2, 1, 100);
    for layer in [1, 2] {
        let number = mix_of(&mesh, layer);
        assert_eq!(through(&mut mesh, (&mut alice, &mut bob), number), 20);
        let before: Vec<_> = (0..mesh.nodes.len()).map(|of| mesh.counters(of)).collect();
        mesh.restart(number, 200 * MS);
        let handshakes = connected(&mesh);
        mesh.run(500 * MS);
        for (of, before) in before.iter().enumerate() {
            let layer_of = mesh.consensus.find(&mesh.nodes[of].identity).unwrap().layer;
            let heard = mesh.counters(of).restarts_heard - before.restarts_heard;
            let renewed = connected(&mesh)[of] - handshakes[of];
            let expected = match of == number {
                // To both next hops by each worker, and by one of them to both nodes before it.
                true => (0, 2 * u64::from(WORKERS) + 2),
                false if layer_of + 1 == layer => (1, u64::from(WORKERS)),
                false => (0, 0),
            };
            assert_eq!((heard, renewed), expected, "node {of} of layer {layer_of}");
        }
        assert_eq!(mesh.counters(number).restarts_told, 2 * 3);
        // Its links for that alone are gone.
        let open: u64 = mesh.counters(number).sessions;
        assert_eq!(through(&mut mesh, (&mut alice, &mut bob), number), 20);
        assert!(mesh.counters(number).sessions <= open);
    }
}

#[test]
fn attack_a_node_that_is_restarted_all_the_time_makes_its_neighbours_shake_hands_once_in_two_seconds()
 {
    let mut mesh = Mesh::new(&layered(), 91);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    let mut bob = attached(&mut mesh, 2, 1, 100);
    let number = mix_of(&mesh, 1);
    let (handshakes, begun_ns) = (connected(&mesh), mesh.now_ns);
    for _ in 0..12 {
        mesh.restart(number, 50 * MS);
        mesh.run(200 * MS);
    }
    let pauses = (mesh.now_ns - begun_ns) / (2 * SECOND);
    for gateway in [0, 1] {
        let renewed = connected(&mesh)[gateway] - handshakes[gateway];
        let most = u64::from(WORKERS) * (1 + pauses);
        assert!((1..=most).contains(&renewed), "{renewed} of {most}");
    }
    // What was not obeyed at once is obeyed in the end.
    mesh.run(3 * SECOND);
    assert_eq!(through(&mut mesh, (&mut alice, &mut bob), number), 20);
}

#[test]
fn attack_a_node_that_says_so_again_and_again_and_lists_anothers_address_has_one_datagram_a_time_sent_there_and_is_reported()
 {
    const TIMES: u64 = 20;
    let mut mesh = Mesh::new(&layered(), 94);
    let number = mix_of(&mesh, 1);
    // Whoever is at the address of the document answers nothing.
    mesh.network.partition(&[address(number, 0).ip()]);
    let mut liar = Client::with_keys(&mesh, 1, 0, mesh.key_of(number));
    mesh.nodes[0].members.reached().take();
    let before = mesh.nodes[0].handshaker.counters().initiations;
    for _ in 0..TIMES {
        assert!(liar.connect(&mut mesh));
        liar.send(&mesh, Kind::Control, &restarted());
        mesh.run(2 * SECOND);
    }
    assert_eq!(mesh.counters(0).restarts_heard, TIMES);
    let drawn = mesh.nodes[0].handshaker.counters().initiations - before;
    // The first ones come sooner, as to anybody who does not answer.
    let most = u64::from(WORKERS) * (TIMES + 4);
    assert!(drawn <= most, "{drawn} initiations, more than {most}");
    let reached = mesh.nodes[0].members.reached().take();
    let key = *liar.keys.public_key();
    assert_eq!(reached.get(&key), Some(&false), "it is reported");
}

#[test]
fn a_node_whose_disk_was_copied_to_another_host_says_so_and_a_restarted_one_does_not() {
    let mut mesh = Mesh::new(&shape(), 93);
    let mix = mesh.a_mix();
    let copy = mesh.copy(mix);
    let mut said = Vec::new();
    for epoch in 1..=3 {
        // A second before it begins.
        mesh.ahead_ms = u64::from(epoch) * 600_000 - 1_000 - mesh.now_ns / MS;
        mesh.turn_epoch(epoch);
        said.push([mix, copy].map(|number| mesh.nodes[number].follower.is_elsewhere()));
    }
    // Which of the two was heard last is in the document; the one of epoch 1 could be from before a restart.
    assert_eq!(said, [[false, false], [true, false], [true, false]]);
}

#[test]
fn attack_who_is_no_next_hop_gets_nothing_by_saying_that_it_was_restarted() {
    let mut mesh = Mesh::new(&layered(), 92);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    let handshakes = connected(&mesh);
    for _ in 0..5 {
        alice.send(&mesh, Kind::Control, &restarted());
    }
    mesh.run(5 * SECOND);
    assert_eq!(connected(&mesh), handshakes);
    assert_eq!(mesh.counters(0).restarts_heard, 0);
    assert_eq!(mesh.counters(0).rejected(Reason::Control), 5);
    // Nor does a node before this one, which has a link there as long as it wants to say that it was restarted itself.
    let [before, after] = [1, 2].map(|layer| mix_of(&mesh, layer));
    mesh.network.partition(&[address(before, 0).ip()]);
    mesh.restart(after, 50 * MS);
    let mut liar = Client::with_keys(&mesh, 2, after, mesh.key_of(before));
    assert!(liar.connect(&mut mesh));
    liar.send(&mesh, Kind::Control, &restarted());
    mesh.run(SECOND);
    assert_eq!(mesh.counters(after).restarts_heard, 0);
    assert_eq!(mesh.counters(after).rejected(Reason::Kind), 1);
}
