//! The port suite over AF_XDP: the cases of `port_suite` in network namespaces with a veth cable between them, native
//! and generic, IPv4 and IPv6; and what holds for this port alone. Needs root, iproute2 and a kernel with BPF:
//! `cargo test --workspace --test xsk_suite -- --ignored --test-threads=1`.

#[path = "../../../mixnode/port/tests/ports/mod.rs"]
mod ports;
mod xsk;

#[path = "xsk/dead.rs"]
mod dead;

macro_rules! suite {
    ($([$name:ident $order:ident $mode:ident $ipv6:literal])* ; $cases:tt) => {
        $(suite! { @wire $name $order $mode $ipv6 $cases })*
    };
    (@wire $name:ident $order:ident $mode:ident $ipv6:literal [$($case:ident)*]) => {
        mod $name {
            use crate::ports::cases;
            use crate::xsk::{Wire, Wiring};
            use handover::protocol::Mode;
            $(#[test]
            #[ignore = "needs root"]
            fn $case() {
                cases::$case(&Wire::new(Wiring::$order(Mode::$mode, $ipv6)));
            })*
        }
    };
}

every_case! { suite [
    [native_ipv4 new Native false]
    [native_ipv6 new Native true]
    [generic_ipv4 new Generic false]
    [generic_ipv6 new Generic true]
    [bound_late_native_ipv4 late Native false]
    [bound_late_generic_ipv6 late Generic true]
] }

mod alone {
    //! What holds for this port alone.

    use std::net::{IpAddr, SocketAddr, UdpSocket};
    use std::time::Duration;

    use ebpf_abi::Reason;
    use handover::protocol::Mode;
    use port::Port;
    use port::pool::DATAGRAM_BYTES;

    use crate::ports::{Lan, datagram, number};
    use crate::xsk::{INTERFACE, PORT, Wire, Wiring, until};

    const WIRINGS: [(Mode, bool); 4] = [
        (Mode::Native, false),
        (Mode::Native, true),
        (Mode::Generic, false),
        (Mode::Generic, true),
    ];

    fn on_every_wire(test: impl Fn(&Wire)) {
        for (mode, ipv6) in WIRINGS {
            test(&Wire::new(Wiring::new(mode, ipv6)));
        }
    }

    /// A UDP socket of the kernel's on host `n`.
    fn kernel_socket(wire: &Wire, n: usize, port: u16) -> UdpSocket {
        let host = &wire.hosts[n];
        let address = SocketAddr::new(host.ip, port);
        let socket = host.namespace.run(|| UdpSocket::bind(address)).unwrap();
        let socket = socket.unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket
    }

    /// Datagrams the kernel's UDP received on host `n` since the namespace is there.
    fn kernel_received(wire: &Wire, n: usize) -> u64 {
        let read = |path| {
            let text = wire.hosts[n]
                .namespace
                .run(|| std::fs::read_to_string(path));
            text.unwrap().unwrap()
        };
        let snmp = read("/proc/thread-self/net/snmp");
        let mut lines = snmp.lines().filter(|line| line.starts_with("Udp: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let column = names.split(' ').position(|name| name == "InDatagrams");
        let ipv4: u64 = values
            .split(' ')
            .nth(column.unwrap())
            .unwrap()
            .parse()
            .unwrap();
        let snmp6 = read("/proc/thread-self/net/snmp6");
        let line = snmp6
            .lines()
            .find(|line| line.starts_with("Udp6InDatagrams"));
        let ipv6: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        ipv4 + ipv6
    }

    #[test]
    #[ignore = "needs root"]
    fn the_kernel_finds_the_checksums_of_what_the_port_sends_right() {
        on_every_wire(|wire| {
            let mut a = wire.node(wire.host(1), 256);
            let receiver = kernel_socket(wire, 1, PORT + 1);
            let destination = receiver.local_addr().unwrap();
            a.send(destination, 0, 64);
            for n in 0..64 {
                let mut bytes = [0; 2 * DATAGRAM_BYTES];
                let (length, source) = receiver.recv_from(&mut bytes).unwrap();
                assert_eq!((length, source), (DATAGRAM_BYTES, a.address()));
                assert_eq!(bytes[..length], datagram(n));
            }
            let counters = a.port.counters();
            let sent = (counters.transmitted, counters.transmitted_through_kernel);
            assert_eq!(sent, (64, 0));
            a.close();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn before_packets_are_steered_the_kernels_socket_has_them_and_after_it_has_none() {
        on_every_wire(|wire| {
            let mut a = wire.node(wire.host(1), 256);
            let quiet = wire.quiet_node(wire.host(2), 256);
            quiet.let_in();
            let destination = quiet.port.local_address();
            a.send(destination, 0, 32);
            until(|| wire.counted(1, Reason::KernelSocket) == 32);
            let mut b = quiet.steer();
            a.send(destination, 32, 64);
            let mut seen = [false; 96];
            let came = b.receive(96, |pool, received| {
                assert_eq!(received.source, wire.host(1));
                seen[number(pool, received) as usize] = true;
            });
            assert_eq!((came, seen), (96, [true; 96]));
            let counters = b.port.counters();
            let received = (counters.received, counters.received_through_kernel);
            assert_eq!(received, (96, 32));
            assert_eq!(
                (kernel_received(wire, 0), kernel_received(wire, 1)),
                (0, 32)
            );
            a.close();
            b.close();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn an_unknown_next_hop_is_resolved_by_the_kernel_and_then_used_directly() {
        for (mode, ipv6) in WIRINGS {
            let wire = Wire::new(Wiring {
                acquainted: false,
                ..Wiring::new(mode, ipv6)
            });
            let a = wire.quiet_node(wire.host(1), 256);
            let routes = std::sync::Arc::clone(&a.routes);
            let (mut a, mut b) = (a.steer(), wire.node(wire.host(2), 256));
            let destination = b.address();
            assert!(!routes.is_resolved(destination.ip()));
            a.send(destination, 0, 1);
            assert_eq!(b.receive(1, |_, _| ()), 1);
            let counters = a.port.counters();
            let sent = (counters.transmitted, counters.transmitted_through_kernel);
            assert_eq!(sent, (1, 1));
            until(|| routes.is_resolved(destination.ip()));
            a.send(destination, 1, 64);
            assert_eq!(b.receive(64, |_, _| ()), 64);
            let counters = a.port.counters();
            let sent = (counters.transmitted, counters.transmitted_through_kernel);
            assert_eq!(sent, (65, 1));
            a.close();
            b.close();
        }
    }

    fn change_of(space: &loader::netns::Namespace, neighbour: &str, what: &[&str]) {
        let mut arguments = vec!["neighbour", "replace", neighbour, "dev", INTERFACE];
        arguments.extend(what);
        space.ip(&arguments).unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn routes_and_neighbours_are_followed_as_they_change() {
        for ipv6 in [false, true] {
            let wire = Wire::new(Wiring::new(Mode::Native, ipv6));
            let node = wire.quiet_node(wire.host(1), 64);
            let (space, other) = (&wire.hosts[0].namespace, wire.hosts[1].ip);
            let interface = node.interface_index;
            let mut lookup = node.routes.lookup();
            let mut find = |ip: IpAddr| lookup.find(&SocketAddr::new(ip, 1), interface);
            let mac = |last| Some([2, 0, 0, 0, 0, last]);
            let (far, network, alone) = match ipv6 {
                false => ("10.92.7.7", "10.92.0.0/16", "10.91.0.77"),
                true => ("fd92::7", "fd92::/32", "fd91::77"),
            };
            let far: IpAddr = far.parse().unwrap();
            assert_eq!(find(other), mac(2));
            // No route, a route through the other host, and no route again.
            assert_eq!(find(far), None);
            let via = other.to_string();
            space.ip(&["route", "add", network, "via", &via]).unwrap();
            until(|| find(far) == mac(2));
            // The neighbour has a new address; everything behind it goes there.
            let change = |what: &[&str]| change_of(space, &via, what);
            change(&["lladdr", "02:00:00:00:00:09", "nud", "permanent"]);
            until(|| find(other) == mac(9) && find(far) == mac(9));
            space.ip(&["route", "delete", network]).unwrap();
            if !ipv6 {
                // IPv4 by way of a neighbour known by its IPv6 address.
                change_of(
                    space,
                    "fe80::99",
                    &["lladdr", "02:00:00:00:00:07", "nud", "permanent"],
                );
                let via = ["via", "inet6", "fe80::99", "dev", INTERFACE];
                let mut add = vec!["route", "add", "10.93.0.0/16"];
                add.extend(via);
                space.ip(&add).unwrap();
                until(|| find("10.93.1.1".parse().unwrap()) == mac(7));
            }
            until(|| find(far).is_none());
            // In use and stale: someone is asked to confirm it.
            change(&["lladdr", "02:00:00:00:00:02", "nud", "stale"]);
            until(|| find(other) == mac(2) && !node.refreshed.lock().unwrap().is_empty());
            assert!(node.refreshed.lock().unwrap().iter().all(|&ip| ip == other));
            space
                .ip(&["neighbour", "delete", &via, "dev", INTERFACE])
                .unwrap();
            until(|| find(other).is_none());
            // This host itself, and a neighbour that does not answer, are the kernel's business.
            node.routes.want(wire.hosts[0].ip);
            node.routes.want(alone.parse().unwrap());
            assert_eq!(find(wire.hosts[0].ip), None);
            assert_eq!(find(alone.parse().unwrap()), None);
            // An address of another link is too, whatever its neighbour here.
            let scoped =
                std::net::SocketAddrV6::new("fe80::9".parse().unwrap(), 1, 0, interface + 1);
            assert_eq!(node.routes.lookup().find(&scoped.into(), interface), None);
            node.node().close();
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_worker_may_have_several_queues() {
        for (mode, ipv6) in WIRINGS {
            let wire = Wire::new(Wiring {
                queues: 3,
                ..Wiring::new(mode, ipv6)
            });
            let (mut a, mut b) = (wire.node(wire.host(1), 1024), wire.node(wire.host(2), 1024));
            let mut seen = vec![0; 960];
            // Each batch leaves, and so arrives, on another queue.
            for first in (0..960).step_by(32) {
                a.send(b.address(), first, 32);
                let came = b.receive(32, |pool, received| {
                    seen[number(pool, received) as usize] += 1;
                });
                assert_eq!(came, 32);
            }
            assert!(seen.iter().all(|&count| count == 1));
            let used = wire.queues_that_received(1);
            assert!(
                mode == Mode::Generic || used == 3,
                "{used} queues were used"
            );
            a.close();
            b.close();
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn what_is_for_another_address_of_the_host_is_the_kernels() {
        on_every_wire(|wire| {
            let mut b = wire.node(wire.host(2), 64);
            let second = match b.address() {
                SocketAddr::V4(_) => "10.91.0.22",
                SocketAddr::V6(_) => "fd91::22",
            };
            let space = &wire.hosts[1].namespace;
            let mut add = vec!["address", "add", second, "dev", INTERFACE];
            if b.address().is_ipv6() {
                add.push("nodad");
            }
            space.ip(&add).unwrap();
            let stranger = kernel_socket(wire, 0, PORT + 1);
            let elsewhere = SocketAddr::new(second.parse().unwrap(), PORT);
            for n in 0..20 {
                stranger.send_to(&datagram(n), elsewhere).unwrap();
                stranger.send_to(&datagram(n), b.address()).unwrap();
                assert_eq!(b.receive(1, |_, _| ()), 1);
            }
            // The first may have waited for the second address to be resolved.
            until(|| wire.counted(1, Reason::OtherHost) == 20);
            assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
            let counters = b.port.counters();
            assert_eq!((counters.foreign, counters.corrupt), (0, 0));
            b.close();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn wrong_lengths_never_reach_the_port() {
        on_every_wire(|wire| {
            let mut b = wire.node(wire.host(2), 64);
            let stranger = kernel_socket(wire, 0, PORT + 1);
            let mut long = datagram(1).to_vec();
            long.resize(DATAGRAM_BYTES + 100, 0);
            let lengths = [
                0,
                1,
                12,
                DATAGRAM_BYTES - 1,
                DATAGRAM_BYTES + 1,
                DATAGRAM_BYTES + 100,
            ];
            for length in lengths {
                stranger.send_to(&long[..length], b.address()).unwrap();
            }
            stranger.send_to(&datagram(1), b.address()).unwrap();
            assert_eq!(
                b.receive(2, |pool, received| assert_eq!(number(pool, received), 1)),
                1
            );
            assert_eq!(wire.counted(1, Reason::WrongSize), lengths.len() as u64);
            b.close();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_datagram_behind_priority_tags_is_moved_to_its_place_and_one_of_a_vlan_is_not_ours() {
        on_every_wire(|wire| {
            let mut b = wire.node(wire.host(2), 64);
            let (from, to) = (wire.host(1), b.address());
            for tags in 0..3 {
                let frame = wire.frame(from, to, &datagram(tags as u64), tags, 0);
                wire.send_frame(0, &frame);
                let came = b.receive(1, |pool, received| {
                    assert_eq!(received.source, from);
                    assert_eq!(number(pool, received), tags as u64);
                });
                assert_eq!(came, 1, "{tags} tags");
            }
            wire.send_frame(0, &wire.frame(from, to, &datagram(9), 1, 5));
            until(|| wire.counted(1, Reason::OtherVlan) == 1);
            assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
            b.close();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_port_that_polls_busily_receives_and_sends_as_another() {
        for (mode, ipv6) in WIRINGS {
            let wire = Wire::new(Wiring {
                busy_poll: true,
                ..Wiring::new(mode, ipv6)
            });
            let (mut a, mut b) = (wire.node(wire.host(1), 256), wire.node(wire.host(2), 256));
            for first in (0..640).step_by(64) {
                a.send(b.address(), first, 64);
                assert_eq!(b.receive(64, |_, _| ()), 64);
            }
            a.close();
            b.close();
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_removed_interface_is_survived_and_every_frame_comes_back() {
        on_every_wire(|wire| {
            let (mut a, mut b) = (wire.node(wire.host(1), 256), wire.node(wire.host(2), 256));
            a.send(b.address(), 0, 64);
            assert_eq!(b.receive(64, |_, _| ()), 64);
            let space = &wire.hosts[0].namespace;
            space.ip(&["link", "delete", INTERFACE]).unwrap();
            // Waiting still is waiting: until the deadline, and not in a circle.
            for node in [&mut a, &mut b] {
                let deadline = node.port.now_ns() + 50_000_000;
                let mut waits = 0;
                while node.port.now_ns() < deadline {
                    assert_eq!(node.port.receive(&mut node.pool, &mut node.batch), 0);
                    node.port.wait(Some(deadline)).unwrap();
                    waits += 1;
                }
                assert!(waits < 20, "{waits} waits");
            }
            // There is nobody to send to, and that is counted.
            a.send(wire.host(2), 64, 64);
            let counters = a.port.counters();
            let sent = (counters.transmitted, counters.transmit_failed);
            assert_eq!(sent, (64, 64));
            a.close();
            b.close();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn destinations_that_are_made_up_neither_stay_nor_hide_the_others() {
        let wire = Wire::new(Wiring::new(Mode::Native, false));
        let node = wire.quiet_node(wire.host(1), 64);
        let other = wire.host(2);
        let mut lookup = node.routes.lookup();
        let made_up = |n: u32| SocketAddr::new(std::net::Ipv4Addr::from(0x0a5c_0000 + n).into(), 1);
        // No more at once than wait to be looked up.
        for first in [0, 1_000, 2_000] {
            for n in first..first + 1_000 {
                assert_eq!(lookup.find(&made_up(n), node.interface_index), None);
            }
            let known = (first as usize + 1_000).min(2_048);
            until(|| node.routes.destinations() > known);
            assert!(lookup.find(&other, node.interface_index).is_some());
        }
        // One packet each was all: they go when there are too many of them.
        until(|| {
            assert!(lookup.find(&other, node.interface_index).is_some());
            node.routes.destinations() <= 2_048
        });
        node.node().close();
    }

    #[test]
    #[ignore = "needs root"]
    fn a_port_without_frames_sheds_what_comes_through_the_kernel_and_waits() {
        let wire = Wire::new(Wiring::new(Mode::Native, false));
        let mut a = wire.node(wire.host(1), 256);
        let quiet = wire.quiet_node(wire.host(2), 32);
        quiet.let_in();
        let mut b = quiet.node();
        let held: Vec<_> = std::iter::from_fn(|| b.pool.take()).collect();
        a.send(b.address(), 0, 100);
        until(|| {
            assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
            b.port.counters().pool_full == 100
        });
        let deadline = b.port.now_ns() + 50_000_000;
        let mut waits = 0;
        while b.port.now_ns() < deadline {
            assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
            b.port.wait(Some(deadline)).unwrap();
            waits += 1;
        }
        assert!(waits < 20, "{waits} waits");
        held.into_iter().for_each(|frame| b.pool.release(frame));
        a.send(b.address(), 0, 8);
        assert_eq!(b.receive(8, |_, _| ()), 8);
        a.close();
        b.close();
    }
}
