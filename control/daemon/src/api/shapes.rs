//! What the API says: one type an answer, the same for who answers and who asks. Names stay what they are; fields may be
//! added. Identities, digests and keys are lower-case hexadecimal, times milliseconds since the Unix epoch. No client's
//! address, no mailbox and no path is in any of them.

mod described;
mod measured;
mod node;

use std::net::SocketAddr;

use directory::store::hex;
use directory::{Consensus, FLAG_LEAVING, FLAG_PAUSED, Role, WAITING};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::board::Document as Held;
pub use handover::status::Totals;
pub use measured::{Anonymity, BadHop, Excess, HopLoops, HopState, Loops, Silence};
pub use node::{Drop, Drops, Interface, Interval, Pool, Rates, Worker, Workers, Xdp};

/// `GET /api/v1/nodes`: the nodes of the document in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    /// The document's epoch.
    pub epoch: u32,
    /// Ascending by index.
    pub nodes: Vec<Node>,
}

/// A node as a document lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its position in the document.
    pub index: u16,
    /// Its name.
    pub identity: String,
    /// `mix` or `gateway`.
    pub role: String,
    /// Who runs it.
    pub operator: String,
    /// 0 a gateway, 1 and on a mix, 255 whoever carries nothing.
    pub layer: u8,
    /// In the choice of paths, packets a second.
    pub weight: u32,
    /// Where it receives datagrams.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<SocketAddr>,
    /// Since which epoch's document its VRF key counts.
    pub vrf_since: u32,
    /// Whether it proved where it belongs; gateways have nothing to prove.
    pub proved: bool,
    /// 1 leaving, 2 paused.
    pub flags: u8,
}

impl Nodes {
    /// What a document says of them.
    pub fn of(held: &Held) -> Nodes {
        Nodes {
            epoch: held.consensus.epoch(),
            nodes: Node::all(&held.consensus),
        }
    }
}

impl Node {
    /// What a document says of each.
    pub fn all(consensus: &Consensus) -> Vec<Node> {
        let node = |node: &directory::Node| Node {
            index: node.index,
            identity: hex(&node.identity),
            role: node.role.to_string(),
            operator: node.operator.clone(),
            layer: node.layer,
            weight: node.weight,
            addresses: node.addresses.clone(),
            vrf_since: node.vrf_since,
            proved: node.vrf_proof.is_some(),
            flags: node.flags,
        };
        consensus.nodes().iter().map(node).collect()
    }

    /// Its place in a word or two.
    pub fn place(&self) -> String {
        match self.layer {
            _ if self.flags & FLAG_PAUSED != 0 => "paused".to_owned(),
            _ if self.flags & FLAG_LEAVING != 0 => "leaving".to_owned(),
            0 => "gateway".to_owned(),
            WAITING if !self.proved && self.role == Role::Mix.to_string() => "unproved".to_owned(),
            WAITING => "waiting".to_owned(),
            layer => format!("layer {layer}"),
        }
    }
}

/// `GET /api/v1/consensus`: the document in force, but for its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Document {
    /// The network's id.
    pub network: String,
    /// Of the authority set that signed it.
    pub generation: u16,
    /// How it was computed.
    pub method: u8,
    /// Its epoch.
    pub epoch: u32,
    /// Its digest.
    pub digest: String,
    /// The digest of the document before; zeros in a network's first.
    pub previous: String,
    /// Its epoch.
    pub previous_epoch: u32,
    /// The epoch's public randomness.
    pub beacon: String,
    /// The keys of the authorities that signed it, ascending.
    pub signers: Vec<String>,
    /// How many proofs of places there are in it; all were verified.
    pub proofs: usize,
    /// All nodes.
    pub nodes: usize,
    /// Gateways that carry.
    pub gateways: usize,
    /// Mixes in layers.
    pub mixes: usize,
    /// When its epoch begins.
    pub starts_unix_ms: u64,
    /// When its epoch ends.
    pub ends_unix_ms: u64,
    /// Length of an epoch, milliseconds.
    pub epoch_ms: u64,
    /// Mean delay at a hop, microseconds.
    pub mean_delay_us: u32,
    /// Rate of a client towards its gateway, packets a second.
    pub client_rate_pps: u32,
    /// Mix layers.
    pub layers: u8,
}

impl Document {
    /// What there is to say of it.
    pub fn of(held: &Held) -> Document {
        let consensus = &held.consensus;
        let (head, parameters) = (consensus.head(), consensus.parameters());
        let nodes = consensus.nodes().iter();
        let proofs = nodes.clone().filter(|node| node.vrf_proof.is_some());
        let mixes = nodes.filter(|node| node.layer != WAITING && node.layer != 0);
        Document {
            network: hex(&head.network),
            generation: head.generation,
            method: head.method,
            epoch: head.epoch,
            digest: hex(consensus.digest()),
            previous: hex(&head.previous.digest),
            previous_epoch: head.previous.epoch,
            beacon: hex(&head.beacon),
            signers: held.signers.iter().map(|key| hex(key)).collect(),
            proofs: proofs.count(),
            nodes: consensus.nodes().len(),
            gateways: consensus.gateways().count(),
            mixes: mixes.count(),
            starts_unix_ms: consensus.starts_ms(),
            ends_unix_ms: consensus.ends_ms(),
            epoch_ms: parameters.epoch_ms,
            mean_delay_us: parameters.mean_delay_us,
            client_rate_pps: parameters.client_rate_pps,
            layers: parameters.layers,
        }
    }
}

/// `GET /api/v1/epochs`: now, and the epochs whose documents are held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Epochs {
    /// The epoch of now.
    pub now: u32,
    /// When it began.
    pub starts_unix_ms: u64,
    /// When it ends.
    pub ends_unix_ms: u64,
    /// The epoch whose document is in force: that of now, or the one before where now has none.
    pub in_force: Option<u32>,
    /// Ascending.
    pub epochs: Vec<Epoch>,
}

/// An epoch with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Epoch {
    /// Its number.
    pub epoch: u32,
    /// The document's digest.
    pub consensus_hash: String,
    /// How many nodes it lists.
    pub nodes: usize,
    /// Whether the node here is listed.
    pub listed: bool,
    /// The layer of the node here, if it carries.
    pub layer: Option<u8>,
    /// Whether the node works by it; none where the node does not say so.
    pub joined: Option<bool>,
}

/// How a node fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It would forward a packet now.
    Ready,
    /// It lives and would not: `not_ready` says why.
    Waiting,
    /// It is stopping.
    Draining,
    /// It does not answer any more.
    Down,
    /// The newest document is older than two epochs.
    Stale,
    /// It says nothing to mixctld, and nobody said where its page is.
    Unknown,
}

impl State {
    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Waiting => "not ready",
            State::Draining => "draining",
            State::Down => "down",
            State::Stale => "without a document",
            State::Unknown => "unknown",
        }
    }
}

/// `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of mixctld.
    pub version: String,
    /// Now.
    pub unix_ms: u64,
    /// How the node fares.
    pub state: State,
    /// Why it would not forward a packet, each with what to do.
    pub not_ready: Vec<String>,
    /// The network's id.
    pub network: String,
    /// The epoch of now.
    pub epoch: u32,
    /// When it ends.
    pub ends_unix_ms: u64,
    /// What is in force.
    pub document: Option<InForce>,
    /// The node here, once it has described itself.
    pub node: Option<OwnNode>,
    /// What its workers counted since it started, as far as it answers.
    #[schema(value_type = Option<described::Totals>)]
    pub counters: Option<Totals>,
    /// A second's traffic, where the node says it.
    pub rates: Option<Rates>,
    /// How many packets a departing one could have been, likewise.
    pub anonymity: Option<Anonymity>,
    /// What an operator should know of though the node forwards, each with what to do.
    pub warnings: Vec<String>,
    /// This host's clock beside the authorities', as far as any of them answered.
    pub clock: Option<Clock>,
}

/// A host's clock beside the authorities'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Clock {
    /// How far it is ahead of the median of those that answered, at least; negative: behind it. Milliseconds.
    pub ahead_ms: i64,
    /// By more than half of the authority set, so far that the node takes packets of an epoch for those of another one.
    pub is_off: bool,
}

/// What well-kept clocks never differ by, milliseconds: it is told from here on.
const CLOCK_TOLD_MS: u64 = 2_000;

impl Clock {
    /// One that is so far ahead by those that answered, and by all, in a network with such rounds. Senders take up an epoch in
    /// the first half of a round.
    pub fn of((ahead_ms, of_all_ms): (i64, i64), round_ms: u64) -> Clock {
        Clock {
            ahead_ms,
            is_off: of_all_ms.unsigned_abs() >= CLOCK_TOLD_MS.max(round_ms / 2),
        }
    }

    /// Whether it is worth a word.
    pub fn is_told(self) -> bool {
        self.ahead_ms.unsigned_abs() >= CLOCK_TOLD_MS
    }

    /// Where it is, and what to do; the authorities' answers are not signed, and their clocks may be wrong too. Without a figure, for it stays the same while the clock goes.
    pub fn words(self) -> String {
        let side = match self.ahead_ms > 0 {
            true => "ahead of",
            false => "behind",
        };
        format!(
            "this host's clock is {side} the authorities', and epochs go by it: set it (chronyc makestep, or timedatectl \
             set-ntp true); if it is right, theirs are off: tell the authorities' operators"
        )
    }
}

impl Status {
    /// Of a moment at which nothing is known.
    #[cfg(test)]
    pub(crate) fn unknown(unix_ms: u64) -> Status {
        Status {
            version: String::new(),
            unix_ms,
            state: State::Unknown,
            not_ready: Vec::new(),
            network: String::new(),
            epoch: 0,
            ends_unix_ms: 0,
            document: None,
            node: None,
            counters: None,
            rates: None,
            anonymity: None,
            warnings: Vec::new(),
            clock: None,
        }
    }

    /// Whether the node would forward a packet, and nothing says otherwise.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready && self.not_ready.is_empty()
    }
}

/// The document in force, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InForce {
    /// Its epoch.
    pub epoch: u32,
    /// Its digest.
    pub digest: String,
    /// Since its epoch began, milliseconds.
    pub age_ms: u64,
    /// How many nodes it lists.
    pub nodes: usize,
}

/// The node beside the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnNode {
    /// Its name.
    pub identity: String,
    /// Who runs it.
    pub operator: String,
    /// `mix` or `gateway`.
    pub role: String,
    /// Whether the document in force lists it.
    pub listed: bool,
    /// Its layer there, if it carries.
    pub layer: Option<u8>,
    /// The port in use: `uring`, `plain` or `xsk`.
    pub port: Option<String>,
    /// Where its epoch keys come from: `new`, or `kept` and `returned` by mixctld.
    pub keys_origin: Option<String>,
    /// Backend of its scalar multiplications.
    pub lanes: Option<String>,
    /// What it gave up.
    pub sandbox: Option<String>,
    /// When it started.
    pub started_unix_ms: Option<u64>,
}

/// `GET /api/v1/updates` and `/ws/updates`: all that the dashboard shows, of one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Updates {
    /// Grows from one to the next.
    pub seq: u64,
    /// Now.
    pub unix_ms: u64,
    /// How the node fares.
    pub status: Status,
    /// The epochs.
    pub epochs: Epochs,
    /// Traffic from layer to layer, datagrams a second, of the mixes that say theirs; gateways are layer 0.
    pub flows: Vec<(u8, u8, f64)>,
    /// The network, ascending by index; empty if no document is in force.
    pub nodes: Vec<Seen>,
    /// The node's workers, where it says something of them.
    pub workers: Option<Workers>,
    /// Its loops, likewise.
    pub loops: Option<Loops>,
    /// What was dropped, likewise.
    pub drops: Option<Drops>,
    /// What happened since mixctld started, the newest last.
    pub events: Vec<Event>,
}

/// Traffic from a layer to another, datagrams a second.
pub type Flow = (u8, u8, f64);

/// A node as the dashboard shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// Its position in the document.
    pub index: u16,
    /// Its name.
    pub identity: String,
    /// `mix` or `gateway`.
    pub role: String,
    /// Who runs it.
    pub operator: String,
    /// 0 a gateway, 1 and on a mix, 255 whoever carries nothing.
    pub layer: u8,
    /// The same in a word or two.
    pub place: String,
    /// In the choice of paths, packets a second.
    pub weight: u32,
    /// Whether it is the one beside this daemon.
    pub own: bool,
    /// How it fares; `unknown` unless it speaks to this daemon.
    pub state: State,
    /// Datagrams that it receives a second, if it says so.
    pub pps: Option<f64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When it was noticed.
    pub unix_ms: u64,
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub text: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Info,
    /// Worth a look.
    Warning,
    /// To be mended.
    Error,
}

/// `GET /api/v1/dashboard`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dashboard {
    /// Where the page is, with the token in the fragment, which browsers send to nobody.
    pub url: String,
}

/// An error, after RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says which kind it is.
    pub r#type: String,
    /// The kind in a few words.
    pub title: String,
    /// HTTP's status.
    pub status: u16,
    /// What is wrong, and what to do.
    pub detail: String,
}
