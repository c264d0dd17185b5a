//! What came from each node of the layer before, by its index in an epoch's consensus. It holds no key, so whoever
//! reads it keeps none alive.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counters of a cache line.
const LINE: usize = 16;

/// Counters that fill a cache line, so that no two workers write to the same.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU32; LINE]);

/// Packets that came from each node of an epoch: counted by each worker for itself, read by the control loop.
#[derive(Debug)]
pub struct Heard {
    /// By worker, and by node within it.
    workers: Vec<Box<[Line]>>,
}

impl Heard {
    /// Nothing yet, of so many nodes, at each of so many workers.
    pub fn new(nodes: usize, workers: usize) -> Heard {
        let lines = || (0..nodes.div_ceil(LINE)).map(|_| Line::default());
        Heard {
            workers: (0..workers).map(|_| lines().collect()).collect(),
        }
    }

    /// One more, from the node of this index, at this worker.
    #[inline]
    pub fn count(&self, worker: u8, index: u16) {
        let lines = self.workers.get(usize::from(worker));
        debug_assert!(lines.is_some(), "worker {worker} was not expected");
        if let Some(count) = lines.and_then(|lines| counter(lines, index)) {
            // A statistic: it orders nothing. Nobody else writes here, so nothing is lost between the two.
            let before = count.load(Ordering::Relaxed);
            count.store(before.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// How many there were at all workers, modulo 2³².
    pub fn of(&self, index: u16) -> u32 {
        let lines = self.workers.iter();
        let counts = lines.filter_map(|lines| counter(lines, index));
        counts.fold(0, |sum, count| {
            sum.wrapping_add(count.load(Ordering::Relaxed))
        })
    }
}

fn counter(lines: &[Line], index: u16) -> Option<&AtomicU32> {
    let index = usize::from(index);
    lines.get(index / LINE)?.0.get(index % LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_count_for_themselves_and_are_read_together() {
        let heard = Heard::new(18, 3);
        for (worker, index, times) in [(0, 0, 1), (2, 0, 2), (1, 15, 4), (1, 16, 8), (2, 17, 16)] {
            (0..times).for_each(|_| heard.count(worker, index));
        }
        let counts: Vec<u32> = [0, 1, 15, 16, 17].map(|index| heard.of(index)).into();
        assert_eq!(counts, [3, 0, 4, 8, 16]);
        // What the document does not have is nowhere.
        heard.count(0, u16::MAX);
        assert_eq!(heard.of(u16::MAX), 0);
        // No line of one lies in one of another.
        for lines in &heard.workers {
            assert_eq!(std::mem::size_of_val(&lines[..]), 2 * 64);
            assert_eq!(lines.as_ptr().addr() % 64, 0);
        }
    }
}
