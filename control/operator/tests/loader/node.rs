//! Nodes: who may be one, whose queues are whose, what their death leaves.
#![allow(unsafe_code, reason = "a bare system call, which must be refused")]

use std::os::fd::AsRawFd;

use handover::channel::Channel;
use handover::protocol::{RefusalKind, Reply, Request};

use crate::world::{INDEX, Node, PORT, World, datagram, eventually, over};

/// Sockets are bound before they are handed over, and when their node is ready.
fn in_both_orders(queues: u32, test: impl Fn(World)) {
    for late in [false, true] {
        test(World::binding(queues, late));
    }
}

#[test]
#[ignore = "needs root"]
fn what_no_node_takes_goes_to_the_kernels_socket_and_a_dead_node_takes_nothing() {
    in_both_orders(1, kernels_socket_before_and_after);
}

fn kernels_socket_before_and_after(world: World) {
    world.attach().unwrap();
    let kernel = world.kernel_socket(PORT);
    let mut packet = [0; 2048];
    let sender = world.sender(false);
    let mut node = Node::open(&world.socket(), world.address(false), 1).unwrap();
    node.ask(&Request::AddIndex {
        index: INDEX,
        source: None,
    })
    .unwrap();
    // Opened, but its rings are not known to be filled.
    sender.send(1);
    assert_eq!(kernel.recv(&mut packet).unwrap(), datagram(INDEX, 1).len());
    node.ask(&Request::Ready).unwrap();
    sender.send(2);
    eventually("a packet", || (!node.receive().is_empty()).then_some(()));
    let status = &world.status()[0];
    assert_eq!((status.queues, status.steered, status.indices), (1, 1, 1));
    assert_eq!(status.node, Some(world.address(false)));
    drop(node);
    let status = eventually("the node's end", || {
        let status = world.status().remove(0);
        status.node.is_none().then_some(status)
    });
    assert_eq!((status.steered, status.indices), (0, 0));
    sender.send(3);
    eventually("a drop", || {
        (world.counted("unknown_index") == 1).then_some(())
    });
    // The queue is free for the next one, and packets flow to it.
    let mut next = Node::ready(&world, false, 1);
    sender.send(4);
    let came = eventually("a packet", || {
        let came = next.receive();
        (!came.is_empty()).then_some(came)
    });
    assert_eq!(came[0].0, 4);
    assert_eq!(world.counted("kernel_socket"), 1);
}

#[test]
#[ignore = "needs root"]
fn a_second_node_is_refused_while_the_first_lives_and_taken_at_once_after_its_death() {
    in_both_orders(1, one_at_a_time);
}

fn one_at_a_time(world: World) {
    world.attach().unwrap();
    let first = Node::ready(&world, false, 1);
    let refused = Node::open(&world.socket(), world.address(false), 1)
        .err()
        .unwrap();
    assert_eq!(refused.kind, RefusalKind::HasNode, "{refused}");
    drop(first);
    let second = Node::open_next(&world.socket(), world.address(false), 1);
    assert!(second.is_ok(), "{:?}", second.err());
}

#[test]
#[ignore = "needs root"]
fn queues_are_dealt_to_workers_in_turn_and_each_delivers() {
    in_both_orders(4, each_queue_delivers);
}

fn each_queue_delivers(world: World) {
    world.attach().unwrap();
    let mut node = Node::ready(&world, false, 2);
    assert_eq!(node.opened.queues, [[0, 2], [1, 3]]);
    assert_eq!(world.status()[0].steered, 4);
    // The neighbour's kernel spreads flows over its queues by their ports.
    let mut queues = [0; 4];
    let mut flows = 0;
    while queues.contains(&0) {
        let sender = world.sender(false);
        sender.send(1);
        eventually("a packet", || {
            let mut came = false;
            for (socket, count) in node.sockets.iter_mut().zip(&mut queues) {
                let packets = socket.receive().len();
                *count += packets;
                came |= packets > 0;
            }
            came.then_some(())
        });
        flows += 1;
        assert!(flows < 2000, "a queue never delivers: {queues:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn more_workers_than_queues_are_refused_with_the_remedy() {
    let world = World::new(2);
    world.attach().unwrap();
    let refused = Node::open(&world.socket(), world.address(false), 3)
        .err()
        .unwrap();
    assert_eq!(refused.kind, RefusalKind::TooFewQueues, "{refused}");
    assert!(refused.message.contains("ethtool -L eth0"), "{refused}");
    // A refusal takes nothing.
    assert!(Node::open(&world.socket(), world.address(false), 2).is_ok());
}

#[test]
#[ignore = "needs root"]
fn a_queue_that_another_process_has_is_refused_by_number() {
    in_both_orders(2, taken_queue);
}

fn taken_queue(mut world: World) {
    world.attach().unwrap();
    // Another loader's node holds both queues; this one is told that nobody does.
    let node = Node::ready(&world, false, 1);
    world.stop();
    let folder = tempfile::tempdir().unwrap();
    let options = loader::Options {
        socket: folder.path().join("socket"),
        ..world.options()
    };
    let socket = options.socket.clone();
    let other = world.loader(options);
    let refused = Node::steered(&socket, world.address(false)).err().unwrap();
    assert_eq!(refused.kind, RefusalKind::QueueTaken, "{refused}");
    // One that hangs up while it waits for the queue leaves no claim.
    let impatient = Channel::connect(&socket).unwrap();
    let open = Request::Open {
        address: world.address(false),
        frames: vec![64],
        busy_poll: true,
    };
    impatient.send(&open, &[]).unwrap();
    drop(impatient);
    let refused = Node::steered(&socket, world.address(false)).err().unwrap();
    assert_eq!(refused.kind, RefusalKind::QueueTaken, "{refused}");
    drop(node);
    assert!(Node::steered(&socket, world.address(false)).is_ok());
    drop(other);
}

#[test]
#[ignore = "needs root"]
fn a_node_is_told_what_is_wrong_with_its_address_or_its_order_of_requests() {
    let world = World::new(1);
    let open = |address: &str| Node::open(&world.socket(), address.parse().unwrap(), 1).err();
    let refused = open("10.77.0.1:4711").unwrap();
    assert_eq!(refused.kind, RefusalKind::NotAttached, "{refused}");
    world.attach().unwrap();
    let refused = open("10.77.0.1:4712").unwrap();
    assert_eq!(refused.kind, RefusalKind::OtherPort, "{refused}");
    let refused = open("10.77.0.9:4711").unwrap();
    assert_eq!(refused.kind, RefusalKind::NoAddress, "{refused}");
    for request in [
        Request::Ready,
        Request::AddIndex {
            index: 1,
            source: None,
        },
        Request::Peers {
            peers: Vec::new(),
            append: false,
        },
        Request::Refresh {
            next_hops: Vec::new(),
        },
    ] {
        let refused = world.ask(&request).unwrap_err();
        assert_eq!(
            refused.kind,
            RefusalKind::NotANode,
            "{request:?}: {refused}"
        );
    }
    let resume = Request::Resume {
        address: world.address(false),
        indices: vec![(1, None)],
        more: false,
    };
    let refused = world.ask(&resume).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::NothingToResume, "{refused}");
    // After a detach the connection is nobody's.
    let node = Node::ready(&world, false, 1);
    world.detach().unwrap();
    assert!(
        node.ask(&Request::AddIndex {
            index: 2,
            source: None,
        })
        .is_err()
    );
    // And nonsense is answered.
    let channel = Channel::connect(&world.socket()).unwrap();
    channel.send(&["what"], &[]).unwrap();
    let (reply, _) = channel.receive::<Reply>().unwrap().unwrap();
    assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
    assert!(over(&channel, &Request::Status).is_ok());
}

#[test]
#[ignore = "needs root"]
fn busy_polling_is_set_before_the_sockets_are_handed_over() {
    let world = World::new(1);
    world.attach().unwrap();
    let channel = Channel::connect(&world.socket()).unwrap();
    let open = Request::Open {
        address: world.address(false),
        frames: vec![64],
        busy_poll: true,
    };
    let (reply, descriptors) = over(&channel, &open).unwrap();
    let Reply::Opened(opened) = reply else {
        panic!("{reply:?}")
    };
    // veth copies; what a driver with zero-copy does could not be tried.
    assert!(!opened.zero_copy);
    assert_eq!(descriptors.len(), 2);
    let mut value: libc::c_int = 0;
    let mut bytes = size_of::<libc::c_int>() as libc::socklen_t;
    const SO_PREFER_BUSY_POLL: libc::c_int = 69;
    // SAFETY: the kernel writes at most `bytes` bytes to `value`.
    let result = unsafe {
        libc::getsockopt(
            descriptors[1].as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PREFER_BUSY_POLL,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    assert_eq!((result, value), (0, 1));
    world.node.ip(&["link", "set", "eth0", "down"]).unwrap();
    drop((channel, descriptors));
    let refused = Node::open_next(&world.socket(), world.address(false), 1)
        .err()
        .unwrap();
    assert_eq!(refused.kind, RefusalKind::InterfaceDown, "{refused}");
}
