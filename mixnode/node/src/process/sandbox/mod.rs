//! What a node gives up once it has what it needs, so that whoever takes it over gains next to nothing.
//!
//! Two steps. [`confine`] comes before the first thread, because its parts hold for one thread and those it starts:
//! no new privileges, no capabilities, no core dumps and no tracers, and from the file system only the directory
//! folder (Landlock). [`seal`] comes when the workers' rings exist: a seccomp filter on all threads that knows the
//! system calls of a running node and refuses every other one with EPERM, io_uring_setup, bpf, socket, ptrace, clone
//! and execve among them. Operations of an io_uring pass by seccomp, so the rings are restricted on their own: see
//! [`port::uring`].
//!
//! A kernel without one of the parts is said so in the log; `[sandbox] mode = "require"` refuses to run on it.

mod calls;
mod files;
mod privileges;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use calls::Calls;
pub use privileges::{lock_memory, raise_memory_limit};

/// `[sandbox] mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is given up: for debuggers and profilers.
    Off,
    /// All that the kernel offers; what it does not is said in the log.
    #[default]
    On,
    /// As [`Mode::On`], but a node that lacks a part does not start.
    Require,
}

/// How much of a part is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// Nothing.
    #[default]
    None,
    /// What an older kernel knows of it.
    Partial,
    /// All.
    Full,
}

/// What is in force: in the log, the status and a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// execve can't add rights (PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// Permitted, effective, inheritable and ambient sets are empty, read back; the bounding set too if the node could
    /// change it.
    pub no_capabilities: bool,
    /// No core dumps, and no tracer without CAP_SYS_PTRACE.
    pub not_dumpable: bool,
    /// Files beyond the directory folder, TCP, other processes' abstract sockets, signals to them (Landlock).
    pub landlock: Extent,
    /// The filter of system calls on every thread.
    pub seccomp: bool,
}

impl Confinement {
    /// Every part by name, and how much of it is in force.
    pub fn parts(&self) -> [(&'static str, Extent); 5] {
        let whole = |on| if on { Extent::Full } else { Extent::None };
        [
            ("no-new-privileges", whole(self.no_new_privileges)),
            ("no-capabilities", whole(self.no_capabilities)),
            ("not-dumpable", whole(self.not_dumpable)),
            ("landlock", self.landlock),
            ("seccomp", whole(self.seccomp)),
        ]
    }

    /// Whether every part is in force, as far as this kernel knows it.
    pub fn is_complete(&self) -> bool {
        self.parts()
            .iter()
            .all(|(_, extent)| *extent != Extent::None)
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, extent) in self.parts() {
            let much = match extent {
                Extent::None => continue,
                Extent::Partial => " (partial)",
                Extent::Full => "",
            };
            write!(f, "{separator}{name}{much}")?;
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}

/// A part that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox lacks {part}: {reason}")]
pub struct SandboxError {
    /// Its name in [`Confinement::parts`].
    pub part: &'static str,
    /// Why, and what would help.
    pub reason: String,
}

/// The first step: before any thread is started, after all that needs a privilege is open. `folder` is the directory
/// folder, and `published` its part that the node writes its descriptor to; both must exist.
///
/// # Errors
/// With [`Mode::Require`], the first part that is missing.
pub fn confine(mode: Mode, folder: &Path, published: &Path) -> Result<Confinement, SandboxError> {
    let mut done = Confinement::default();
    if mode == Mode::Off {
        tracing::warn!("[sandbox] mode = \"off\": the node keeps all the rights of its user");
        return Ok(done);
    }
    // Landlock hides /proc.
    let threads = privileges::threads();
    done.no_new_privileges = in_force(
        mode,
        "no-new-privileges",
        privileges::forbid_new().map(|()| true),
    )?;
    done.no_capabilities = in_force(mode, "no-capabilities", privileges::drop_capabilities())?;
    // Packets and keys are in this memory.
    let no_dumps = program::limits::forbid_dumps();
    done.not_dumpable = in_force(
        mode,
        "not-dumpable",
        no_dumps.map(|()| true).map_err(Into::into),
    )?;
    done.landlock = in_force(mode, "landlock", files::restrict(folder, published))?;
    if let Some(threads) = threads.filter(|threads| *threads > 1) {
        let reason =
            format!("{threads} threads run already, and it holds for one and those it starts");
        // Which part of them is loose can't be undone: none of it counts.
        (done.no_capabilities, done.landlock) = (false, Extent::None);
        in_force(
            mode,
            "no-capabilities and landlock",
            Err::<(), _>(reason.into()),
        )?;
    }
    Ok(done)
}

/// The second step: when every thread runs and every ring exists.
///
/// # Errors
/// With [`Mode::Require`], if the filter can't be had.
pub fn seal(mode: Mode, calls: Calls, mut done: Confinement) -> Result<Confinement, SandboxError> {
    if mode != Mode::Off {
        done.seccomp = in_force(mode, "seccomp", calls::filter(calls).map(|()| true))?;
    }
    Ok(done)
}

/// The outcome of a part: as it came, or, unless it is required, a warning and nothing in force.
fn in_force<T: Default>(
    mode: Mode,
    part: &'static str,
    outcome: Result<T, Box<dyn std::error::Error>>,
) -> Result<T, SandboxError> {
    outcome.or_else(|error| {
        let missing = SandboxError {
            part,
            reason: error.to_string(),
        };
        if mode == Mode::Require {
            return Err(missing);
        }
        tracing::error!(part, reason = %missing.reason, "THE SANDBOX IS INCOMPLETE: the node runs without this part");
        Ok(T::default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_reads_as_a_list() {
        let mut done = Confinement::default();
        assert_eq!(done.to_string(), "nothing");
        assert!(!done.is_complete());
        done.no_new_privileges = true;
        done.landlock = Extent::Partial;
        assert_eq!(done.to_string(), "no-new-privileges, landlock (partial)");
        (done.no_capabilities, done.not_dumpable, done.seccomp) = (true, true, true);
        assert!(done.is_complete());
    }

    #[test]
    fn a_missing_part_is_an_error_only_where_it_is_required() {
        let missing = || Err::<bool, _>("the kernel has none".into());
        assert_eq!(in_force(Mode::On, "landlock", missing()), Ok(false));
        let refused = in_force(Mode::Require, "landlock", missing()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the sandbox lacks landlock: the kernel has none"
        );
    }
}
