//! What handshakes cost a node, and what nobody gets by them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::mesh::{Client, MS, Mesh, SECOND, Shape, address, attached, shape};
use link::{COOKIE_LIFETIME_NS, ClientKeys, DATAGRAM_BYTES, Datagram, Kind, LinkPublic, peek};
use mixnode::handshake::Request;
use mixnode::handshake::fair::WAITING_MAX;
use mixnode::path::counters::Counters;
use mixnode::path::half_open::HALF_OPEN_MAX;
use mixnode::path::mail::Mail;
use mixnode::path::reason::Reason;
use port::sim::Endpoint;

/// Kinds of all datagrams that wait there.
fn answers(endpoint: &Endpoint) -> Vec<Datagram> {
    let mut all = Vec::new();
    let mut datagram = [0; DATAGRAM_BYTES];
    while endpoint.receive(&mut datagram).is_some() {
        all.push(peek(&datagram).unwrap());
    }
    all
}

fn is_cookie(answer: &Datagram) -> bool {
    matches!(answer, Datagram::CookieReply { .. })
}

#[test]
fn attack_initiations_that_are_never_finished_cost_no_session_and_no_computation() {
    let mut mesh = Mesh::new(&shape(), 40);
    let before = mesh.nodes[0].handshaker.counters();
    let sessions = mesh.counters(0).sessions;
    // From addresses that need not exist: what is sent there is of no use to who forged them.
    let mut stranger = Client::new(&mut mesh, 1, 0);
    for number in 0..600_u16 {
        let source = SocketAddr::from(([198, 18, (number >> 8) as u8, number as u8], 7_000));
        stranger.endpoint = mesh.network.open(source, 16).unwrap();
        stranger.initiate(&mut mesh);
        mesh.run(4 * MS);
    }
    mesh.run(20 * MS);
    let counters = mesh.nodes[0].handshaker.counters();
    assert_eq!(counters.cookies - before.cookies, 600);
    assert_eq!(counters.accepted, before.accepted, "{counters:?}");
    assert_eq!(mesh.counters(0).sessions, sessions);
    let mut client = Client::new(&mut mesh, 250, 0);
    assert!(client.connect(&mut mesh));
}

#[test]
fn attack_replayed_initiations_win_nothing_at_any_time_and_from_anywhere() {
    let mut mesh = Mesh::new(&shape(), 41);
    let mut alice = attached(&mut mesh, 1, 0, 50);
    let recorded = alice.initiation;
    let elsewhere = mesh
        .network
        .open(SocketAddr::from(([172, 16, 0, 9], 4_000)), 4_096)
        .unwrap();
    let before = mesh.nodes[0].handshaker.counters();
    let sessions = mesh.counters(0).sessions;

    // While the session lives and the cookie holds: from its own address a duplicate, unanswered.
    alice.receive();
    alice.endpoint.send(address(0, 0), &recorded);
    elsewhere.send(address(0, 0), &recorded);
    mesh.run(20 * MS);
    let counters = mesh.nodes[0].handshaker.counters();
    assert_eq!(counters.duplicates - before.duplicates, 1);
    assert_eq!(counters.accepted, before.accepted);
    let got = answers(&elsewhere);
    assert!(matches!(got.as_slice(), [Datagram::CookieReply { .. }]));
    let got = answers(&alice.endpoint);
    assert!(got.iter().all(|one| matches!(one, Datagram::Data { .. })));

    // The stream stays where it was.
    mesh.run(SECOND);
    assert!(alice.receive().len() > 20);
    assert_eq!(elsewhere.waiting(), 0);

    // Once the cookie has ended, with the session alive and after it: a cookie reply, and no more.
    for wait_ns in [2 * COOKIE_LIFETIME_NS, 900 * SECOND] {
        mesh.run(wait_ns);
        answers(&alice.endpoint);
        let before = mesh.nodes[0].handshaker.counters();
        for from in [&alice.endpoint, &elsewhere] {
            from.send(address(0, 0), &recorded);
            mesh.run(20 * MS);
            assert_eq!(answers(from).iter().filter(|one| is_cookie(one)).count(), 1);
        }
        let counters = mesh.nodes[0].handshaker.counters();
        assert_eq!(counters.accepted, before.accepted);
        assert!(mesh.counters(0).sessions <= sessions);
    }
}

#[test]
fn a_mix_answers_members_alone_and_says_how_often_it_did_not() {
    let mut mesh = Mesh::new(&shape(), 42);
    let mix = mesh.a_mix();
    let mut stranger = Client::new(&mut mesh, 1, mix);
    assert!(stranger.ask_for_cookie(&mut mesh), "everyone gets a cookie");
    assert!(!stranger.connect_with_cookie(&mut mesh));
    assert_eq!(mesh.nodes[mix].handshaker.counters().strangers, 1);
    // The gateways' own links to it are there.
    let mut alice = attached(&mut mesh, 2, 0, 50);
    let bob = attached(&mut mesh, 3, 1, 50);
    let packet = mesh.packet_for(bob.tag(), (0, 1), 1_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(SECOND);
    let mut bob = bob;
    assert_eq!(bob.deliveries().len(), 1);
}

#[test]
fn every_refused_handshake_has_its_reason() {
    let mut mesh = Mesh::new(&shape(), 43);
    let mut client = Client::new(&mut mesh, 1, 0);
    assert!(client.ask_for_cookie(&mut mesh));
    let before = mesh.nodes[0].handshaker.counters();
    let mut wrong = client.initiation;
    wrong[1_200] ^= 1;
    client.endpoint.send(address(0, 0), &wrong);
    assert!(client.connect_with_cookie(&mut mesh));
    client.endpoint.send(address(0, 0), &client.initiation);
    let mut unasked = [0; DATAGRAM_BYTES];
    for kind in [2, 3] {
        unasked[0] = kind;
        client.endpoint.send(address(0, 0), &unasked);
    }
    mesh.run(20 * MS);
    let counters = mesh.nodes[0].handshaker.counters();
    let since = |of: fn(&mixnode::handshake::HandshakeCounters) -> u64| of(&counters) - of(&before);
    assert_eq!(since(|one| one.bad_mac1), 1);
    assert_eq!(since(|one| one.duplicates), 1);
    assert_eq!(since(|one| one.unasked), 2);
    assert_eq!(since(|one| one.accepted), 1);
    assert_eq!(counters.refused() - before.refused(), 4);
}

/// A client somewhere in a network of its own.
fn from_anywhere(mesh: &mut Mesh, number: usize) -> Client {
    let [.., high, low] = number.to_be_bytes();
    Client::at(mesh, 0, SocketAddr::from(([100, high, low, 1], 7_000)))
}

/// Members have renewed their sessions with it, and a new client attaches and gets what is sent to it.
fn assert_open_for_honest_ones(mesh: &mut Mesh, number: u8) {
    let connected = |mesh: &Mesh| -> Vec<u64> {
        let nodes = mesh.nodes.iter();
        nodes
            .map(|node| node.handshaker.counters().connected)
            .collect()
    };
    let before = connected(mesh);
    // Every link is renewed with a new document.
    mesh.turn_epoch(mesh.consensus.epoch());
    mesh.run(3 * SECOND);
    assert!(
        connected(mesh)
            .iter()
            .zip(&before)
            .all(|(now, before)| now > before)
    );
    let mut bob = attached(mesh, number, 0, 50);
    let mut alice = attached(mesh, number + 1, 1, 50);
    let packet = mesh.packet_for(bob.tag(), (1, 0), 1_000, &[1; 896]);
    alice.send(mesh, Kind::Sphinx, &packet);
    mesh.run(SECOND);
    assert_eq!(bob.deliveries().len(), 1);
}

#[test]
fn attack_finished_handshakes_that_never_speak_fill_a_ring_and_no_table() {
    let mut mesh = Mesh::new(&shape(), 44);
    let sessions = mesh.counters(0).sessions;
    for number in 0..HALF_OPEN_MAX + 100 {
        assert!(from_anywhere(&mut mesh, number).connect(&mut mesh));
    }
    let counters = mesh.counters(0);
    assert_eq!(counters.sessions, sessions);
    assert_eq!(counters.session_outcomes.half_open_evicted, 100);
    assert_eq!(counters.half_open, HALF_OPEN_MAX as u64);
    assert_open_for_honest_ones(&mut mesh, 1);
}

#[test]
fn attack_strangers_from_many_networks_turn_no_session_over_with_which_a_client_renews_its_link() {
    let mut mesh = Mesh::new(&shape(), 49);
    let mut client = attached(&mut mesh, 1, 0, 50);
    assert!(client.connect(&mut mesh));
    for number in 0..HALF_OPEN_MAX + 100 {
        assert!(from_anywhere(&mut mesh, number).connect(&mut mesh));
    }
    let before = mesh.counters(0).session_outcomes;
    assert!(before.half_open_evicted >= 100);
    client.send(&mesh, Kind::Cover, &[0; 1_200]);
    mesh.run(20 * MS);
    let after = mesh.counters(0).session_outcomes;
    assert_eq!(after.confirmed - before.confirmed, 1);
}

#[test]
fn attack_an_attached_neighbour_turns_no_session_over_with_which_a_client_renews_its_link() {
    let mut mesh = Mesh::new(&shape(), 51);
    let mut attacker = attached(&mut mesh, 1, 0, 50);
    let mut client = attached(&mut mesh, 2, 0, 50);
    assert!(client.connect(&mut mesh));
    for _ in 0..HALF_OPEN_MAX + 100 {
        attacker.keys = ClientKeys::generate(&mut mesh.rng);
        attacker.initiate(&mut mesh);
        mesh.run(3 * MS);
    }
    let before = mesh.counters(0).session_outcomes;
    assert!(before.half_open_evicted >= 100);
    client.send(&mesh, Kind::Cover, &[0; 1_200]);
    mesh.run(20 * MS);
    let after = mesh.counters(0).session_outcomes;
    assert_eq!(after.confirmed - before.confirmed, 1);
}

#[test]
fn attack_one_source_with_a_cookie_turns_over_its_own_half_open_sessions_alone() {
    let mut mesh = Mesh::new(&shape(), 45);
    // Slow clients: connected, and their next slot is far away.
    let mut slow: Vec<Client> = (0..20)
        .map(|number| from_anywhere(&mut mesh, number))
        .collect();
    assert!(slow.iter_mut().all(|client| client.connect(&mut mesh)));
    let mut attacker = Client::new(&mut mesh, 1, 0);
    assert!(attacker.ask_for_cookie(&mut mesh));
    for _ in 0..2 * HALF_OPEN_MAX {
        attacker.keys = ClientKeys::generate(&mut mesh.rng);
        attacker.initiate(&mut mesh);
        mesh.run(3 * MS);
    }
    assert!(mesh.counters(0).session_outcomes.half_open_evicted > HALF_OPEN_MAX as u64);
    let before = mesh.counters(0).session_outcomes.confirmed;
    for client in &mut slow {
        client.send(&mesh, Kind::Cover, &[0; 1_200]);
    }
    mesh.run(20 * MS);
    assert_eq!(mesh.counters(0).session_outcomes.confirmed - before, 20);
}

#[test]
fn attack_sessions_of_throwaway_keys_that_speak_take_nobody_elses_room() {
    let mut mesh = Mesh::new(&shape(), 46);
    let mut old = attached(&mut mesh, 1, 0, 50);
    // Room for 128 sessions of strangers: two for each of 32 clients, and 64 for who is not attached.
    for number in 0..250 {
        let mut client = from_anywhere(&mut mesh, number);
        assert!(client.connect(&mut mesh));
        client.send(&mesh, Kind::Cover, &[0; 1_200]);
        mesh.run(5 * MS);
    }
    let counters = mesh.counters(0);
    assert!(counters.session_outcomes.evicted > 80, "{counters:?}");
    assert!(counters.sessions <= 128 + 8, "{counters:?}");
    assert_open_for_honest_ones(&mut mesh, 2);
    old.receive();
    mesh.run(SECOND);
    assert!(old.receive().len() > 20, "attached clients do not give way");
}

#[test]
fn a_full_table_refuses_a_strangers_first_frame_by_its_reason() {
    let mut shape = shape();
    // Nothing else in it: a gateway whose tables are too small for its clients.
    shape.settings.sessions_max = 2;
    let mut mesh = Mesh::new(&shape, 47);
    for number in 1..=2 {
        attached(&mut mesh, number, 0, 50);
    }
    let mut third = Client::new(&mut mesh, 3, 0);
    assert!(third.connect(&mut mesh), "half-open costs nothing");
    let before = mesh.counters(0);
    third.attach(&mut mesh, 50);
    let counters = mesh.counters(0);
    let refused = |of: &Counters| of.rejected(Reason::SessionsFull);
    assert_eq!(refused(&counters) - refused(&before), 1);
    let full = |of: &Counters| of.session_outcomes.full;
    assert_eq!(full(&counters) - full(&before), 1);
    assert_eq!(counters.half_open, 0);
}

/// Takes a handshaker's letters: counts in `accepted` the initiations from each source that it accepts.
fn accepting(accepted: &mut BTreeMap<SocketAddr, u32>) -> impl FnMut(u8, Mail) -> bool {
    |_, mail| {
        if let Mail::Accepted { source, .. } = mail {
            *accepted.entry(source).or_default() += 1;
        }
        true
    }
}

fn from_at(source: SocketAddr, datagram: [u8; DATAGRAM_BYTES]) -> Request {
    Request::Datagram {
        worker: 0,
        source,
        datagram,
    }
}

/// Initiations of one source with its cookie, each of a new key.
fn throwaway_initiations(
    mesh: &mut Mesh,
    source: SocketAddr,
    count: usize,
) -> Vec<[u8; DATAGRAM_BYTES]> {
    let mut client = Client::at(mesh, 0, source);
    assert!(client.ask_for_cookie(mesh));
    let initiation = |_| {
        client.keys = ClientKeys::generate(&mut mesh.rng);
        client.prepare(mesh);
        client.initiation
    };
    (0..count).map(initiation).collect()
}

#[test]
fn attack_one_source_with_a_cookie_at_three_times_what_is_served_leaves_honest_handshakes_alone() {
    let mut mesh = Mesh::new(&shape(), 48);
    let attacker = SocketAddr::from(([203, 0, 113, 1], 7_000));
    let junk = throwaway_initiations(&mut mesh, attacker, 900);
    let mut honest: Vec<Client> = (0..30)
        .map(|number| from_anywhere(&mut mesh, number))
        .collect();
    for client in &mut honest {
        assert!(client.ask_for_cookie(&mut mesh));
        client.prepare(&mut mesh);
    }
    // A node that answers one initiation a millisecond, for 300 ms: three of the attacker's come meanwhile, and one of
    // somebody else's each ten. Nobody tries again.
    let handshaker = &mut mesh.nodes[0].handshaker;
    let mut accepted = BTreeMap::new();
    let mut post = accepting(&mut accepted);
    let mut junk = junk.into_iter();
    for ms in 0..300 {
        let now_ns = mesh.now_ns + ms * MS;
        for datagram in junk.by_ref().take(3) {
            handshaker.handle(from_at(attacker, datagram), now_ns, &mut post);
        }
        if ms % 10 == 0 {
            let client = &honest[ms as usize / 10];
            let request = from_at(client.endpoint.address(), client.initiation);
            handshaker.handle(request, now_ns, &mut post);
        }
        handshaker.serve(now_ns, &mut post);
    }
    drop(post);
    let theirs = accepted.remove(&attacker).unwrap_or(0);
    let counters = handshaker.counters();
    println!(
        "{} of 30 honest handshakes, {theirs} of the attacker's, {} gave way",
        accepted.len(),
        counters.over_rate
    );
    assert!(accepted.len() >= 29);
    assert_eq!(theirs as usize + accepted.len(), 300, "no turn was lost");
    // One place is free after each turn.
    let waiting = WAITING_MAX as u64 - 1;
    assert_eq!(counters.over_rate, 930 - 300 - waiting);
    while handshaker.serve(mesh.now_ns + 300 * MS, &mut |_, _| true) {}
    assert_eq!(handshaker.counters().accepted - counters.accepted, waiting);
}

#[test]
fn members_and_attached_clients_wait_behind_no_stranger() {
    let mut mesh = Mesh::new(&shape(), 49);
    let mut alice = attached(&mut mesh, 1, 0, 50);
    assert!(alice.ask_for_cookie(&mut mesh));
    alice.prepare(&mut mesh);
    // From as many networks as the queue has places: to be fair between sources helps nobody here.
    let mut junk = Vec::new();
    for number in 0..WAITING_MAX {
        let mut stranger = from_anywhere(&mut mesh, number);
        assert!(stranger.ask_for_cookie(&mut mesh));
        stranger.prepare(&mut mesh);
        junk.push((stranger.endpoint.address(), stranger.initiation));
    }
    // The other gateway asks for a session of its own.
    let node = mesh.consensus.find(&mesh.nodes[0].identity).unwrap();
    let remote = Arc::new(LinkPublic {
        x25519: node.link.x25519,
        kem: node.link.kem.clone(),
    });
    let ask = |mesh: &mut Mesh, number: usize, request| {
        let mut sent = None;
        let now_ns = mesh.now_ns;
        let handshaker = &mut mesh.nodes[number].handshaker;
        handshaker.handle(request, now_ns, &mut |_, mail| {
            if let Mail::Send { datagram, .. } = mail {
                sent = Some(*datagram);
            }
            true
        });
        sent.unwrap()
    };
    let connect = Request::Connect {
        worker: 0,
        link: 900,
        remote,
        destination: address(0, 0),
    };
    let bare = ask(&mut mesh, 1, connect);
    let cookie = ask(&mut mesh, 0, from_at(address(1, 0), bare));
    let shown = ask(&mut mesh, 1, from_at(address(0, 0), cookie));

    let now_ns = mesh.now_ns;
    let handshaker = &mut mesh.nodes[0].handshaker;
    let mut accepted = BTreeMap::new();
    let mut post = accepting(&mut accepted);
    for (source, datagram) in junk {
        handshaker.handle(from_at(source, datagram), now_ns, &mut post);
    }
    let alice = (alice.endpoint.address(), alice.initiation);
    for (source, datagram) in [alice, (address(1, 0), shown)] {
        handshaker.handle(from_at(source, datagram), now_ns, &mut post);
    }
    assert_eq!(handshaker.counters().over_rate, 0);
    for _ in 0..3 {
        handshaker.serve(now_ns, &mut post);
    }
    drop(post);
    assert!(accepted.contains_key(&alice.0), "{accepted:?}");
    assert!(accepted.contains_key(&address(1, 0)), "{accepted:?}");
}

#[test]
fn a_report_names_the_next_hops_that_answered_and_those_that_did_not() {
    let shape = Shape {
        mixes: 3,
        epoch_ms: 60_000,
        ..shape()
    };
    let mut mesh = Mesh::new(&shape, 77);
    // A mix falls silent and stays in the document; links to it are asked for anew.
    let silent = mesh.a_mix();
    mesh.network.partition(&[address(silent, 0).ip()]);
    mesh.nodes[0].members.reached().take();
    mesh.turn_epoch(0);
    mesh.run(20 * SECOND);
    let unix_ms = mesh.unix_ms();
    let index = usize::from(mesh.index_of(silent));
    let mixes: Vec<usize> = mesh
        .consensus
        .layer(1)
        .map(|node| usize::from(node.index))
        .collect();
    let gateway = &mut mesh.nodes[0];
    assert!(gateway.follower.is_report_due(unix_ms));
    let reached = gateway.members.reached().take();
    let report = gateway.follower.report(unix_ms, &reached).unwrap();
    assert!(!gateway.follower.is_report_due(unix_ms), "once an epoch");
    assert_eq!(report.epoch, 0);
    assert_eq!(report.marks.len(), mesh.consensus.nodes().len());
    for (at, mark) in report.marks.iter().enumerate() {
        let expected = match mixes.contains(&at) {
            true if at == index => directory::Mark::Unreachable,
            true => directory::Mark::Reachable,
            false => directory::Mark::NotMine,
        };
        assert_eq!(*mark, expected, "node {at}");
    }
}
