//! Why the loader did not do what it was asked.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What the matter is, for programs. The sentence beside it is for people, and may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// No request of this version.
    Malformed,
    /// A number or a list in the request is out of its bounds.
    OutOfBounds,
    /// The request is not for this user.
    NotAllowed,
    /// The loader lacks capabilities.
    Capabilities,
    /// The kernel forbids BPF although the capabilities are there.
    Forbidden,
    /// There is no such interface, or none any more.
    NoInterface,
    /// No interface has the node's address.
    NoAddress,
    /// The interface can't carry link datagrams.
    InterfaceUnfit,
    /// The interface is down.
    InterfaceDown,
    /// Another XDP program is on the interface.
    OtherProgram,
    /// The driver refuses native XDP at this MTU; generic mode was not allowed.
    MtuTooLarge,
    /// The driver refuses native XDP for another reason; generic mode was not allowed.
    NoNativeMode,
    /// The program runs in generic mode, which was not allowed.
    GenericMode,
    /// The interface takes the program in no mode.
    NoMode,
    /// The kernel refuses the program, its maps, or AF_XDP sockets.
    Kernel,
    /// Maps of another version are pinned.
    OtherVersion,
    /// The program is not on the interface.
    NotAttached,
    /// The program on the interface is for another port.
    OtherPort,
    /// The interface has another node.
    HasNode,
    /// The connection has no node's sockets.
    NotANode,
    /// The connection has a node's sockets already.
    AlreadyANode,
    /// What the node wants back is not its own any more.
    NothingToResume,
    /// More workers than the interface has queues.
    TooFewQueues,
    /// A queue is taken by another process's socket.
    QueueTaken,
    /// Memory or descriptors are short.
    Resources,
    /// The program has no room for more sessions or peers.
    Full,
    /// The loader was told to load no XDP program.
    NoXdp,
    /// The vault is another node's.
    OtherIdentity,
    /// Another connection has the vault.
    VaultTaken,
    /// The connection has no vault.
    NoVault,
    /// A replay table of another size, or more of them than may be.
    TableUnfit,
    /// What the node brought back is not what the loader made.
    MemoryUnfit,
    /// The system failed something else; or a kind that this version does not know, or none, as another version says
    /// it.
    #[default]
    #[serde(other)]
    System,
}

/// A refusal: it displays as its sentence. A loader and a node of two versions still understand each other's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What the matter is.
    #[serde(default)]
    pub kind: RefusalKind,
    /// What is wrong and what to do about it: one or two sentences.
    pub message: String,
    /// The exit code for a process that can't go on (sysexits).
    pub code: u8,
}

impl fmt::Display for Refusal {
    fn fmt(&self, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        into.write_str(&self.message)
    }
}

impl Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Reply;

    #[test]
    fn a_refusal_of_another_version_is_understood() {
        for (text, kind) in [
            (
                r#"{"reply":"refused","message":"no","code":78}"#,
                RefusalKind::System,
            ),
            (
                r#"{"reply":"refused","kind":"of-tomorrow","message":"no","code":78,"more":1}"#,
                RefusalKind::System,
            ),
            (
                r#"{"reply":"refused","kind":"full","message":"no","code":78}"#,
                RefusalKind::Full,
            ),
        ] {
            let Ok(Reply::Refused(refusal)) = serde_json::from_str(text) else {
                panic!("not understood: {text}");
            };
            assert_eq!(
                (refusal.kind, refusal.message.as_str(), refusal.code),
                (kind, "no", 78)
            );
        }
    }
}
