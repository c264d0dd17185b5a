//! Limits of the process.

use std::fmt;
use std::io;

use rustix::mm::MlockAllFlags;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior,
    setrlimit,
};

/// The process may not open as many descriptors as it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewDescriptors {
    /// How many it needs.
    pub needed: u64,
    /// How many it may have at most.
    pub allowed: u64,
}

impl fmt::Display for TooFewDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, allowed } = self;
        write!(
            f,
            "{needed} file descriptors are needed, and this process may open {allowed}: set LimitNOFILE={needed} in its \
             unit, or `ulimit -Hn {needed}` before its start"
        )
    }
}

impl std::error::Error for TooFewDescriptors {}

/// Sees to it that the process may open `needed` descriptors; raises the soft limit where the hard one allows.
///
/// # Errors
/// The hard limit is lower.
pub fn descriptors(needed: u64) -> Result<(), TooFewDescriptors> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if allowed >= needed && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    Err(TooFewDescriptors { needed, allowed })
}

/// Why memory can be swapped out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLocked {
    /// The limit on locked memory, bytes: under it a mapping that exceeds it would fail later.
    Limit(u64),
    /// The system refuses it.
    Refused(String),
}

impl fmt::Display for NotLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(bytes) => write!(f, "the limit on locked memory is {bytes} bytes"),
            Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for NotLocked {}

/// Keeps all memory of the process out of swap, also what is mapped later: keys lie in heaps and on stacks too. Pages are
/// locked as they are touched, so nothing grows by it. Without a limit alone.
///
/// # Errors
/// Why it is not locked; nothing is changed then.
pub fn lock_memory() -> Result<(), NotLocked> {
    if let Some(bytes) = getrlimit(Resource::Memlock).current {
        return Err(NotLocked::Limit(bytes));
    }
    let pages = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    rustix::mm::mlockall(pages).map_err(|error| NotLocked::Refused(error.to_string()))
}

/// Forbids core dumps and tracers of the same user, and reads that back: for who has secrets in its memory, or memory with
/// secrets in its hands.
///
/// # Errors
/// The kernel's; it did not keep it.
pub fn forbid_dumps() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    match dumpable_behavior()? {
        DumpableBehavior::NotDumpable => Ok(()),
        _ => Err(io::Error::other("the kernel did not keep PR_SET_DUMPABLE")),
    }
}

/// Whether this machine may swap memory out at all.
pub fn may_swap() -> bool {
    // Whoever can't look reckons with it.
    std::fs::read_to_string("/proc/swaps").map_or(true, |text| names_swap(&text))
}

/// Of the kernel's table, whose first line is its head.
fn names_swap(table: &str) -> bool {
    table.lines().skip(1).any(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_not_locked_under_a_limit_that_a_later_mapping_could_exceed() {
        let limit = getrlimit(Resource::Memlock);
        let low = Rlimit {
            current: Some(limit.current.unwrap_or(1 << 20)),
            ..limit
        };
        setrlimit(Resource::Memlock, low).unwrap();
        let refused = lock_memory().unwrap_err();
        assert_eq!(Some(refused.clone()), low.current.map(NotLocked::Limit));
        assert!(refused.to_string().contains("the limit on locked memory"));
        // More than the limit can still be mapped and touched.
        let bytes = usize::try_from(low.current.unwrap())
            .unwrap_or(0)
            .min(1 << 26);
        assert_eq!(vec![7u8; bytes + 1].last(), Some(&7));
    }

    #[test]
    fn swap_is_what_the_kernel_lists_below_the_head_of_its_table() {
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!names_swap(head) && !names_swap(""));
        assert!(names_swap(&format!(
            "{head}/dev/sda2  partition 8388604 0 -2\n"
        )));
    }

    #[test]
    fn as_many_descriptors_as_are_open_are_allowed_and_more_than_can_be_are_not() {
        assert_eq!(descriptors(16), Ok(()));
        let Some(maximum) = getrlimit(Resource::Nofile).maximum else {
            return;
        };
        assert_eq!(descriptors(maximum), Ok(()));
        let refused = descriptors(maximum + 1).unwrap_err();
        assert_eq!(refused.allowed, maximum);
        assert!(refused.to_string().contains("LimitNOFILE"), "{refused}");
    }
}
