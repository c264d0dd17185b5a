//! The loader: puts the XDP program on interfaces, hands nodes their sockets and packet memory, and alone writes the
//! program's maps. It also holds a node's keys and replay tables while the node is away. `mixctld` is this in a process of its own; tests and the lab run it on a thread.
//!
//! What it needs is CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW. What is attached outlives it: link and maps are
//! pinned, a node's sockets stay in the map, and the next loader takes all of it over. A node that was connected says
//! [`Request::Resume`] to the new one within [`GRACE`], else its receiver indices are forgotten.
//!
//! Keys need none of those capabilities: [`Loader::without_xdp`].
//!
//! [`Request::Resume`]: handover::protocol::Request::Resume

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod condition;
mod error;
pub mod exit;
mod explain;
mod interface;
mod leaving;
mod maps;
mod memory;
pub mod netns;
mod open;
mod program;
mod server;
mod sockets;
mod state;
mod vault;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use handover::channel::Channel;
use handover::protocol::{Reply, Request, SOCKET_PATH};
use handover::status::NodeStatus;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};

pub use error::{LoaderError, VaultError};
pub use sockets::listen_fds;
pub use vault::Store;

/// Where link and maps are pinned unless told otherwise.
pub const PINS: &str = "/sys/fs/bpf/fogmix";
/// How long after its start a loader waits for the nodes of an earlier one.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long a question waits for its answer: behind another operator's, say, whose program is being attached.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long who has a program attached or taken out waits: a driver that sets its queues up anew takes seconds for each.
const ATTACH_PATIENCE: Duration = Duration::from_secs(60);
/// How long a loader that starts waits to learn whether another one takes connections in.
const LOOK: Duration = Duration::from_secs(1);

/// How a loader keeps a node's keys and replay tables.
pub struct Keeping {
    /// What all replay tables together may take, bytes.
    pub tables_bytes_max: u64,
    /// What keeps them beyond the loader's end, if there is anything.
    pub store: Option<Box<dyn Store>>,
    /// What that kept of an earlier loader's, by name.
    pub returned: Vec<(String, OwnedFd)>,
}

impl Default for Keeping {
    /// Half the machine's memory for tables, and nothing that lives longer: a node brings its memory back.
    fn default() -> Keeping {
        let system = rustix::system::sysinfo();
        let bytes = u64::from(system.mem_unit).saturating_mul(system.totalram);
        Keeping {
            tables_bytes_max: bytes / 2,
            store: None,
            returned: Vec::new(),
        }
    }
}

/// How a loader runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub socket: PathBuf,
    /// The folder, on a BPF file system, for what outlives it. No two loaders may share one.
    pub pins: PathBuf,
    /// Who, besides root and the loader's own user, may be a node.
    pub node_user: Option<User>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            socket: SOCKET_PATH.into(),
            pins: PINS.into(),
            node_user: None,
        }
    }
}

/// A user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group, which the socket is given to.
    pub gid: u32,
}

impl User {
    /// Reads a user's name, or `UID`, or `UID:GID` (the group is the user's number unless said otherwise).
    ///
    /// # Errors
    /// /etc/passwd has no such name.
    pub fn parse(text: &str) -> Result<User, String> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        if let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) {
            return Ok(User { uid, gid });
        }
        let users =
            fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        User::find(&users, text).ok_or_else(|| {
            format!("no user {text} in /etc/passwd: give a name from there or a number")
        })
    }

    fn find(users: &str, name: &str) -> Option<User> {
        // name:password:UID:GID:…
        let mut fields = users
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    }
}

/// A loader that listens, not yet serving.
pub struct Loader {
    server: server::Server,
    socket: PathBuf,
    /// Locked for as long as the loader lives: nobody else may use the pins.
    _pins: Option<OwnedFd>,
}

impl Loader {
    /// Takes over what an earlier loader left and listens. The network namespace is the calling thread's.
    ///
    /// # Errors
    /// A capability is missing, the pins or the socket can't be used, or another loader does.
    pub fn new(options: Options, keeping: Keeping) -> Result<Loader, LoaderError> {
        explain::missing_capabilities()?;
        raise_memlock();
        program::prepare(&options.pins)?;
        let pins = lock(&options.pins)?;
        let state = state::State::take_over(&options.pins)?;
        Loader::serving(options, keeping, state, Some(pins))
    }

    /// As [`Loader::new`], but it loads no program and so needs no capability: it keeps keys, for nodes on other ports.
    ///
    /// # Errors
    /// The socket can't be used.
    pub fn without_xdp(options: Options, keeping: Keeping) -> Result<Loader, LoaderError> {
        raise_memlock();
        Loader::serving(options, keeping, state::State::without_xdp(), None)
    }

    fn serving(
        options: Options,
        keeping: Keeping,
        state: state::State,
        pins: Option<OwnedFd>,
    ) -> Result<Loader, LoaderError> {
        let listener = listen(&options.socket, options.node_user)?;
        let vaults = vault::Vaults::new(keeping.tables_bytes_max, keeping.store, keeping.returned);
        Ok(Loader {
            server: server::Server::new(listener, state, vaults, options.node_user),
            socket: options.socket,
            _pins: pins,
        })
    }

    /// Has `beat` called about every so often while the loader serves: a sign that it lives.
    pub fn beating(mut self, every: Duration, beat: impl FnMut() + Send + 'static) -> Loader {
        self.server.beat(every, Box::new(beat));
        self
    }

    /// Has `heard` called with what the node here says of itself, about once a second, and with nothing when its
    /// connection ends.
    pub fn telling(mut self, heard: impl FnMut(Option<NodeStatus>) + Send + 'static) -> Loader {
        self.server.leaving.tell(Box::new(heard));
        self
    }

    /// Binds a node's sockets only when it is ready for packets, as on a kernel before Linux 6.4, where rings of bound ones
    /// can't be mapped.
    pub fn binding_late(mut self) -> Loader {
        self.server.binds_late = true;
        self
    }

    /// Serves until `stop` is readable or its other end closed. What is attached stays.
    ///
    /// # Errors
    /// The system failed the loop itself.
    pub fn run(mut self, stop: OwnedFd) -> Result<(), LoaderError> {
        let served = self.server.run(&stop);
        let _ = fs::remove_file(&self.socket);
        served
    }

    /// Starts a loader on a thread of its own, in the calling thread's network namespace.
    ///
    /// # Errors
    /// As for [`Loader::new`].
    pub fn start(options: Options) -> Result<Handle, LoaderError> {
        Loader::new(options, Keeping::default())?.on_a_thread()
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// There is none to be had.
    pub fn on_a_thread(self) -> Result<Handle, LoaderError> {
        let loader = self;
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || {
                if let Err(failure) = loader.run(stopped.into()) {
                    tracing::error!("the loader ended: {failure}");
                }
            })?;
        Ok(Handle {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// A loader on a thread. Dropping it stops the thread and waits for it; what is attached stays, as it does when a daemon
/// ends.
#[derive(Debug)]
pub struct Handle {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The loop sees the other end close.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks the loader at `socket` one thing that comes back without descriptors.
///
/// # Errors
/// Nobody listens there, this user may not connect, nothing is answered, or the loader refused.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, LoaderError> {
    let patience = match request {
        Request::Attach { .. } | Request::Detach { .. } => ATTACH_PATIENCE,
        _ => PATIENCE,
    };
    ask_within(socket, request, patience)
}

fn ask_within(socket: &Path, request: &Request, patience: Duration) -> Result<Reply, LoaderError> {
    let failed = |error: io::Error| {
        let path = socket.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                LoaderError::NotRunning { path }
            }
            io::ErrorKind::PermissionDenied => LoaderError::NotForThisUser { path },
            io::ErrorKind::WouldBlock => {
                let text = "mixctld does not answer: it stands still; see its log, and restart it";
                let error = io::Error::new(io::ErrorKind::TimedOut, text);
                LoaderError::Unreachable { path, error }
            }
            _ => LoaderError::Unreachable { path, error },
        }
    };
    let channel = Channel::connect_within(socket, patience).map_err(failed)?;
    channel.send(request, &[]).map_err(failed)?;
    match channel.receive::<Reply>().map_err(failed)? {
        Some((Reply::Refused(refusal), _)) => Err(LoaderError::Refused(refusal)),
        Some((reply, _)) => Ok(reply),
        None => Err(LoaderError::HungUp),
    }
}

/// Locked memory is for packet memory, where CAP_IPC_LOCK does not lift the limit anyway.
fn raise_memlock() {
    let limit = rustix::process::getrlimit(Resource::Memlock);
    for wanted in [None, limit.maximum] {
        let wanted = Rlimit {
            current: wanted,
            maximum: wanted,
        };
        if rustix::process::setrlimit(Resource::Memlock, wanted).is_ok() {
            break;
        }
    }
}

fn lock(pins: &Path) -> Result<OwnedFd, LoaderError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(pins, flags, Mode::empty()).map_err(io::Error::from)?;
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        LoaderError::PinsTaken {
            folder: pins.to_owned(),
        }
    })?;
    Ok(folder)
}

fn listen(path: &Path, node_user: Option<User>) -> Result<OwnedFd, LoaderError> {
    let fault = |error: io::Error| LoaderError::Listen {
        path: path.to_owned(),
        error,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    let address = SocketAddrUnix::new(path).map_err(|error| fault(error.into()))?;
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(LoaderError::NotASocket {
                path: path.to_owned(),
            });
        }
        // One that stands still is there too.
        let stands_still = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if Channel::connect_within(path, LOOK).map_or_else(|error| stands_still(&error), |_| true) {
            return Err(LoaderError::SocketTaken {
                path: path.to_owned(),
            });
        }
        // A killed loader's.
        fs::remove_file(path).map_err(fault)?;
    }
    let listener = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| fault(error.into()))?;
    rustix::net::bind(&listener, &address).map_err(|error| fault(error.into()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(fault)?;
    if let Some(user) = node_user {
        std::os::unix::fs::chown(path, None, Some(user.gid)).map_err(|error| {
            LoaderError::SocketGroup {
                path: path.to_owned(),
                gid: user.gid,
                error,
            }
        })?;
    }
    rustix::net::listen(&listener, 16).map_err(|error| fault(error.into()))?;
    Ok(listener)
}

/// Time since boot, sleep included: what the lives of keys are measured by.
fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_a_number_or_two() {
        let users = "root:x:0:0:root:/root:/bin/sh\nfogmix:x:990:991::/:/sbin/nologin\nodd:x:a:b\n";
        assert_eq!(
            User::find(users, "fogmix"),
            Some(User { uid: 990, gid: 991 })
        );
        assert_eq!(User::find(users, "odd"), None);
        assert_eq!(User::find(users, "fog"), None);
        assert_eq!(
            User::parse("65534"),
            Ok(User {
                uid: 65534,
                gid: 65534
            })
        );
        assert_eq!(User::parse("5:7"), Ok(User { uid: 5, gid: 7 }));
        assert_eq!(User::parse("root"), Ok(User { uid: 0, gid: 0 }));
        assert!(User::parse("no such user").is_err());
    }

    #[test]
    fn asking_where_nobody_listens_says_that_the_daemon_is_not_running() {
        let folder = tempfile::tempdir().unwrap();
        let error = ask(&folder.path().join("socket"), &Request::Status).unwrap_err();
        assert!(matches!(error, LoaderError::NotRunning { .. }), "{error}");
    }

    #[test]
    fn a_daemon_that_stands_still_is_waited_for_no_longer_than_patience_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _still = listen(&path, None).unwrap();
        let patience = Duration::from_millis(20);
        // As many questions as wait in line, and one more, for whom there is no room there.
        for number in 0..20 {
            let error = ask_within(&path, &Request::Status, patience).unwrap_err();
            assert!(
                error.to_string().contains("stands still"),
                "{number}: {error}"
            );
        }
        assert!(matches!(
            listen(&path, None).unwrap_err(),
            LoaderError::SocketTaken { .. }
        ));
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_replaced_and_a_dead_loaders_socket_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        fs::write(&path, "precious").unwrap();
        assert!(listen(&path, None).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        let first = listen(&path, None).unwrap();
        assert!(matches!(
            listen(&path, None).unwrap_err(),
            LoaderError::SocketTaken { .. }
        ));
        drop(first);
        let second = listen(&path, None).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        drop(second);
    }
}
