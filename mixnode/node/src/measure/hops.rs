//! What loops say of each next hop: how many came home in the last quarter of an hour, and what they took beside their
//! delays, each with how certain that is.

use std::collections::{BTreeMap, VecDeque};

use handover::status::{Bounded, HopLoops};

use sphinx::Id;

use crate::path::loops::{Fate, Outcome};

/// How far back it goes, and how many loops at most: 18 a second.
const WINDOW_NS: u64 = 900_000_000_000;
const ENTRIES_MAX: usize = 16_384;
/// Both ends of a normal distribution outside of which 5 % lie.
const Z: f64 = 1.96;

/// Tells a node from others, whichever epoch's index it has.
pub type NodeKey = [u8; 32];

struct Entry {
    decided_ns: u64,
    id: Id,
    hop: NodeKey,
    excess_us: Option<u32>,
}

/// Fates by first hop.
#[derive(Default)]
pub struct Book {
    entries: VecDeque<Entry>,
}

impl Book {
    /// Takes note of a loop whose first hop was `hop`.
    pub fn decided(&mut self, fate: &Fate, hop: NodeKey) {
        let excess_us = match fate.outcome {
            Outcome::Home { excess_us } => Some(excess_us),
            Outcome::Overdue => None,
            Outcome::Late { excess_us } => {
                let mut entries = self.entries.iter_mut().rev();
                if let Some(entry) = entries.find(|entry| entry.id == fate.id) {
                    entry.excess_us = Some(excess_us);
                }
                return;
            }
        };
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            decided_ns: fate.decided_ns,
            id: fate.id,
            hop,
            excess_us,
        });
    }

    /// What there is to say of each hop that loops went to.
    pub fn by_hop(&mut self, now_ns: u64) -> BTreeMap<NodeKey, HopLoops> {
        let is_old = |entry: &Entry| entry.decided_ns + WINDOW_NS < now_ns;
        while self.entries.front().is_some_and(is_old) {
            self.entries.pop_front();
        }
        let mut hops: BTreeMap<NodeKey, (u32, Vec<u32>)> = BTreeMap::new();
        for entry in &self.entries {
            let (overdue, excess) = hops.entry(entry.hop).or_default();
            match entry.excess_us {
                Some(us) => excess.push(us),
                None => *overdue += 1,
            }
        }
        let told = hops.into_iter().map(|(key, (overdue, mut excess))| {
            excess.sort_unstable();
            let returned = excess.len() as u32;
            let told = HopLoops {
                index: 0,
                sent: returned + overdue,
                returned,
                overdue,
                p50_us: quantile(&excess, 0.5),
                p99_us: quantile(&excess, 0.99),
            };
            (key, told)
        });
        told.collect()
    }
}

/// A quantile of sorted samples, with the samples between which it lies with 95 % certainty, whatever the distribution:
/// how many lie below it is binomial. Where too few were taken nothing bounds it from above.
fn quantile(sorted: &[u32], q: f64) -> Option<Bounded> {
    let count = sorted.len();
    let n = count as f64;
    let half = Z * (n * q * (1.0 - q)).sqrt();
    let at = |rank: f64| sorted.get((rank as usize).max(1) - 1).copied();
    Some(Bounded {
        low: at((n * q - half).floor().max(1.0))?,
        mid: at((n * q).ceil())?,
        high: at((n * q + half).ceil() + 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::loops::Way;

    fn fate(decided_ns: u64, excess_us: Option<u32>) -> Fate {
        let outcome = match excess_us {
            Some(excess_us) => Outcome::Home { excess_us },
            None => Outcome::Overdue,
        };
        Fate {
            decided_ns,
            id: decided_ns.to_be_bytes(),
            epoch: 1,
            way: Way::new(),
            outcome,
        }
    }

    #[test]
    fn a_loop_that_was_overdue_and_came_home_counts_as_come_home() {
        let mut book = Book::default();
        book.decided(&fate(1, None), [1; 32]);
        book.decided(&fate(2, None), [1; 32]);
        let late = Fate {
            outcome: Outcome::Late { excess_us: 700_000 },
            ..fate(1, None)
        };
        book.decided(&late, [1; 32]);
        let hop = book.by_hop(2)[&[1; 32]];
        assert_eq!((hop.sent, hop.returned, hop.overdue), (2, 1, 1));
        assert_eq!(hop.p50_us.unwrap().mid, 700_000);
    }

    #[test]
    fn loops_are_counted_by_first_hop_for_a_quarter_of_an_hour() {
        let mut book = Book::default();
        for number in 0..200u32 {
            book.decided(&fate(u64::from(number), Some(number)), [1; 32]);
        }
        book.decided(&fate(WINDOW_NS, None), [1; 32]);
        book.decided(&fate(WINDOW_NS, None), [2; 32]);
        let hops = book.by_hop(WINDOW_NS);
        let (one, two) = (&hops[&[1; 32]], &hops[&[2; 32]]);
        assert_eq!((one.sent, one.returned, one.overdue), (201, 200, 1));
        assert_eq!((two.sent, two.returned, two.overdue), (1, 0, 1));
        assert_eq!(two.p50_us, None);
        let hops = book.by_hop(2 * WINDOW_NS);
        assert_eq!(hops[&[1; 32]].sent, 1);
        assert!(book.by_hop(2 * WINDOW_NS + 1).is_empty());
        for _ in 0..=ENTRIES_MAX {
            book.decided(&fate(3 * WINDOW_NS, None), [1; 32]);
        }
        assert_eq!(
            book.by_hop(3 * WINDOW_NS)[&[1; 32]].sent,
            ENTRIES_MAX as u32
        );
    }

    #[test]
    fn bounds_hold_the_true_quantile_as_often_as_they_say() {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(11);
        for (q, count) in [(0.5, 40), (0.5, 1_000), (0.99, 2_000)] {
            let truth = (q * 1e6) as u32;
            let mut held = 0;
            for _ in 0..1_000 {
                let mut samples: Vec<u32> =
                    (0..count).map(|_| rng.random_range(0..1_000_000)).collect();
                samples.sort_unstable();
                let bounded = quantile(&samples, q).unwrap();
                assert!(bounded.low <= bounded.mid);
                let high = bounded.high.unwrap();
                held += u32::from((bounded.low..=high).contains(&truth));
            }
            assert!((935..=999).contains(&held), "{q} of {count}: {held}");
        }
        let few: Vec<u32> = (0..100).collect();
        assert_eq!(quantile(&few, 0.99).unwrap().high, None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
