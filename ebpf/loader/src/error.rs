//! Why a loader can't start, can't do what it was asked, or can't be asked: each in a sentence that says what to do.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ebpf_abi::XSKS_MAX;
use handover::protocol::Refusal;

mod class;
mod vault;

pub use vault::VaultError;

/// Why a loader can't start, can't do what it was asked, or can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// This process lacks capabilities.
    #[error(
        "the loader lacks {}: run it as root, or from a unit with AmbientCapabilities= of these",
        missing.join(", ")
    )]
    MissingCapabilities {
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// The capabilities are there, and yet the kernel says no.
    #[error(
        "the kernel forbids BPF here although the capabilities are there: look for a seccomp filter, a security module \
         or lockdown"
    )]
    Forbidden,
    /// A peer asked for what is not for its user.
    #[error(
        "user {uid} may not do this: attaching and detaching is for root and the user of mixctld, sockets also for its \
         --node-user (node_user in [xdp] or [keys])"
    )]
    NotAllowed {
        /// The peer's user.
        uid: u32,
    },
    /// This loader was told to load no XDP program.
    #[error("this mixctld loads no program: start it without --no-xdp and with a section [xdp]")]
    NoXdp,
    /// Something came that is no request.
    #[error("no request of this version: {0}")]
    Malformed(io::Error),
    /// An interface's name that is none.
    #[error("{0:?} is no interface's name: see `ip link`")]
    NotAName(String),
    /// Port or capacity out of bounds.
    #[error(
        "port {port}, capacity {capacity_pps}: the port is 1 to 65535 and the capacity at least {capacity_min} packets/s"
    )]
    OutOfBounds {
        /// The port asked for.
        port: u16,
        /// The capacity asked for.
        capacity_pps: u32,
        /// The least there is.
        capacity_min: u32,
    },
    /// More receiver indices than the program has room for.
    #[error("more than {max} receiver indices")]
    TooManyIndices {
        /// The most there are.
        max: usize,
    },
    /// A request that only a node may send.
    #[error("this connection has no node's sockets: open them first, and again after a detach")]
    NotANode,
    /// A second node on one connection.
    #[error("this connection has a node's sockets already: one node, one connection")]
    AlreadyANode,
    /// There is no interface of this name.
    #[error("there is no interface {name}: {}", class::alternative(nearest.as_deref(), there))]
    UnknownInterface {
        /// The name.
        name: String,
        /// One that differs in a letter or two.
        nearest: Option<String>,
        /// Those there are, without the loopback.
        there: Vec<String>,
    },
    /// It was there a moment ago.
    #[error("{interface} is gone: see `ip link`")]
    InterfaceGone {
        /// Its name.
        interface: String,
    },
    /// It has no Ethernet address.
    #[error("{interface} is no Ethernet interface: attach to the one below it (`ip link`)")]
    NotEthernet {
        /// Its name.
        interface: String,
    },
    /// It stands for several interfaces.
    #[error(
        "{interface} is a bond or a team: packets come on the queues of the interfaces in it, where AF_XDP sockets of \
         {interface} are not; give the node's address to a single interface, or run the node with port = \"uring\""
    )]
    Aggregate {
        /// Its name.
        interface: String,
    },
    /// A datagram does not fit.
    #[error(
        "{interface} has an MTU of {mtu} bytes, less than IPv6 and a datagram of Fogmix need: `ip link set dev \
         {interface} mtu 1500`, or at least {least}"
    )]
    MtuTooSmall {
        /// Its name.
        interface: String,
        /// Its MTU, bytes.
        mtu: u32,
        /// The least that will do, bytes.
        least: u32,
    },
    /// It is down.
    #[error("{interface} is down: `ip link set dev {interface} up`")]
    InterfaceDown {
        /// Its name.
        interface: String,
    },
    /// An interface with the program on it was removed.
    #[error(
        "{interface} is gone, and the program with it: a node that is left receives through the kernel's socket; attach \
         to the interface that takes its place, and restart the node"
    )]
    AttachedGone {
        /// Its name.
        interface: String,
    },
    /// No interface has the node's address.
    #[error(
        "no interface has the address {address}: give the node its interface's own (`ip address`)"
    )]
    NoInterfaceWith {
        /// The address.
        address: IpAddr,
    },
    /// The interface with the node's address went while it was looked for.
    #[error("the interface with {address} is gone")]
    InterfaceWithGone {
        /// The address.
        address: IpAddr,
    },
    /// Another XDP program is there.
    #[error(
        "another XDP program{} is on {interface}: take it off with `ip link set dev {interface} xdp off`, or unpin its \
         link if `bpftool link` shows one",
        program.map_or(String::new(), |id| format!(" (number {id})"))
    )]
    OtherProgram {
        /// The interface's name.
        interface: String,
        /// The kernel's number of it.
        program: Option<u32>,
    },
    /// Not even generic mode works.
    #[error("{interface} takes the program in no mode: {error}")]
    NoMode {
        /// The interface's name.
        interface: String,
        /// What the kernel said.
        error: String,
    },
    /// The driver has no native XDP as it is set up.
    #[error(
        "the driver of {interface} has no native XDP as it is set up: on a virtual NIC try `ethtool -K {interface} lro \
         off rx-gro-hw off`, else attach with --allow-generic (slower)"
    )]
    NoNativeMode {
        /// The interface's name.
        interface: String,
    },
    /// The driver has no native XDP at this MTU.
    #[error(
        "the driver of {interface} refuses native XDP at this MTU ({mtu} bytes, or what the other end of a veth has): \
         `ip link set dev {interface} mtu 1500` on both ends, or attach with --allow-generic (slower)"
    )]
    MtuTooLarge {
        /// The interface's name.
        interface: String,
        /// Its MTU, bytes.
        mtu: u32,
    },
    /// The driver has no queues left for XDP's own.
    #[error(
        "the driver of {interface} has too few queues left for XDP's own: use fewer with `ethtool -L {interface} \
         combined N`, or attach with --allow-generic (slower)"
    )]
    NoQueuesLeft {
        /// The interface's name.
        interface: String,
    },
    /// The driver refuses for a reason of its own.
    #[error(
        "the driver of {interface} refuses native XDP ({error}): attach with --allow-generic (slower)"
    )]
    DriverRefuses {
        /// The interface's name.
        interface: String,
        /// What the kernel said.
        error: String,
    },
    /// The program runs in generic mode, which this request does not allow.
    #[error(
        "{interface} runs the program in generic mode: allow that with --allow-generic, or `mixctl xdp detach \
         {interface}` and attach again to try native mode"
    )]
    GenericMode {
        /// The interface's name.
        interface: String,
    },
    /// The kernel keeps the program after its link was unpinned.
    #[error(
        "the kernel keeps the program on {interface}: is its link open elsewhere (`bpftool link`)?"
    )]
    StillAttached {
        /// The interface's name.
        interface: String,
    },
    /// There is nothing to detach.
    #[error("nothing is attached to {interface}: `mixctl xdp status` shows what is where")]
    NothingAttached {
        /// The interface's name.
        interface: String,
    },
    /// The node's interface has no program.
    #[error("the XDP program is not on {interface}: `mixctl xdp attach {interface} --port {port}`")]
    NotAttached {
        /// The interface's name.
        interface: String,
        /// The node's port.
        port: u16,
    },
    /// The program is another node's.
    #[error(
        "the program on {interface} is for port {attached}, not {port}: `mixctl xdp attach {interface} --port {port}`"
    )]
    OtherPort {
        /// The interface's name.
        interface: String,
        /// The program's port.
        attached: u16,
        /// The node's.
        port: u16,
    },
    /// The kernel takes program or maps not at all.
    #[error(
        "the kernel ({release}) refused the XDP program, which needs Linux 6.1 or newer with CONFIG_BPF_SYSCALL and \
         CONFIG_XDP_SOCKETS: {error}"
    )]
    KernelRefuses {
        /// The kernel's release.
        release: String,
        /// What it said.
        error: String,
    },
    /// The verifier refused the program.
    #[error("{0}")]
    Verifier(String),
    /// The object is none of ours.
    #[error("the XDP object has no program named steer")]
    NoProgram,
    /// Maps of another version are pinned.
    #[error("the maps pinned in {} are another version's ({error}): detach, then attach", folder.display())]
    OtherVersion {
        /// Where.
        folder: PathBuf,
        /// What does not fit.
        error: String,
    },
    /// A map has no room for more.
    #[error("{interface}: the program has no room for more sessions or peers")]
    Full {
        /// The interface's name.
        interface: String,
    },
    /// A map can't be read or written.
    #[error(
        "the maps of the program on {interface} can't be used ({error}): `mixctl xdp detach {interface}`, then attach"
    )]
    Maps {
        /// The interface's name.
        interface: String,
        /// What the kernel said.
        error: String,
    },
    /// The interface has another node.
    #[error("{interface} has a node already (process {pid}): stop that one first")]
    HasNode {
        /// The interface's name.
        interface: String,
        /// The node's process.
        pid: i32,
    },
    /// A node that comes back finds nothing of its own.
    #[error(
        "{interface} has nothing to resume: its sockets were taken out of use, or it has another node; open new ones"
    )]
    NothingToResume {
        /// The interface's name.
        interface: String,
    },
    /// Workers or frames out of bounds.
    #[error(
        "{workers} workers with {frames} frames: at least one of each is needed and at most {frames_max} frames are given"
    )]
    Frames {
        /// Workers asked for.
        workers: usize,
        /// Frames of all of them.
        frames: u64,
        /// The most there are.
        frames_max: u64,
    },
    /// More workers than queues.
    #[error(
        "{workers} workers, but {interface} has {queues} receive queue{s}: give the node {queues} worker{s}, or the \
         interface more queues (`ethtool -L {interface} combined {workers}`; a veth: `rx {workers} tx {workers}`)",
        s = if *queues == 1 { "" } else { "s" }
    )]
    TooFewQueues {
        /// The interface's name.
        interface: String,
        /// Workers asked for.
        workers: usize,
        /// The interface's receive queues.
        queues: u32,
    },
    /// More queues than the program has sockets for.
    #[error(
        "{interface} has {queues} receive queues and the program steers {XSKS_MAX}: `ethtool -L {interface} combined \
         {XSKS_MAX}`, or the number of workers"
    )]
    TooManyQueues {
        /// The interface's name.
        interface: String,
        /// Its receive queues.
        queues: u32,
    },
    /// More descriptors than one message carries.
    #[error("{workers} workers with {queues} queues are more than a message can carry")]
    TooManyDescriptors {
        /// Workers asked for.
        workers: usize,
        /// The interface's receive queues.
        queues: u32,
    },
    /// The kernel knows no AF_XDP.
    #[error("the kernel has no AF_XDP sockets: it needs CONFIG_XDP_SOCKETS=y")]
    NoAfXdp,
    /// Memory can't be had or locked.
    #[error(
        "{what}: not enough memory may be locked ({error}): give the loader CAP_IPC_LOCK or LimitMEMLOCK=infinity, or \
         the node a smaller pool"
    )]
    Memory {
        /// For what.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Descriptors can't be had.
    #[error("{what}: too many open files: raise LimitNOFILE of the loader")]
    Descriptors {
        /// For what.
        what: String,
    },
    /// A socket or its memory can't be made for another reason.
    #[error("{what}: {error}")]
    Socket {
        /// Which.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Busy polling can't be had.
    #[error("busy polling: {0}; it needs Linux 5.11, or set it off in the node's configuration")]
    BusyPoll(io::Error),
    /// A queue stayed taken.
    #[error(
        "queue {queue} of {interface} is taken by another process's AF_XDP socket: stop that process (`ss --xdp` or \
         `lsof | grep XDP` may name it)"
    )]
    QueueTaken {
        /// The interface's name.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The folder for pins can't be made.
    #[error(
        "can't use {} for pins: {error}; is the BPF file system there (`mount -t bpf bpf /sys/fs/bpf`) and the folder \
         the loader's?",
        folder.display()
    )]
    Pins {
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It lies on another file system.
    #[error(
        "{} is not on a BPF file system: `mount -t bpf bpf /sys/fs/bpf`, or --pins with a folder on one",
        folder.display()
    )]
    NotBpffs {
        /// The folder.
        folder: PathBuf,
    },
    /// What is pinned can't be removed.
    #[error("can't remove {}: {error}", folder.display())]
    Remove {
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Another loader has the pins.
    #[error(
        "another mixctld uses {}: stop it first, or give this one its own --pins and --socket",
        folder.display()
    )]
    PinsTaken {
        /// The folder.
        folder: PathBuf,
    },
    /// The socket can't be made.
    #[error("can't listen at {}: {error}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Something else is where the socket should be.
    #[error("{} is there and no socket: remove it or give another --socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// Another loader listens there.
    #[error("another mixctld listens at {}: stop it first", path.display())]
    SocketTaken {
        /// Where.
        path: PathBuf,
    },
    /// The socket can't be given to the node's group.
    #[error(
        "can't give {} to group {gid}: {error}; the loader must be a member of it, or root",
        path.display()
    )]
    SocketGroup {
        /// Where.
        path: PathBuf,
        /// The group.
        gid: u32,
        /// What the kernel said.
        error: io::Error,
    },
    /// Nobody listens.
    #[error(
        "mixctld is not running: nobody listens at {} (start it as root, or give its --socket)",
        path.display()
    )]
    NotRunning {
        /// Where.
        path: PathBuf,
    },
    /// The socket is not for this user.
    #[error("{} is not for this user: run as root, or as the user of mixctld", path.display())]
    NotForThisUser {
        /// Where.
        path: PathBuf,
    },
    /// It can't be reached for another reason.
    #[error("{}: {error}", path.display())]
    Unreachable {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It hung up.
    #[error("mixctld closed the connection: its log says why")]
    HungUp,
    /// It said no.
    #[error("{0}")]
    Refused(Refusal),
    /// Keys and replay tables are not handed out, or not taken back.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The system failed something else.
    #[error("{0}")]
    System(#[from] io::Error),
}
