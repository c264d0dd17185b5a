//! What befalls an interface while the program is on it and a node behind it.

use std::process::Stdio;

use handover::protocol::Mode;

use crate::daemon::{Daemon, command};
use crate::world::{Node, World, eventually};

/// Sends until the node receives.
fn carries(world: &World, node: &mut Node) {
    let sender = world.sender(false);
    eventually("a packet", || {
        sender.send(1);
        (!node.receive().is_empty()).then_some(())
    });
}

fn rename(world: &World, old: &str, new: &str) {
    // Some kernels rename only what is down.
    for change in [&[old, "down"][..], &[old, "name", new], &[new, "up"]] {
        let arguments = [&["link", "set"], change].concat();
        world.node.ip(&arguments).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn a_renamed_interface_keeps_program_node_and_pins_under_its_new_name_also_past_a_restart() {
    let mut world = World::new(1);
    world.attach().unwrap();
    let mut node = Node::ready(&world, false, 1);
    carries(&world, &mut node);
    rename(&world, "eth0", "wan0");
    let status = world.status().remove(0);
    assert_eq!((status.interface.as_str(), status.queues), ("wan0", 1));
    assert_eq!((status.steered, status.mode), (1, Mode::Native));
    assert_eq!(
        (status.node, status.fault),
        (Some(world.address(false)), None)
    );
    let pins = world.options().pins;
    assert!(pins.join("wan0/link").exists() && !pins.join("eth0").exists());
    carries(&world, &mut node);
    // Renamed again while no loader is there.
    world.stop();
    rename(&world, "wan0", "lan0");
    world.start();
    assert_eq!(world.status()[0].interface, "lan0");
    carries(&world, &mut node);
    rename(&world, "lan0", "eth0");
    world.detach().unwrap();
    assert!(world.status().is_empty());
    assert_eq!(std::fs::read_dir(pins).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_lowered_mtu_an_interface_that_is_down_and_one_that_is_gone_are_told_and_logged() {
    let world = World::bare(1);
    let path = world.folder().join("log");
    let log = std::fs::File::create(&path).unwrap();
    let _daemon = Daemon::spawn(&world, command(&world).stderr(Stdio::from(log)));
    world.attach().unwrap();
    let node = Node::ready(&world, false, 1);
    let set = |change: &[&str]| {
        let arguments = [&["link", "set", "dev", "eth0"], change].concat();
        world.node.ip(&arguments).unwrap();
    };
    // Nobody asks for the status here.
    let logged = |line: &str| {
        eventually(line, || {
            let log = std::fs::read_to_string(&path).unwrap();
            (log.matches(line).count() == 1).then_some(())
        });
    };
    let fault = || world.status()[0].fault.clone();
    assert_eq!(fault(), None);
    set(&["mtu", "1200"]);
    logged("eth0 has an MTU of 1200 bytes");
    assert!(fault().unwrap().contains("ip link set dev eth0 mtu 1500"));
    set(&["mtu", "1500"]);
    logged("eth0: datagrams come and go again");
    assert_eq!(fault(), None);
    set(&["down"]);
    logged("eth0 is down");
    assert!(fault().unwrap().contains("ip link set dev eth0 up"));
    world.node.ip(&["link", "del", "eth0"]).unwrap();
    logged("eth0 is gone");
    let status = world.status().remove(0);
    assert!(status.fault.unwrap().contains("restart the node"));
    assert_eq!(
        (status.queues, status.node),
        (0, Some(world.address(false)))
    );
    drop(node);
}
