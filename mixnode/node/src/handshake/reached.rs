//! Which next hops answered lately: what the node's report to the authorities says.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use directory::NODES_MAX;

/// By static link key: whether a session was made since the last look, or attempts found no answer.
#[derive(Default)]
pub struct Reached(Mutex<BTreeMap<[u8; 32], bool>>);

impl Reached {
    /// A node answered, or did not. Who answered once is reached, whatever happens later. Beyond as many as a network has
    /// nodes, further ones are not noted.
    pub fn note(&self, link_key: &[u8; 32], answered: bool) {
        let mut known = self.known();
        let has_room = known.len() < NODES_MAX;
        match known.get_mut(link_key) {
            Some(before) => *before |= answered,
            None if has_room => {
                known.insert(*link_key, answered);
            }
            None => {}
        }
    }

    /// What was noted since the last time.
    pub fn take(&self) -> BTreeMap<[u8; 32], bool> {
        std::mem::take(&mut *self.known())
    }

    /// Who panics while it holds this leaves nothing half done.
    fn known(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answered_once_is_reached_and_a_full_table_takes_nobody_new() {
        let reached = Reached::default();
        reached.note(&[1; 32], false);
        reached.note(&[2; 32], true);
        reached.note(&[2; 32], false);
        assert_eq!(
            reached.take(),
            BTreeMap::from([([1; 32], false), ([2; 32], true)])
        );
        assert!(reached.take().is_empty());
        for number in 0..NODES_MAX + 5 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            reached.note(&key, false);
        }
        reached.note(&[0; 32], true);
        let all = reached.take();
        assert_eq!(all.len(), NODES_MAX);
        assert_eq!(all.get(&[0; 32]), Some(&true), "known ones are still noted");
    }
}
