//! One suite for every port: what a worker may rely on, whatever carries its datagrams.

mod ports;

use std::net::SocketAddr;
use std::time::Duration;

use mixnode::pool::DATAGRAM_BYTES;
use mixnode::port::sim::{Conditions, Network};
use mixnode::port::{Exclusive, ExclusiveError, Port};
use ports::{Kind, Lan, number};

fn datagrams_come_in_order_with_their_source_and_bytes(lan: &Lan) {
    let (mut a, mut b) = (
        lan.node(lan.loopback(1), 256),
        lan.node(lan.loopback(2), 256),
    );
    let source = a.address();
    let mut next = 0;
    for first in (0..1024).step_by(64) {
        a.send(b.address(), first, 64);
        let came = b.receive(64, |pool, received| {
            assert_eq!((received.source, number(pool, received)), (source, next));
            next += 1;
        });
        assert_eq!(came, 64);
    }
    a.close();
    b.close();
}

/// More than the 65,536 values of a buffer ring's tail, and every datagram and frame accounted for.
fn rings_wrap_and_no_datagram_is_unaccounted_for(lan: &Lan) {
    const COUNT: u64 = 70_016;
    let (mut a, mut b) = (
        lan.node(lan.loopback(1), 128),
        lan.node(lan.loopback(2), 256),
    );
    let mut sum = 0;
    for first in (0..COUNT).step_by(64) {
        a.send(b.address(), first, 64);
        assert_eq!(
            b.receive(64, |pool, received| sum += number(pool, received)),
            64
        );
    }
    assert_eq!(sum, COUNT * (COUNT - 1) / 2);
    let (sent, came) = (a.port.counters(), b.port.counters());
    assert_eq!((sent.transmitted, sent.transmit_failed), (COUNT, 0));
    assert_eq!((came.received, came.pool_full), (COUNT, 0));
    a.close();
    b.close();
}

/// Both ways at once, bursts of any size: nothing waits for anything.
fn two_ports_exchange_bursts_without_loss(lan: &Lan) {
    let (mut a, mut b) = (
        lan.node(lan.loopback(1), 512),
        lan.node(lan.loopback(2), 512),
    );
    let (mut to_a, mut to_b) = (0, 0);
    for burst in 1..=128 {
        a.send(b.address(), 0, burst);
        b.send(a.address(), 0, 129 - burst);
        to_b += b.receive(burst as usize, |_, _| ());
        to_a += a.receive(129 - burst as usize, |_, _| ());
    }
    assert_eq!((to_a, to_b), (128 * 129 / 2, 128 * 129 / 2));
    a.close();
    b.close();
}

fn a_full_pool_sheds_at_the_door_and_recovers(lan: &Lan) {
    let (mut a, mut b) = (
        lan.node(lan.loopback(1), 256),
        lan.node(lan.loopback(2), 32),
    );
    a.send(b.address(), 0, 32);
    let held = b.hold(32);
    assert_eq!((held.len(), b.pool.available()), (32, 0));
    a.send(b.address(), 100, 100);
    for _ in 0..200 {
        assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
        if b.port.counters().pool_full == 100 {
            break;
        }
        let soon = b.port.now_ns() + 1_000_000;
        b.port.wait(Some(soon)).unwrap();
    }
    assert_eq!(b.port.counters().pool_full, 100);
    held.into_iter().for_each(|frame| b.pool.release(frame));
    a.send(b.address(), 7, 8);
    let mut next = 7;
    let came = b.receive(8, |pool, received| {
        assert_eq!(number(pool, received), next);
        next += 1;
    });
    assert_eq!(came, 8);
    assert_eq!(b.port.counters().received, 32 + 8);
    a.close();
    b.close();
}

fn a_port_can_be_opened_again_and_the_old_one_takes_nothing(lan: &Lan) {
    let mut a = lan.node(lan.loopback(1), 256);
    let mut b = lan.node(lan.loopback(2), 64);
    let address = b.address();
    for round in 0..5 {
        a.send(address, round, 8);
        assert_eq!(b.receive(8, |_, _| ()), 8);
        // Operations are under way when it is closed; what arrives afterwards is the next one's.
        b.close();
        let exclusive = (lan.kind != Kind::Sim).then(|| Exclusive::acquire(address).unwrap());
        b = lan.node(address, 64);
        drop(exclusive);
    }
    b.close();
    a.close();
}

fn a_port_dropped_without_closing_lets_the_address_go(lan: &Lan) {
    let mut a = lan.node(lan.loopback(1), 256);
    let mut b = lan.node(lan.loopback(2), 64);
    let address = b.address();
    a.send(address, 0, 16);
    // Its operations are under way now.
    assert!(b.receive(1, |_, _| ()) > 0);
    drop(b);
    let mut b = lan.node(address, 64);
    a.send(address, 0, 16);
    assert_eq!(b.receive(16, |_, _| ()), 16);
    a.close();
    b.close();
}

fn a_second_opener_is_refused(lan: &Lan) {
    if lan.kind == Kind::Sim {
        let _held = lan.network.open(lan.loopback(1), 1).unwrap();
        assert!(lan.network.open(lan.loopback(1), 1).is_err());
        return;
    }
    let exclusive = Exclusive::acquire(lan.loopback(1)).unwrap();
    let node = lan.node(exclusive.address(), 64);
    assert!(matches!(
        Exclusive::acquire(exclusive.address()),
        Err(ExclusiveError::OtherNode(_))
    ));
    drop(exclusive);
    // Without the lock the bound socket itself gives the holder away.
    let refused = Exclusive::acquire(node.address());
    assert!(
        matches!(refused, Err(ExclusiveError::OtherProgram(_))),
        "{refused:?}"
    );
    node.close();
}

fn datagrams_travel_over_ipv6(lan: &Lan) {
    let (a, b): (SocketAddr, SocketAddr) = match lan.kind {
        Kind::Sim => (
            "[2001:db8::1]:1".parse().unwrap(),
            "[2001:db8::2]:1".parse().unwrap(),
        ),
        _ => ("[::1]:0".parse().unwrap(), "[::1]:0".parse().unwrap()),
    };
    let (mut a, mut b) = (lan.node(a, 64), lan.node(b, 64));
    let source = a.address();
    a.send(b.address(), 5, 3);
    let mut next = 5;
    let came = b.receive(3, |pool, received| {
        assert_eq!((received.source, number(pool, received)), (source, next));
        next += 1;
    });
    assert_eq!(came, 3);
    a.close();
    b.close();
}

fn lengths_are_told_as_they_are(lan: &Lan) {
    let mut b = lan.node(lan.loopback(2), 64);
    let stranger = lan.stranger();
    let lengths = [
        0,
        1,
        DATAGRAM_BYTES - 1,
        DATAGRAM_BYTES,
        DATAGRAM_BYTES + 1,
        1700,
    ];
    for length in lengths {
        stranger.send(b.address(), &vec![7; length]);
    }
    // More than a frame has room for: truncated, and not of the right length either.
    stranger.send(b.address(), &[7; 3000]);
    let mut seen = Vec::new();
    assert_eq!(b.receive(7, |_, received| seen.push(received.length)), 7);
    assert_eq!(seen[..6], lengths);
    assert!(seen[6] > DATAGRAM_BYTES);
    b.close();
}

fn wait_returns_at_the_deadline_on_the_event_and_on_a_datagram(lan: &Lan) {
    let (mut a, mut b) = (lan.node(lan.loopback(1), 64), lan.node(lan.loopback(2), 64));
    // A wait may return early, hence the loop; it must not return never, or this test does not.
    let deadline = b.port.now_ns() + 20_000_000;
    while b.port.now_ns() < deadline {
        assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
        b.port.wait(Some(deadline)).unwrap();
    }
    // A deadline in the past returns at once.
    b.port.wait(Some(0)).unwrap();
    // Signalled before, and while, it waits without limit.
    b.event.signal();
    b.port.wait(None).unwrap();
    assert!(!b.event.clear(), "the port clears the event");
    // A signal that comes between a look into the mailbox and the wait ends the wait, whatever the port did
    // meanwhile.
    b.event.signal();
    for _ in 0..3 {
        a.send(b.address(), 0, 1);
        b.port.receive(&mut b.pool, &mut b.batch);
        b.port.reclaim(&mut b.pool);
    }
    while b.batch.len() < 3 {
        b.port.receive(&mut b.pool, &mut b.batch);
        if lan.kind == Kind::Sim {
            lan.network.advance(0, |_| ());
        }
    }
    b.batch
        .drain(..)
        .for_each(|received| b.pool.release(received.frame));
    b.port.wait(None).unwrap();
    if lan.kind != Kind::Sim {
        for _ in 0..3 {
            let event = std::sync::Arc::clone(&b.event);
            let signaller = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                event.signal();
            });
            b.port.wait(None).unwrap();
            signaller.join().unwrap();
            b.event.clear();
        }
    }
    // A datagram wakes it, also one that comes while nothing was received for long.
    a.send(b.address(), 0, 1);
    while b.port.receive(&mut b.pool, &mut b.batch) == 0 {
        b.port.wait(None).unwrap();
    }
    b.batch
        .drain(..)
        .for_each(|received| b.pool.release(received.frame));
    a.close();
    b.close();
}

/// Broadcast without permission: the kernel refuses that datagram, and only that one.
fn a_refused_destination_is_counted_and_does_not_stop_the_others(lan: &Lan) {
    if lan.kind == Kind::Sim {
        return;
    }
    let (mut a, mut b) = (lan.node(lan.loopback(1), 64), lan.node(lan.loopback(2), 64));
    for n in 0..9 {
        let frame = a.pool.take().unwrap();
        let refused: SocketAddr = "255.255.255.255:9".parse().unwrap();
        let destination = if n % 3 == 1 { refused } else { b.address() };
        a.departing
            .push(mixnode::port::Departing { frame, destination });
    }
    a.send(b.address(), 0, 0);
    assert_eq!(b.receive(6, |_, _| ()), 6);
    let counters = a.port.counters();
    assert_eq!((counters.transmitted, counters.transmit_failed), (6, 3));
    a.close();
    b.close();
}

/// Transmit takes what fits from the front and leaves the rest, in order, with the caller.
fn transmit_without_reclaim_stops_taking_and_loses_nothing(lan: &Lan) {
    let (mut a, mut b) = (
        lan.node(lan.loopback(1), 1024),
        lan.node(lan.loopback(2), 512),
    );
    let destination = b.address();
    let mut taken = 0;
    for _ in 0..16 {
        while !a.departing.is_full() {
            let frame = a.pool.take().unwrap();
            a.departing
                .push(mixnode::port::Departing { frame, destination });
        }
        taken += a.port.transmit(&mut a.departing);
    }
    assert!((256..1024).contains(&taken), "{taken}");
    assert_eq!(a.port.in_flight(), taken);
    assert_eq!(b.receive(taken, |_, _| ()), taken);
    while a.port.in_flight() > 0 {
        a.port.reclaim(&mut a.pool);
    }
    let left = a.departing.len();
    assert!(left > 0);
    a.send(destination, 0, 0);
    assert_eq!(b.receive(left, |_, _| ()), left);
    a.close();
    b.close();
}

fn a_closed_port_moves_nothing(lan: &Lan) {
    let (mut a, mut b) = (lan.node(lan.loopback(1), 64), lan.node(lan.loopback(2), 64));
    b.port.receive(&mut b.pool, &mut b.batch);
    b.port.close(&mut b.pool);
    b.port.close(&mut b.pool);
    a.send(b.address(), 0, 4);
    b.event.signal();
    b.port.wait(Some(0)).unwrap();
    assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
    let frame = b.pool.take().unwrap();
    b.departing.push(mixnode::port::Departing {
        frame,
        destination: a.address(),
    });
    assert_eq!(b.port.transmit(&mut b.departing), 0);
    b.departing
        .drain(..)
        .for_each(|one| b.pool.release(one.frame));
    b.close();
    a.close();
}

fn a_port_may_be_built_on_one_thread_and_used_on_another(lan: &Lan) {
    if lan.kind == Kind::Sim {
        return;
    }
    let mut b = lan.node(lan.loopback(2), 64);
    let destination = b.address();
    let pool = mixnode::pool::FramePool::new(64).unwrap();
    let event = std::sync::Arc::new(mixnode::port::EventFd::new().unwrap());
    let options = mixnode::port::SocketOptions::new(lan.loopback(1));
    let parts = mixnode::port::PortParts {
        socket: mixnode::port::socket::open(&options).unwrap(),
        event,
    };
    fn send<P: Port + Send + 'static>(
        mut port: P,
        mut pool: mixnode::pool::FramePool,
        destination: SocketAddr,
    ) {
        let worker = std::thread::spawn(move || {
            let frame = pool.take().unwrap();
            let mut departing = mixnode::port::DepartingBatch::new();
            departing.push(mixnode::port::Departing { frame, destination });
            assert_eq!(port.transmit(&mut departing), 1);
            port.close(&mut pool);
            assert_eq!(pool.in_use(), 0);
        });
        worker.join().unwrap();
    }
    match lan.kind {
        Kind::Plain => send(
            mixnode::port::PlainPort::new(parts, &pool).unwrap(),
            pool,
            destination,
        ),
        _ => send(
            mixnode::port::UringPort::new(parts, &pool).unwrap(),
            pool,
            destination,
        ),
    }
    assert_eq!(b.receive(1, |_, _| ()), 1);
    b.close();
}

macro_rules! suite {
    ($($kind:ident $name:ident [$($case:ident)*])*) => {$(
        mod $name {
            use super::{Kind, Lan};
            $(#[test] fn $case() {
                if let Some(lan) = Lan::new(Kind::$kind) {
                    super::$case(&lan);
                }
            })*
        }
    )*};
    ([$($case:ident)*]) => {
        suite! { Plain plain [$($case)*] Uring uring [$($case)*] Sim sim [$($case)*] }
    };
}

suite! {[
    datagrams_come_in_order_with_their_source_and_bytes
    rings_wrap_and_no_datagram_is_unaccounted_for
    two_ports_exchange_bursts_without_loss
    a_full_pool_sheds_at_the_door_and_recovers
    a_port_can_be_opened_again_and_the_old_one_takes_nothing
    a_port_dropped_without_closing_lets_the_address_go
    a_second_opener_is_refused
    datagrams_travel_over_ipv6
    lengths_are_told_as_they_are
    wait_returns_at_the_deadline_on_the_event_and_on_a_datagram
    a_refused_destination_is_counted_and_does_not_stop_the_others
    transmit_without_reclaim_stops_taking_and_loses_nothing
    a_closed_port_moves_nothing
    a_port_may_be_built_on_one_thread_and_used_on_another
]}

#[test]
fn a_lossy_network_loses_exactly_what_it_says() {
    let network = Network::new(
        7,
        Conditions {
            loss: 0.3,
            ..Conditions::default()
        },
    );
    let lan = Lan {
        kind: Kind::Sim,
        network,
    };
    let (mut a, mut b) = (
        lan.node(lan.loopback(1), 256),
        lan.node(lan.loopback(2), 256),
    );
    let mut came = 0;
    for first in (0..4096).step_by(64) {
        a.send(b.address(), first, 64);
        came += b.receive(64, |_, _| ()) as u64;
    }
    let counters = lan.network.counters();
    assert_eq!((counters.sent, counters.arrived), (4096, came));
    assert_eq!(counters.lost, 4096 - came);
    assert!((1000..1500).contains(&counters.lost), "{counters:?}");
}
