//! Every limit, reached on purpose: what happens then is counted, and the rest goes on.

use crate::mesh::{Client, MS, Mesh, SECOND, address, attached, shape};
use link::Kind;
use mixnode::handshake::QUEUE_REQUESTS;
use mixnode::path::mail::{Mail, STRAYS_MAX};
use mixnode::path::reason::Reason;

#[test]
fn a_neighbour_never_holds_more_than_a_quarter_of_the_pool_and_others_get_through() {
    let mut shape = shape();
    shape.settings.pool_frames = 64;
    let mut mesh = Mesh::new(&shape, 1);
    let mut flooder = attached(&mut mesh, 1, 0, 1);
    let mut honest = attached(&mut mesh, 2, 0, 1);
    for _ in 0..48 {
        let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
        flooder.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(MS / 4);
    }
    mesh.run(2 * MS);
    assert_eq!(mesh.counters(0).held, 16);
    assert_eq!(mesh.counters(0).rejected(Reason::NeighbourShare), 32);
    let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
    honest.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(2 * MS);
    assert_eq!(mesh.counters(0).held, 17);
    mesh.run(200 * MS);
    assert_eq!(mesh.counters(0).held, 0);
    let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
    flooder.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(2 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::NeighbourShare),
        32,
        "what left makes room again"
    );
}

#[test]
fn a_full_pool_refuses_at_the_door_and_evicts_nothing() {
    let mut shape = shape();
    shape.settings.pool_frames = 64;
    let mut mesh = Mesh::new(&shape, 2);
    let mut clients: Vec<Client> = (1..=5)
        .map(|number| Client::new(&mut mesh, number, 0))
        .collect();
    for client in &mut clients {
        assert!(client.connect(&mut mesh));
    }
    let mix = mesh.a_mix();
    let before = mesh.counters(mix).received;
    for _ in 0..16 {
        for client in &mut clients {
            let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
            client.send(&mesh, Kind::Sphinx, &packet);
            mesh.run(MS / 8);
        }
    }
    mesh.run(2 * MS);
    let full = mesh.counters(0);
    assert_eq!(full.held, 64);
    assert_eq!(full.rejected(Reason::PoolFull), 16);
    mesh.run(SECOND);
    assert_eq!(
        mesh.counters(mix).received - before,
        64,
        "everything held left in its time"
    );
}

#[test]
fn a_full_handshake_queue_drops_initiations() {
    let mut mesh = Mesh::new(&shape(), 3);
    let mut client = Client::new(&mut mesh, 1, 0);
    client.initiate(&mut mesh);
    let mut initiation = [0; 1_232];
    initiation[0] = 1;
    for _ in 0..QUEUE_REQUESTS + 20 {
        client.endpoint.send(address(0, 0), &initiation);
    }
    // The handshaker does not run meanwhile.
    mesh.now_ns += 2 * MS;
    mesh.network.advance(mesh.now_ns, |_| ());
    let unix_ms = mesh.unix_ms();
    for _ in 0..10 {
        mesh.nodes[0].workers[0].turn(mesh.now_ns, unix_ms);
    }
    assert_eq!(mesh.counters(0).rejected(Reason::HandshakeQueueFull), 21);
    assert!(mesh.counters(0).is_conserved());
}

#[test]
fn a_full_queue_refuses_strays_and_a_stray_is_served_by_its_owner() {
    let mut shape = shape();
    shape.workers = 2;
    let mut mesh = Mesh::new(&shape, 5);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let stray = |client: &mut Client, mesh: &mut Mesh| {
        let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
        let frame = client.seal(0, Kind::Sphinx, &packet);
        client.endpoint.send(address(0, 1), &frame);
    };
    stray(&mut alice, &mut mesh);
    mesh.run(20 * MS);
    let mix = mesh.a_mix();
    assert_eq!(mesh.nodes[0].workers[1].counters().strayed, 1);
    assert!(
        mesh.counters(mix).rejected(Reason::NoClient) + mesh.counters(1).rejected(Reason::NoClient)
            == 1
    );
    for _ in 0..STRAYS_MAX + 10 {
        stray(&mut alice, &mut mesh);
    }
    mesh.now_ns += 2 * MS;
    mesh.network.advance(mesh.now_ns, |_| ());
    let unix_ms = mesh.unix_ms();
    for _ in 0..10 {
        mesh.nodes[0].workers[1].turn(mesh.now_ns, unix_ms);
    }
    let counters = mesh.nodes[0].workers[1].counters();
    assert_eq!(counters.rejected(Reason::StraysFull), 10);
    assert!(counters.is_conserved());
    mesh.run(SECOND);
}

#[test]
fn a_full_client_queue_drops_the_newest_delivery() {
    let mut shape = shape();
    shape.settings.client_queue_frames = 4;
    let mut mesh = Mesh::new(&shape, 6);
    let bob = attached(&mut mesh, 2, 1, 1);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    for _ in 0..20 {
        let packet = mesh.packet_for(bob.tag(), (0, 1), 1_000, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
    }
    mesh.run(100 * MS);
    let counters = mesh.counters(1);
    assert!(
        counters.rejected(Reason::ClientQueueFull) >= 15,
        "{counters:?}"
    );
    assert!(counters.held <= 4);
}

#[test]
fn a_full_replay_table_refuses_instead_of_forgetting() {
    let mut shape = shape();
    shape.epoch_ms = 60_000;
    shape.max_pps = 1;
    let mut mesh = Mesh::new(&shape, 7);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let mut sent = Vec::new();
    for _ in 0..400 {
        let packet = mesh.packet_for([9; 16], (0, 1), 0, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
        sent.push(packet);
        mesh.run(MS);
    }
    mesh.run(20 * MS);
    let full = mesh.counters(0).rejected(Reason::ReplayFull);
    assert!(full > 0);
    let passed = mesh.counters(0).transmitted;
    for packet in &sent {
        alice.send(&mesh, Kind::Sphinx, packet);
    }
    mesh.run(20 * MS);
    let counters = mesh.counters(0);
    assert_eq!(
        counters.rejected(Reason::Replay) + counters.rejected(Reason::ReplayFull),
        400 + full
    );
    assert!(
        counters.transmitted - passed < 10,
        "nothing got through twice"
    );
}

#[test]
fn a_packet_for_a_next_hop_without_a_session_is_dropped_when_due() {
    let mut mesh = Mesh::new(&shape(), 8);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    // A new epoch with new nodes' keys and nobody there to answer.
    let mix = mesh.a_mix();
    mesh.network.partition(&[address(mix, 0).ip()]);
    mesh.run(1_000 * SECOND);
    assert!(alice.connect(&mut mesh), "the old session expired");
    let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
    let frame = alice.seal(mesh.consensus.epoch(), Kind::Sphinx, &packet);
    alice.endpoint.send(address(0, 0), &frame);
    mesh.run(10 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::NoSession),
        1,
        "{:?}",
        mesh.counters(0)
    );
    let tries = mesh.nodes[0].handshaker.counters().initiations;
    assert!(tries > 20, "it kept trying: {tries}");
    mesh.network.partition(&[]);
    mesh.run(30 * SECOND);
    let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(10 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::NoSession),
        1,
        "and got its session back"
    );
}

#[test]
fn a_client_that_asks_too_much_is_answered_as_its_stream_allows() {
    let mut mesh = Mesh::new(&shape(), 10);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    for chunk in 0..40 {
        let mut content = [0; 1_200];
        link::control::Control::Fetch { epoch: 0, chunk }.encode(&mut content);
        alice.send(&mesh, Kind::Control, &content);
    }
    mesh.run(10 * MS);
    assert!(mesh.counters(0).rejected(Reason::Control) >= 20);
}

#[test]
fn an_epoch_letter_of_no_use_changes_nothing() {
    let mut mesh = Mesh::new(&shape(), 11);
    let tag = [1; 16];
    let letter = Mail::ClientAt {
        destination: tag,
        worker: 9,
        attachment: 5,
    };
    assert!(mesh.nodes[0].mailboxes[0].post(letter));
    mesh.run(MS);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let packet = mesh.packet_for(tag, (0, 0), 1_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(20 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::MailboxFull),
        1,
        "there is no worker 9"
    );
}
