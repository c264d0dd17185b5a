//! Where a worker's time goes: the clock read at the borders of its parts.
//!
//! Each read takes time itself, and the replay filter is asked packet by packet. What a read costs is measured in the
//! same round and taken off each part, as often as its end was marked; all of it is shown as a part of its own.

use mixnode::path::stage::Part;

use crate::clock::thread_cpu_ns;

/// What a round in parts measures, in this order: the worker's parts, reading the clock, and the sender's side: its sends
/// with the kernel's work up to the node's port, which is billed to it.
pub(super) const NAMES: [&str; 8] = [
    "port", "link", "sphinx", "replay", "wheel", "other", "clock", "delivery",
];
/// How many of them are the worker's.
pub(super) const PARTS: usize = 6;
/// Reads from which the cost of one is told.
const CALIBRATION: u64 = 64;

fn place(part: Part) -> usize {
    match part {
        Part::Port => 0,
        Part::Link => 1,
        Part::Sphinx => 2,
        Part::Replay => 3,
        Part::Wheel => 4,
        Part::Other => 5,
    }
}

/// Time and reads of one round, by part.
pub(super) struct Marks {
    last_ns: u64,
    spent_ns: [u64; PARTS],
    reads: [u64; PARTS],
}

impl Marks {
    pub(super) fn new() -> Marks {
        Marks {
            last_ns: 0,
            spent_ns: [0; PARTS],
            reads: [0; PARTS],
        }
    }

    /// A round begins.
    pub(super) fn start(&mut self, now_ns: u64) {
        *self = Marks {
            last_ns: now_ns,
            ..Marks::new()
        };
    }

    /// The time since the last mark went to this part.
    pub(super) fn mark(&mut self, part: Part) {
        self.mark_at(part, thread_cpu_ns());
    }

    fn mark_at(&mut self, part: Part, now_ns: u64) {
        let place = place(part);
        self.spent_ns[place] += now_ns - self.last_ns;
        self.reads[place] += 1;
        self.last_ns = now_ns;
    }

    /// What [`NAMES`] says of this round.
    pub(super) fn spent(&self, delivery_ns: u64) -> Vec<u64> {
        let start = thread_cpu_ns();
        let mut end = start;
        for _ in 0..CALIBRATION {
            end = thread_cpu_ns();
        }
        self.without_reads((end - start) / CALIBRATION, delivery_ns)
    }

    fn without_reads(&self, read_ns: u64, delivery_ns: u64) -> Vec<u64> {
        let parts = self.spent_ns.iter().zip(&self.reads);
        let parts = parts.map(|(spent_ns, reads)| spent_ns.saturating_sub(reads * read_ns));
        let clock_ns = self.reads.iter().sum::<u64>() * read_ns;
        parts.chain([clock_ns, delivery_ns]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_to_the_part_that_ended_and_reads_of_the_clock_are_taken_off() {
        let mut marks = Marks::new();
        marks.start(1_000);
        marks.mark_at(Part::Port, 1_500);
        marks.mark_at(Part::Sphinx, 3_000);
        marks.mark_at(Part::Replay, 3_070);
        marks.mark_at(Part::Sphinx, 4_000);
        marks.mark_at(Part::Port, 4_010);
        assert_eq!(
            marks.without_reads(20, 700),
            [470, 0, 2_390, 50, 0, 0, 100, 700]
        );
        // A round forgets the one before it.
        marks.start(9_000);
        marks.mark_at(Part::Wheel, 9_100);
        assert_eq!(marks.without_reads(0, 0), [0, 0, 0, 0, 100, 0, 0, 0]);
    }
}
