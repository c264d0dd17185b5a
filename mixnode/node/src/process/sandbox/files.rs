//! Landlock: the directory folder, and nothing else of the file system.

use std::error::Error;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::Extent;

/// The rights handled. Later versions handle more, which was not tried: with their rules on unix sockets, say, the
/// loader could not be reached again.
const RIGHTS: ABI = ABI::V7;

/// Leaves this thread and those it starts: reading below `folder`, and replacing files in `published`. No TCP socket
/// can be bound or connected (that of the metrics is already bound), no abstract unix socket of another process
/// reached, no signal sent to one.
///
/// The folder is the one that is there now: if it is removed and made anew, a node must be restarted to follow.
pub(super) fn restrict(folder: &Path, published: &Path) -> Result<Extent, Box<dyn Error>> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write: BitFlags<AccessFs> =
        AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(folder)?, read))?
        .add_rule(PathBeneath::new(PathFd::new(published)?, read | write))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(Extent::Full),
        RulesetStatus::PartiallyEnforced => Ok(Extent::Partial),
        RulesetStatus::NotEnforced => Err(
            "this kernel has no Landlock: Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and \
             landlock in its lsm= list"
                .into(),
        ),
    }
}
