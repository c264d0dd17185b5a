//! What a correspondent gets who picks the delays in his reply blocks, while two hundred clients send.

use std::net::SocketAddr;

use link::Kind;
use rand::RngExt;
use sphinx::Terminal;

use crate::mesh::{Client, MS, Mesh, Shape, shape};
use crate::poisson::are_alike;

const CLIENTS: u16 = 200;
/// Answers through blocks of each kind.
const ANSWERS: usize = 400;
/// Bound of a delay: ten means.
const BOUND_US: u32 = 100_000;
const STEP_NS: u64 = MS / 2;

fn crowded() -> Shape {
    let mut shape = shape();
    shape.settings.clients_max = 256;
    shape.settings.sessions_max = 1_024;
    shape.settings.pool_frames = 4_096;
    shape
}

/// A client of a network of its own.
fn client(mesh: &mut Mesh, number: u16, gateway: usize, rate_pps: u32) -> Client {
    let [high, low] = number.to_be_bytes();
    let address = SocketAddr::from(([100, low, high, 1], 5_000));
    let mut client = Client::at(mesh, gateway, address);
    assert!(client.connect(mesh), "client {number}");
    client.attach(mesh, rate_pps);
    client
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn attack_a_correspondent_who_picks_delays_learns_nothing_of_when_one_of_200_clients_answered() {
    let mut mesh = Mesh::new(&crowded(), 14);
    let mut crowd: Vec<Client> = (0..CLIENTS)
        .map(|number| client(&mut mesh, number, 0, 100))
        .collect();
    // His mailbox, at a stream so fast that it hides nothing.
    let mut reader = client(&mut mesh, CLIENTS, 1, 1_000);
    mesh.run(1_000 * MS);
    reader.receive();
    let mut held_s = [Vec::new(), Vec::new()];
    for number in 0..2 * ANSWERS {
        // What he writes into the block: no delay at all beyond the replier's gateway, and there none or the longest.
        let picked = number % 2;
        let mut path = mesh.path(0, 1, 0);
        path[0].delay_us = picked as u32 * BOUND_US;
        let destination = reader.tag();
        let id = [7; 8];
        let answer = mesh.packet(&path, &Terminal::Deliver { destination, id }, &[0; 896]);
        let replier = mesh.rng.random_range(0..crowd.len());
        crowd[replier].send(&mesh, Kind::Sphinx, &answer);
        let sent_ns = mesh.now_ns;
        while reader.deliveries().is_empty() {
            // The others go on.
            let other = mesh.rng.random_range(0..crowd.len());
            let path = mesh.path(0, 1, 10_000);
            let cover = mesh.packet(&path, &Terminal::Drop, &[0; 896]);
            crowd[other].send(&mesh, Kind::Sphinx, &cover);
            mesh.run(STEP_NS);
        }
        held_s[picked].push((mesh.now_ns - sent_ns) as f64 / 1e9);
    }
    let [none, longest] = &held_s;
    let mean_ms = |held: &[f64]| held.iter().sum::<f64>() / held.len() as f64 * 1e3;
    let (alike, distance, allowed) = are_alike(none, longest);
    println!(
        "from a replier's slot to its answer: {:.2} ms on average where the block says 0, {:.2} ms where it says {} ms; \
         distance of the distributions {distance:.3}, the limit is {allowed:.3}",
        mean_ms(none),
        mean_ms(longest),
        BOUND_US / 1_000,
    );
    assert!(alike);
    // Obeyed, the shortest were no longer than the wires.
    assert!(mean_ms(none) > 10.0, "the gateway's own draw");
}
