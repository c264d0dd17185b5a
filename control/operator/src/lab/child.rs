//! One node of a lab: this same program, started again with a hidden subcommand.
//!
//! A child never outlives its lab: the kernel kills it with the parent (PR_SET_PDEATHSIG), and the end of
//! its standard input asks it to stop in good order.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use directory::Role;
use handover::status::NodeStatus;
use rustix::thread::CapabilitySet;

use super::status::Status;
use control::authority::service::{self, Signals};
use control::exit::{self, Failure};
use loader;
use loader::netns::{self, Namespace};

/// The user and group that nodes with namespaces of their own run as: nobody.
pub const USER: u32 = 65_534;
/// How long a node may take to drain its pool before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A running node, seen from the lab.
#[derive(Debug)]
pub struct Node {
    /// From 1; [`super::Options::address`] says where the node listens.
    pub number: u16,
    /// Gateway or mix.
    pub role: Role,
    child: Child,
    stdin: Option<ChildStdin>,
    status: Arc<Mutex<Status>>,
    log: PathBuf,
    gone: Option<ExitStatus>,
}

impl Node {
    /// Starts node `number` from its config file; its log goes beside that. In a namespace it runs as [`USER`]. `ear`
    /// hears what it says of itself, and its end.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn start(
        number: u16,
        role: Role,
        config: &Path,
        namespace: Option<&Path>,
        ear: Option<impl Fn(Option<NodeStatus>) + Send + 'static>,
    ) -> io::Result<Self> {
        let log = config.with_file_name("log");
        let mut command = again("lab-node")?;
        command.arg("--config").arg(config);
        if let Some(namespace) = namespace {
            command.arg("--namespace").arg(namespace);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(OpenOptions::new().append(true).create(true).open(&log)?)
            .spawn()?;
        let status = Arc::new(Mutex::new(Status::default()));
        if let Some(stdout) = child.stdout.take() {
            let status = Arc::clone(&status);
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Some(mut read) = Status::from_line(&line) {
                        if let (Some(ear), Some(told)) = (&ear, read.told.take()) {
                            ear(Some(*told));
                        }
                        *status.lock().unwrap_or_else(PoisonError::into_inner) = read;
                    }
                }
                if let Some(ear) = ear {
                    ear(None);
                }
            });
        }
        Ok(Self {
            number,
            role,
            stdin: child.stdin.take(),
            child,
            status,
            log,
            gone: None,
        })
    }

    /// What the node last said of itself.
    pub fn status(&self) -> Status {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, once it has.
    pub fn gone(&mut self) -> Option<ExitStatus> {
        if self.gone.is_none() {
            self.gone = self.child.try_wait().ok().flatten();
        }
        self.gone
    }

    /// The failure of a node that ended during the start: its exit code and its own last words.
    pub fn failure(&self, status: ExitStatus) -> Failure {
        let code = status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .filter(|code| *code != 0)
            .unwrap_or(exit::OS);
        let number = self.number;
        let last = last_words(&self.log);
        Failure::new(code, format!("node {number} ended ({status}):\n  {last}"))
    }

    /// Asks the node to stop; [`Node::finish`] waits for it.
    pub fn stop(&mut self) {
        self.stdin = None;
    }

    /// Ends the node at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.gone = self.child.wait().ok();
    }

    /// Waits for a stopped node until `deadline`, then kills it.
    fn finish(&mut self, deadline: Instant) {
        while self.gone().is_none() {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// This program with a hidden subcommand, which ends with its standard input or its parent.
fn again(subcommand: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(subcommand)
        .arg("--parent")
        .arg(std::process::id().to_string())
        .stdin(Stdio::piped())
        // Ctrl-C is for the lab alone, which then stops its children in order.
        .process_group(0);
    Ok(command)
}

/// The last lines of a log.
fn last_words(log: &Path) -> String {
    let mut last = VecDeque::new();
    for line in fs::read_to_string(log).unwrap_or_default().lines() {
        last.push_back(line.to_owned());
        if last.len() > 5 {
            last.pop_front();
        }
    }
    Vec::from(last).join("\n  ")
}

/// A process beside the nodes, seen from the lab: stopped when dropped.
#[derive(Debug)]
pub struct Helper {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Helper {
    /// Starts the loader of a host in `namespace`, which listens at `socket`; its log goes beside that.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn loader(namespace: &Namespace, socket: &Path) -> io::Result<Self> {
        let mut command = again("lab-loader")?;
        command
            .arg("--namespace")
            .arg(namespace.path())
            .arg("--socket")
            .arg(socket)
            .arg("--pins")
            .arg(namespace.pins()?);
        Self::start("a loader".to_owned(), command, socket.with_extension("log"))
    }

    /// Starts authority `number` from its config file; its log goes beside that.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn authority(number: u8, config: &Path) -> io::Result<Self> {
        let mut command = again("lab-authority")?;
        command.arg("--config").arg(config);
        let what = format!("authority {number}");
        Self::start(what, command, config.with_file_name("log"))
    }

    fn start(what: String, mut command: Command, log: PathBuf) -> io::Result<Self> {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let stdin = child.stdin.take();
        Ok(Self {
            what,
            child,
            stdin,
            log,
        })
    }

    /// Why it ended, if it has.
    pub fn failure(&mut self) -> Option<Failure> {
        let status = self.child.try_wait().ok().flatten()?;
        let (what, last) = (&self.what, last_words(&self.log));
        Some(Failure::new(
            exit::OS,
            format!("{what} ended ({status}):\n  {last}"),
        ))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stdin = None;
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Stops all nodes at once and waits for the last.
pub fn stop_all(nodes: &mut [Node]) {
    nodes.iter_mut().for_each(Node::stop);
    let deadline = Instant::now() + STOP_PATIENCE;
    nodes.iter_mut().for_each(|node| node.finish(deadline));
}

/// Ties this process to the lab that started it: it is killed when that one ends.
fn tie_to(parent: u32) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(io::Error::from)?;
    // The parent may have died before the kernel knew of our wish.
    let alive = rustix::process::getppid()
        .is_some_and(|id| u32::try_from(id.as_raw_nonzero().get()) == Ok(parent));
    if alive {
        Ok(())
    } else {
        Err(Failure::new(exit::OS, "the lab that started this is gone"))
    }
}

/// A flag that the end of standard input sets.
fn asked_to_stop() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        asked.store(true, Ordering::Release);
    });
    stop
}

/// Moves this process, which has one thread yet, to a host, and makes it user nobody, for good.
fn move_to(namespace: &Path) -> Result<(), Failure> {
    netns::enter(namespace)?;
    // Nobody may not do it later.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    let (user, group) = (
        rustix::process::Uid::from_raw(USER),
        rustix::process::Gid::from_raw(USER),
    );
    rustix::thread::set_thread_groups(&[]).map_err(io::Error::from)?;
    rustix::thread::set_thread_res_gid(group, group, group).map_err(io::Error::from)?;
    rustix::thread::set_thread_res_uid(user, user, user).map_err(io::Error::from)?;
    Ok(())
}

/// The hidden subcommand: runs one node until standard input ends.
///
/// # Errors
/// What the node says, with its exit code.
pub fn run(config: &Path, parent: u32, namespace: Option<&Path>) -> Result<ExitCode, Failure> {
    if let Some(namespace) = namespace {
        move_to(namespace)?;
    }
    // After the change of user, which takes the tie off.
    tie_to(parent)?;
    let node = super::node::prepare(config)?;
    // A thread from before would be outside of what the node has given up.
    let stop = asked_to_stop();
    super::node::run(node, &stop)
}

/// The hidden subcommand: runs a host's loader until standard input ends. What it attached goes with the host.
///
/// # Errors
/// What the loader says.
pub fn run_loader(
    parent: u32,
    namespace: &Path,
    socket: &Path,
    pins: &Path,
) -> Result<ExitCode, Failure> {
    tie_to(parent)?;
    netns::enter(namespace)?;
    program::log::start().map_err(|why| Failure::new(exit::USAGE, why))?;
    let options = loader::Options {
        socket: socket.to_owned(),
        pins: pins.to_owned(),
        node_user: Some(loader::User {
            uid: USER,
            gid: USER,
        }),
    };
    let stop = io::stdin().as_fd().try_clone_to_owned()?;
    loader::Loader::new(options, loader::Keeping::default())?.run(stop)?;
    Ok(ExitCode::SUCCESS)
}

/// The hidden subcommand: runs one authority until standard input ends.
///
/// # Errors
/// What the authority says.
pub fn run_authority(config: &Path, parent: u32) -> Result<ExitCode, Failure> {
    tie_to(parent)?;
    program::log::start().map_err(|why| Failure::new(exit::USAGE, why))?;
    let config = control::config::load(config)
        .map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
    let authority = config
        .authority
        .ok_or_else(|| Failure::new(exit::CONFIG, "no section [authority]"))?;
    let signals = Signals {
        stop: asked_to_stop(),
        reread: Arc::default(),
    };
    service::run(&authority, &signals)?;
    Ok(ExitCode::SUCCESS)
}
