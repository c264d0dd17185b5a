//! Whole nodes behind the XDP program: in network namespaces, each with a loader of its own, run by a user without any
//! capability.

mod live;
mod programs;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use handover::protocol::{InterfaceStatus, Reply, Request};
use live::{Network, Node, PATIENCE, ROLES};
use loader::netns::{End, Namespace, Switch};
use loader::{self, Handle, Loader, Options, User};

/// Nobody.
const USER: u32 = 65_534;
const PORT: u16 = 4_712;
const INTERFACE: &str = "eth0";

/// A node's host, with a loader.
struct Host {
    // Dropped in this order: the loader before its namespace.
    loader: Option<Handle>,
    namespace: Namespace,
    options: Options,
    address: SocketAddr,
}

impl Host {
    fn new(network: &Network, switch: &Switch, number: usize, ipv6: bool, generic: bool) -> Host {
        let namespace = Namespace::create("node").unwrap();
        // Paths avoid two mixes in one /24 or /48.
        let ip: IpAddr = if ipv6 {
            format!("fd79:0:{number}::1").parse().unwrap()
        } else {
            format!("10.79.{number}.1").parse().unwrap()
        };
        let prefix = if ipv6 { 32 } else { 16 };
        let port = switch
            .plug(&End {
                namespace: &namespace,
                interface: INTERFACE,
                addresses: &[(ip, prefix)],
                queues: 2,
            })
            .unwrap();
        if generic {
            // More than the driver's own XDP takes.
            for (namespace, interface) in
                [(&namespace, INTERFACE), (switch.namespace(), port.as_str())]
            {
                namespace
                    .ip(&["link", "set", interface, "mtu", "9000"])
                    .unwrap();
            }
        }
        let mut host = Host {
            loader: None,
            options: Options {
                socket: network.root().join(format!("mixctld-{number}.sock")),
                pins: namespace.pins().unwrap(),
                node_user: Some(User {
                    uid: USER,
                    gid: USER,
                }),
            },
            namespace,
            address: SocketAddr::new(ip, PORT),
        };
        host.start_loader();
        let attach = Request::Attach {
            interface: INTERFACE.to_owned(),
            port: PORT,
            allow_generic: generic,
            capacity_pps: 100_000,
        };
        loader::ask(&host.options.socket, &attach).unwrap();
        host
    }

    fn start_loader(&mut self) {
        let options = self.options.clone();
        let started = self.namespace.run(|| Loader::start(options).unwrap());
        self.loader = Some(started.unwrap());
    }

    fn start_node(&self, network: &Network, number: usize) -> Node {
        let more = format!(
            "[xdp]\nloader = {:?}\nprefer_busy_poll = {}\n[worker]\nmax_pps = 1000\n",
            self.options.socket,
            self.address.is_ipv6(),
        );
        self.namespace
            .run(|| network.start(number, self.address, "xsk", &more))
            .unwrap()
    }

    fn status(&self) -> InterfaceStatus {
        match loader::ask(&self.options.socket, &Request::Status).unwrap() {
            Reply::Status { mut interfaces } => interfaces.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn await_status(&self, what: &str, fits: impl Fn(&InterfaceStatus) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if fits(&status) {
                return;
            }
            assert!(Instant::now() < until, "{what} did not come: {status:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Datagrams that the kernel's UDP sockets of this host got.
    fn kernel_datagrams(&self) -> u64 {
        let read = |file: &str| {
            self.namespace
                .run(|| std::fs::read_to_string(file))
                .unwrap()
        };
        let ipv4 = read("/proc/thread-self/net/snmp").unwrap();
        let mut lines = ipv4.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let names = lines.next().unwrap().split_whitespace();
        let place = names.into_iter().position(|name| name == "InDatagrams");
        let values = lines.next().unwrap();
        let ipv4: u64 = values
            .split_whitespace()
            .nth(place.unwrap())
            .unwrap()
            .parse()
            .unwrap();
        let ipv6 = read("/proc/thread-self/net/snmp6").unwrap();
        let ipv6 = ipv6
            .lines()
            .find_map(|line| line.strip_prefix("Udp6InDatagrams"))
            .unwrap();
        ipv4 + ipv6.trim().parse::<u64>().unwrap()
    }
}

struct World {
    // Dropped in this order.
    nodes: Vec<Node>,
    hosts: Vec<Host>,
    network: Network,
    _switch: Switch,
}

impl World {
    fn new(epoch_ms: u64, ipv6: bool, generic: bool) -> World {
        let network = Network::new(epoch_ms, Some(USER));
        let switch = Switch::create("nodes").unwrap();
        let numbers = 1..=ROLES.len();
        let hosts: Vec<Host> = numbers
            .clone()
            .map(|number| Host::new(&network, &switch, number, ipv6, generic))
            .collect();
        let mut nodes: Vec<Node> = numbers
            .zip(&hosts)
            .map(|(number, host)| host.start_node(&network, number))
            .collect();
        network.open(&mut nodes);
        World {
            nodes,
            hosts,
            network,
            _switch: switch,
        }
    }
}

fn packets_take_the_fast_path(ipv6: bool, generic: bool) {
    let mut world = World::new(3_600_000, ipv6, generic);
    // Sessions are there, next hops resolved.
    world.nodes[0].await_loops(&world.network, 5);
    let before: Vec<u64> = world.hosts.iter().map(Host::kernel_datagrams).collect();
    let status = world.nodes[0].await_loops(&world.network, 40);
    let after: Vec<u64> = world.hosts.iter().map(Host::kernel_datagrams).collect();
    assert_eq!(before, after, "data frames reached the kernel's sockets");

    assert_eq!(status.port, "xsk");
    assert!(status.sandbox.is_complete(), "{}", status.sandbox);
    let xdp = status.xdp.unwrap();
    assert_eq!(xdp.mode, if generic { "generic" } else { "native" });
    assert_eq!(
        (xdp.zero_copy.as_str(), xdp.interface.as_str()),
        ("no", INTERFACE)
    );
    assert_eq!((xdp.foreign, xdp.corrupt), (0, 0));
    assert!(
        xdp.transmitted_through_kernel * 2 < status.transmitted,
        "{xdp:?} of {}",
        status.transmitted
    );
    for host in &world.hosts {
        // Two others, each with a session to one of them at least.
        let status = host.status();
        assert_eq!((status.node, status.peers), (Some(host.address), 2));
        assert_eq!(status.steered, 2);
        assert!(status.indices > 0, "{status:?}");
    }
    for (node, host) in world.nodes.iter_mut().zip(&world.hosts) {
        node.stop();
        host.await_status("the end of a node that stopped", |status| {
            (status.node, status.steered, status.indices) == (None, 0, 0)
        });
    }
}

#[test]
#[ignore = "needs root"]
fn packets_over_ipv4_take_the_fast_path_of_unprivileged_nodes() {
    packets_take_the_fast_path(false, false);
}

#[test]
#[ignore = "needs root"]
fn packets_over_ipv6_take_the_fast_path_of_unprivileged_nodes() {
    packets_take_the_fast_path(true, false);
}

#[test]
#[ignore = "needs root"]
fn packets_take_the_generic_path_where_the_driver_has_no_other_and_the_status_says_so() {
    packets_take_the_fast_path(false, true);
}

#[test]
#[ignore = "needs root"]
fn a_loader_may_go_and_come_back_and_a_killed_node_may_too() {
    let mut world = World::new(15_000, false, false);
    world.nodes[0].await_loops(&world.network, 5);

    // Without any loader packets go on.
    world.hosts.iter_mut().for_each(|host| host.loader = None);
    world.nodes[0].await_loops(&world.network, 20);
    world.hosts.iter_mut().for_each(Host::start_loader);
    for host in &world.hosts {
        host.await_status("a node that resumes", |status| {
            status.node == Some(host.address) && status.indices > 0 && status.peers == 2
        });
    }
    // Into the next epoch, which opens new sessions.
    let epoch = world.nodes[0]
        .await_status(&world.network, "a status", |_| true)
        .epoch;
    world.nodes[0].await_status(&world.network, "the next epoch", |status| {
        status.epoch > epoch && status.layer.is_some()
    });
    world.nodes[0].await_loops(&world.network, 20);

    // A killed node leaves nothing; the next one gets the sockets, and is listed in an epoch to come.
    world.nodes[1].child.kill().unwrap();
    world.nodes[1].child.wait().unwrap();
    let restart = Instant::now();
    world.nodes[1] = world.hosts[1].start_node(&world.network, 2);
    world.hosts[1].await_status("its socket in the map", |status| {
        status.node.is_some() && status.steered > 0
    });
    // Told, not judged: the machine may be busy.
    eprintln!(
        "packets steered to it {:?} after the restart",
        restart.elapsed()
    );
    let joined = world.nodes[1].await_status(&world.network, "an epoch with it", |status| {
        status.layer.is_some()
    });
    assert_eq!(joined.port, "xsk");
    world.nodes[0].await_loops(&world.network, 20);
    assert_eq!(world.hosts[1].status().node, Some(world.hosts[1].address));
}

#[test]
#[ignore = "needs root"]
fn a_node_whose_loader_refuses_says_why_with_the_loaders_exit_code() {
    let network = Network::new(3_600_000, Some(USER));
    let switch = Switch::create("nodes").unwrap();
    let host = Host::new(&network, &switch, 1, false, false);
    let more = format!(
        "[xdp]\nloader = {:?}\n[worker]\ncount = 3\n",
        host.options.socket
    );
    let mut node = host
        .namespace
        .run(|| network.start(1, host.address, "xsk", &more))
        .unwrap();
    let status = node.child.wait().unwrap();
    assert!(matches!(status.code(), Some(71 | 78)), "{status:?}");
    assert_eq!(host.status().node, None);
}
