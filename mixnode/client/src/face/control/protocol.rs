//! What is said through the socket, one JSON document a message.
//!
//! A connection asks and is answered in order. [`Request::Send`] makes it the watcher of that file: what becomes of it
//! follows until [`Reply::Sent`] or [`Reply::Failed`]. Whoever goes away takes back what has not begun.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::event::Less;
use crate::face::lookout::Wait;
use crate::face::run::{Progress, SendSummary};
use crate::store::Stamp;
use crate::transfer::Failure;

/// Longest message, bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Files of each direction in a [`Status`], and characters of a name: more would not fit into a message.
pub(super) const ITEMS_MAX: usize = 32;
pub(super) const NAME_CHARS_MAX: usize = 200;

/// A file that is to be sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::face) struct Order {
    /// The recipient's address.
    pub(in crate::face) address: String,
    /// The name that the recipient gets to see.
    pub(in crate::face) name: Vec<u8>,
    /// Where the file is, by which it is found again after a kill.
    #[serde(with = "crate::store::paths")]
    pub(in crate::face) file: PathBuf,
    /// Its bytes when it was hashed, and by what a later change is noticed.
    pub(in crate::face) size: u64,
    pub(in crate::face) stamp: Option<Stamp>,
    pub(in crate::face) hash: [u8; 32],
    /// It stays in the journal when it has arrived.
    pub(in crate::face) keeps_journal: bool,
}

/// What a command asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    /// Sends a file, whose descriptor is beside the message.
    Send(Box<Order>),
    /// Takes the file of this connection back, or only if nothing of it has arrived yet.
    Withdraw {
        /// Whether one that is under way goes on.
        only_waiting: bool,
    },
    /// How everything stands.
    Status,
    /// Ends the `fog` that runs.
    Stop,
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Reply {
    /// What its file waits for; none: it goes on.
    Waiting { wait: Option<Wait> },
    /// How far its file is.
    Progress { progress: Progress },
    /// Its file has arrived.
    Sent { summary: SendSummary },
    /// Its file will not arrive.
    Failed { failure: Failure },
    /// To [`Request::Withdraw`].
    Withdrawn {
        /// It is under way, and goes on.
        goes_on: bool,
    },
    /// To [`Request::Status`].
    Status { status: Box<Status> },
    /// To [`Request::Stop`]: the connection ends when all has ended.
    Stopping,
    /// Not done.
    Refused { why: String },
}

/// A file under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its name, fit to be printed.
    pub name: String,
    /// Bytes that are at the recipient.
    pub bytes: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Of a file that is sent: how it stands, and the share of its packets that got lost lately.
    pub progress: Option<Progress>,
    /// What it waits for.
    pub waiting: Option<Wait>,
}

/// How a `fog` that runs stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its process.
    pub process: u32,
    /// When it started, seconds since the Unix epoch.
    pub since_unix_s: u64,
    /// Where files go; empty where none are received.
    #[serde(with = "crate::store::paths")]
    pub out: PathBuf,
    /// The user's address.
    pub address: String,
    /// Whether its gateway delivers.
    pub is_attached: bool,
    /// What its gateway grants, if that is less than it was asked for.
    pub less: Option<Less>,
    /// What nothing moves without.
    pub waiting: Option<Wait>,
    /// Files that arrive, 32 of them at most.
    pub receiving: Vec<Item>,
    /// Files that are sent.
    pub sending: Vec<Item>,
    /// Answers to requests for the user's key that were not given: strangers asked for more than there are.
    pub keys_withheld: u64,
}
