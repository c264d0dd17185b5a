//! One node of a lab: this same program, started again with a hidden subcommand.
//!
//! A child never outlives its lab: the kernel kills it with the parent (PR_SET_PDEATHSIG), and the end of
//! its standard input asks it to stop in good order.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use directory::Role;

use super::status::Status;
use crate::exit::{self, Failure};

/// How long a node may take to drain its pool before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A running node, seen from the lab.
#[derive(Debug)]
pub struct Node {
    /// From 1; the node listens on 127.1.N.1.
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
    /// Starts node `number` from its config file; its log goes beside that.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn start(number: u16, role: Role, config: &Path) -> io::Result<Self> {
        let log = config.with_file_name("log");
        let mut child = Command::new(std::env::current_exe()?)
            .arg("lab-node")
            .arg("--config")
            .arg(config)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            // Ctrl-C is for the lab alone, which then stops its nodes in order.
            .process_group(0)
            .spawn()?;
        let status = Arc::new(Mutex::new(Status::default()));
        if let Some(stdout) = child.stdout.take() {
            let status = Arc::clone(&status);
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Some(read) = Status::from_line(&line) {
                        *status.lock().unwrap_or_else(PoisonError::into_inner) = read;
                    }
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
        let mut last = VecDeque::new();
        for line in fs::read_to_string(&self.log).unwrap_or_default().lines() {
            last.push_back(line.to_owned());
            if last.len() > 5 {
                last.pop_front();
            }
        }
        let last = Vec::from(last).join("\n  ");
        Failure::new(code, format!("node {number} ended ({status}):\n  {last}"))
    }

    /// Asks the node to stop; [`Node::finish`] waits for it.
    pub fn stop(&mut self) {
        self.stdin = None;
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

/// Stops all nodes at once and waits for the last.
pub fn stop_all(nodes: &mut [Node]) {
    nodes.iter_mut().for_each(Node::stop);
    let deadline = Instant::now() + STOP_PATIENCE;
    nodes.iter_mut().for_each(|node| node.finish(deadline));
}

/// The hidden subcommand: runs one node until standard input ends.
///
/// # Errors
/// What the node says, with its exit code.
pub fn run(config: &Path, parent: u32) -> Result<ExitCode, Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(io::Error::from)?;
    // The parent may have died before the kernel knew of our wish.
    let alive = rustix::process::getppid()
        .is_some_and(|id| u32::try_from(id.as_raw_nonzero().get()) == Ok(parent));
    if !alive {
        return Err(Failure::new(
            exit::OS,
            "the lab that started this node is gone",
        ));
    }
    let node = super::node::prepare(config)?;
    // A thread from before would be outside of what the node has given up.
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        asked.store(true, Ordering::Release);
    });
    super::node::run(node, &stop)
}
