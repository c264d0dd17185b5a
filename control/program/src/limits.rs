//! Limits of the process.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

#[cfg(test)]
mod tests {
    use super::*;

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
