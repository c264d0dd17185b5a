//! One suite for every port: what a worker may rely on, whatever carries its datagrams. Here the ports that need no
//! privilege; `xsk_suite` runs the same cases over AF_XDP.

mod ports;

use std::net::SocketAddr;

use port::pool::DATAGRAM_BYTES;
use port::sim::{Conditions, Network};
use port::{Exclusive, ExclusiveError};
use ports::{Kind, Lan, Local, number};

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

fn lengths_are_told_as_they_are(lan: &Local) {
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
    let mut seen = Vec::new();
    assert_eq!(b.receive(7, |_, received| seen.push(received.length)), 7);
    assert_eq!(seen[..6], lengths);
    assert!(seen[6] > DATAGRAM_BYTES);
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
    [Plain plain [a_second_opener_is_refused datagrams_travel_over_ipv6 lengths_are_told_as_they_are]]
    [Uring uring [a_second_opener_is_refused datagrams_travel_over_ipv6 lengths_are_told_as_they_are]]
    [Sim sim [a_second_opener_is_refused datagrams_travel_over_ipv6 lengths_are_told_as_they_are]]
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
