//! What class an error is of: the exit code for a process, and the kind for a peer.

use std::io;

use handover::protocol::{Refusal, RefusalKind as Kind};

use super::LoaderError;
use crate::exit;

/// The exit code for what the system said.
pub(super) fn of_io(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::PermissionDenied => exit::PERMISSION,
        _ => exit::OS,
    }
}

impl LoaderError {
    /// The exit code for a process that can't go on, one of [`crate::exit`]'s.
    pub fn code(&self) -> u8 {
        use LoaderError as E;
        match self {
            E::MissingCapabilities { .. }
            | E::Forbidden
            | E::NotAllowed { .. }
            | E::NotForThisUser { .. } => exit::PERMISSION,
            E::Malformed(_)
            | E::NotAName(_)
            | E::OutOfBounds { .. }
            | E::TooManyIndices { .. }
            | E::NotANode
            | E::AlreadyANode
            | E::UnknownInterface { .. }
            | E::NothingAttached { .. } => exit::USAGE,
            E::NoInterfaceWith { .. }
            | E::InterfaceWithGone { .. }
            | E::NotAttached { .. }
            | E::OtherPort { .. }
            | E::Frames { .. }
            | E::TooFewQueues { .. }
            | E::TooManyQueues { .. }
            | E::TooManyDescriptors { .. } => exit::CONFIG,
            E::NoXdp => exit::CONFIG,
            E::NoProgram => exit::SOFTWARE,
            E::Pins { error, .. }
            | E::Remove { error, .. }
            | E::Listen { error, .. }
            | E::SocketGroup { error, .. }
            | E::Unreachable { error, .. }
            | E::System(error) => of_io(error),
            E::Refused(refusal) => refusal.code,
            E::Vault(error) => error.code(),
            _ => exit::OS,
        }
    }

    /// What a peer is told the matter is.
    pub fn kind(&self) -> Kind {
        use LoaderError as E;
        match self {
            E::MissingCapabilities { .. } => Kind::Capabilities,
            E::Forbidden => Kind::Forbidden,
            E::NotAllowed { .. } | E::NotForThisUser { .. } => Kind::NotAllowed,
            E::Malformed(_) => Kind::Malformed,
            E::OutOfBounds { .. }
            | E::TooManyIndices { .. }
            | E::Frames { .. }
            | E::TooManyQueues { .. }
            | E::TooManyDescriptors { .. } => Kind::OutOfBounds,
            E::NotANode => Kind::NotANode,
            E::AlreadyANode => Kind::AlreadyANode,
            E::NotAName(_)
            | E::UnknownInterface { .. }
            | E::InterfaceGone { .. }
            | E::AttachedGone { .. }
            | E::InterfaceWithGone { .. } => Kind::NoInterface,
            E::NoInterfaceWith { .. } => Kind::NoAddress,
            E::NotEthernet { .. } | E::Aggregate { .. } | E::MtuTooSmall { .. } => {
                Kind::InterfaceUnfit
            }
            E::InterfaceDown { .. } => Kind::InterfaceDown,
            E::OtherProgram { .. } => Kind::OtherProgram,
            E::NoMode { .. } => Kind::NoMode,
            E::MtuTooLarge { .. } => Kind::MtuTooLarge,
            E::NoNativeMode { .. } | E::NoQueuesLeft { .. } | E::DriverRefuses { .. } => {
                Kind::NoNativeMode
            }
            E::GenericMode { .. } => Kind::GenericMode,
            E::NothingAttached { .. } | E::NotAttached { .. } => Kind::NotAttached,
            E::OtherPort { .. } => Kind::OtherPort,
            E::KernelRefuses { .. } | E::Verifier(_) | E::NoAfXdp => Kind::Kernel,
            E::OtherVersion { .. } => Kind::OtherVersion,
            E::Full { .. } => Kind::Full,
            E::HasNode { .. } => Kind::HasNode,
            E::NothingToResume { .. } => Kind::NothingToResume,
            E::TooFewQueues { .. } => Kind::TooFewQueues,
            E::QueueTaken { .. } => Kind::QueueTaken,
            E::Memory { .. } | E::Descriptors { .. } => Kind::Resources,
            E::Refused(refusal) => refusal.kind,
            E::Vault(error) => error.kind(),
            E::NoXdp => Kind::NoXdp,
            _ => Kind::System,
        }
    }

    /// What a peer is told.
    pub fn refusal(&self) -> Refusal {
        Refusal {
            kind: self.kind(),
            message: self.to_string(),
            code: self.code(),
        }
    }
}

/// What there is in place of an interface.
pub(super) fn alternative(nearest: Option<&str>, there: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("there is {}", there.join(", ")),
    }
}
