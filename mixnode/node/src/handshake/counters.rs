//! What the handshaker counts: an outcome for every message, and for every refusal its reason.

/// What the handshaker counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCounters {
    /// Sessions accepted: half-open until their first frame.
    pub accepted: u64,
    /// Sessions opened.
    pub connected: u64,
    /// Initiations sent, repeats included.
    pub initiations: u64,
    /// Cookies given, to initiations without the right one.
    pub cookies: u64,
    /// Initiations by who does not know whom it talks to: their first mac does not hold.
    pub bad_mac1: u64,
    /// Initiations with a right cookie that gave way in a full queue: their source, or its network, had the most there.
    pub over_rate: u64,
    /// Initiations with a right cookie that are not authentic or break the format.
    pub forged: u64,
    /// Authentic initiations of keys that no consensus lists, at a node that answers its members only.
    pub strangers: u64,
    /// Initiations that were answered before.
    pub duplicates: u64,
    /// Responses and cookie replies that nobody waits for, or that are not authentic.
    pub unasked: u64,
    /// Attempts given up because the consensus carries an unusable key.
    pub unusable: u64,
    /// Letters lost to a full mailbox; the peer or the retry timer tries again.
    pub undelivered: u64,
    /// Handshakes given up for now because their receiver index could not be let in: the loader is gone or full. The
    /// peer or the retry timer tries again.
    pub unadmitted: u64,
}

impl HandshakeCounters {
    /// Every counter, by the name that the metric gives it.
    pub fn named(&self) -> [(&'static str, u64); 13] {
        [
            ("accepted", self.accepted),
            ("connected", self.connected),
            ("initiation", self.initiations),
            ("cookie", self.cookies),
            ("bad_mac1", self.bad_mac1),
            ("over_rate", self.over_rate),
            ("forged", self.forged),
            ("stranger", self.strangers),
            ("duplicate", self.duplicates),
            ("unasked", self.unasked),
            ("unusable", self.unusable),
            ("undelivered", self.undelivered),
            ("unadmitted", self.unadmitted),
        ]
    }

    /// Messages refused, for whatever reason.
    pub fn refused(&self) -> u64 {
        self.bad_mac1
            + self.over_rate
            + self.forged
            + self.strangers
            + self.duplicates
            + self.unasked
    }
}
