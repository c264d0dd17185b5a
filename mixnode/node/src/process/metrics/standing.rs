//! Whether the node lives, and whether it would forward a packet: told by the control loop, asked by probes.

use std::time::{Duration, Instant};

/// Workers publish ten times a second, the control loop looks once: who stands still for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// A loop packet must have come home within the longest time that one takes and so many mean intervals: by chance none does
/// once in e^20.
const LOOPS: u32 = 20;

/// How the node stands in the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The epoch of now; 0 as long as no document tells the network's beginning.
    pub epoch: u32,
    /// The document of this epoch is here.
    pub has_document: bool,
    /// It lists this node, with the key that this node has.
    pub is_listed: bool,
    /// How long ago the epoch of the newest document began; zero for one to come.
    pub document_age: Option<Duration>,
    /// Another host uses this node's identity.
    pub is_elsewhere: bool,
    /// The node takes nothing new.
    pub is_draining: bool,
    /// Mean time between loop packets; zero if there are none.
    pub loop_interval: Duration,
    /// The longest that one may take to come home.
    pub loop_time: Duration,
}

/// When what last moved.
#[derive(Debug)]
pub(super) struct Watch {
    /// None while the node is starting.
    looked: Option<Instant>,
    standing: Standing,
    /// By worker: its turns, and since when that many.
    turns: Vec<(u64, Instant)>,
    /// Loop packets that came back, and when the last one.
    loops: (u64, Option<Instant>),
}

impl Watch {
    pub fn new() -> Watch {
        Watch {
            looked: None,
            standing: Standing::default(),
            turns: Vec::new(),
            loops: (0, None),
        }
    }

    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Takes down how everything stands: each worker's turns, and all loops that returned.
    pub fn look(
        &mut self,
        now: Instant,
        standing: Standing,
        turns: impl Iterator<Item = u64>,
        loops: u64,
    ) {
        self.looked = Some(now);
        self.standing = standing;
        for (worker, turns) in turns.enumerate() {
            match self.turns.get_mut(worker) {
                None => self.turns.push((turns, now)),
                Some(before) if before.0 != turns => *before = (turns, now),
                Some(_) => {}
            }
        }
        if loops != self.loops.0 {
            self.loops = (loops, Some(now));
        }
    }

    /// Whether everything moves.
    pub fn health(&self, now: Instant) -> Result<(), String> {
        // A start may touch much memory, and a stop waits for what is held.
        let Some(looked) = self.looked.filter(|_| !self.standing.is_draining) else {
            return Ok(());
        };
        if now.duration_since(looked) > STUCK {
            return Err(
                "the control loop stands still: restart the node, and report it".to_owned(),
            );
        }
        let stuck = |(_, since): &(u64, Instant)| now.duration_since(*since) > STUCK;
        match self.turns.iter().position(stuck) {
            Some(worker) => Err(format!(
                "worker {worker} stands still: restart the node, and report it"
            )),
            None => Ok(()),
        }
    }

    /// What is missing for a packet that came now to be forwarded; nothing if it would be.
    pub fn missing(&self, now: Instant) -> Vec<String> {
        let standing = &self.standing;
        let epoch = standing.epoch;
        if standing.is_draining {
            return vec!["the node is stopping".to_owned()];
        }
        let mut missing: Vec<String> = self.health(now).err().into_iter().collect();
        if standing.is_elsewhere {
            missing.push(
                "another host uses this identity: stop it, or give it a state_dir of its own"
                    .to_owned(),
            );
        }
        if !standing.has_document {
            missing.push(format!("the document of epoch {epoch} is not here"));
        } else if !standing.is_listed {
            missing.push(format!(
                "epoch {epoch} does not list this node's key: it joins with a later one"
            ));
        } else {
            // Only who is listed sends loops.
            missing.extend(self.loops_missing(now));
        }
        missing
    }

    fn loops_missing(&self, now: Instant) -> Option<String> {
        let standing = &self.standing;
        if standing.loop_interval.is_zero() {
            return None;
        }
        let patience = standing.loop_time + standing.loop_interval * LOOPS;
        match self.loops.1 {
            Some(at) if now.duration_since(at) <= patience => None,
            Some(_) => Some(format!(
                "no loop packet came back for {} s: is the UDP port reachable from outside?",
                patience.as_secs()
            )),
            None => Some(
                "no loop packet has come back yet: is the UDP port reachable from outside?"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Standing = Standing {
        epoch: 7,
        has_document: true,
        is_listed: true,
        document_age: Some(Duration::ZERO),
        is_elsewhere: false,
        is_draining: false,
        loop_interval: Duration::from_millis(200),
        loop_time: Duration::from_secs(6),
    };

    #[test]
    fn a_node_is_ready_only_when_it_would_forward() {
        let start = Instant::now();
        let mut watch = Watch::new();
        let said = |watch: &Watch, now| watch.missing(now).join("\n");
        assert!(said(&watch, start).contains("document"));
        watch.look(start, READY, [1].into_iter(), 0);
        assert!(said(&watch, start).contains("no loop packet has"));
        watch.look(start, READY, [2].into_iter(), 1);
        assert_eq!(said(&watch, start), "");
        for (standing, word) in [
            (
                Standing {
                    is_draining: true,
                    ..READY
                },
                "stopping",
            ),
            (
                Standing {
                    is_elsewhere: true,
                    ..READY
                },
                "another host uses this identity",
            ),
            (
                Standing {
                    is_listed: false,
                    ..READY
                },
                "does not list",
            ),
            (
                Standing {
                    has_document: false,
                    ..READY
                },
                "epoch 7",
            ),
        ] {
            watch.look(start, standing, [2].into_iter(), 1);
            assert_eq!(watch.missing(start).len(), 1);
            assert!(
                said(&watch, start).contains(word),
                "{}",
                said(&watch, start)
            );
        }
        // All that is missing is said at once.
        let worse = Standing {
            is_elsewhere: true,
            is_listed: false,
            ..READY
        };
        watch.look(start, worse, [2].into_iter(), 1);
        assert_eq!(watch.missing(start).len(), 2);
        // Loops that stop coming home, while all else goes on.
        let mut now = start;
        for turn in 0..10 {
            now += Duration::from_secs(1);
            watch.look(now, READY, [3 + turn].into_iter(), 1);
        }
        assert_eq!(said(&watch, now), "", "the longest loop and 20 intervals");
        now += Duration::from_secs(1);
        watch.look(now, READY, [99].into_iter(), 1);
        assert!(
            said(&watch, now).contains("for 10 s"),
            "{}",
            said(&watch, now)
        );
        let silent = Standing {
            loop_interval: Duration::ZERO,
            ..READY
        };
        watch.look(now, silent, [99].into_iter(), 1);
        assert_eq!(said(&watch, now), "");
    }

    #[test]
    fn a_worker_or_a_control_loop_that_stands_still_is_found() {
        let start = Instant::now();
        let mut watch = Watch::new();
        let later = start + STUCK + Duration::from_secs(1);
        assert_eq!(watch.health(later), Ok(()), "a start may take long");
        watch.look(start, READY, [5, 5].into_iter(), 1);
        assert_eq!(watch.health(start), Ok(()));
        assert!(watch.health(later).unwrap_err().contains("control loop"));
        watch.look(later, READY, [6, 5].into_iter(), 1);
        assert!(watch.health(later).unwrap_err().contains("worker 1"));
        watch.look(later, READY, [7, 6].into_iter(), 1);
        assert_eq!(watch.health(later), Ok(()));
    }
}
