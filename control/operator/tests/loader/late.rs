//! When sockets are bound: before they are handed over, or, where rings of bound ones can't be mapped, once their node is
//! ready. What a node does with them is in `node`, in both orders.

use std::os::fd::OwnedFd;

use handover::channel::Channel;
use handover::protocol::{RefusalKind, Reply, Request};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags};

use crate::world::{FRAMES, Node, World, over};

/// Whether the kernel would send for this socket: it says of one that is not bound that it has no device.
fn is_bound(socket: &OwnedFd) -> bool {
    rustix::net::send(socket, &[], SendFlags::DONTWAIT) != Err(Errno::NXIO)
}

/// A node's connection, and its sockets: the memory of the one worker is given up.
fn open(world: &World) -> (Channel, Vec<OwnedFd>) {
    let channel = Channel::connect(&world.socket()).unwrap();
    let request = Request::Open {
        address: world.address(false),
        frames: vec![FRAMES],
        busy_poll: false,
    };
    let (reply, mut descriptors) = over(&channel, &request).unwrap();
    assert!(matches!(reply, Reply::Opened(_)), "{reply:?}");
    (channel, descriptors.split_off(1))
}

/// Binds a socket to an interface that no program and no node has to do with.
fn bind_elsewhere(world: &World, socket: &OwnedFd) -> Result<(), Errno> {
    let peer = ["type", "veth", "peer", "name", "far0"];
    let add = [&["link", "add", "other0"][..], &peer].concat();
    world.node.ip(&add).unwrap();
    world.node.ip(&["link", "set", "other0", "up"]).unwrap();
    let index = world.node.run(|| {
        let any = std::net::UdpSocket::bind("10.77.0.1:0").unwrap();
        rustix::net::netdevice::name_to_index(&any, "other0").unwrap()
    });
    let address = SocketAddrXdp::new(SocketAddrXdpFlags::empty(), index.unwrap(), 0);
    rustix::net::bind(socket, &address)
}

#[test]
#[ignore = "needs root"]
fn a_loader_that_binds_late_hands_unbound_sockets_over_and_binds_them_when_their_node_is_ready() {
    let world = World::binding(2, true);
    world.attach().unwrap();
    let (channel, sockets) = open(&world);
    assert_eq!(sockets.len(), 2);
    assert!(!sockets.iter().any(is_bound));
    assert_eq!(world.status()[0].steered, 0);
    assert_eq!(over(&channel, &Request::Ready).unwrap().0, Reply::Done);
    assert!(sockets.iter().all(is_bound));
    assert_eq!(world.status()[0].steered, 2);
    // Ready once.
    let refused = over(&channel, &Request::Ready).err().unwrap();
    assert_eq!(refused.kind, RefusalKind::NotANode, "{refused}");
}

#[test]
#[ignore = "needs root"]
fn a_queue_that_is_about_to_be_free_is_waited_for_when_a_node_is_ready() {
    let mut world = World::binding(1, true);
    world.attach().unwrap();
    let first = Node::ready(&world, false, 1);
    // The next loader does not know of it.
    world.stop();
    let folder = tempfile::tempdir().unwrap();
    let options = loader::Options {
        socket: folder.path().join("socket"),
        ..world.options()
    };
    let socket = options.socket.clone();
    let _other = world.loader(options);
    let next = Node::open(&socket, world.address(false), 1).unwrap();
    next.channel.send(&Request::Ready, &[]).unwrap();
    drop(first);
    let (reply, _) = next.channel.receive::<Reply>().unwrap().unwrap();
    assert_eq!(reply, Reply::Done);
}

/// On kernels from Linux 6.4 on. On older ones its system call filter keeps a node from it.
#[test]
#[ignore = "needs root"]
fn attack_a_socket_that_was_handed_over_can_be_bound_to_no_other_interface() {
    let world = World::new(1);
    world.attach().unwrap();
    let (_channel, sockets) = open(&world);
    assert!(is_bound(&sockets[0]));
    let refused = bind_elsewhere(&world, &sockets[0]);
    assert_eq!(refused, Err(Errno::BUSY));
}

#[test]
#[ignore = "needs root"]
fn attack_a_node_that_binds_its_socket_elsewhere_gets_no_packets_and_leaves_its_place_to_the_next()
{
    let world = World::binding(1, true);
    world.attach().unwrap();
    let (channel, sockets) = open(&world);
    bind_elsewhere(&world, &sockets[0]).unwrap();
    let refused = over(&channel, &Request::Ready).err().unwrap();
    assert_eq!(refused.kind, RefusalKind::QueueTaken, "{refused}");
    let status = world.status().remove(0);
    assert_eq!((status.node, status.steered), (None, 0));
    let next = Node::steered(&world.socket(), world.address(false));
    assert!(next.is_ok(), "{:?}", next.err());
    assert_eq!(world.status()[0].steered, 1);
}
