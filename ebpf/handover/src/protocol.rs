//! What the loader (`mixctld`), the node (`mixnode`) and the operator's `mixctl` say to each other.
//!
//! One unix socket of type SOCK_SEQPACKET: a message is one JSON document, descriptors travel beside it. The peer's
//! credentials decide what it may ask: see [`Request::needs`]. A connection that sent [`Request::Open`] or
//! [`Request::Resume`] is the node's for as long as it lives: when it ends, the loader takes the node's sockets out of
//! the map and forgets its receiver indices, unless a [`Request::Resume`] follows in time.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use crate::refusal::{Refusal, RefusalKind};
use crate::status::NodeStatus;
use crate::vault::{Origin, Table};

/// Where the loader listens unless told otherwise.
pub const SOCKET_PATH: &str = "/run/fogmix/mixctld.sock";
/// Longest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most descriptors of one message: the kernel's limit is 253.
pub const DESCRIPTORS_MAX: usize = 192;
/// Most entries of one message's list; longer lists come in several messages.
pub const LIST_MAX: usize = 1024;
/// Most entries of a list of addresses or peers: more might not fit into [`MESSAGE_BYTES_MAX`].
pub const ADDRESSES_MAX: usize = 512;
/// Entries of each XSK's receive and transmit ring.
pub const RING_ENTRIES: u32 = 512;
/// Entries of each XSK's fill and completion ring: at least twice the receive ring, so that it never runs dry.
pub const FILL_ENTRIES: u32 = 2 * RING_ENTRIES;

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's network stack, after the packet was copied: slower.
    Generic,
}

/// Who may send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Anyone who can connect.
    Nothing,
    /// The node's user.
    Node,
    /// Root, or the loader's own user.
    Operator,
}

/// A request to the loader. Each gets exactly one [`Reply`], in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Puts the program on an interface, or replaces the one that is there without losing a packet.
    Attach {
        /// The interface's name.
        interface: String,
        /// The node's UDP port.
        port: u16,
        /// Whether generic mode is good enough where the driver has no native one.
        allow_generic: bool,
        /// What the node can do, packets a second: limits are derived from it.
        capacity_pps: u32,
    },
    /// Takes the program off, with everything pinned for it.
    Detach {
        /// The interface's name.
        interface: String,
    },
    /// What is attached where, and to which node.
    Status,
    /// The program's counters.
    Stats,
    /// The node's sockets and packet memory, on the interface that has `address`. Descriptors of the reply: for each
    /// worker its memory (a memfd of `frames` × 2 KiB), then the XSK of each of its queues, not yet steered to, and bound
    /// unless the kernel is older than Linux 6.4, which lets nobody map the rings of bound ones.
    Open {
        /// The node's UDP address.
        address: SocketAddr,
        /// Frames of each worker's packet memory.
        frames: Vec<u32>,
        /// Whether the sockets prefer busy polling.
        busy_poll: bool,
    },
    /// The rings are mapped and filled: bind the sockets that are not bound yet, and steer packets to them.
    Ready,
    /// After the loader came back: the node still has its sockets, and these receiver indices. `more` says that
    /// another part of the list follows in the next message. Only for a node whose [`Request::Ready`] was answered,
    /// within ten seconds of the loader's start: refused otherwise, and then the node opens new sockets.
    Resume {
        /// The node's UDP address.
        address: SocketAddr,
        /// Receiver indices in use, each with the source that it belongs to, as in [`Request::AddIndex`].
        indices: Vec<(u32, Option<IpAddr>)>,
        /// Whether the list goes on.
        more: bool,
    },
    /// Lets datagrams of this receiver index in. Said again, it says anew whose the index is.
    AddIndex {
        /// The index.
        index: u32,
        /// Where its datagrams come from: a node's address, or one that a client has proved. `None` while nobody is known
        /// to be there: then, and from elsewhere, they are counted against the limit of strangers.
        source: Option<IpAddr>,
    },
    /// Keeps them out again.
    RemoveIndex {
        /// The index.
        index: u32,
    },
    /// Nodes of the consensus and their rates; replaces what was said before unless `append`. Each has a limit of its own
    /// for handshakes too.
    Peers {
        /// Addresses and rates.
        peers: Vec<Peer>,
        /// Adds to the list instead of replacing it.
        append: bool,
    },
    /// Has the kernel confirm the link-layer addresses of these next hops: entries in use stay fresh.
    Refresh {
        /// Next hops on the interface's link.
        next_hops: Vec<IpAddr>,
    },
    /// The keys and replay tables of the node with this identity, which outlive it: see [`crate::vault`]. The connection
    /// is the node's for as long as it lives, and no other one gets them meanwhile. Descriptors of the reply: the vault,
    /// then the tables in the order of their list. Tables whose key is not there any more are dropped before.
    Vault {
        /// The node's identity.
        identity: [u8; 32],
    },
    /// A replay table beside the vault, one an epoch: asked for again, the same one. Its descriptor is beside the
    /// [`Reply::Done`].
    Table(Table),
    /// The node has zeroed the key of this epoch: its table goes too.
    Erase {
        /// The epoch.
        epoch: u32,
    },
    /// After the loader came back: the node still has its vault and these tables, whose descriptors are beside it in this
    /// order. A loader without a vault takes them over, if they are what it would have made itself; one that got them
    /// back from the service manager takes their like as this node's again.
    ResumeVault {
        /// The node's identity.
        identity: [u8; 32],
        /// Its tables.
        tables: Vec<Table>,
    },
    /// How the node is: said once a second. A loader that does not know this refuses it as malformed, and is not told
    /// again.
    Report {
        /// That.
        state: NodeState,
    },
    /// What the node has to say of itself beside that, for who asks the daemon: said once a second, and by a loader that
    /// does not know it refused likewise.
    Describe {
        /// That.
        status: Box<NodeStatus>,
    },
    /// The node here is to leave the network, which it is told in the answer to its next [`Request::Report`]. A restart of
    /// the node ends it: asked again, this is an order to the node that is there then.
    Drain,
    /// How the node here said that it is. Orders nothing.
    Node,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It would not forward a packet now: it starts, or the document in force does not list it.
    Waiting,
    /// It forwards.
    Ready,
    /// It has asked to be listed no more, and forwards what is still on its way to it.
    Draining,
    /// Nothing is on its way to it any more; it goes on asking, so that its registration stays.
    Drained,
}

impl Request {
    /// Who may send it.
    pub fn needs(&self) -> Needs {
        match self {
            Request::Status | Request::Stats => Needs::Nothing,
            Request::Attach { .. } | Request::Detach { .. } | Request::Drain | Request::Node => {
                Needs::Operator
            }
            Request::Open { .. }
            | Request::Ready
            | Request::Resume { .. }
            | Request::AddIndex { .. }
            | Request::RemoveIndex { .. }
            | Request::Peers { .. }
            | Request::Refresh { .. }
            | Request::Vault { .. }
            | Request::Table(_)
            | Request::Erase { .. }
            | Request::ResumeVault { .. }
            | Request::Report { .. }
            | Request::Describe { .. } => Needs::Node,
        }
    }
}

/// A node of the consensus, as the program's rate limit sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Packets a second; the loader allows at most a quarter of the node's capacity.
    pub pps: u32,
    /// Packets at once.
    pub burst: u32,
}

/// The loader's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// Done.
    Done,
    /// The program is attached.
    Attached {
        /// How it runs.
        mode: Mode,
        /// Why not natively, in the operator's words, if it was allowed to run otherwise.
        degraded: Option<String>,
        /// Whether it took the place of another one.
        replaced: bool,
    },
    /// To [`Request::Status`].
    Status {
        /// What is attached.
        interfaces: Vec<InterfaceStatus>,
    },
    /// To [`Request::Stats`].
    Stats {
        /// Counters by interface.
        interfaces: Vec<InterfaceStats>,
    },
    /// To [`Request::Open`], descriptors beside it.
    Opened(Opened),
    /// To [`Request::Vault`], descriptors beside it.
    Vault {
        /// The tables, in the order of their descriptors.
        tables: Vec<Table>,
        /// Where all of it comes from.
        origin: Origin,
    },
    /// To [`Request::Report`].
    Reported {
        /// The node is to leave the network.
        drain: bool,
    },
    /// To [`Request::Drain`] and [`Request::Node`].
    Draining {
        /// How the node said it is; `None`: there is none here that says so.
        state: Option<NodeState>,
    },
    /// Not done.
    Refused(Refusal),
}

/// The sockets of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The interface's name.
    pub interface: String,
    /// Its number.
    pub interface_index: u32,
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// How the program runs.
    pub mode: Mode,
    /// Whether the driver reads and writes packet memory itself; not known, and false, of sockets that are not bound yet.
    pub zero_copy: bool,
    /// By worker: the queues of its sockets, in the order of the descriptors.
    pub queues: Vec<Vec<u32>>,
    /// Receiver indices that can be let in at a time.
    pub indices_max: u32,
}

/// An interface with the program on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceStatus {
    /// Its name.
    pub interface: String,
    /// The node's UDP port.
    pub port: u16,
    /// How the program runs.
    pub mode: Mode,
    /// Queues of the interface.
    pub queues: u32,
    /// Queues with a node's socket behind them.
    pub steered: u32,
    /// The node's address, while one is connected.
    pub node: Option<SocketAddr>,
    /// Receiver indices let in.
    pub indices: u32,
    /// Nodes with a rate of their own.
    pub peers: u32,
    /// What keeps datagrams from coming and going over it now, and the remedy.
    pub fault: Option<String>,
}

/// What the program counted on an interface since it was attached, summed over CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceStats {
    /// Its name.
    pub interface: String,
    /// Packets by reason, in the order of `ebpf_abi::Reason::ALL`, by the reason's name.
    pub packets: Vec<(String, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_lists_fit_into_a_message() {
        let address: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let peer = Peer {
            address,
            pps: u32::MAX,
            burst: u32::MAX,
        };
        let longest = [
            Request::Resume {
                address: SocketAddr::new(address, u16::MAX),
                indices: vec![(u32::MAX, Some(address)); LIST_MAX],
                more: false,
            },
            Request::Peers {
                peers: vec![peer; ADDRESSES_MAX],
                append: false,
            },
            Request::Refresh {
                next_hops: vec![address; ADDRESSES_MAX],
            },
        ];
        for request in longest {
            let bytes = serde_json::to_vec(&request).unwrap().len();
            assert!(bytes <= MESSAGE_BYTES_MAX, "{bytes} bytes");
        }
    }
}
