//! Every limit, reached on purpose: what happens then is counted, and the rest goes on.

use crate::mesh::{Client, Got, MS, Mesh, SECOND, address, attached, shape};
use link::Kind;
use link::control::Control;
use mixnode::handshake::{QUEUE_ANSWERS, QUEUE_BARE, QUEUE_MEMBERS, QUEUE_STRANGERS};
use mixnode::path::mail::{Mail, STRAYS_MAX};
use mixnode::path::reason::Reason;

#[test]
fn a_client_never_holds_more_than_its_share_and_others_get_through() {
    let mut shape = shape();
    shape.settings.pool_frames = 64;
    // Nothing leaves while the test looks.
    shape.mean_delay_us = 10_000_000;
    let mut mesh = Mesh::new(&shape, 1);
    let mut flooder = attached(&mut mesh, 1, 0, 1);
    let mut honest = attached(&mut mesh, 2, 0, 1);
    for _ in 0..48 {
        let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
        flooder.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(MS / 4);
    }
    mesh.run(2 * MS);
    // A quarter of the wheel's part of this little pool: 64, less 32 for queues and 8 for rings.
    assert_eq!(mesh.counters(0).held, 6);
    assert_eq!(mesh.counters(0).rejected(Reason::NeighbourShare), 42);
    let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
    honest.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(2 * MS);
    assert_eq!(mesh.counters(0).held, 7);
    mesh.run(101 * SECOND);
    assert_eq!(mesh.counters(0).held, 0);
    let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
    flooder.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(2 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::NeighbourShare),
        42,
        "what left makes room again"
    );
}

#[test]
fn a_clients_share_of_the_wheel_follows_its_rate() {
    // Less than a quarter of the wheel for both: that would be 96 of 384. What a rate brings in ten seconds, twice, and 32
    // are 52 and 72; so many are sent at once as a client may save up, without those of its attachment.
    for (rate_pps, held) in [(1, 52), (2, 60)] {
        let mut shape = shape();
        shape.mean_delay_us = 10_000_000;
        let mut mesh = Mesh::new(&shape, 1);
        let mut client = attached(&mut mesh, 1, 0, rate_pps);
        for _ in 0..60 {
            let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
            client.send(&mesh, Kind::Sphinx, &packet);
            mesh.run(MS / 4);
        }
        mesh.run(2 * MS);
        let counters = mesh.counters(0);
        assert_eq!(
            (counters.held, counters.rejected(Reason::NeighbourShare)),
            (held, 60 - held),
            "at {rate_pps} a second"
        );
    }
}

#[test]
fn a_full_wheel_and_a_full_pool_refuse_at_the_door_and_evict_nothing() {
    let mut shape = shape();
    shape.settings.pool_frames = 64;
    shape.mean_delay_us = 10_000_000;
    let mut mesh = Mesh::new(&shape, 2);
    let mut clients: Vec<Client> = (1..=5)
        .map(|number| Client::new(&mut mesh, number, 0))
        .collect();
    for client in &mut clients {
        assert!(client.connect(&mut mesh));
    }
    for _ in 0..16 {
        for client in &mut clients {
            let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
            client.send(&mesh, Kind::Sphinx, &packet);
            mesh.run(MS / 8);
        }
    }
    mesh.run(2 * MS);
    let full = mesh.counters(0);
    assert_eq!(full.held, 24, "the wheel's part");
    assert_eq!(full.rejected(Reason::WheelFull), 56);
    // What comes at once finds only the frames that are left.
    for _ in 0..13 {
        for client in &mut clients {
            let packet = mesh.packet_for([9; 16], (0, 1), 90_000, &[1; 896]);
            client.send(&mesh, Kind::Sphinx, &packet);
        }
    }
    mesh.run(2 * MS);
    let full = mesh.counters(0);
    assert_eq!((full.held, full.rejected(Reason::PoolFull)), (24, 24));
    mesh.run(102 * SECOND);
    assert_eq!(
        mesh.counters(1).rejected(Reason::NoClient),
        24,
        "everything held left in its time, and nothing else"
    );
}

#[test]
fn clients_that_send_what_they_like_take_nothing_from_others() {
    let mut shape = shape();
    shape.settings.pool_frames = 2_048;
    let mut mesh = Mesh::new(&shape, 30);
    let mut flood: Vec<Client> = (1..=15)
        .map(|number| attached(&mut mesh, number, 0, 50))
        .collect();
    let mut honest = attached(&mut mesh, 16, 0, 50);
    let mut bob = attached(&mut mesh, 17, 1, 200);
    let sent = 100;
    for _ in 0..sent {
        // Ten times their rate, with the longest delays there are, at the gateway and at the mix.
        for _ in 0..10 {
            for client in &mut flood {
                let packet = mesh.packet_for([9; 16], (0, 1), 100_000, &[1; 896]);
                client.send(&mesh, Kind::Sphinx, &packet);
            }
            mesh.run(2 * MS);
        }
        let packet = mesh.packet_for(bob.tag(), (0, 1), 10_000, &[1; 896]);
        honest.send(&mesh, Kind::Sphinx, &packet);
    }
    mesh.run(2 * SECOND);
    let counters = mesh.counters(0);
    println!(
        "{} of {sent} honest packets arrived; over their rate: {}",
        bob.deliveries().len(),
        counters.rejected(Reason::ClientRate)
    );
    assert_eq!(mesh.counters(1).delivered, sent);
    // 15 clients for 2 s at 50 a second and 64 saved up: 2,460 of 15,000.
    assert!(
        (12_500..12_650).contains(&counters.rejected(Reason::ClientRate)),
        "{counters:?}"
    );
}

#[test]
fn attack_throwaway_clients_of_one_block_draw_no_more_than_a_gateway_can_do() {
    let mut shape = shape();
    shape.settings.capacity_pps = 1_000;
    let mut mesh = Mesh::new(&shape, 33);
    // As many as get a place, each at the highest rate there is.
    let mut greedy: Vec<Client> = (1..=16)
        .map(|number| attached(&mut mesh, number, 0, 1_000))
        .collect();
    let mut honest = Client::at(&mut mesh, 0, ([100, 64, 0, 1], 7_000).into());
    assert!(honest.connect(&mut mesh));
    honest.attach(&mut mesh, 250);
    mesh.run(100 * MS);
    let granted = |got: Vec<Got>| {
        let controls = got.iter().filter(|(kind, _)| *kind == Kind::Control);
        let mut rates = controls.filter_map(|(_, content)| match Control::decode(content) {
            Ok(Control::Attached { rate_pps }) => Some(rate_pps),
            _ => None,
        });
        rates.next_back()
    };
    assert_eq!(
        granted(honest.receive()),
        Some(250),
        "another block has its own half"
    );
    greedy.iter_mut().for_each(|client| drop(client.receive()));
    mesh.run(SECOND);
    let drawn: usize = greedy.iter_mut().map(|client| client.receive().len()).sum();
    let own = honest.receive().len();
    println!("16 throwaway clients draw {drawn} packets a second, an honest one {own}");
    // 125 each, as everyone gets at this network's rate of 100, and half of what the gateway can do.
    assert!((2_250..2_750).contains(&drawn), "{drawn}");
    assert!((190..310).contains(&own), "{own}");
    // Whoever goes gives it back: they are silent for a minute.
    for _ in 0..61 {
        honest.send(&mesh, Kind::Cover, &[0; 1_200]);
        mesh.run(SECOND);
    }
    let mut late = Client::new(&mut mesh, 17, 0);
    assert!(late.connect(&mut mesh));
    late.attach(&mut mesh, 600);
    mesh.run(100 * MS);
    assert_eq!(granted(late.receive()), Some(600));
}

#[test]
fn attack_a_node_that_sends_without_end_is_held_to_its_part_and_others_get_through() {
    let mut shape = shape();
    // Two gateways before the mix: each may send three quarters of what it can do, and save a fifth of a second's up.
    shape.settings.capacity_pps = 4_000;
    let mut mesh = Mesh::new(&shape, 32);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    let bob = attached(&mut mesh, 2, 1, 200);
    let mut rogue = Client::with_keys(&mesh, 3, mesh.a_mix(), mesh.key_of(1));
    assert!(rogue.connect(&mut mesh));
    for _ in 0..100 {
        for _ in 0..100 {
            rogue.send(&mesh, Kind::Cover, &[0; 1_200]);
        }
        let packet = mesh.packet_for(bob.tag(), (0, 1), 0, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(10 * MS);
    }
    mesh.run(SECOND);
    let refused = mesh.counters(mesh.a_mix()).rejected(Reason::NeighbourRate);
    let arrived = mesh.counters(1).delivered;
    println!("{refused} of 10,000 refused, {arrived} of 100 others arrived");
    assert!((6_370..6_490).contains(&refused), "{refused}");
    assert_eq!(arrived, 100);
}

#[test]
fn queues_of_all_clients_together_have_their_part_of_the_pool_and_no_more() {
    let mut shape = shape();
    shape.settings.pool_frames = 64;
    shape.mean_delay_us = 1_000;
    let mut mesh = Mesh::new(&shape, 31);
    let bob = attached(&mut mesh, 2, 1, 1);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    for _ in 0..60 {
        let packet = mesh.packet_for(bob.tag(), (0, 1), 0, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(5 * MS);
    }
    mesh.run(20 * MS);
    let counters = mesh.counters(1);
    let delivered = counters.delivered;
    assert_eq!(counters.held, 32, "{counters:?}");
    assert_eq!(counters.rejected(Reason::QueuesFull), 28 - delivered);
}

#[test]
fn a_full_handshake_queue_drops_what_costs_its_sender_least() {
    let mut mesh = Mesh::new(&shape(), 3);
    let client = Client::new(&mut mesh, 1, 0);
    let node = mesh.network.open(address(1, 7), 16).unwrap();
    let message = |kind: u8, mac2: u8| {
        let mut datagram = [0; 1_232];
        (datagram[0], datagram[1_231]) = (kind, mac2);
        datagram
    };
    // The handshaker does not run meanwhile. Each kind comes twenty times more than there is room for.
    let (bare, with_mac2, response) = (message(1, 0), message(1, 1), message(2, 0));
    // The node's address is as easily forged as any other.
    let rounds = [
        (&client.endpoint, bare, QUEUE_BARE),
        (&client.endpoint, with_mac2, QUEUE_STRANGERS - QUEUE_BARE),
        (&node, bare, QUEUE_MEMBERS - QUEUE_STRANGERS),
        (&client.endpoint, response, QUEUE_ANSWERS - QUEUE_MEMBERS),
    ];
    let mut dropped = 0;
    for (from, datagram, room) in rounds {
        for _ in 0..room + 20 {
            from.send(address(0, 0), &datagram);
        }
        mesh.now_ns += 2 * MS;
        mesh.network.advance(mesh.now_ns, |_| ());
        let unix_ms = mesh.unix_ms();
        for _ in 0..10 {
            mesh.nodes[0].workers[0].turn(mesh.now_ns, unix_ms);
        }
        dropped += 20;
        assert_eq!(
            mesh.counters(0).rejected(Reason::HandshakeQueueFull),
            dropped
        );
    }
    // What is left has room for a worker's own wishes, whoever floods.
    assert_eq!(mesh.nodes[0].requests.len(), QUEUE_ANSWERS);
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
    mesh.run(200 * MS);
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
    let mut alice = attached(&mut mesh, 1, 0, 1_000);
    let mix = mesh.a_mix();
    mesh.run(2 * SECOND);
    let mut sent = Vec::new();
    for _ in 0..400 {
        let packet = mesh.packet_for([9; 16], (0, 1), 0, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
        sent.push(packet);
        mesh.run(MS);
    }
    mesh.run(200 * MS);
    let full = mesh.counters(0).rejected(Reason::ReplayFull);
    assert!(full > 0);
    let passed = mesh.counters(mix).received;
    for packet in &sent {
        alice.send(&mesh, Kind::Sphinx, packet);
    }
    mesh.run(200 * MS);
    let counters = mesh.counters(0);
    assert_eq!(
        counters.rejected(Reason::Replay) + counters.rejected(Reason::ReplayFull),
        400 + full
    );
    assert!(
        mesh.counters(mix).received - passed < 10,
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
    mesh.run(200 * MS);
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
    mesh.run(200 * MS);
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
        order: 5,
    };
    assert!(mesh.nodes[0].mailboxes[0].post(letter));
    mesh.run(MS);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let packet = mesh.packet_for(tag, (0, 0), 1_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(300 * MS);
    assert_eq!(
        mesh.counters(0).rejected(Reason::MailboxFull),
        1,
        "there is no worker 9"
    );
}
