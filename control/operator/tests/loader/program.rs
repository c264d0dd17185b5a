//! The program on an interface: attached, replaced, taken off; packets on their way.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use handover::chunk::HEADROOM_BYTES;
use handover::protocol::{Mode, Peer, RefusalKind, Reply, Request};

use crate::world::{INDEX, Node, PORT, Traffic, World, eventually};

fn attached(mode: Mode, replaced: bool) -> Reply {
    Reply::Attached {
        mode,
        degraded: None,
        replaced,
    }
}

#[test]
#[ignore = "needs root"]
fn attaching_twice_replaces_and_detaching_twice_is_an_error_and_nothing_stays() {
    let world = World::new(1);
    assert_eq!(world.attach(), Ok(attached(Mode::Native, false)));
    assert_eq!(world.attach(), Ok(attached(Mode::Native, true)));
    assert_eq!(world.status().len(), 1);
    let pins = world.options().pins;
    assert!(pins.join("eth0/link").exists());
    assert_eq!(world.detach(), Ok(Reply::Done));
    let again = world.detach().unwrap_err();
    assert_eq!(again.kind, RefusalKind::NotAttached, "{again}");
    assert!(world.status().is_empty());
    assert_eq!(std::fs::read_dir(pins).unwrap().count(), 0);
    // The interface is free at once.
    assert_eq!(world.attach(), Ok(attached(Mode::Native, false)));
}

#[test]
#[ignore = "needs root"]
fn a_known_index_reaches_the_nodes_socket_where_the_pool_expects_it_over_both_ip_versions() {
    for ipv6 in [false, true] {
        for generic in [false, true] {
            let world = World::bare(1);
            if generic {
                // More than a veth takes in native mode.
                for host in [&world.node, &world.neighbour] {
                    host.ip(&["link", "set", "eth0", "mtu", "9000"]).unwrap();
                }
            }
            let mut world = world;
            world.start();
            world.attach_with(generic).unwrap();
            let mode = if generic { Mode::Generic } else { Mode::Native };
            assert_eq!(world.status()[0].mode, mode);
            let mut node = Node::ready(&world, ipv6, 1);
            assert_eq!(
                (node.opened.interface.as_str(), node.opened.mode),
                ("eth0", mode)
            );
            let sender = world.sender(ipv6);
            sender.send(7);
            let came = eventually("a packet", || {
                let came = node.receive();
                (!came.is_empty()).then_some(came)
            });
            assert_eq!(came, [(7, HEADROOM_BYTES)]);
            assert_eq!(world.counted("steered"), 1);
            node.ask(&Request::RemoveIndex { index: INDEX }).unwrap();
            sender.send(8);
            eventually("a drop", || {
                (world.counted("unknown_index") == 1).then_some(())
            });
        }
    }
}

#[test]
#[ignore = "needs root"]
fn replacing_the_program_under_traffic_loses_nothing() {
    let world = World::new(1);
    world.attach().unwrap();
    let mut node = Node::ready(&world, false, 1);
    world.resolve();
    let traffic = Traffic::start(world.sender(false), 128);
    let mut numbers = Vec::new();
    std::thread::scope(|scope| {
        let operator = scope.spawn(|| {
            for _ in 0..20 {
                assert_eq!(world.attach(), Ok(attached(Mode::Native, true)));
            }
        });
        while !operator.is_finished() || numbers.len() < 200 {
            numbers.extend(node.receive());
            traffic.received(numbers.len());
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let sent = traffic.stop();
    eventually("the rest", || {
        numbers.extend(node.receive());
        (numbers.len() >= sent as usize).then_some(())
    });
    assert_eq!(world.counted("steered"), u64::from(sent));
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
}

#[test]
#[ignore = "needs root"]
fn attaching_and_detaching_under_traffic_costs_other_sockets_nothing() {
    let world = World::new(1);
    world.resolve();
    let other = world.kernel_socket(PORT + 1);
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&other, 64 << 20).unwrap();
    let mut sender = world.sender(false);
    sender.to.set_port(PORT + 1);
    // No more than the socket holds.
    let traffic = Traffic::start(sender, 10_000);
    for _ in 0..5 {
        assert_eq!(world.attach(), Ok(attached(Mode::Native, false)));
        assert_eq!(world.attach(), Ok(attached(Mode::Native, true)));
        assert_eq!(world.detach(), Ok(Reply::Done));
    }
    let sent = traffic.stop();
    let mut packet = [0; 2048];
    for number in 0..sent {
        let bytes = other
            .recv(&mut packet)
            .unwrap_or_else(|error| panic!("{number} of {sent}: {error}"));
        assert_eq!(packet[12..16], number.to_le_bytes(), "{bytes} bytes");
    }
}

#[test]
#[ignore = "needs root"]
fn an_mtu_that_the_driver_refuses_is_explained_and_generic_mode_says_that_it_is_not_native() {
    let world = World::new(1);
    for host in [&world.node, &world.neighbour] {
        host.ip(&["link", "set", "eth0", "mtu", "9000"]).unwrap();
    }
    let refused = world.attach().unwrap_err();
    assert_eq!(refused.kind, RefusalKind::MtuTooLarge, "{refused}");
    assert!(refused.message.contains("mtu 1500"), "{refused}");
    // A refusal leaves nothing.
    assert_eq!(std::fs::read_dir(world.options().pins).unwrap().count(), 0);
    let Ok(Reply::Attached {
        mode,
        degraded,
        replaced,
    }) = world.attach_with(true)
    else {
        panic!("not attached")
    };
    assert_eq!((mode, replaced), (Mode::Generic, false));
    assert!(degraded.unwrap().contains("MTU"));
    let refused = world.attach().unwrap_err();
    assert_eq!(refused.kind, RefusalKind::GenericMode, "{refused}");
    let Ok(Reply::Attached {
        mode,
        degraded,
        replaced,
    }) = world.attach_with(true)
    else {
        panic!("not replaced")
    };
    assert_eq!(
        (mode, degraded.is_some(), replaced),
        (Mode::Generic, true, true)
    );
    // Once the cause is gone, native mode works.
    world.detach().unwrap();
    for host in [&world.node, &world.neighbour] {
        host.ip(&["link", "set", "eth0", "mtu", "1500"]).unwrap();
    }
    assert_eq!(world.attach_with(true), Ok(attached(Mode::Native, false)));
}

#[test]
#[ignore = "needs root"]
fn a_driver_without_native_xdp_and_a_foreign_program_are_explained() {
    let world = World::new(1);
    let on = |interface: &str, allow_generic| {
        world.ask(&Request::Attach {
            interface: interface.to_owned(),
            port: PORT,
            allow_generic,
            capacity_pps: 1_000,
        })
    };
    // A bridge has no native XDP.
    world
        .node
        .ip(&["link", "add", "bridge0", "type", "bridge"])
        .unwrap();
    let refused = on("bridge0", false).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::NoNativeMode, "{refused}");
    assert!(refused.message.contains("--allow-generic"), "{refused}");
    assert!(matches!(
        on("bridge0", true),
        Ok(Reply::Attached {
            mode: Mode::Generic,
            ..
        })
    ));
    // Another loader's program is a foreign one.
    let folder = tempfile::tempdir().unwrap();
    let options = loader::Options {
        socket: folder.path().join("socket"),
        pins: world.neighbour.pins().unwrap(),
        node_user: None,
    };
    let socket = options.socket.clone();
    let _other = world
        .node
        .run(|| loader::Loader::start(options).unwrap())
        .unwrap();
    let foreign = Request::Attach {
        interface: "eth0".to_owned(),
        port: PORT,
        allow_generic: true,
        capacity_pps: 1_000,
    };
    loader::ask(&socket, &foreign).unwrap();
    let refused = on("eth0", true).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::OtherProgram, "{refused}");
    for (interface, port, kind) in [
        ("../x", 1, RefusalKind::NoInterface),
        ("eth0", 0, RefusalKind::OutOfBounds),
        ("nothing", 1, RefusalKind::NoInterface),
    ] {
        let request = Request::Attach {
            interface: interface.to_owned(),
            port,
            allow_generic: false,
            capacity_pps: 1_000,
        };
        let refused = world.ask(&request).unwrap_err();
        assert_eq!(refused.kind, kind, "{refused}");
    }
}

#[test]
#[ignore = "needs root"]
fn an_interface_made_anew_under_its_old_name_is_attached_anew() {
    let world = World::new(1);
    world.attach().unwrap();
    let node = Node::ready(&world, false, 1);
    world.node.ip(&["link", "del", "eth0"]).unwrap();
    drop(node);
    let gone = world.attach().unwrap_err();
    assert_eq!(gone.kind, RefusalKind::NoInterface, "{gone}");
    assert_eq!(world.status()[0].queues, 0);
    let end = |namespace, addresses| loader::netns::End {
        namespace,
        interface: "eth0",
        addresses,
        queues: 1,
    };
    let addresses: [(IpAddr, u8); 1] = [("10.77.0.1".parse().unwrap(), 24)];
    let others: [(IpAddr, u8); 1] = [("10.77.0.2".parse().unwrap(), 24)];
    loader::netns::connect(
        &end(&world.node, &addresses),
        &end(&world.neighbour, &others),
    )
    .unwrap();
    assert_eq!(world.attach(), Ok(attached(Mode::Native, false)));
    let mut node = Node::ready(&world, false, 1);
    world.sender(false).send(1);
    eventually("a packet", || (!node.receive().is_empty()).then_some(()));
}

#[test]
#[ignore = "needs root"]
fn lists_of_peers_replace_each_other_and_what_they_send_beyond_their_rates_passes_while_there_is_room()
 {
    let world = World::new(1);
    world.attach().unwrap();
    let mut node = Node::ready(&world, false, 1);
    let peer = |last: u8, burst| Peer {
        address: IpAddr::from([10, 77, 0, last]),
        pps: 1,
        burst,
    };
    let tell = |node: &Node, peers: Vec<Peer>, append| {
        assert_eq!(node.ask(&Request::Peers { peers, append }), Ok(Reply::Done));
        world.status()[0].peers
    };
    assert_eq!(tell(&node, vec![peer(9, 1), peer(8, 1)], false), 2);
    assert_eq!(tell(&node, vec![peer(2, 3)], true), 3);
    assert_eq!(tell(&node, vec![peer(2, 3)], false), 1);
    assert_eq!(tell(&node, Vec::new(), false), 0);
    let own = Request::AddIndex {
        index: INDEX,
        source: Some(IpAddr::from([10, 77, 0, 2])),
    };
    assert_eq!(node.ask(&own), Ok(Reply::Done));
    // A source that is nobody's has a quarter of the capacity, 64 packets at once and more.
    let sender = world.sender(false);
    for number in 0..30 {
        sender.send(number);
    }
    let mut received = 0;
    eventually("all", || {
        received += node.receive().len();
        (received == 30).then_some(())
    });
    assert_eq!(tell(&node, vec![peer(2, 3)], false), 1);
    // Three at once are its own; the others find room in what all nodes may send beyond theirs, until their keys are asked.
    for number in 0..10 {
        sender.send(number);
    }
    eventually("all", || (world.counted("steered") == 40).then_some(()));
    assert_eq!(world.counted("source_rate"), 0);
}

#[test]
#[ignore = "needs root"]
fn a_next_hop_is_resolved_when_the_node_asks_for_it() {
    let world = World::new(1);
    world.attach().unwrap();
    for ipv6 in [false, true] {
        let node = Node::ready(&world, ipv6, 1);
        let next_hop: IpAddr = if ipv6 { "fd77::2" } else { "10.77.0.2" }.parse().unwrap();
        let known = || {
            let output = std::process::Command::new("ip")
                .args([
                    "-n",
                    world.node.name(),
                    "neigh",
                    "show",
                    &next_hop.to_string(),
                ])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().contains("lladdr")
        };
        assert!(!known());
        node.ask(&Request::Refresh {
            next_hops: vec![next_hop, "192.0.2.1".parse().unwrap()],
        })
        .unwrap();
        eventually("the neighbour's address", || known().then_some(()));
        drop(node);
        eventually("the node's end", || {
            world.status()[0].node.is_none().then_some(())
        });
    }
}
