//! Fetching a consensus from the gateway by the number of its epoch, a part at a time, in ordinary slots.

use link::control::Control;

use super::attachment::Frame;
use super::download::{Download, Taken};
use super::{Carrier, unit};

/// A gateway that did not have the consensus is asked again after this.
const FETCH_PAUSE_NS: u64 = 1_000_000_000;

/// The consensus being fetched.
#[derive(Default)]
pub(super) struct Fetch {
    /// What was asked for last.
    download: Option<Download>,
    /// In this epoch, when to ask for the one after it, Unix ms.
    at: Option<(u32, u64)>,
    /// Before this time the gateway is not asked again: it had nothing.
    pause_ns: u64,
    /// What is asked for.
    wanted: Wanted,
    /// The epoch of which the gateway has said that there is no document, while that was due. It stands whatever comes of
    /// others.
    absent: Option<u32>,
    /// The one before is next.
    is_befores_turn: bool,
    /// The epoch of now whose document was asked for, and since when.
    since: Option<(u32, u64)>,
}

/// Whose document is asked for, of the epochs around now.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Wanted {
    /// The next one's: it may not be made yet.
    Next,
    #[default]
    This,
    Before,
}

impl Carrier {
    /// Asks for a part of the consensus that is due: this epoch's at once if it is not here, else the next one's from
    /// a random moment of this epoch on, so that clients do not ask all at once. While there is none of this epoch, the
    /// one before is asked for in turn with it: its keys hold until there is one.
    pub(super) fn next_fetch(&mut self, now_ns: u64, unix_ms: u64) -> Option<Frame> {
        if now_ns < self.fetch.pause_ns {
            return None;
        }
        let now = self.documents.epoch_at(unix_ms);
        let (of, wanted) = if self.documents.of(now).is_none() {
            let before = now
                .checked_sub(1)
                .filter(|_| self.fetch.absent == Some(now) && self.fetch.is_befores_turn)
                .filter(|before| self.documents.of(*before).is_none());
            before.map_or((Wanted::This, now), |before| (Wanted::Before, before))
        } else {
            let next = now.checked_add(1)?;
            let due = self.documents.of(next).is_none() && unix_ms >= self.next_at_ms(now);
            (Wanted::Next, due.then_some(next)?)
        };
        self.fetch.wanted = of;
        if of == Wanted::This && self.fetch.since.is_none_or(|(epoch, _)| epoch != wanted) {
            self.fetch.since = Some((wanted, now_ns));
        }
        let download = match &mut self.fetch.download {
            Some(download) if download.epoch() == wanted => download,
            other => other.insert(Download::new(wanted)),
        };
        Some(Frame::control(&download.question()))
    }

    /// Whether a document is due, and slots are taken by questions for it.
    #[cfg(any(test, feature = "probe"))]
    pub(crate) fn is_fetching(&self, unix_ms: u64) -> bool {
        let now = self.documents.epoch_at(unix_ms);
        let is_next_due =
            matches!(self.fetch.at, Some((epoch, at_ms)) if epoch == now && unix_ms >= at_ms);
        let is_missing = |epoch| self.documents.of(epoch).is_none();
        is_missing(now) || (is_next_due && now.checked_add(1).is_some_and(is_missing))
    }

    /// Whether the gateway said that it has no document of `epoch`, when there should have been one.
    pub(super) fn is_denied(&self, epoch: u32) -> bool {
        self.fetch.absent == Some(epoch)
    }

    /// Whether the gateway has been asked for the document of `epoch`, when there should have been one, for longer than
    /// handing it over may take: one that says nothing, never comes to an end or sends what is none must not keep the
    /// client from asking others.
    pub(super) fn is_owed(&self, epoch: u32, now_ns: u64, unix_ms: u64) -> bool {
        let since = self.fetch.since.filter(|(of, _)| *of == epoch);
        let waited_ns = since.map(|(_, since_ns)| now_ns.saturating_sub(since_ns));
        waited_ns.is_some_and(|waited_ns| waited_ns >= self.handing_ns(unix_ms))
    }

    /// When, in epoch `now`, to ask for the document of the next one: Unix ms.
    fn next_at_ms(&mut self, now: u32) -> u64 {
        if let Some((epoch, at_ms)) = self.fetch.at
            && epoch == now
        {
            return at_ms;
        }
        let parameters = self.documents.parameters();
        let spread_ms = parameters.epoch_ms * 5 / 10;
        let start_ms = parameters.epoch_starts_ms(now) + parameters.epoch_ms * 3 / 10;
        let at_ms = start_ms + (unit(&mut self.rng) * spread_ms as f64) as u64;
        self.fetch.at = Some((now, at_ms));
        at_ms
    }

    pub(super) fn on_chunk(&mut self, chunk: Control, now_ns: u64) {
        let Some(download) = &mut self.fetch.download else {
            return;
        };
        let epoch = download.epoch();
        match download.take(chunk, &self.documents, &self.authorities) {
            Taken::Unasked | Taken::More => {}
            // Not there yet, or not there any more.
            Taken::Absent => {
                self.fetch.download = None;
                self.fetch.is_befores_turn = self.fetch.wanted == Wanted::This;
                if self.fetch.wanted == Wanted::This {
                    self.fetch.absent = Some(epoch);
                }
                self.fetch.pause_ns = now_ns + FETCH_PAUSE_NS;
            }
            Taken::Whole(fetched) => {
                self.fetch_anew();
                self.keep(*fetched);
            }
            // A gateway that sends a forged document, or one of another epoch, is asked again; nothing else can be done
            // about it.
            Taken::Forged => self.fetch_anew(),
        }
    }

    /// Whatever is due next is asked for from its first part on.
    fn fetch_anew(&mut self) {
        self.fetch = Fetch {
            absent: self.fetch.absent,
            since: self.fetch.since,
            ..Fetch::default()
        };
    }
}
