//! Fetching the next consensus from the gateway, a part at a time, in ordinary slots.

use directory::{Consensus, SignedConsensus};
use link::control::{Assembly, Control, LATEST};

use super::{Client, Event, unit};
use crate::attachment::Frame;

/// One slot in this many may fetch a part of a consensus.
const FETCH_EVERY: u32 = 4;
/// A gateway that did not have the consensus is asked again after this.
const FETCH_PAUSE_MS: u64 = 1_000;

/// The consensus being fetched.
#[derive(Default)]
pub(super) struct Fetch {
    assembly: Option<Assembly>,
    cursor: u16,
    slots: u32,
    /// In this epoch, when to ask for the one after it.
    at: Option<(u32, u64)>,
    /// Before this time the gateway is not asked again: it had nothing.
    pause_ms: u64,
}

impl Client {
    /// Asks for a part of the consensus that is due: the next epoch's, from a random moment of this epoch on, so
    /// that clients do not ask all at once; or at once the newest, if this epoch's is not here.
    pub(super) fn next_fetch(&mut self, unix_ms: u64) -> Option<Frame> {
        let newest = self.consensuses.values().next_back()?;
        let (have, now) = (newest.epoch(), newest.epoch_at(unix_ms));
        self.fetch.slots += 1;
        if self.fetch.slots < FETCH_EVERY || have > now || unix_ms < self.fetch.pause_ms {
            return None;
        }
        let wanted = if have == now {
            let parameters = newest.parameters();
            let at = match self.fetch.at {
                Some((epoch, at)) if epoch == now => at,
                _ => {
                    let spread = parameters.epoch_ms * 5 / 10;
                    let wait = (unit(&mut self.rng) * spread as f64) as u64;
                    let start = parameters.epoch_starts_ms(now) + parameters.epoch_ms * 3 / 10;
                    self.fetch.at = Some((now, start + wait));
                    start + wait
                }
            };
            if unix_ms < at {
                return None;
            }
            now.checked_add(1)?
        } else {
            LATEST
        };
        let (epoch, chunk) = match &self.fetch.assembly {
            Some(assembly) if assembly.epoch() > have => {
                let chunk = assembly.missing(self.fetch.cursor)?;
                (assembly.epoch(), chunk)
            }
            _ => (wanted, 0),
        };
        self.fetch.slots = 0;
        self.fetch.cursor = chunk.saturating_add(1);
        Some(Frame::control(&Control::Fetch { epoch, chunk }))
    }

    pub(super) fn on_chunk(&mut self, chunk: Control, unix_ms: u64) {
        let have = self.consensuses.keys().next_back().copied();
        let Control::Chunk {
            epoch, total_bytes, ..
        } = chunk
        else {
            return;
        };
        if total_bytes == 0 || Some(epoch) <= have {
            // Not there yet, or not there any more.
            self.fetch.assembly = None;
            self.fetch.pause_ms = unix_ms + FETCH_PAUSE_MS;
            return;
        }
        match &mut self.fetch.assembly {
            Some(assembly) if assembly.epoch() == epoch => assembly.accept(chunk),
            assembly => *assembly = Assembly::start(chunk),
        }
        let document = self.fetch.assembly.as_ref().and_then(Assembly::finish);
        let Some(document) = document else { return };
        self.fetch = Fetch::default();
        let consensus = SignedConsensus::decode(&document)
            .ok()
            .and_then(|signed| signed.verify(&self.authorities, have).ok());
        // A gateway that sends a forged document is asked again; nothing else can be done about it.
        if let Some(consensus) = consensus {
            self.adopt(consensus, document);
        }
    }

    fn adopt(&mut self, consensus: Consensus, document: Vec<u8>) {
        let epoch = consensus.epoch();
        self.consensuses.insert(epoch, consensus);
        // Kept as long as its keys: reply blocks of the epoch before this one still travel.
        self.consensuses = self.consensuses.split_off(&epoch.saturating_sub(3));
        self.events.push_back(Event::Consensus { epoch, document });
    }
}
