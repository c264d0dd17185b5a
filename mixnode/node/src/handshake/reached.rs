//! Which next hops answered lately: what the node's report to the authorities says, and its log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use directory::NODES_MAX;

/// How a next hop stands: where it is, and whether attempts found no answer since the last session.
pub type Peer = (SocketAddr, bool);

/// What is known of next hops, by static link key.
#[derive(Default)]
pub struct Reached(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Whether a session was made since the last look, or attempts found no answer.
    noted: BTreeMap<[u8; 32], bool>,
    peers: BTreeMap<[u8; 32], Peer>,
    /// Sessions made with each of them.
    sessions: BTreeMap<[u8; 32], u64>,
}

impl Reached {
    /// A node there answered, or did not. Who answered once is reached, whatever happens later. Beyond as many as a network
    /// has nodes, further ones are not noted.
    pub fn note(&self, link_key: &[u8; 32], place: SocketAddr, answered: bool) {
        let mut known = self.known();
        let has_room = known.noted.len() < NODES_MAX;
        match known.noted.get_mut(link_key) {
            Some(before) => *before |= answered,
            None if has_room => {
                known.noted.insert(*link_key, answered);
            }
            None => {}
        }
        if known.peers.len() < NODES_MAX || known.peers.contains_key(link_key) {
            known.peers.insert(*link_key, (place, !answered));
            *known.sessions.entry(*link_key).or_default() += u64::from(answered);
        }
    }

    /// A node is no next hop any more, of one worker at least: whether it answers is not known.
    pub fn forget(&self, link_key: &[u8; 32]) {
        let mut known = self.known();
        known.peers.remove(link_key);
        known.sessions.remove(link_key);
    }

    /// Sessions made with a next hop so far.
    pub fn sessions(&self, link_key: &[u8; 32]) -> u64 {
        self.known().sessions.get(link_key).copied().unwrap_or(0)
    }

    /// A next hop lost packets and agreed to no new session: whatever it answered before, it is not reached, unless it
    /// answers again.
    pub fn deny(&self, link_key: &[u8; 32]) {
        let mut known = self.known();
        if known.noted.len() < NODES_MAX || known.noted.contains_key(link_key) {
            known.noted.insert(*link_key, false);
        }
    }

    /// What was noted since the last time.
    pub fn take(&self) -> BTreeMap<[u8; 32], bool> {
        std::mem::take(&mut self.known().noted)
    }

    /// How next hops stand, as far as anything was noted of them.
    pub fn peers(&self) -> BTreeMap<[u8; 32], Peer> {
        self.known().peers.clone()
    }

    /// Who panics while it holds this leaves nothing half done.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answered_once_is_reached_and_a_full_table_takes_nobody_new() {
        let (reached, place) = (Reached::default(), SocketAddr::from(([10, 0, 0, 1], 9)));
        reached.note(&[1; 32], place, false);
        reached.note(&[2; 32], place, true);
        reached.note(&[2; 32], place, false);
        assert_eq!(
            reached.take(),
            BTreeMap::from([([1; 32], false), ([2; 32], true)])
        );
        assert!(reached.take().is_empty());
        let peers = [([1; 32], (place, true)), ([2; 32], (place, true))];
        assert_eq!(reached.peers(), BTreeMap::from(peers));
        assert_eq!(
            (reached.sessions(&[1; 32]), reached.sessions(&[2; 32])),
            (0, 1)
        );
        reached.note(&[2; 32], place, true);
        reached.deny(&[2; 32]);
        assert_eq!(reached.take(), BTreeMap::from([([2; 32], false)]));
        reached.note(&[2; 32], place, true);
        reached.forget(&[1; 32]);
        assert_eq!(reached.peers(), BTreeMap::from([([2; 32], (place, false))]));
        for number in 0..NODES_MAX + 5 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            reached.note(&key, place, false);
        }
        reached.note(&[0; 32], place, true);
        let all = reached.take();
        assert_eq!((all.len(), reached.peers().len()), (NODES_MAX, NODES_MAX));
        assert_eq!(all.get(&[0; 32]), Some(&true), "known ones are still noted");
    }
}
