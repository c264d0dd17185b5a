//! What became of the sessions of one worker.

/// What became of sessions, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Half-open sessions that had their first frame.
    pub confirmed: u64,
    /// Half-open sessions that gave way to newer ones in their ring.
    pub half_open_evicted: u64,
    /// Confirmed sessions of strangers that gave way to newer ones.
    pub evicted: u64,
    /// Confirmed sessions refused for want of room.
    pub full: u64,
    /// Answered handshakes whose index a living session had.
    pub index_in_use: u64,
}

impl SessionCounters {
    /// Every counter, by the name that the metric gives it.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("confirmed", self.confirmed),
            ("half_open_evicted", self.half_open_evicted),
            ("evicted", self.evicted),
            ("full", self.full),
            ("index_in_use", self.index_in_use),
        ]
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &SessionCounters) {
        self.confirmed += other.confirmed;
        self.half_open_evicted += other.half_open_evicted;
        self.evicted += other.evicted;
        self.full += other.full;
        self.index_in_use += other.index_in_use;
    }
}
