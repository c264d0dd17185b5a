//! One suite for every port: what a worker may rely on, whatever carries its datagrams. Here the ports that need no
//! privilege; `xsk_suite` runs the same cases over AF_XDP.

mod ports;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use port::pool::{DATAGRAM_BYTES, FramePool};
use port::sim::{Conditions, Network};
use port::{BATCH_MAX, EventFd, Exclusive, ExclusiveError, PlainPort, Port, PortParts, UringPort};
use ports::{Kind, Lan, Local, Node, datagram, number};

fn a_second_opener_is_refused(lan: &Local) {
    if lan.kind == Kind::Sim {
        let _held = lan.network.open(lan.host(1), 1).unwrap();
        assert!(lan.network.open(lan.host(1), 1).is_err());
        return;
    }
    let exclusive = Exclusive::acquire(lan.host(1)).unwrap();
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

fn datagrams_travel_over_ipv6(lan: &Local) {
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

fn other_lengths_are_kept_out_or_told_as_they_are(lan: &Local) {
    let mut b = lan.node(lan.host(2), 64);
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
    if lan.kind != Kind::Sim {
        // The kernel keeps them out, and counts them.
        let came = b.receive(2, |_, received| assert_eq!(received.length, DATAGRAM_BYTES));
        b.port.housekeeping();
        let counters = b.port.counters();
        assert_eq!(
            (came, counters.received, counters.kernel_dropped),
            (1, 1, 6)
        );
        return b.close();
    }
    let mut seen = Vec::new();
    assert_eq!(b.receive(7, |_, received| seen.push(received.length)), 7);
    assert_eq!(seen[..6], lengths);
    assert!(seen[6] > DATAGRAM_BYTES);
    b.close();
}

/// Without the filter that keeps them out: whatever ends a receive does not end the batch.
fn empty_datagrams_do_not_end_a_receive(lan: &Local) {
    let pool = FramePool::new(256).unwrap();
    let event = Arc::new(EventFd::new().unwrap());
    let parts = PortParts {
        socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
        event: Arc::clone(&event),
    };
    let port: Box<dyn Port + Send> = match lan.kind {
        Kind::Sim => return,
        Kind::Plain => {
            parts.socket.set_nonblocking(true).unwrap();
            Box::new(PlainPort::new(parts, &pool).unwrap())
        }
        Kind::Uring => Box::new(UringPort::new(parts, &pool).unwrap()),
    };
    let mut b = Node::new(port, pool, event, Box::new(()));
    let stranger = lan.stranger();
    for _ in 0..3 {
        for n in 0..BATCH_MAX as u64 / 2 {
            stranger.send(b.address(), &[]);
            stranger.send(b.address(), &datagram(n));
        }
        assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), BATCH_MAX);
        let lengths = b.batch.iter().map(|received| received.length);
        let expected = [0, DATAGRAM_BYTES].into_iter().cycle();
        assert!(lengths.eq(expected.take(BATCH_MAX)));
        b.batch
            .drain(..)
            .for_each(|received| b.pool.release(received.frame));
    }
    b.close();
}

macro_rules! suite {
    ($([$kind:ident $name:ident [$($own:ident)*]])* ; $cases:tt) => {
        $(suite! { @kind $kind $name [$($own)*] $cases })*
    };
    (@kind $kind:ident $name:ident [$($own:ident)*] [$($case:ident)*]) => {
        mod $name {
            use super::{Kind, Local, ports::cases};
            $(#[test] fn $case() {
                if let Some(lan) = Local::new(Kind::$kind) {
                    cases::$case(&lan);
                }
            })*
            $(#[test] fn $own() {
                if let Some(lan) = Local::new(Kind::$kind) {
                    super::$own(&lan);
                }
            })*
        }
    };
}

every_case! { suite [
    [Plain plain [a_second_opener_is_refused datagrams_travel_over_ipv6 other_lengths_are_kept_out_or_told_as_they_are empty_datagrams_do_not_end_a_receive]]
    [Uring uring [a_second_opener_is_refused datagrams_travel_over_ipv6 other_lengths_are_kept_out_or_told_as_they_are empty_datagrams_do_not_end_a_receive]]
    [Sim sim [a_second_opener_is_refused datagrams_travel_over_ipv6 other_lengths_are_kept_out_or_told_as_they_are empty_datagrams_do_not_end_a_receive]]
] }

#[test]
fn a_lossy_network_loses_exactly_what_it_says() {
    let network = Network::new(
        7,
        Conditions {
            loss: 0.3,
            ..Conditions::default()
        },
    );
    let lan = Local {
        kind: Kind::Sim,
        network,
    };
    let (mut a, mut b) = (lan.node(lan.host(1), 256), lan.node(lan.host(2), 256));
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
