//! Network namespaces for whole networks on one machine: `mixctl lab --xdp` and the tests that need root.
//!
//! A [`Namespace`] is one host, a [`Switch`] the Ethernet between hosts. Both are made with `ip` (iproute2) and gone
//! when dropped; what a killed process left is swept when the next one starts. A namespace is entered by `setns` in a
//! thread and never by `ip netns exec`, which remounts /sys and so hides the BPF file system.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::thread::LinkNameSpaceType;

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";
/// Where the BPF file system is.
const BPFFS: &str = "/sys/fs/bpf";
/// What the names made here start with.
const PREFIX: &str = "fogmix-";

/// How long a cable may take to come up.
const UP_DEADLINE: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();

/// One host: a network namespace with its loopback up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one named `fogmix-<what>-<pid>-<number>`.
    ///
    /// # Errors
    /// Not root, or no `ip` command (package iproute2).
    pub fn create(what: &str) -> io::Result<Namespace> {
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{what}-{}-{number}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name for `ip -n`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// A folder on the BPF file system for a loader of this namespace; removed together with it. The folder itself is
    /// not made; the file system is mounted if it was not.
    ///
    /// # Errors
    /// The BPF file system is not there and can't be mounted.
    pub fn pins(&self) -> io::Result<PathBuf> {
        mount_bpffs()?;
        Ok(self.pin_folder())
    }

    fn pin_folder(&self) -> PathBuf {
        Path::new(BPFFS).join(&self.name)
    }

    /// `ip -n NAME ARGUMENTS`.
    ///
    /// # Errors
    /// What `ip` complained of.
    pub fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(arguments);
        ip(&all)
    }

    /// Moves the calling thread into the namespace for good; its later threads and child processes are born there.
    ///
    /// # Errors
    /// The kernel refused: not root, or the namespace is gone.
    pub fn enter(&self) -> io::Result<()> {
        enter(&self.path())
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it.
    ///
    /// # Errors
    /// As for [`Namespace::enter`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove_pins(&self.pin_folder());
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Moves the calling thread into the namespace of this file.
///
/// # Errors
/// The kernel refused.
pub fn enter(path: &Path) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&file),
        Some(LinkNameSpaceType::Network),
    )?;
    Ok(())
}

/// One end of a cable, to be.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The host.
    pub namespace: &'a Namespace,
    /// The interface's name there, at most 15 bytes.
    pub interface: &'a str,
    /// Its addresses with their prefixes' lengths.
    pub addresses: &'a [(IpAddr, u8)],
    /// Receive and transmit queues, at least 1.
    pub queues: u32,
}

/// Connects two hosts by a veth pair and brings it up: packets pass when this returns. IPv6 addresses are usable at
/// once (no duplicate detection).
///
/// # Errors
/// What `ip` complained of.
pub fn connect(one: &End<'_>, other: &End<'_>) -> io::Result<()> {
    let [queues, peer_queues] = [one, other].map(|end| end.queues.max(1).to_string());
    ip(&[
        "link",
        "add",
        one.interface,
        "netns",
        one.namespace.name(),
        "numrxqueues",
        &queues,
        "numtxqueues",
        &queues,
        "type",
        "veth",
        "peer",
        "name",
        other.interface,
        "netns",
        other.namespace.name(),
        "numrxqueues",
        &peer_queues,
        "numtxqueues",
        &peer_queues,
    ])?;
    for end in [one, other] {
        for (address, prefix) in end.addresses {
            let address = format!("{address}/{prefix}");
            let mut arguments = vec!["address", "add", &address, "dev", end.interface];
            if address.contains(':') {
                arguments.push("nodad");
            }
            end.namespace.ip(&arguments)?;
        }
        end.namespace.ip(&["link", "set", end.interface, "up"])?;
    }
    // The kernel notices a carrier in its own time, and drops what is sent until then.
    let deadline = Instant::now() + UP_DEADLINE;
    for end in [one, other] {
        let namespace = end.namespace.name();
        while !output(&["-n", namespace, "link", "show", end.interface])?.contains(" state UP ") {
            if Instant::now() > deadline {
                let message = format!("{} in {namespace} does not come up", end.interface);
                return Err(io::Error::other(message));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// An Ethernet switch: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
    ports: AtomicU32,
}

impl Switch {
    /// Makes one.
    ///
    /// # Errors
    /// As for [`Namespace::create`].
    pub fn create(what: &str) -> io::Result<Switch> {
        let namespace = Namespace::create(&format!("{what}-switch"))?;
        // Multicast snooping would hold neighbour solicitations back until it knows who listens.
        namespace.ip(&[
            "link",
            "add",
            "bridge0",
            "type",
            "bridge",
            "mcast_snooping",
            "0",
        ])?;
        namespace.ip(&["link", "set", "bridge0", "up"])?;
        Ok(Switch {
            namespace,
            ports: AtomicU32::new(0),
        })
    }

    /// Where the bridge is: a capture on `bridge0` there sees what is flooded, one on a port what passes it.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Plugs a host in; returns the name of the switch's port.
    ///
    /// # Errors
    /// What `ip` complained of.
    pub fn plug(&self, end: &End<'_>) -> io::Result<String> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        connect(
            end,
            &End {
                namespace: &self.namespace,
                interface: &port,
                addresses: &[],
                queues: end.queues,
            },
        )?;
        self.namespace
            .ip(&["link", "set", &port, "master", "bridge0"])?;
        Ok(port)
    }
}

/// Mounts the BPF file system at /sys/fs/bpf unless it is there.
///
/// # Errors
/// Not root, or a container that forbids it.
pub fn mount_bpffs() -> io::Result<()> {
    static MOUNTING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = MOUNTING.lock();
    if is_bpffs(Path::new(BPFFS)) {
        return Ok(());
    }
    rustix::mount::mount("bpf", BPFFS, "bpf", MountFlags::empty(), None)?;
    Ok(())
}

/// Whether a path lies on a BPF file system.
pub fn is_bpffs(path: &Path) -> bool {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == BPF_FS_MAGIC)
}

/// Removes what processes that are no more have left.
pub fn sweep() {
    for folder in [NAMESPACES, BPFFS] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if maker(name).is_none_or(|pid| Path::new("/proc").join(pid).exists()) {
                continue;
            }
            if folder == NAMESPACES {
                let _ = ip(&["netns", "del", name]);
            } else {
                remove_pins(&entry.path());
            }
        }
    }
}

/// The process id in a name of ours.
fn maker(name: &str) -> Option<&str> {
    let mut parts = name.strip_prefix(PREFIX)?.rsplit('-');
    let number = parts.next()?;
    let pid = parts.next()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(pid) && parts.next().is_some()).then_some(pid)
}

/// Unpins everything below a folder, and the folder.
fn remove_pins(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_pins(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
    let _ = fs::remove_dir(folder);
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    output(arguments).map(drop)
}

/// What `ip` prints.
fn output(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't run ip (package iproute2): {error}"),
        )
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let message = format!("ip {}: {}", arguments.join(" "), complaint.trim());
    Err(io::Error::other(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_form_made_here_have_a_maker() {
        assert_eq!(maker("fogmix-lab-123-0"), Some("123"));
        assert_eq!(maker("fogmix-lab-switch-77-12"), Some("77"));
        for other in [
            "fogmix",
            "fogmix-lab",
            "fogmix-lab-x-1",
            "fogmix-1-2",
            "eth-lab-1-2",
            "fogmix-a--1",
        ] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
