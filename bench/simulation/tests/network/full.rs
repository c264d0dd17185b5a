//! A gateway of few places: who gets one, who gives way, who is told, and what the workers know of each other's clients.

use std::net::SocketAddr;

use crate::mesh::{Client, MS, Mesh, SECOND, attached, shape};
use link::Kind;
use link::control::Control;
use mixnode::path::mail::{MAILBOX_LETTERS, Mail};
use mixnode::path::reason::Reason;

/// A client of a new key at this host of this network, of which each is in a block of its own.
fn from(mesh: &mut Mesh, network: u8, host: u8, port: u16) -> Client {
    Client::at(mesh, 0, SocketAddr::from(([203, network, 0, host], port)))
}

/// One at a network of this IPv6 block.
fn from_block(mesh: &mut Mesh, block: u16, network: u16) -> Client {
    let segments = [0x2001, block, network, 0, 0, 0, 0, 1];
    Client::at(mesh, 0, SocketAddr::from((segments, 5_000)))
}

/// It attaches, and does all that it can for it.
fn attach(mesh: &mut Mesh, client: &mut Client) {
    assert!(
        client.connect(mesh),
        "a newcomer is heard, however full the gateway is"
    );
    client.attach(mesh, 50);
}

/// Frames of a stream, and how often it was said that the gateway is full.
fn heard(client: &mut Client) -> (usize, usize) {
    let (mut stream, mut full) = (0, 0);
    for (kind, content) in client.receive() {
        match Control::decode(&content) {
            Ok(Control::Full) if kind == Kind::Control => full += 1,
            _ => stream += 1,
        }
    }
    (stream, full)
}

#[test]
fn attack_throwaway_attachments_of_one_network_shut_no_gateway() {
    let mut mesh = Mesh::new(&shape(), 70);
    let places = 32;
    let mut throwaway: Vec<Client> = (0..2 * places)
        .map(|number| from(&mut mesh, 1, number as u8, 5_000))
        .collect();
    for client in &mut throwaway {
        attach(&mut mesh, client);
    }
    let taken = mesh.counters(0).clients;
    let mut honest: Vec<Client> = (2..12)
        .map(|network| from(&mut mesh, network, 1, 5_000))
        .collect();
    for client in &mut honest {
        attach(&mut mesh, client);
    }
    let told = throwaway.iter_mut().map(heard);
    let told = told.filter(|one| *one == (0, 1)).count();
    mesh.run(SECOND);
    let streams = honest
        .iter_mut()
        .map(heard)
        .filter(|one| one.0 > 20)
        .count();
    println!(
        "{taken} of {places} places taken, {streams} of 10 newcomers attached, {told} told that it is full"
    );
    assert_eq!(streams, 10);
    assert_eq!(taken, places / 2, "half of it, and then no more");
    let refused = mesh.counters(0).clients_refused;
    assert_eq!(
        (told as u64, refused),
        (2 * places - taken, 2 * places - taken)
    );
}

#[test]
fn attack_one_allocations_networks_shut_no_gateway() {
    let mut mesh = Mesh::new(&shape(), 79);
    let places = 32;
    let mut honest: Vec<Client> = (0..8)
        .map(|network| from(&mut mesh, network, 1, 5_000))
        .collect();
    for client in &mut honest {
        attach(&mut mesh, client);
    }
    // One client in each /48 of a /32.
    for network in 0..2 * places {
        let mut throwaway = from_block(&mut mesh, 0xdb8, network);
        attach(&mut mesh, &mut throwaway);
    }
    let taken = mesh.counters(0).clients - 8;
    for network in 8..26 {
        let mut client = from(&mut mesh, network, 1, 5_000);
        attach(&mut mesh, &mut client);
        honest.push(client);
    }
    honest.iter_mut().for_each(|one| drop(one.receive()));
    mesh.run(SECOND);
    let streams = honest.iter_mut().map(heard).filter(|one| one.0 > 20);
    let streams = streams.count();
    println!("{taken} of {places} places taken, {streams} of 26 others have a stream");
    assert_eq!((taken, streams), (u64::from(places) / 2, 26));
}

#[test]
fn networks_of_one_block_give_way_to_each_other_and_take_nothing_of_other_blocks() {
    let mut mesh = Mesh::new(&shape(), 80);
    // Two blocks of sixteen, one of them of a single network: the gateway is full.
    for number in 0..16 {
        for mut client in [
            from_block(&mut mesh, 0xdb8, number),
            from(&mut mesh, 1, number as u8, 5_000),
        ] {
            attach(&mut mesh, &mut client);
        }
    }
    let displaced = |mesh: &Mesh| mesh.counters(0).clients_displaced;
    let mut newcomer = from_block(&mut mesh, 0xdb8, 100);
    attach(&mut mesh, &mut newcomer);
    assert_eq!(displaced(&mesh), 0, "half is the most");
    // Third blocks take of the two in turn until all three have about as much.
    let mut third: Vec<Client> = (0..10)
        .map(|host| from(&mut mesh, 3, host, 5_000))
        .collect();
    for client in &mut third {
        attach(&mut mesh, client);
    }
    assert_eq!(displaced(&mesh), 10);
    let mut own = Client::at(&mut mesh, 0, SocketAddr::from(([203, 3, 7, 1], 5_000)));
    attach(&mut mesh, &mut own);
    assert_eq!(displaced(&mesh), 11, "of its own block");
    third.iter_mut().for_each(|one| drop(one.receive()));
    mesh.run(SECOND);
    let streams = third.iter_mut().map(heard).filter(|one| one.0 > 20);
    assert_eq!(streams.count(), 9);
    assert!(heard(&mut own).0 > 20);
}

#[test]
fn in_a_full_gateway_the_latest_of_the_largest_network_gives_way_and_is_told() {
    let mut mesh = Mesh::new(&shape(), 71);
    let mut first = from(&mut mesh, 1, 1, 5_000);
    attach(&mut mesh, &mut first);
    // Two networks of sixteen: the gateway is full.
    let mut crowds: Vec<Client> = (1..32_u8)
        .map(|number| from(&mut mesh, 1 + number % 2, 2 + number / 2, 5_000))
        .collect();
    for client in &mut crowds {
        attach(&mut mesh, client);
    }
    assert_eq!(mesh.counters(0).clients, 32);
    crowds.iter_mut().for_each(|one| drop(one.receive()));
    let mut newcomers: Vec<Client> = (10..30)
        .map(|network| from(&mut mesh, network, 1, 5_000))
        .collect();
    for client in &mut newcomers {
        attach(&mut mesh, client);
    }
    mesh.run(SECOND);
    let counters = mesh.counters(0);
    assert_eq!((counters.clients, counters.clients_displaced), (32, 20));
    assert!(newcomers.iter_mut().all(|one| heard(one).0 > 20));
    let displaced = crowds
        .iter_mut()
        .map(heard)
        .filter(|one| one.1 == 1)
        .count();
    assert_eq!(displaced, 20, "each is told once");
    // Twelve are left of those that filled it, and who was there first is among them.
    first.receive();
    mesh.run(SECOND);
    assert!(heard(&mut first).0 > 20);
}

#[test]
fn who_gave_its_place_up_has_no_grant_any_more() {
    let mut mesh = Mesh::new(&shape(), 78);
    let mut crowd: Vec<Client> = (0..32)
        .map(|number| from(&mut mesh, number % 2, 1 + number / 2, 5_000))
        .collect();
    for client in &mut crowd {
        attach(&mut mesh, client);
    }
    let mut newcomer = from(&mut mesh, 9, 1, 5_000);
    attach(&mut mesh, &mut newcomer);
    let told = crowd.iter_mut().position(|one| heard(one).1 == 1);
    let displaced = &mut crowd[told.unwrap()];
    // Two seconds at the rate that it had.
    for _ in 0..100 {
        displaced.send(&mesh, Kind::Cover, &[0; 1_200]);
        mesh.run(20 * MS);
    }
    let over = mesh.counters(0).rejected(Reason::ClientRate);
    println!("{over} of 100 frames were more than it may send");
    assert!(over > 35);
}

#[test]
fn who_finds_no_place_is_told_once_a_question_and_gets_one_when_there_is() {
    let mut mesh = Mesh::new(&shape(), 72);
    // From everywhere: nobody has more than another.
    let mut all: Vec<Client> = (0..32)
        .map(|network| from(&mut mesh, network, 1, 5_000))
        .collect();
    for client in &mut all {
        attach(&mut mesh, client);
    }
    let mut late = from(&mut mesh, 100, 1, 5_000);
    attach(&mut mesh, &mut late);
    assert_eq!(heard(&mut late), (0, 1));
    mesh.run(30 * SECOND);
    assert_eq!(heard(&mut late), (0, 0), "said once, and no stream");
    // The others fall silent: in a minute their places are free. The session is good still.
    mesh.run(35 * SECOND);
    late.attach(&mut mesh, 50);
    mesh.run(SECOND);
    let (stream, full) = heard(&mut late);
    assert!(stream > 20 && full == 0, "{stream} frames");
    assert_eq!(mesh.counters(0).clients_refused, 1);
}

#[test]
fn a_carriers_network_gets_a_place_while_half_of_them_are_free() {
    let mut mesh = Mesh::new(&shape(), 73);
    let mut all: Vec<Client> = (0..16)
        .map(|number| from(&mut mesh, 1, 1, 5_000 + number))
        .collect();
    for client in &mut all {
        attach(&mut mesh, client);
    }
    let counters = mesh.counters(0);
    assert_eq!((counters.clients, counters.clients_refused), (16, 0));
}

#[test]
fn attack_sessions_that_never_attach_keep_no_newcomer_from_being_heard() {
    let mut shape = shape();
    shape.settings.clients_max = 100;
    shape.settings.sessions_max = 400;
    let mut mesh = Mesh::new(&shape, 77);
    // A hundred that are attached, one after the other: they lie side by side.
    for number in 0..100 {
        let mut client = from(&mut mesh, number % 4, 1 + number / 4, 5_000);
        attach(&mut mesh, &mut client);
    }
    for number in 0..400_u16 {
        let mut client = from(&mut mesh, 200, (number % 250) as u8, 6_000 + number);
        assert!(client.connect(&mut mesh));
        client.send(&mesh, Kind::Cover, &[0; 1_200]);
        mesh.run(2 * MS);
    }
    let counters = mesh.counters(0);
    let (clients, unheard) = (counters.clients, counters.rejected(Reason::SessionsFull));
    println!("{unheard} of 400 were not heard, {clients} clients are attached");
    assert_eq!((clients, unheard), (100, 0));
}

#[test]
fn attack_an_old_session_on_another_worker_takes_no_attachment_back() {
    let mut shape = shape();
    shape.workers = 2;
    let mut mesh = Mesh::new(&shape, 74);
    let mut old = attached(&mut mesh, 1, 0, 50);
    let mut new = Client::with_keys(&mesh, 2, 0, old.keys.clone());
    new.worker = 1;
    mesh.run(10 * MS);
    attach(&mut mesh, &mut new);
    mesh.run(SECOND);
    // Within the ten seconds that its last frames have: a frame that was under way, or kept back by somebody.
    old.attach(&mut mesh, 50);
    mesh.run(SECOND);
    old.receive();
    new.receive();
    mesh.run(SECOND);
    let (old, new) = (old.receive().len(), new.receive().len());
    println!("{old} frames to the old session, {new} to the new one");
    assert!(old == 0 && new > 20);
    assert_eq!(mesh.counters(0).rejected(Reason::Control), 1);
}

#[test]
fn attack_who_moves_from_worker_to_worker_leaves_no_grant_behind() {
    let mut shape = shape();
    shape.workers = 2;
    let mut mesh = Mesh::new(&shape, 81);
    let mut old = attached(&mut mesh, 1, 0, 50);
    let mut new = Client::with_keys(&mesh, 2, 0, old.keys.clone());
    new.worker = 1;
    attach(&mut mesh, &mut new);
    // Two seconds at the rate that it had, of the ten that the session has for its last frames.
    for _ in 0..100 {
        old.send(&mesh, Kind::Cover, &[0; 1_200]);
        mesh.run(20 * MS);
    }
    let over = mesh.counters(0).rejected(Reason::ClientRate);
    println!("{over} of 100 frames were more than it may send");
    assert!(over > 30);
}

#[test]
fn a_lost_letter_about_a_client_is_written_again() {
    let mut shape = shape();
    shape.workers = 2;
    let mut mesh = Mesh::new(&shape, 75);
    let mut bob = Client::new(&mut mesh, 1, 0);
    bob.worker = 1;
    assert!(bob.connect(&mut mesh));
    // The other worker is busy: its mailbox is full of letters that ask for nothing.
    let nothing = |number: u64| Mail::ClientAt {
        destination: [9; 16],
        worker: 0,
        order: number,
    };
    let mailbox = mesh.nodes[0].mailboxes[0].clone();
    let mut content = [0; 1_200];
    Control::Attach { rate_pps: 50 }.encode(&mut content);
    bob.send(&mesh, Kind::Control, &content);
    for number in 0..MAILBOX_LETTERS as u64 {
        assert!(mailbox.post(nothing(number)));
    }
    mesh.now_ns += 5 * MS;
    mesh.network.advance(mesh.now_ns, |_| ());
    let unix_ms = mesh.unix_ms();
    mesh.nodes[0].workers[1].turn(mesh.now_ns, unix_ms);
    mesh.run(SECOND);
    let mut alice = attached(&mut mesh, 2, 0, 1);
    let packet = mesh.packet_for(bob.tag(), (0, 0), 1_000, &[4; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(SECOND);
    let (lost, got) = (
        mesh.counters(0).rejected(Reason::NoClient),
        bob.deliveries().len(),
    );
    println!("{lost} found no client, {got} delivered");
    assert_eq!((lost, got), (0, 1));
}

#[test]
fn a_link_that_is_no_more_is_not_tried_any_more() {
    let mut shape = shape();
    shape.mixes = 2;
    shape.epoch_ms = 60_000;
    let mut mesh = Mesh::new(&shape, 76);
    let gone = mesh.nodes.len() - 1;
    mesh.network
        .partition(&[crate::mesh::address(gone, 0).ip()]);
    // A new document has every link renewed; this one's other end answers no more.
    mesh.turn_epoch(1);
    mesh.run(SECOND);
    mesh.remove(gone);
    for epoch in 2..=6 {
        mesh.run(60 * SECOND);
        mesh.turn_epoch(epoch);
    }
    mesh.run(30 * SECOND);
    let tried = |mesh: &Mesh| mesh.nodes[0].handshaker.counters().initiations;
    let before = tried(&mesh);
    mesh.run(25 * SECOND);
    let in_vain = tried(&mesh) - before;
    println!("{in_vain} initiations to a node that no document lists");
    assert_eq!(in_vain, 0);
}
