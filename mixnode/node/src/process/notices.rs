//! One line of the log for each change of state.

use std::time::{Duration, Instant};

use crate::path::reason::Reason;
use crate::process::metrics::Standing;

/// What is refused because there is too much of it.
const LOADS: [Reason; 6] = [
    Reason::PoolFull,
    Reason::HandshakeQueueFull,
    Reason::MailboxFull,
    Reason::StraysFull,
    Reason::ReplayFull,
    Reason::ClientQueueFull,
];
/// Load counts as taken again when none was refused for so long.
const CALM: Duration = Duration::from_secs(30);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Epoch, whether its document is here, whether it lists this node.
    epoch: Option<(u32, bool, bool)>,
    loads: [Load; LOADS.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    seen: u64,
    /// Refused before it began, and when the last one was.
    refusing: Option<(u64, Instant)>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    InForce(u32),
    NotListed(u32),
    NoDocument(u32),
    Refusing(Reason),
    Calm(Reason, u64),
}

impl Notices {
    /// Logs what has changed.
    pub fn look(&mut self, now: Instant, standing: &Standing, rejected: impl Fn(Reason) -> u64) {
        for change in self.changes(now, standing, rejected) {
            match change {
                Change::InForce(epoch) => tracing::info!(epoch, "the epoch is in force"),
                Change::NotListed(epoch) => tracing::warn!(
                    epoch,
                    "the epoch in force does not list this node: it forwards nothing before a later one does"
                ),
                Change::NoDocument(epoch) => tracing::warn!(
                    epoch,
                    "no document of this epoch is here: nothing of it is forwarded; does mixctld follow the network ([directory] folder)?"
                ),
                Change::Refusing(reason) => {
                    tracing::warn!(reason = reason.name(), "load is refused");
                }
                Change::Calm(reason, frames) => {
                    tracing::info!(
                        reason = reason.name(),
                        frames,
                        "no load is refused any more"
                    );
                }
            }
        }
    }

    fn changes(
        &mut self,
        now: Instant,
        standing: &Standing,
        rejected: impl Fn(Reason) -> u64,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let epoch = (standing.epoch, standing.has_document, standing.is_listed);
        if self.epoch.replace(epoch) != Some(epoch) {
            changes.push(match epoch {
                (epoch, false, _) => Change::NoDocument(epoch),
                (epoch, true, false) => Change::NotListed(epoch),
                (epoch, true, true) => Change::InForce(epoch),
            });
        }
        for (reason, load) in LOADS.into_iter().zip(&mut self.loads) {
            let count = rejected(reason);
            let before = std::mem::replace(&mut load.seen, count);
            match &mut load.refusing {
                None if count > before => {
                    load.refusing = Some((before, now));
                    changes.push(Change::Refusing(reason));
                }
                Some((_, last)) if count > before => *last = now,
                Some((first, last)) if now.saturating_duration_since(*last) >= CALM => {
                    changes.push(Change::Calm(reason, count.saturating_sub(*first)));
                    load.refusing = None;
                }
                _ => {}
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(epoch: u32, has_document: bool, is_listed: bool) -> Standing {
        Standing {
            epoch,
            has_document,
            is_listed,
            ..Standing::default()
        }
    }

    #[test]
    fn each_change_of_the_epoch_is_said_once() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let mut said = |standing| notices.changes(now, &standing, |_| 0);
        assert_eq!(said(standing(7, false, false)), [Change::NoDocument(7)]);
        assert_eq!(said(standing(7, false, false)), []);
        assert_eq!(said(standing(7, true, false)), [Change::NotListed(7)]);
        assert_eq!(said(standing(8, true, true)), [Change::InForce(8)]);
        assert_eq!(said(standing(8, true, true)), []);
    }

    #[test]
    fn refused_load_is_said_when_it_begins_and_when_it_is_over() {
        let (mut notices, start) = (Notices::default(), Instant::now());
        let good = standing(7, true, true);
        notices.changes(start, &good, |_| 0);
        let mut said = |seconds: u64, frames: u64| {
            let now = start + Duration::from_secs(seconds);
            notices.changes(now, &good, |reason| {
                if reason == Reason::PoolFull {
                    frames
                } else {
                    0
                }
            })
        };
        assert_eq!(said(1, 5), [Change::Refusing(Reason::PoolFull)]);
        for second in 2..20 {
            assert_eq!(said(second, 5 + second), []);
        }
        assert_eq!(said(30, 24), []);
        assert_eq!(said(48, 24), []);
        assert_eq!(said(49, 24), [Change::Calm(Reason::PoolFull, 24)]);
        assert_eq!(said(61, 24), []);
        assert_eq!(said(62, 25), [Change::Refusing(Reason::PoolFull)]);
    }
}
