//! Destinations on the link that nobody has: what is sent to them holds nobody up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use handover::protocol::Mode;
use port::pool::FramePool;
use port::{Departing, EventFd, PlainPort, PortParts, UringPort};

use crate::ports::{Lan, Node, datagram};
use crate::xsk::{PORT, Wire, Wiring};

/// `net.core.wmem_max` where nobody has raised it.
const BUFFER_BYTES: usize = 212_992;
const TICK_NS: u64 = 5_000_000;
const TICKS: u64 = 800;
/// Honest datagrams a tick, beside one to a made-up address: two hundred of those a second.
const HONEST: u64 = 10;

fn wire(ipv6: bool) -> Wire {
    Wire::new(Wiring {
        buffer_bytes: BUFFER_BYTES,
        ..Wiring::new(Mode::Native, ipv6)
    })
}

/// An address of the link that nobody has.
fn made_up(ipv6: bool, n: u64) -> SocketAddr {
    let ip: IpAddr = match ipv6 {
        false => Ipv4Addr::new(10, 91, 0, 10 + (n % 240) as u8).into(),
        true => Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0xdead, n as u16).into(),
    };
    SocketAddr::new(ip, PORT)
}

/// A port over the kernel's sockets on the first host.
fn through_sockets(wire: &Wire, uring: bool) -> Node {
    let host = &wire.hosts[0];
    let socket = host.namespace.run(|| wire.socket(wire.host(1))).unwrap();
    let pool = FramePool::new(1_024).unwrap();
    let event = Arc::new(EventFd::new().unwrap());
    let parts = PortParts {
        socket,
        event: Arc::clone(&event),
    };
    let port: Box<dyn port::Port + Send> = match uring {
        false => Box::new(PlainPort::new(parts, &pool).unwrap()),
        true => Box::new(UringPort::new(parts, &pool).unwrap()),
    };
    Node::new(port, pool, event, Box::new(()))
}

/// Sends as a worker does, whose packets wait behind those that the port did not take, and says how many honest ones
/// came of how many, and the port's counter of those it dropped.
fn flood(wire: &Wire, mut node: Node, proven: bool) -> (u64, u64, u64) {
    let ipv6 = node.address().is_ipv6();
    let host = &wire.hosts[1];
    let address = SocketAddr::new(host.ip, PORT + 1);
    let receiver = host.namespace.run(|| UdpSocket::bind(address));
    let receiver = receiver.unwrap().unwrap();
    receiver.set_nonblocking(true).unwrap();
    let (mut sent, mut came) = (0, 0);
    let mut bytes = [0; 2_048];
    let start = node.port.now_ns();
    // Longer than the flood by what may still be under way.
    for tick in 0..TICKS + 20 {
        let due = start + tick * TICK_NS;
        while node.port.now_ns() < due {
            node.port.wait(Some(due)).unwrap();
            node.port.reclaim(&mut node.pool);
        }
        let honest = (0..HONEST).map(|_| (address, true));
        let all = honest.chain([(made_up(ipv6, tick), proven)]);
        for (destination, proven) in all.filter(|_| tick < TICKS) {
            sent += u64::from(destination == address);
            if node.departing.is_full() {
                continue;
            }
            if let Some(mut frame) = node.pool.take() {
                *node.pool.datagram_mut(&mut frame) = datagram(tick);
                node.departing.push(Departing {
                    frame,
                    destination,
                    delivery: false,
                    proven,
                });
            }
        }
        node.port.transmit(&mut node.departing);
        node.port.reclaim(&mut node.pool);
        while receiver.recv(&mut bytes).is_ok() {
            came += 1;
        }
    }
    let dropped = node.port.counters().transmit_dropped;
    node.departing
        .drain(..)
        .for_each(|one| node.pool.release(one.frame));
    node.close();
    (came, sent, dropped)
}

fn holds(what: &str, (came, sent, dropped): (u64, u64, u64)) {
    println!("{what}: {came} of {sent} came, {dropped} dropped");
    assert!(came * 100 >= sent * 99, "{what}: {came} of {sent} came");
    assert!(dropped > 0, "{what}: the limit was not reached");
}

#[test]
#[ignore = "needs root"]
fn answers_to_made_up_neighbours_hold_no_honest_packet_up() {
    for ipv6 in [false, true] {
        for uring in [false, true] {
            let wire = wire(ipv6);
            let node = through_sockets(&wire, uring);
            let what = node.port.name().to_owned();
            holds(&what, flood(&wire, node, false));
        }
        let wire = wire(ipv6);
        let node = wire.node(wire.host(1), 1_024);
        holds("xsk", flood(&wire, node, false));
    }
}

/// On the fast path not even a neighbour that has answered once holds anything up when it is gone.
#[test]
#[ignore = "needs root"]
fn a_dead_next_hop_holds_nothing_up_on_the_fast_path() {
    let wire = wire(false);
    let node = wire.node(wire.host(1), 1_024);
    holds("xsk", flood(&wire, node, true));
}
