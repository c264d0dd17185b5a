//! `mixctl lab --xdp`: every node on a host of its own, a network namespace with the XDP program on its interface.
//!
//! All hosts hang on one switch; the clients share one. Each node's host has a loader, which is a child process with
//! root's rights inside that namespace; the node itself runs there as user nobody. The kernel's own counters of UDP
//! datagrams, read before and after a transfer, show that none of its packets went through the kernel's sockets.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handover::channel::Channel;
use handover::protocol::{Mode, Reply, Request};
use serde::Serialize;

use super::child::{Helper, USER};
use super::options::Options;
use control::exit::{self, Failure};
use loader::netns::{End, Namespace, Switch};

/// The interface of every host.
const INTERFACE: &str = "eth0";
/// How long a loader may take to appear on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Capacity told to the loader, packets a second: its limits stay far above what a lab sends.
const CAPACITY_PPS: u32 = 400_000;

/// What the XDP front end and the kernel counted during a transfer; part of the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// `native` or `generic`.
    pub mode: String,
    /// 4 or 6.
    pub ip_version: u8,
    /// Datagrams that the program steered into the nodes' AF_XDP sockets.
    pub steered: u64,
    /// Datagrams that the program dropped, all reasons.
    pub dropped: u64,
    /// Datagrams that the kernel delivered to UDP sockets of the nodes' hosts.
    pub kernel_udp_in: u64,
    /// Datagrams that sockets of the nodes' hosts sent through the kernel.
    pub kernel_udp_out: u64,
}

impl Counted {
    fn since(&self, before: &Counted) -> Counted {
        Counted {
            mode: self.mode.clone(),
            ip_version: self.ip_version,
            steered: self.steered.saturating_sub(before.steered),
            dropped: self.dropped.saturating_sub(before.dropped),
            kernel_udp_in: self.kernel_udp_in.saturating_sub(before.kernel_udp_in),
            kernel_udp_out: self.kernel_udp_out.saturating_sub(before.kernel_udp_out),
        }
    }
}

/// A node's host.
#[derive(Debug)]
struct Host {
    // Dropped in this order: the loader takes its program off, then the namespace goes.
    loader: Helper,
    socket: PathBuf,
    namespace: Namespace,
}

/// All hosts of a lab, and the switch between them. Gone when dropped; what a killed lab leaves behind is swept when
/// the next one starts.
#[derive(Debug)]
pub struct Hosts {
    nodes: Vec<Host>,
    clients: Namespace,
    // Unplugged last.
    _switch: Switch,
    mode: Mode,
    ipv6: bool,
    marked: Counted,
}

impl Hosts {
    /// Makes the hosts, with a loader on each node's that has put the program on its interface.
    ///
    /// # Errors
    /// Not root, no `ip` command, or what a loader refused.
    pub fn create(options: &Options, root: &Path) -> Result<Hosts, Failure> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new(
                exit::PERMISSION,
                "--xdp makes network namespaces and loads an XDP program: run it as root, or leave --xdp out",
            ));
        }
        std::fs::create_dir_all(root.join("hosts"))?;
        let switch = Switch::create("lab")?;
        let plug = |what: &str, address: IpAddr| -> io::Result<Namespace> {
            let namespace = Namespace::create(&format!("lab-{what}"))?;
            switch.plug(&End {
                namespace: &namespace,
                interface: INTERFACE,
                addresses: &[(address, options.prefix())],
                queues: 1,
            })?;
            Ok(namespace)
        };
        let clients = plug("clients", options.client_address())?;
        let mut nodes = Vec::new();
        for (number, _) in options.nodes() {
            let namespace = plug(&format!("node{number}"), options.address(number).ip())?;
            let socket = socket_path(root, number);
            let loader = Helper::loader(&namespace, &socket)?;
            nodes.push(Host {
                loader,
                socket,
                namespace,
            });
        }
        let mut mode = Mode::Native;
        for host in &mut nodes {
            if host.attach(options.udp_port)? == Mode::Generic {
                mode = Mode::Generic;
            }
        }
        Ok(Hosts {
            nodes,
            clients,
            _switch: switch,
            mode,
            ipv6: options.ipv6,
            marked: Counted::default(),
        })
    }

    /// The namespace of node `number`.
    pub fn of_node(&self, number: u16) -> Option<PathBuf> {
        let place = usize::from(number).checked_sub(1)?;
        self.nodes.get(place).map(|host| host.namespace.path())
    }

    /// The namespace of the clients.
    pub fn of_clients(&self) -> PathBuf {
        self.clients.path()
    }

    /// How the program runs, on all interfaces or on the worst.
    pub fn mode(&self) -> &'static str {
        match self.mode {
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }

    /// Counts from now on.
    ///
    /// # Errors
    /// As [`Hosts::counted`].
    pub fn mark(&mut self) -> Result<(), Failure> {
        self.marked = self.total()?;
        Ok(())
    }

    /// What was counted since [`Hosts::mark`].
    ///
    /// # Errors
    /// A loader or a namespace is gone.
    pub fn counted(&self) -> Result<Counted, Failure> {
        Ok(self.total()?.since(&self.marked))
    }

    fn total(&self) -> Result<Counted, Failure> {
        let mut total = Counted {
            mode: self.mode().to_owned(),
            ip_version: if self.ipv6 { 6 } else { 4 },
            ..Counted::default()
        };
        for host in &self.nodes {
            let (steered, dropped) = host.program_counters()?;
            total.steered += steered;
            total.dropped += dropped;
            let udp = host.namespace.run(udp_counters)??;
            total.kernel_udp_in += udp.received;
            total.kernel_udp_out += udp.sent;
        }
        Ok(total)
    }
}

/// Where the loader of node `number` listens.
pub fn socket_path(root: &Path, number: u16) -> PathBuf {
    root.join("hosts").join(format!("{number}.sock"))
}

/// Gives the files that nodes write, and nothing else, to their user.
///
/// # Errors
/// The file system's; the lab's folder lies below one that others can't enter.
pub fn give_files(root: &Path, options: &Options) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    // They have to get through, not to list it.
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711))?;
    let descriptors = directory::store::Store::open(&root.join("directory"))?.descriptors_path();
    let states = options
        .nodes()
        .map(|(number, _)| root.join("nodes").join(number.to_string()).join("state"));
    for folder in std::iter::once(descriptors).chain(states) {
        std::os::unix::fs::chown(&folder, Some(USER), Some(USER))?;
    }
    let closed = root.ancestors().skip(1).find(|folder| {
        std::fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 1 == 0)
    });
    match closed {
        None => Ok(()),
        Some(folder) => Err(Failure::new(
            exit::USAGE,
            format!(
                "{} is closed to the nodes' user {USER}: choose another folder with --dir",
                folder.display()
            ),
        )),
    }
}

impl Host {
    /// Asks the loader, once it listens, to put the program on the interface.
    fn attach(&mut self, port: u16) -> Result<Mode, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let channel = loop {
            match Channel::connect(&self.socket) {
                Ok(channel) => break channel,
                Err(_) if Instant::now() < deadline => {}
                Err(error) => {
                    let message = format!("a loader does not answer: {error}");
                    return Err(Failure::new(exit::OS, message));
                }
            }
            if let Some(failure) = self.loader.failure() {
                return Err(failure);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let request = Request::Attach {
            interface: INTERFACE.to_owned(),
            port,
            allow_generic: false,
            capacity_pps: CAPACITY_PPS,
        };
        match ask(&channel, &request)? {
            Reply::Attached { mode, .. } => Ok(mode),
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => Err(unexpected()),
        }
    }

    /// Packets steered, and packets dropped.
    fn program_counters(&self) -> Result<(u64, u64), Failure> {
        let channel = Channel::connect(&self.socket)?;
        let Reply::Stats { interfaces } = ask(&channel, &Request::Stats)? else {
            return Err(unexpected());
        };
        let sum = |action| {
            let counts = |name: &str| {
                ebpf_abi::Reason::ALL
                    .iter()
                    .any(|reason| reason.name() == name && reason.action() == action)
            };
            interfaces
                .iter()
                .flat_map(|interface| &interface.packets)
                .filter(|(name, _)| counts(name))
                .map(|(_, packets)| *packets)
                .sum()
        };
        Ok((sum(ebpf_abi::Action::Redirect), sum(ebpf_abi::Action::Drop)))
    }
}

fn ask(channel: &Channel, request: &Request) -> Result<Reply, Failure> {
    channel.send(request, &[])?;
    match channel.receive::<Reply>()? {
        Some((reply, _)) => Ok(reply),
        None => Err(Failure::new(exit::OS, "a loader ended")),
    }
}

fn unexpected() -> Failure {
    Failure::new(exit::SOFTWARE, "a loader answered something else")
}

/// Datagrams that UDP sockets of a namespace got and sent, both IP versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct UdpCounters {
    received: u64,
    sent: u64,
}

/// Those of the calling thread's namespace. `/proc/net` would be that of the process's first thread.
fn udp_counters() -> io::Result<UdpCounters> {
    let v4 = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    // Not there where the kernel has no IPv6.
    let v6 = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
    let (v4, v6) = (parse_snmp(&v4), parse_snmp6(&v6));
    Ok(UdpCounters {
        received: v4.received + v6.received,
        sent: v4.sent + v6.sent,
    })
}

/// Two lines: `Udp: InDatagrams NoPorts …`, `Udp: 12 0 …`.
fn parse_snmp(text: &str) -> UdpCounters {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return UdpCounters::default();
    };
    let value = |wanted: &str| {
        names
            .split_whitespace()
            .zip(values.split_whitespace())
            .find(|(name, _)| *name == wanted)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0)
    };
    UdpCounters {
        received: value("InDatagrams"),
        sent: value("OutDatagrams"),
    }
}

/// A line each: `Udp6InDatagrams  12`.
fn parse_snmp6(text: &str) -> UdpCounters {
    let value = |wanted: &str| {
        text.lines()
            .find_map(|line| {
                let mut fields = line.split_whitespace();
                (fields.next() == Some(wanted)).then(|| fields.next()?.parse().ok())?
            })
            .unwrap_or(0)
    };
    UdpCounters {
        received: value("Udp6InDatagrams"),
        sent: value("Udp6OutDatagrams"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_udp_counters_are_read() {
        let text = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 7 1 0 9\n\
                    UdpLite: InDatagrams\nUdpLite: 3\n";
        let expected = UdpCounters {
            received: 7,
            sent: 9,
        };
        assert_eq!(parse_snmp(text), expected);
        let text = "Ip6InReceives 5\nUdp6InDatagrams                 \t7\nUdp6OutDatagrams 9\n";
        assert_eq!(parse_snmp6(text), expected);
        assert_eq!(parse_snmp("nonsense"), UdpCounters::default());
        udp_counters().unwrap();
    }
}
