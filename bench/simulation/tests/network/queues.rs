//! More limits, reached on purpose: tables of sessions and clients, mailboxes, rings, and what one turn takes.

use std::sync::Arc;

use crate::mesh::{Client, MS, Mesh, SECOND, address, attached, shape};
use link::Kind;
use link::control::Control;
use mixnode::handshake::Members;
use mixnode::path::clients::{Attachment, Clients, Outcome, Told, Whereabouts};
use mixnode::path::mail::{MAILBOX_LETTERS, Mail, STRAYS_MAX};
use mixnode::path::reason::Reason;
use port::{Port, SimPort};
use simulation::Node;

/// A letter that changes nothing.
fn idle_letter() -> Mail {
    Mail::ClientAt {
        destination: [8; 16],
        worker: 0,
        order: 0,
    }
}

#[test]
fn a_full_gateway_attaches_no_further_client_and_serves_those_it_has() {
    let mut shape = shape();
    shape.settings.clients_max = 2;
    let mut mesh = Mesh::new(&shape, 20);
    let mut clients: Vec<Client> = (1..=3)
        .map(|number| attached(&mut mesh, number, 0, 50))
        .collect();
    assert_eq!(mesh.counters(0).clients_refused, 1);
    assert_eq!(mesh.counters(0).clients, 2);
    for tag in [clients[0].tag(), clients[2].tag()] {
        let packet = mesh.packet_for(tag, (0, 0), 1_000, &[1; 896]);
        clients[1].send(&mesh, Kind::Sphinx, &packet);
    }
    mesh.run(SECOND);
    assert_eq!(mesh.counters(0).rejected(Reason::NoClient), 1);
    assert_eq!(clients[0].deliveries().len(), 1);
    let told = clients[2].receive();
    assert_eq!(told.len(), 1, "no stream either");
    assert_eq!(Control::decode(&told[0].1), Ok(Control::Full));
}

#[test]
fn loops_waited_for_are_bounded_and_overdue_ones_make_room() {
    let mut shape = shape();
    shape.settings.loop_interval_ns = MS;
    let mut mesh = Mesh::new(&shape, 21);
    let waiting = |mesh: &Mesh| {
        let counters = mesh.counters(0);
        assert!(counters.loop_returned > 0);
        counters.loop_sent - counters.loop_returned - counters.loop_lost
    };
    let mix = mesh.a_mix();
    mesh.network.partition(&[address(mix, 0).ip()]);
    // Each has half a second and its delays.
    mesh.run(400 * MS);
    assert_eq!(waiting(&mesh), 256);
    let sent = mesh.counters(0).loop_sent;
    mesh.run(50 * MS);
    assert_eq!(mesh.counters(0).loop_sent, sent, "no room, no loop");
    mesh.run(2 * SECOND);
    assert!(mesh.counters(0).loop_lost >= 256);
    assert!(mesh.counters(0).loop_sent > sent);
    assert!(waiting(&mesh) <= 256);
}

#[test]
fn the_oldest_of_a_clients_sessions_gives_way_to_its_third() {
    let mut mesh = Mesh::new(&shape(), 22);
    let mut client = attached(&mut mesh, 1, 0, 1);
    let first = client.session.take();
    for sessions in 2..=3 {
        assert!(client.connect(&mut mesh));
        client.send(&mesh, Kind::Cover, &[0; 1_200]);
        mesh.run(10 * MS);
        assert_eq!(
            mesh.counters(0).sessions - mesh.counters(1).sessions,
            sessions.min(2)
        );
    }
    client.session = first;
    client.send(&mesh, Kind::Cover, &[0; 1_200]);
    mesh.run(10 * MS);
    assert_eq!(mesh.counters(0).rejected(Reason::UnknownSession), 1);
}

#[test]
fn a_full_mailbox_refuses_deliveries_and_the_next_ones_arrive() {
    let mut shape = shape();
    shape.workers = 2;
    let mut mesh = Mesh::new(&shape, 23);
    let mut bob = Client::new(&mut mesh, 2, 0);
    bob.worker = 1;
    assert!(bob.connect(&mut mesh));
    bob.attach(&mut mesh, 50);
    let mut alice = attached(&mut mesh, 1, 0, 1);
    let packet = mesh.packet_for(bob.tag(), (0, 0), 1_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    // Worker 0 has its turn before worker 1 empties its mailbox, and finds it full whenever something arrived.
    for _ in 0..3_000 {
        while mesh.nodes[0].mailboxes[1].post(idle_letter()) {}
        let next = mesh.network.next_arrival_ns();
        let span = next.map_or(MS / 10, |at_ns| at_ns.saturating_sub(mesh.now_ns).max(1));
        mesh.run(span.min(MS / 10));
        if mesh.counters(0).rejected(Reason::MailboxFull) > 0 {
            break;
        }
    }
    assert_eq!(mesh.counters(0).rejected(Reason::MailboxFull), 1);
    mesh.run(SECOND);
    assert!(bob.deliveries().is_empty());
    let packet = mesh.packet_for(bob.tag(), (0, 0), 1_000, &[1; 896]);
    alice.send(&mesh, Kind::Sphinx, &packet);
    mesh.run(SECOND);
    assert_eq!(bob.deliveries().len(), 1);
}

#[test]
fn a_session_whose_letter_is_lost_to_a_full_mailbox_is_opened_at_the_next_try() {
    let mut mesh = Mesh::new(&shape(), 24);
    let mut client = Client::new(&mut mesh, 1, 0);
    assert!(client.ask_for_cookie(&mut mesh));
    client.initiate(&mut mesh);
    mesh.now_ns += 2 * MS;
    mesh.network.advance(mesh.now_ns, |_| ());
    let (now_ns, unix_ms) = (mesh.now_ns, mesh.unix_ms());
    let node = &mut mesh.nodes[0];
    node.workers[0].turn(now_ns, unix_ms);
    let letters = std::iter::repeat_with(|| node.mailboxes[0].post(idle_letter()))
        .take_while(|posted| *posted)
        .count();
    assert_eq!(letters, MAILBOX_LETTERS);
    node.handshakes(now_ns);
    assert_eq!(node.handshaker.counters().undelivered, 1);
    mesh.run(20 * MS);
    assert_eq!(client.endpoint.waiting(), 0, "no session, no answer");
    assert!(client.connect(&mut mesh));
}

#[test]
fn a_burst_longer_than_a_turn_takes_is_finished_in_the_next_turns() {
    let mut mesh = Mesh::new(&shape(), 26);
    let client = Client::new(&mut mesh, 1, 0);
    let mut stray = [0; 1_232];
    stray[0] = 4;
    for _ in 0..600 {
        client.endpoint.send(address(0, 0), &stray);
    }
    mesh.now_ns += 2 * MS;
    mesh.network.advance(mesh.now_ns, |_| ());
    let (now_ns, unix_ms) = (mesh.now_ns, mesh.unix_ms());
    let worker = &mut mesh.nodes[0].workers[0];
    let before = worker.counters().received;
    for received in [256, 512, 600] {
        let again = worker.turn(now_ns, unix_ms);
        assert_eq!(worker.counters().received - before, received);
        assert_eq!(again == Some(now_ns), received < 600);
    }
    assert_eq!(worker.counters().rejected(Reason::UnknownSession), 600);
}

#[test]
fn a_port_that_takes_nothing_holds_frames_back_and_loses_none() {
    let mut mesh = Mesh::new(&shape(), 27);
    let mut alice = attached(&mut mesh, 1, 0, 1_000);
    let mix = mesh.a_mix();
    mesh.nodes[mix].workers[0].port_mut().limit_sends(0);
    let before = mesh.counters(mix).transmitted;
    for _ in 0..100 {
        let packet = mesh.packet_for([9; 16], (0, 1), 1_000, &[1; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(MS);
    }
    mesh.run(200 * MS);
    let counters = mesh.counters(mix);
    assert_eq!((counters.held, counters.transmitted), (100, before));
    // A ring that takes one frame a call, then one without limit.
    mesh.nodes[mix].workers[0].port_mut().limit_sends(1);
    mesh.run(10 * MS);
    assert!(mesh.counters(mix).transmitted > before);
    mesh.nodes[mix].workers[0]
        .port_mut()
        .limit_sends(usize::MAX);
    mesh.run(SECOND);
    let counters = mesh.counters(mix);
    assert_eq!((counters.held, counters.transmitted), (0, before + 100));
    assert_eq!(counters.rejected_total(), 0);
    assert_eq!(mesh.nodes[mix].workers[0].port().in_flight(), 0);
}

#[test]
fn clients_on_other_workers_are_remembered_in_a_bounded_table() {
    let mut clients = Clients::new(2, 4, Arc::new(Members::new(true)));
    let tag = |number: u64| {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&number.to_le_bytes());
        tag
    };
    for number in 0..1_000 {
        clients.moved(tag(number), (1, number), 0, |_| {
            panic!("nothing was queued")
        });
    }
    let known = |clients: &Clients| {
        (0..1_000)
            .filter(|number| clients.find(&tag(*number)) != Whereabouts::Unknown)
            .count()
    };
    assert_eq!(known(&clients), 256);
    // One that is known is still followed when it moves.
    clients.moved(tag(5), (3, 2_000), 800_000_000_000, |_| {
        panic!("nothing was queued")
    });
    assert_eq!(clients.find(&tag(5)), Whereabouts::Worker(3));
    assert_eq!(known(&clients), 256);
    // Those of whom nothing was heard for as long as a session lives make room.
    clients.forget_moved(901_000_000_000);
    assert_eq!(clients.find(&tag(5)), Whereabouts::Worker(3));
    assert_eq!(known(&clients), 1);
}

#[test]
fn attack_clients_that_come_and_go_at_six_workers_keep_nobody_elses_mail_from_finding_its_worker() {
    let members = Arc::new(Members::new(true));
    let mut workers: Vec<_> = (0..6)
        .map(|_| Clients::new(2, 4, Arc::clone(&members)))
        .collect();
    let others = |worker: usize| 0b11_1111 & !(1u128 << worker);
    // All that workers tell each other arrives.
    let pass_on = |workers: &mut [Clients], from: usize, letters: Vec<(u8, Told)>, now_ns| {
        for (to, told) in letters {
            let (to, place) = (&mut workers[usize::from(to)], (from as u8, told.order));
            match told.is_gone {
                true => to.gone(&told.destination, place.1),
                false => assert!(to.moved(told.destination, place, now_ns, |_| ())),
            }
        }
    };
    let (mut order, mut tags, mut now_ns) = (0, Vec::new(), 0);
    // Each place changes hands every minute, for less than clients elsewhere are remembered.
    for _ in 0..14 {
        tags.clear();
        for worker in (0..6).chain(0..6) {
            order += 1;
            let mut tag = [0; 16];
            tag[..8].copy_from_slice(&u64::to_le_bytes(order));
            let with = Attachment {
                session: order as u32,
                order,
                counter: 0,
                address: ([10, 0, worker as u8, order as u8], 9).into(),
                rate_pps: 50,
                now_ns,
            };
            assert_eq!(workers[worker].attach(tag, with, |_| ()), Outcome::Attached);
            let mut letters = Vec::new();
            let post = |to, told| {
                letters.push((to, told));
                true
            };
            workers[worker].announce(&tag, others(worker), post);
            pass_on(&mut workers, worker, letters, now_ns);
            tags.push((worker as u8, tag));
        }
        let lost = tags.iter().filter(|(worker, tag)| {
            let found = workers[0].find(tag);
            *worker > 0 && found != Whereabouts::Worker(*worker)
        });
        assert_eq!(lost.count(), 0, "clients that worker 0 does not know");
        now_ns += 61 * SECOND;
        for worker in 0..6 {
            let mut letters = Vec::new();
            while let Some(slot) = workers[worker].silent(0, now_ns) {
                workers[worker].detach(slot, |_| ());
            }
            workers[worker].tell(|to, told| {
                letters.push((to, told));
                true
            });
            pass_on(&mut workers, worker, letters, now_ns);
        }
        let left = tags.iter();
        let left = left.filter(|(_, tag)| workers[0].find(tag) != Whereabouts::Unknown);
        assert_eq!(left.count(), 0, "clients that are gone");
    }
}

#[test]
fn a_client_that_falls_silent_is_forgotten_by_all_workers() {
    let mut shape = shape();
    shape.workers = 2;
    let mut mesh = Mesh::new(&shape, 29);
    let mut bob = Client::new(&mut mesh, 1, 0);
    bob.worker = 1;
    assert!(bob.connect(&mut mesh));
    bob.attach(&mut mesh, 50);
    // Worker 0, which the packet comes to, knows by itself that there is no such client.
    for (silent_s, told) in [(30, [0, 0]), (35, [1, 0])] {
        mesh.run(silent_s * SECOND);
        let mut alice = attached(&mut mesh, 2, 1, 50);
        let packet = mesh.packet_for(bob.tag(), (1, 0), 1_000, &[4; 896]);
        alice.send(&mesh, Kind::Sphinx, &packet);
        mesh.run(SECOND);
        let workers = mesh.nodes[0].workers.iter();
        let missed = workers.map(|worker| worker.counters().rejected(Reason::NoClient));
        assert_eq!(missed.collect::<Vec<_>>(), told);
    }
    assert_eq!(mesh.counters(0).clients, 0);
}

#[test]
fn a_flood_of_strays_keeps_no_letter_out_and_is_unwrapped_in_batches() {
    let mut shape = shape();
    shape.workers = 2;
    // A client may send so much at once, and have it held.
    shape.settings.pool_frames = 8_192;
    shape.mean_delay_us = 1_000_000;
    let mut mesh = Mesh::new(&shape, 28);
    let mut alice = attached(&mut mesh, 1, 0, 1_000);
    mesh.run(2 * SECOND);
    let flood = STRAYS_MAX as u64 + 50;
    for _ in 0..flood {
        let packet = mesh.packet_for([9; 16], (0, 1), 0, &[1; 896]);
        let frame = alice.seal(0, Kind::Sphinx, &packet);
        alice.endpoint.send(address(0, 1), &frame);
    }
    mesh.now_ns += 2 * MS;
    mesh.network.advance(mesh.now_ns, |_| ());
    let (now_ns, unix_ms) = (mesh.now_ns, mesh.unix_ms());
    for _ in 0..2 {
        mesh.nodes[0].workers[1].turn(now_ns, unix_ms);
    }
    let wrong = mesh.nodes[0].workers[1].counters();
    assert_eq!(
        (wrong.strayed, wrong.rejected(Reason::StraysFull)),
        (flood, 50)
    );
    // Letters find room all the same: an epoch, and the order to drain.
    mesh.turn_epoch(1);
    let node = &mut mesh.nodes[0];
    assert!(node.mailboxes[0].post(Mail::Drain));
    let batches = |node: &Node<SimPort>, packets: u64| {
        let unwrapped = &node.workers[0].distributions().unwrap_batch;
        (unwrapped.len(), unwrapped.count_at(packets))
    };
    let (all, full) = batches(node, 64);
    node.workers[0].turn(now_ns, unix_ms);
    assert!(node.mailboxes[0].is_empty(), "one turn takes all of them");
    assert_eq!(batches(node, 64), (all + 4, full + 4));
    assert_eq!(node.workers[0].counters().rejected_total(), 0);
    mesh.run(11 * SECOND);
    assert!(mesh.nodes[0].workers[0].is_drained());
    assert!(mesh.counters(0).is_conserved());
}
