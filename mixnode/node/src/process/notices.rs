//! One line of the log for each change of state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::handshake::Peer;
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
/// Peers are looked at so often: one that comes and goes meanwhile is not told of. More than a few changes at once are
/// counted and not named.
const PEERS_EVERY: Duration = Duration::from_secs(10);
const PEERS_NAMED: usize = 4;

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Epoch, whether its document is here, whether it lists this node.
    epoch: Option<(u32, bool, bool)>,
    loads: [Load; LOADS.len()],
    /// When peers were looked at, and those told to be lost.
    looked: Option<Instant>,
    lost: BTreeMap<[u8; 32], SocketAddr>,
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
    Lost(SocketAddr),
    Back(SocketAddr),
    /// So many at once.
    LostMany(usize),
    BackMany(usize),
}

impl Notices {
    /// Logs what has changed.
    pub fn look(
        &mut self,
        now: Instant,
        standing: &Standing,
        rejected: impl Fn(Reason) -> u64,
        peers: impl FnOnce() -> BTreeMap<[u8; 32], Peer>,
    ) {
        let mut changes = self.changes(now, standing, rejected);
        let looked = self.looked.map(|then| now.saturating_duration_since(then));
        if looked.is_none_or(|since| since >= PEERS_EVERY) {
            self.looked = Some(now);
            changes.extend(self.peers(&peers()));
        }
        for change in changes {
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
                Change::Lost(peer) => tracing::warn!(%peer, "peer lost: it answers no handshake"),
                Change::Back(peer) => tracing::info!(%peer, "peer is back"),
                Change::LostMany(peers) => tracing::warn!(
                    peers,
                    "peers lost: they answer no handshake; does this node reach anybody?"
                ),
                Change::BackMany(peers) => tracing::info!(peers, "peers are back"),
            }
        }
    }

    /// Who is lost, and who is back.
    fn peers(&mut self, peers: &BTreeMap<[u8; 32], Peer>) -> Vec<Change> {
        let told = std::mem::take(&mut self.lost);
        let (mut lost, mut back) = (Vec::new(), Vec::new());
        for (key, (place, is_lost)) in peers {
            if *is_lost {
                self.lost.insert(*key, *place);
            }
            match told.contains_key(key) {
                false if *is_lost => lost.push(*place),
                true if !*is_lost => back.push(*place),
                _ => {}
            }
        }
        // Of one that is no peer any more nothing is said.
        let mut changes = named(&back, Change::Back, Change::BackMany);
        changes.extend(named(&lost, Change::Lost, Change::LostMany));
        changes
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

/// A few by name, many by number.
fn named(
    peers: &[SocketAddr],
    one: fn(SocketAddr) -> Change,
    many: fn(usize) -> Change,
) -> Vec<Change> {
    match peers.len() {
        0..=PEERS_NAMED => peers.iter().map(|peer| one(*peer)).collect(),
        number => vec![many(number)],
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

    #[test]
    fn a_peer_is_said_to_be_lost_once_and_to_be_back_once_and_many_are_counted() {
        let mut notices = Notices::default();
        let place = |number: u8| SocketAddr::from(([10, 0, 0, number], 9));
        let peers = |lost: &[u8], all: u8| {
            let peer = |number: u8| ([number; 32], (place(number), lost.contains(&number)));
            (1..=all).map(peer).collect::<BTreeMap<_, _>>()
        };
        let mut said = |lost: &[u8], all| notices.peers(&peers(lost, all));
        assert_eq!(said(&[], 9), []);
        assert_eq!(said(&[2], 9), [Change::Lost(place(2))]);
        assert_eq!(said(&[2], 9), []);
        let changes = [Change::Back(place(2)), Change::Lost(place(3))];
        assert_eq!(said(&[3], 9), changes);
        assert_eq!(said(&[3, 4, 5, 6, 7, 8], 9), [Change::LostMany(5)]);
        assert_eq!(said(&[], 9), [Change::BackMany(6)]);
        // One that is no peer any more is neither.
        assert_eq!(said(&[9], 9), [Change::Lost(place(9))]);
        assert_eq!(said(&[], 8), []);
        assert_eq!(said(&[], 9), []);
    }

    #[test]
    fn peers_that_come_and_go_are_looked_at_every_ten_seconds() {
        let (mut notices, start) = (Notices::default(), Instant::now());
        let (good, mut looks) = (standing(7, true, true), 0);
        for tenth in 0..601 {
            let now = start + Duration::from_millis(tenth * 100);
            let mut peers = || {
                looks += 1;
                BTreeMap::new()
            };
            notices.look(now, &good, |_| 0, &mut peers);
        }
        assert_eq!(looks, 7);
    }
}
