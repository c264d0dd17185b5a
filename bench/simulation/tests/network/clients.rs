//! A gateway and its clients: who gets what, at which rate, and what nobody learns.

use crate::mesh::{Client, MS, Mesh, SECOND, attached, shape};
use directory::{Chain, SignedConsensus};
use link::control::{AUTHORITIES, Assembly, Control, LATEST};
use link::{ClientKeys, Kind};
use mixnode::path::reason::Reason;

#[test]
fn a_rogue_client_claiming_anothers_destination_tag_gets_nothing() {
    let mut mesh = Mesh::new(&shape(), 1);
    let mut bob = attached(&mut mesh, 1, 0, 50);
    let mut rogue = attached(&mut mesh, 2, 0, 50);
    // There is no field to claim a tag in: it comes from the proved key. The frame with one is refused.
    let mut content = [0; 1_200];
    Control::Attach { rate_pps: 50 }.encode(&mut content);
    content[16..32].copy_from_slice(&bob.tag());
    rogue.send(&mesh, Kind::Control, &content);
    mesh.run(10 * MS);
    assert_eq!(mesh.counters(0).rejected(Reason::Control), 1);
    // Nor does bob's public key help without its secret: another static means another tag.
    let copied = ClientKeys::from_bytes(bob.keys.public_key());
    let mut impostor = Client::with_keys(&mesh, 3, 0, copied);
    assert!(impostor.connect(&mut mesh));
    impostor.attach(&mut mesh, 50);
    for _ in 0..5 {
        let packet = mesh.packet_for(bob.tag(), (0, 0), 1_000, &[3; 896]);
        rogue.send(&mesh, Kind::Sphinx, &packet);
    }
    mesh.run(SECOND);
    assert_eq!(bob.deliveries().len(), 5);
    assert!(rogue.deliveries().is_empty() && impostor.deliveries().is_empty());
}

#[test]
fn an_altered_body_tells_no_gateway_anything() {
    let counters_of = |tag_it: bool| {
        let mut mesh = Mesh::new(&shape(), 2);
        let mut bob = attached(&mut mesh, 1, 1, 50);
        let mut alice = attached(&mut mesh, 2, 0, 50);
        let mut packet = mesh.packet_for(bob.tag(), (0, 1), 1_000, &[3; 896]);
        if tag_it {
            packet[700] ^= 0x80;
        }
        alice.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(SECOND);
        let bodies = bob.deliveries();
        assert_eq!(bodies.len(), 1);
        assert_eq!(
            bodies[0] == [3; 896],
            !tag_it,
            "the recipient alone sees it"
        );
        (0..mesh.nodes.len())
            .map(|number| mesh.counters(number))
            .collect::<Vec<_>>()
    };
    assert_eq!(counters_of(false), counters_of(true));
}

#[test]
fn forward_packets_and_replies_are_delivered_alike() {
    let mut mesh = Mesh::new(&shape(), 3);
    let mut bob = attached(&mut mesh, 1, 0, 50);
    let mut alice = attached(&mut mesh, 2, 1, 50);
    let path = mesh.path(1, 0, 1_000);
    let (surb, secret) = sphinx::surb_create(&mut mesh.rng, &path, 0, bob.tag(), [7; 8]).unwrap();
    let mut packet = [0; 1_200];
    sphinx::surb_use(&surb, &[5; 880], &mut packet);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(SECOND);
    let got: Vec<_> = bob
        .receive()
        .into_iter()
        .filter(|(kind, _)| *kind == Kind::Delivery)
        .collect();
    assert_eq!(got.len(), 1);
    let (_, content) = &got[0];
    assert_eq!(
        (&content[..8], &content[904..]),
        (&[7; 8][..], &[0; 296][..])
    );
    let mut body = content[8..904].try_into().unwrap();
    assert_eq!(sphinx::surb_open(&secret, &mut body).unwrap(), [5; 880]);
}

#[test]
fn every_client_gets_its_poisson_stream_whether_or_not_something_is_for_it() {
    let mut mesh = Mesh::new(&shape(), 4);
    let mut idle = attached(&mut mesh, 1, 1, 100);
    let mut busy = attached(&mut mesh, 2, 1, 100);
    let mut alice = attached(&mut mesh, 3, 0, 100);
    idle.receive();
    busy.receive();
    let mut counts = (0, 0, 0);
    for _ in 0..500 {
        let packet = mesh.packet_for(busy.tag(), (0, 1), 1_000, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(20 * MS);
        let got = busy.receive();
        counts.0 += idle.receive().len();
        counts.2 += got
            .iter()
            .filter(|(kind, _)| *kind == Kind::Delivery)
            .count();
        counts.1 += got.len();
    }
    // 1,000 expected of each, standard deviation 32.
    assert!((870..1_130).contains(&counts.0), "{counts:?}");
    assert!((870..1_130).contains(&counts.1), "{counts:?}");
    assert!((480..=500).contains(&counts.2), "{counts:?}");
}

#[test]
fn a_rate_above_the_gateways_limit_is_granted_as_the_limit() {
    let mut mesh = Mesh::new(&shape(), 5);
    let mut alice = Client::new(&mut mesh, 1, 0);
    assert!(alice.connect(&mut mesh));
    alice.attach(&mut mesh, u32::MAX);
    mesh.run(100 * MS);
    let answers: Vec<_> = alice
        .receive()
        .into_iter()
        .filter(|(kind, _)| *kind == Kind::Control)
        .collect();
    assert_eq!(
        Control::decode(&answers[0].1).unwrap(),
        Control::Attached { rate_pps: 1_000 }
    );
}

#[test]
fn the_newest_attachment_wins_and_an_old_session_cannot_take_it_back() {
    let mut mesh = Mesh::new(&shape(), 6);
    let mut first = attached(&mut mesh, 1, 0, 50);
    let mut second = Client::with_keys(&mesh, 2, 0, first.keys.clone());
    mesh.run(10 * MS);
    assert!(second.connect(&mut mesh));
    second.attach(&mut mesh, 50);
    first.attach(&mut mesh, 50);
    first.receive();
    let mut alice = attached(&mut mesh, 3, 1, 1);
    let packet = mesh.packet_for(second.tag(), (1, 0), 1_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(SECOND);
    assert_eq!(second.deliveries().len(), 1);
    assert!(first.receive().is_empty());
}

/// What a client fetches in ordinary frames, part by part.
fn fetched(mesh: &mut Mesh, client: &mut Client, epoch: u32) -> Vec<u8> {
    let mut assembly: Option<Assembly> = None;
    let mut next = 0;
    for _ in 0..200 {
        let mut content = [0; 1_200];
        let chunk = next;
        Control::Fetch { epoch, chunk }.encode(&mut content);
        client.send(mesh, Kind::Control, &content);
        mesh.run(50 * MS);
        for (_, content) in client
            .receive()
            .into_iter()
            .filter(|(kind, _)| *kind == Kind::Control)
        {
            let chunk = Control::decode(&content).unwrap();
            match &mut assembly {
                Some(assembly) => assembly.accept(chunk),
                None => assembly = Assembly::start(chunk),
            }
        }
        match assembly
            .as_ref()
            .and_then(|assembly| assembly.missing(next))
        {
            Some(missing) => next = missing,
            None if assembly.is_some() => break,
            None => {}
        }
    }
    assembly.unwrap().finish().unwrap()
}

#[test]
fn a_client_fetches_the_consensus_and_who_signs_it_through_its_ordinary_frames() {
    let mut mesh = Mesh::new(&shape(), 8);
    let mut alice = attached(&mut mesh, 1, 0, 100);
    alice.receive();
    let document = fetched(&mut mesh, &mut alice, LATEST);
    let chain = Chain::decode(&fetched(&mut mesh, &mut alice, AUTHORITIES)).unwrap();
    assert_eq!(&chain, mesh.authority.chain());
    let document = SignedConsensus::decode(&document).unwrap();
    let verified = document.verify(&chain, &directory::Held::default());
    assert_eq!(verified.unwrap(), mesh.consensus);
}

#[test]
fn a_delivery_reaches_a_client_on_another_worker_and_follows_it() {
    let mut shape = shape();
    shape.workers = 2;
    let mut mesh = Mesh::new(&shape, 9);
    let mut bob = Client::new(&mut mesh, 1, 0);
    bob.worker = 1;
    assert!(bob.connect(&mut mesh));
    bob.attach(&mut mesh, 50);
    assert_eq!(mesh.nodes[0].workers[1].counters().clients, 1);
    let mut alice = attached(&mut mesh, 2, 0, 1);
    let send = |mesh: &mut Mesh, alice: &mut Client, tag| {
        let packet = mesh.packet_for(tag, (0, 0), 1_000, &[4; 896]);
        alice.send(mesh, Kind::Sphinx, &packet);
        mesh.run(SECOND);
    };
    send(&mut mesh, &mut alice, bob.tag());
    assert_eq!(bob.deliveries(), [[4; 896]]);
    // It comes back on worker 0: the attachment on worker 1 ends.
    bob.worker = 0;
    mesh.run(10 * MS);
    assert!(bob.connect(&mut mesh));
    bob.attach(&mut mesh, 50);
    mesh.run(10 * MS);
    assert_eq!(mesh.nodes[0].workers[1].counters().clients, 0);
    send(&mut mesh, &mut alice, bob.tag());
    assert_eq!(bob.deliveries(), [[4; 896]]);
}

#[test]
fn a_silent_client_is_forgotten_with_its_queue() {
    let mut mesh = Mesh::new(&shape(), 10);
    let bob = attached(&mut mesh, 1, 0, 1);
    mesh.run(59 * SECOND);
    assert_eq!(mesh.counters(0).clients, 1);
    mesh.run(2 * SECOND);
    assert_eq!(mesh.counters(0).clients, 0);
    drop(bob);
}
