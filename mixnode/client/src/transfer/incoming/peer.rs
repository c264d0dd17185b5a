//! What is known of one session: its reply blocks, and what it is owed.

use std::collections::VecDeque;

use sphinx::Surb;

use crate::transfer::bucket::Bucket;
use crate::transfer::content::TransferId;

/// Looks at the disk that a session has for itself, beside those for all, and the nanoseconds until there is one more: who
/// takes all the others takes none of these. A new session has none yet, and all that are kept together four a second.
pub(super) const OWN_MANIFESTS: (u32, u64) = (4, 16_000_000_000);

/// Transfer, index, data.
pub(super) type EarlyChunk = (TransferId, u32, Vec<u8>);

/// A session, as far as answers go.
pub(super) struct Peer {
    pub(super) manifests: Bucket,
    pub(super) surbs: VecDeque<Surb>,
    pub(super) transfer: Option<TransferId>,
    pub(super) early: Vec<EarlyChunk>,
    pub(super) unanswered: u32,
    pub(super) since_ns: u64,
    /// The highest send number that has arrived, and how many packets have.
    pub(super) highest: u64,
    pub(super) received: u64,
    pub(super) urgent: bool,
}

impl Peer {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            manifests: Bucket::empty(OWN_MANIFESTS, now_ns),
            surbs: VecDeque::new(),
            transfer: None,
            early: Vec::new(),
            unanswered: 0,
            since_ns: 0,
            highest: 0,
            received: 0,
            urgent: false,
        }
    }

    /// The transfer to speak of in an answer.
    pub(super) fn subject(&self) -> Option<TransferId> {
        let early = || self.early.first().map(|(transfer, ..)| *transfer);
        self.transfer.or_else(early)
    }
}
