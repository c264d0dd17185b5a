//! The program on an interface: attached, replaced, taken off; packets on their way.

use mixnode::frontend::protocol::{Mode, Reply, Request};
use mixnode::pool::HEADROOM_BYTES;

use crate::world::{INDEX, Node, World, eventually};

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
    assert!(again.contains("nothing is attached to eth0"), "{again}");
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
