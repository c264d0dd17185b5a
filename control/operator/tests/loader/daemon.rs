//! `mixctld` and `mixctl` as processes: killed and started again, with and without rights.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use handover::channel::Channel;
use handover::protocol::{RefusalKind, Reply, Request};
use loader::User;

use crate::world::{INDEX, Node, Traffic, World, eventually, over};

pub const NOBODY: User = User {
    uid: 65534,
    gid: 65534,
};
/// A user who is not the node's.
pub const STRANGER: User = User {
    uid: 65533,
    gid: 65533,
};

/// A daemon in a process of its own, in the node's namespace.
pub struct Daemon(Child);

impl Daemon {
    /// Started, and listening.
    fn start(world: &World) -> Daemon {
        Daemon::spawn(world, &mut command(world))
    }

    pub fn spawn(world: &World, command: &mut Command) -> Daemon {
        let mut child = world
            .node
            .run(|| command.stdout(Stdio::piped()).spawn().unwrap())
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("listening"), "{line}");
        Daemon(child)
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn mixctld() -> PathBuf {
    crate::programs::program("control", "mixctld")
}

pub fn command(world: &World) -> Command {
    command_of(world, &mixctld())
}

fn command_of(world: &World, program: &Path) -> Command {
    let options = world.options();
    let mut command = Command::new(program);
    command
        .arg("--socket")
        .arg(options.socket)
        .arg("--pins")
        .arg(options.pins);
    if let Some(user) = world.node_user {
        command
            .arg("--node-user")
            .arg(format!("{}:{}", user.uid, user.gid));
    }
    command
}

/// A copy of a program where every user may run it, wherever this checkout lies.
fn public(world: &World, program: impl AsRef<Path>) -> PathBuf {
    std::fs::set_permissions(world.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let name = program.as_ref().file_name().unwrap();
    let copy = world.folder().join(name);
    if !copy.exists() {
        // By another process: a descriptor that writes to it, inherited by what some other test starts, would keep it
        // from being run.
        let status = Command::new("cp").args([program.as_ref(), &copy]).status();
        assert!(status.unwrap().success());
    }
    copy
}

/// `mixctl xdp`, as some user.
fn mixctl(world: &World, user: Option<User>, arguments: &[&str]) -> Output {
    let mut command = match user {
        Some(_) => Command::new(public(world, env!("CARGO_BIN_EXE_mixctl"))),
        None => Command::new(env!("CARGO_BIN_EXE_mixctl")),
    };
    command
        .arg("xdp")
        .args(arguments)
        .arg("--socket")
        .arg(world.socket());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_killed_loader_costs_no_packet_and_its_successor_takes_everything_over() {
    let world = World::bare(2);
    let daemon = Daemon::start(&world);
    world.attach().unwrap();
    let mut node = Node::ready(&world, false, 1);
    world.resolve();
    let traffic = Traffic::start(world.sender(false), 128);
    let mut received = Vec::new();
    let mut collect = |node: &mut Node, count: usize| {
        let target = received.len() + count;
        eventually("packets", || {
            received.extend(node.receive().into_iter().map(|(number, _)| number));
            traffic.received(received.len());
            (received.len() >= target).then_some(())
        });
    };
    collect(&mut node, 100);
    daemon.kill();
    collect(&mut node, 300);
    let _successor = Daemon::start(&world);
    collect(&mut node, 100);
    let status = &world.status()[0];
    assert_eq!(
        (status.node, status.indices),
        (None, 1),
        "sessions outlive the loader"
    );
    // The node comes back, with one index more, in two parts.
    node.channel = Channel::connect(&world.socket()).unwrap();
    let resume = |indices, more| Request::Resume {
        address: world.address(false),
        indices,
        more,
    };
    assert_eq!(
        node.ask(&resume(vec![(INDEX, None)], true)),
        Ok(Reply::Done)
    );
    assert_eq!(node.ask(&resume(vec![(99, None)], false)), Ok(Reply::Done));
    let status = &world.status()[0];
    assert_eq!(
        (status.node, status.indices, status.steered),
        (Some(world.address(false)), 2, 2)
    );
    world.attach().unwrap();
    collect(&mut node, 300);
    let sent = traffic.stop();
    eventually("the rest", || {
        received.extend(node.receive().into_iter().map(|(number, _)| number));
        (received.len() >= sent as usize).then_some(())
    });
    assert_eq!(received.len(), sent as usize);
    assert_eq!(received.iter().collect::<HashSet<_>>().len(), sent as usize);
}

#[test]
#[ignore = "needs root, waits for the grace period"]
fn a_node_that_died_with_the_loader_is_forgotten_and_another_is_taken_meanwhile() {
    let world = World::bare(1);
    let daemon = Daemon::start(&world);
    world.attach().unwrap();
    let node = Node::ready(&world, false, 1);
    daemon.kill();
    drop(node);
    let daemon = Daemon::start(&world);
    assert_eq!(world.status()[0].indices, 1);
    eventually("the end of the grace period", || {
        (world.status()[0].indices == 0).then_some(())
    });
    let mut next = Node::ready(&world, false, 1);
    daemon.kill();
    // A node that starts anew need not wait.
    let old = std::mem::take(&mut next.sockets);
    drop((old, next));
    let _daemon = Daemon::start(&world);
    let mut third = Node::ready(&world, false, 1);
    assert_eq!(world.status()[0].indices, 1);
    world.sender(false).send(5);
    eventually("a packet", || (!third.receive().is_empty()).then_some(()));
}

#[test]
#[ignore = "needs root"]
fn rights_go_by_the_user_at_the_other_end() {
    let mut world = World::bare(1);
    world.node_user = Some(NOBODY);
    let _daemon = Daemon::start(&world);
    let attach = ["attach", "eth0", "--port", "4711"];
    let refused = mixctl(&world, Some(NOBODY), &attach);
    assert_eq!(refused.status.code(), Some(77));
    assert!(
        text(&refused.stderr).contains("user 65534 may not do this"),
        "{}",
        text(&refused.stderr)
    );
    assert!(mixctl(&world, Some(NOBODY), &["status"]).status.success());
    // A user who is not the node's can't even connect.
    let refused = mixctl(&world, Some(STRANGER), &["status"]);
    assert_eq!(refused.status.code(), Some(77));
    assert!(
        text(&refused.stderr).contains("not for this user"),
        "{}",
        text(&refused.stderr)
    );
    assert!(mixctl(&world, None, &attach).status.success());
    // And one who can connect may not be a node.
    std::fs::set_permissions(world.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    for (user, allowed) in [(STRANGER, false), (NOBODY, true)] {
        let opened = as_user(user, || {
            Node::open(&world.socket(), world.address(false), 1).map(drop)
        });
        assert_eq!(opened.is_ok(), allowed, "{opened:?}");
        let detached = as_user(user, || world.detach());
        assert!(detached.is_err_and(|refused| refused.kind == RefusalKind::NotAllowed));
    }
}

/// Runs something on a thread that is another user.
pub fn as_user<T: Send>(user: User, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(user.gid)).unwrap();
            rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(user.uid)).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
#[ignore = "needs root"]
fn a_daemon_without_capabilities_or_beside_another_one_says_what_to_do() {
    let world = World::bare(1);
    let run = |command: &mut Command| world.node.run(|| command.output().unwrap()).unwrap();
    let program = public(&world, mixctld());
    let without = run(command_of(&world, &program).uid(NOBODY.uid).gid(NOBODY.gid));
    assert_eq!(without.status.code(), Some(77));
    let complaint = text(&without.stderr);
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_NET_RAW"] {
        assert!(complaint.contains(capability), "{complaint}");
    }
    let _daemon = Daemon::start(&world);
    let second = run(&mut command(&world));
    assert_eq!(second.status.code(), Some(71));
    assert!(
        text(&second.stderr).contains("another mixctld"),
        "{}",
        text(&second.stderr)
    );
    let wrong = run(command(&world).arg("--what"));
    assert_eq!(wrong.status.code(), Some(64));
    let elsewhere = world.folder().join("pins");
    let wrong = run(Command::new(mixctld())
        .arg("--pins")
        .arg(&elsewhere)
        .arg("--socket")
        .arg(world.folder().join("other.sock")));
    assert_eq!(wrong.status.code(), Some(71));
    assert!(
        text(&wrong.stderr).contains("mount -t bpf"),
        "{}",
        text(&wrong.stderr)
    );
    assert!(!elsewhere.exists());
}

#[test]
#[ignore = "needs root"]
fn the_operators_commands_show_what_is_there_in_words_and_in_json() {
    let world = World::bare(1);
    let missing = mixctl(&world, None, &["status"]);
    assert_eq!(missing.status.code(), Some(71));
    assert!(
        text(&missing.stderr).contains("mixctld is not running"),
        "{}",
        text(&missing.stderr)
    );
    let daemon = Daemon::start(&world);
    assert!(text(&mixctl(&world, None, &["status"]).stdout).contains("nothing is attached"));
    let unknown = mixctl(&world, None, &["attach", "eth1", "--port", "4711"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(
        text(&unknown.stderr).contains("did you mean eth0?"),
        "{}",
        text(&unknown.stderr)
    );
    let attached = mixctl(
        &world,
        None,
        &["attach", "eth0", "--port", "4711", "--json"],
    );
    let document: serde_json::Value = serde_json::from_slice(&attached.stdout).unwrap();
    assert_eq!(
        (&document["mode"], &document["replaced"]),
        (&"native".into(), &false.into())
    );
    let node = Node::ready(&world, false, 1);
    world.sender(false).send(1);
    eventually("a packet", || (world.counted("steered") == 1).then_some(()));
    let status = mixctl(&world, None, &["status", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let eth0 = &document["interfaces"][0];
    assert_eq!(
        (&eth0["node"], &eth0["steered"]),
        (&"10.77.0.1:4711".into(), &1.into())
    );
    assert!(text(&mixctl(&world, None, &["status"]).stdout).contains("10.77.0.1:4711"));
    let stats = text(&mixctl(&world, None, &["stats"]).stdout);
    let steered = stats.lines().find(|line| line.contains("steered")).unwrap();
    assert_eq!(steered.split_whitespace().last(), Some("1"), "{stats}");
    let stats = mixctl(&world, None, &["stats", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    let reasons = document["interfaces"][0]["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), ebpf_abi::Reason::ALL.len());
    drop(node);
    assert!(mixctl(&world, None, &["detach", "eth0"]).status.success());
    let again = mixctl(&world, None, &["detach", "eth0"]);
    assert_eq!(again.status.code(), Some(64));
    drop(daemon);
}

#[test]
#[ignore = "needs root"]
fn a_daemon_that_ends_in_order_leaves_what_it_attached_and_no_socket() {
    let world = World::bare(1);
    let mut daemon = Daemon::start(&world);
    world.attach().unwrap();
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
    assert!(!world.socket().exists());
    let _next = Daemon::start(&world);
    let channel = Channel::connect(&world.socket()).unwrap();
    let (reply, _) = over(&channel, &Request::Status).unwrap();
    assert!(matches!(reply, Reply::Status { interfaces } if interfaces.len() == 1));
}

#[test]
#[ignore = "needs root"]
fn a_loader_killed_at_any_moment_leaves_nothing_that_the_next_one_can_not_take_over() {
    let world = World::bare(1);
    for moment in 0..30 {
        let daemon = Daemon::start(&world);
        let pid = rustix::process::Pid::from_child(&daemon.0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_micros(moment * 3000));
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            });
            let channel = Channel::connect(&world.socket());
            // Until the daemon dies in the middle of one of these.
            for turn in 0_u32.. {
                let request = if turn % 3 == 2 {
                    Request::Detach {
                        interface: "eth0".to_owned(),
                    }
                } else {
                    Request::Attach {
                        interface: "eth0".to_owned(),
                        port: 4711,
                        allow_generic: false,
                        capacity_pps: 1_000,
                    }
                };
                let answer = channel.as_ref().map(|channel| {
                    channel
                        .send(&request, &[])
                        .and_then(|()| channel.receive::<Reply>())
                });
                match answer {
                    Ok(Ok(Some((Reply::Refused(refusal), _)))) => panic!("{refusal}"),
                    Ok(Ok(Some(_))) => {}
                    _ => break,
                }
            }
        });
        drop(daemon);
    }
    let _daemon = Daemon::start(&world);
    world.attach().unwrap();
    let mut node = Node::ready(&world, false, 1);
    world.sender(false).send(1);
    eventually("a packet", || (!node.receive().is_empty()).then_some(()));
    drop(node);
    world.detach().unwrap();
    assert_eq!(std::fs::read_dir(world.options().pins).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn four_capabilities_are_enough_and_nodes_that_come_and_go_cost_no_descriptors() {
    let world = World::bare(2);
    let options = world.options();
    for folder in [world.folder(), &options.pins] {
        std::fs::create_dir_all(folder).unwrap();
        std::os::unix::fs::chown(folder, Some(NOBODY.uid), Some(NOBODY.gid)).unwrap();
    }
    let capabilities = "+bpf,+perfmon,+net_admin,+net_raw";
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["--inh-caps", capabilities, "--ambient-caps", capabilities])
        .arg(public(&world, mixctld()))
        .arg("--socket")
        .arg(&options.socket)
        .arg("--pins")
        .arg(&options.pins);
    let daemon = Daemon::spawn(&world, &mut command);
    world.attach().unwrap();
    let descriptors = || {
        let folder = format!("/proc/{}/fd", daemon.0.id());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = descriptors();
    for number in 0..20 {
        // Half of them end before they are ready.
        let mut node = if number % 2 == 0 {
            Node::ready(&world, false, 2)
        } else {
            Node::open_next(&world.socket(), world.address(false), 2).unwrap()
        };
        if number % 2 == 0 {
            world.sender(false).send(number);
            eventually("a packet", || (!node.receive().is_empty()).then_some(()));
        }
        drop(node);
        eventually("the node's end", || {
            world.status()[0].node.is_none().then_some(())
        });
    }
    eventually("closed descriptors", || {
        (descriptors() <= before).then_some(())
    });
    world.detach().unwrap();
}

#[test]
#[ignore = "needs root"]
fn idle_connections_of_whoever_may_open_them_lock_nobody_out() {
    let world = World::bare(1);
    let _daemon = Daemon::start(&world);
    let idle: Vec<Channel> = (0..100)
        .map(|_| Channel::connect(&world.socket()).unwrap())
        .collect();
    let status = mixctl(&world, None, &["status"]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    drop(idle);
}
