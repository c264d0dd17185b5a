//! Where a client's stream goes: to addresses that have answered, and nowhere else.

use std::net::SocketAddr;

use crate::mesh::{Client, MS, Mesh, SECOND, address, attached, shape};
use link::Kind;
use link::control::Control;
use mixnode::path::reason::Reason;
use port::sim::Endpoint;

const NOTHING: [u8; 1_200] = [0; 1_200];

fn somewhere(mesh: &Mesh, number: u8) -> Endpoint {
    let at = SocketAddr::from(([172, 16, number, 1], 4_000));
    mesh.network.open(at, 4_096).unwrap()
}

fn content(control: &Control) -> [u8; 1_200] {
    let mut content = NOTHING;
    control.encode(&mut content);
    content
}

/// Challenges among what came to where the client is now, and how many other frames.
fn challenges(client: &mut Client) -> (Vec<[u8; 8]>, usize) {
    let (mut nonces, mut others) = (Vec::new(), 0);
    for (kind, content) in client.receive() {
        match (kind, Control::decode(&content)) {
            (Kind::Control, Ok(Control::Challenge { nonce })) => nonces.push(nonce),
            _ => others += 1,
        }
    }
    (nonces, others)
}

#[test]
fn attack_reflector_one_frame_with_a_forged_source_moves_nothing_and_draws_one_datagram() {
    let mut mesh = Mesh::new(&shape(), 60);
    let mut bob = attached(&mut mesh, 1, 0, 500);
    bob.receive();
    let victim = somewhere(&mesh, 1);
    let frame = bob.seal(0, Kind::Cover, &NOTHING);
    victim.send(address(0, 0), &frame);
    mesh.run(50 * SECOND);
    let (drawn, kept) = (victim.waiting(), bob.endpoint.waiting());
    println!("{drawn} datagrams to the victim, {kept} to the client");
    assert!(drawn <= 1, "{drawn} datagrams for one");
    assert!(bob.receive().len() > 4_000, "the stream stayed");
}

#[test]
fn attack_reflector_forged_frames_without_end_draw_one_datagram_a_second_and_one_each() {
    let mut mesh = Mesh::new(&shape(), 61);
    let mut bob = attached(&mut mesh, 1, 0, 500);
    let victim = somewhere(&mesh, 1);
    for sent in 1..=300 {
        let frame = bob.seal(0, Kind::Cover, &NOTHING);
        victim.send(address(0, 0), &frame);
        mesh.run(100 * MS);
        assert!(victim.waiting() <= sent);
    }
    let drawn = victim.waiting();
    println!("{drawn} datagrams in 30 s for 300");
    assert!((20..=31).contains(&drawn), "{drawn} datagrams in 30 s");
    // Many addresses in place of one: no more in all.
    let victims: Vec<Endpoint> = (2..=200).map(|number| somewhere(&mesh, number)).collect();
    for victim in &victims {
        let frame = bob.seal(0, Kind::Cover, &NOTHING);
        victim.send(address(0, 0), &frame);
        mesh.run(50 * MS);
    }
    let drawn: usize = victims.iter().map(Endpoint::waiting).sum();
    assert!(drawn <= 11, "{drawn} datagrams in 10 s");
}

#[test]
fn attack_reflector_an_attachment_from_a_forged_source_streams_to_who_got_the_response() {
    let mut mesh = Mesh::new(&shape(), 62);
    let mut bob = Client::new(&mut mesh, 1, 0);
    assert!(bob.connect(&mut mesh));
    let victim = somewhere(&mesh, 1);
    let attach = content(&Control::Attach { rate_pps: 100 });
    let frame = bob.seal(0, Kind::Control, &attach);
    victim.send(address(0, 0), &frame);
    mesh.run(10 * SECOND);
    assert!(victim.waiting() <= 1);
    assert!(bob.receive().len() > 800);
}

#[test]
fn attack_what_comes_in_the_name_of_nobody_out_there_is_not_answered() {
    let mut mesh = Mesh::new(&shape(), 65);
    let mut stranger = Client::new(&mut mesh, 1, 0);
    let before = mesh.nodes[0].handshaker.counters().cookies;
    // A resolver and others that listen for this host alone, groups, and what no datagram can go to.
    let sources = [
        "127.0.0.1:53",
        "[::1]:53",
        "0.0.0.0:8125",
        "224.0.0.251:5353",
        "255.255.255.255:9",
        "192.0.2.7:0",
    ];
    let mut drawn = 0;
    for source in sources {
        stranger.endpoint = mesh.network.open(source.parse().unwrap(), 16).unwrap();
        stranger.initiate(&mut mesh);
        mesh.run(20 * MS);
        drawn += stranger.endpoint.waiting();
    }
    println!("{drawn} answers to {} initiations", sources.len());
    let cookies = mesh.nodes[0].handshaker.counters().cookies - before;
    assert_eq!((drawn, cookies), (0, 0));
    let rejected = mesh.counters(0).rejected(Reason::Source);
    assert_eq!(rejected, sources.len() as u64);
    // Nor are frames of a session, which would draw a challenge.
    let mut bob = attached(&mut mesh, 2, 0, 50);
    let resolver = mesh.network.open("127.0.0.1:54".parse().unwrap(), 16);
    let resolver = resolver.unwrap();
    let frame = bob.seal(0, Kind::Cover, &NOTHING);
    resolver.send(address(0, 0), &frame);
    mesh.run(5 * SECOND);
    assert_eq!(resolver.waiting(), 0);
}

#[test]
fn a_stream_follows_a_client_that_answers_from_its_new_address() {
    let mut mesh = Mesh::new(&shape(), 63);
    let mut bob = attached(&mut mesh, 1, 0, 50);
    let stale = bob.seal(0, Kind::Cover, &NOTHING);
    let home = std::mem::replace(&mut bob.endpoint, somewhere(&mesh, 1));
    bob.send(&mesh, Kind::Cover, &NOTHING);
    mesh.run(500 * MS);
    assert!(home.waiting() > 10, "the stream stays where it was");
    let (nonces, others) = challenges(&mut bob);
    assert_eq!((nonces.len(), others), (1, 0));
    // The answer from another address, a wrong one, and an old frame from elsewhere: nothing moves.
    let thief = somewhere(&mesh, 2);
    let answer = content(&Control::Answer { nonce: nonces[0] });
    let stolen = bob.seal(0, Kind::Control, &answer);
    thief.send(address(0, 0), &stolen);
    thief.send(address(0, 0), &stale);
    let wrong = content(&Control::Answer { nonce: [0; 8] });
    bob.send(&mesh, Kind::Control, &wrong);
    mesh.run(500 * MS);
    assert!(thief.waiting() <= 1);
    assert!(challenges(&mut bob).0.len() <= 1);
    // Once a second has passed since the challenge, a frame from there brings it again.
    mesh.run(SECOND);
    bob.send(&mesh, Kind::Cover, &NOTHING);
    mesh.run(500 * MS);
    let (nonces, _) = challenges(&mut bob);
    assert_eq!(nonces.len(), 1);
    let before = home.waiting();
    let answer = content(&Control::Answer { nonce: nonces[0] });
    bob.send(&mesh, Kind::Control, &answer);
    mesh.run(SECOND);
    assert!(bob.receive().len() > 30, "the stream has followed");
    assert!(home.waiting() <= before + 1);
}

#[test]
fn a_newest_frame_from_the_proved_address_ends_an_open_challenge() {
    let mut mesh = Mesh::new(&shape(), 64);
    let mut bob = attached(&mut mesh, 1, 0, 1);
    let victim = somewhere(&mesh, 1);
    let frame = bob.seal(0, Kind::Cover, &NOTHING);
    victim.send(address(0, 0), &frame);
    mesh.run(2 * MS);
    bob.send(&mesh, Kind::Cover, &NOTHING);
    mesh.run(20 * SECOND);
    assert_eq!(
        victim.waiting(),
        0,
        "the next slot came after the client's next frame"
    );
}
