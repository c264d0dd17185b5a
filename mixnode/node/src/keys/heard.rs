//! What came from each node of the layer before, by its index in an epoch's consensus. It holds no key, so whoever
//! reads it keeps none alive.

use std::sync::atomic::{AtomicU32, Ordering};

/// Packets that came from each node of an epoch: counted by all workers, read by the control loop.
#[derive(Debug)]
pub struct Heard(Box<[AtomicU32]>);

impl Heard {
    /// Nothing yet, of so many nodes.
    pub fn new(nodes: usize) -> Heard {
        Heard((0..nodes).map(|_| AtomicU32::new(0)).collect())
    }

    /// One more, from the node of this index.
    #[inline]
    pub fn count(&self, index: u16) {
        if let Some(count) = self.0.get(usize::from(index)) {
            // A statistic: it orders nothing.
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were, modulo 2³².
    pub fn of(&self, index: u16) -> u32 {
        let count = self.0.get(usize::from(index));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
