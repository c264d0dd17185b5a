//! Networks that are played: loops of one node, and what the detector says of them.

use std::collections::BinaryHeap;

use mixnode::measure::{Book, Change, Detector};
use mixnode::path::cover::exponential_ns;
use mixnode::path::loops::Loops;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sphinx::PathHop;

pub const SECOND: u64 = 1_000_000_000;
/// Five loops a second, as the configuration has it unless told otherwise.
pub const INTERVAL_NS: u64 = SECOND / 5;
pub const MEAN_DELAY_NS: u64 = SECOND / 10;
/// Wires and workers on a loop's way.
pub const WIRES_NS: u64 = SECOND / 50;
/// Before anything goes wrong: the loss that is usual is known by then.
pub const WARM_NS: u64 = 200 * SECOND;

/// What goes wrong after [`WARM_NS`].
#[derive(Clone, Copy)]
pub enum Fault {
    Nothing,
    /// So large a share of what others send to this node is dropped.
    Arrivals(f64),
    /// These nodes are dead.
    Dead([u16; 2]),
    /// What goes from one of these to the other is lost.
    Between([u16; 2]),
    /// For half a minute everything takes so long more.
    Slow(u64),
    /// What this node sends to that next hop is lost in this share.
    Link(u16, f64),
}

pub struct Play {
    /// Nodes in each of the three other layers.
    pub width: u16,
    /// Share of loops lost anyway.
    pub loss: f64,
    pub fault: Fault,
    pub lasts_ns: u64,
    pub seed: u64,
}

/// What was said, and when, since the fault began.
pub struct Seen {
    pub changes: Vec<(f64, Change)>,
    pub book: Book,
    pub end_ns: u64,
}

impl Seen {
    pub fn suspected_s(&self) -> Option<f64> {
        let mut changes = self.changes.iter();
        let found = changes.find(|(_, change)| *change == Change::Suspected)?;
        Some(found.0)
    }

    pub fn accused(&self) -> Vec<u16> {
        let bad = |(_, change): &(f64, Change)| match change {
            Change::Bad(hop) => Some(*hop),
            _ => None,
        };
        self.changes.iter().filter_map(bad).collect()
    }
}

/// Layers are 1 to 3.
pub fn node(layer: u16, number: u16) -> u16 {
    60 * layer + number
}

pub fn key(hop: u16) -> [u8; 32] {
    [hop as u8; 32]
}

impl Play {
    pub fn run(&self) -> Seen {
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed);
        let (mut loops, mut detector) = (Loops::new(0), Detector::new());
        let (mut book, mut changes) = (Book::default(), Vec::new());
        let end_ns = WARM_NS + self.lasts_ns;
        let (mut sends_ns, mut looks_ns, mut number) = (0, 0, 0u64);
        // Soonest first.
        let mut arrivals: BinaryHeap<std::cmp::Reverse<(u64, [u8; 8])>> = BinaryHeap::new();
        loop {
            let arrives_ns = arrivals.peek().map_or(u64::MAX, |first| first.0.0);
            let now_ns = arrives_ns.min(sends_ns).min(looks_ns);
            if now_ns >= end_ns {
                return Seen {
                    changes,
                    book,
                    end_ns,
                };
            }
            if now_ns == arrives_ns {
                if let Some(std::cmp::Reverse((_, id))) = arrivals.pop() {
                    loops.returned(&id, now_ns);
                }
            } else if now_ns == sends_ns {
                sends_ns += exponential_ns(INTERVAL_NS, &mut rng);
                number += 1;
                let id = number.to_be_bytes();
                let hop = |layer: u16, rng: &mut ChaCha20Rng| PathHop {
                    public_key: [0; 32],
                    node: node(layer, rng.random_range(0..self.width)),
                    delay_us: (exponential_ns(MEAN_DELAY_NS, rng) / 1_000) as u32,
                };
                let mut path: Vec<PathHop> = (1..=3).map(|layer| hop(layer, &mut rng)).collect();
                path.push(PathHop {
                    public_key: [0; 32],
                    node: 0,
                    delay_us: 0,
                });
                loops.sent(id, 7, &path, now_ns);
                let delays_us: u64 = path.iter().map(|hop| u64::from(hop.delay_us)).sum();
                let home_ns = now_ns + delays_us * 1_000 + WIRES_NS;
                let home_ns = home_ns + self.slow_ns(home_ns);
                if !rng.random_bool(self.loss) && !self.is_lost(&path, home_ns, &mut rng) {
                    arrivals.push(std::cmp::Reverse((home_ns, id)));
                }
            } else {
                looks_ns += SECOND / 10;
                loops.look(now_ns);
            }
            for fate in loops.fates_mut().drain(..) {
                book.decided(&fate, key(fate.way[0]));
                detector.decided(&fate, |change| {
                    let since_s = (fate.decided_ns as f64 - WARM_NS as f64) / SECOND as f64;
                    changes.push((since_s, change));
                });
            }
        }
    }

    fn slow_ns(&self, home_ns: u64) -> u64 {
        match self.fault {
            Fault::Slow(ns) if (WARM_NS..WARM_NS + 30 * SECOND).contains(&home_ns) => ns,
            _ => 0,
        }
    }

    fn is_lost(&self, path: &[PathHop], home_ns: u64, rng: &mut ChaCha20Rng) -> bool {
        match self.fault {
            Fault::Nothing | Fault::Slow(_) => false,
            // What is on its way when it begins is lost too.
            Fault::Arrivals(share) => home_ns >= WARM_NS && rng.random_bool(share),
            Fault::Dead(nodes) => {
                home_ns >= WARM_NS && path.iter().any(|hop| nodes.contains(&hop.node))
            }
            Fault::Between(nodes) => {
                let is_on = |node| path.iter().any(|hop| hop.node == node);
                home_ns >= WARM_NS && nodes.into_iter().all(is_on)
            }
            Fault::Link(next, share) => {
                home_ns >= WARM_NS && path[0].node == next && rng.random_bool(share)
            }
        }
    }
}

/// What holds at the end: who is bad, and whether n−1 is suspected.
pub fn at_the_end(seen: &Seen) -> (Vec<u16>, bool) {
    let (mut bad, mut is_suspected) = (Vec::new(), false);
    for (_, change) in &seen.changes {
        match change {
            Change::Bad(hop) => bad.push(*hop),
            Change::Sound(hop) => bad.retain(|one| one != hop),
            Change::Suspected => is_suspected = true,
            Change::Calm => is_suspected = false,
        }
    }
    bad.sort_unstable();
    (bad, is_suspected)
}
