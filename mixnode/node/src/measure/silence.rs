//! Who of the layer before says nothing. Beside a suspicion of n−1 it tells packets that are kept from this node, where
//! they fall silent, from a fault of its own on the way out, where they go on.

use super::SETTLES_NS;

/// A Poisson process of this many expected packets has none of them once in a million times: ln(10⁶).
const EXPECTED: f64 = 13.815_510_557_964_274;
/// Shorter silences are none: a look may come late, and a neighbour's rate may have fallen.
const SILENT_NS_MIN: u64 = 3_000_000_000;
/// So long a span tells a rate; of a longer one the older half is forgotten.
const SPAN_NS_MAX: u64 = 20_000_000_000;
/// From fewer packets no rate is told; a neighbour that sent fewer has that of the slowest of the others.
const COUNT_MIN: u32 = 16;

struct Neighbour {
    index: u16,
    /// What was counted when it was looked at last.
    count: u32,
    /// When it was first, and last, seen to have sent.
    span_ns: Option<(u64, u64)>,
    /// Packets in that span, the first look's not among them.
    sent: u32,
}

impl Neighbour {
    /// Packets a nanosecond while it sent.
    fn rate(&self) -> Option<f64> {
        let (first_ns, last_ns) = self.span_ns?;
        let is_known = self.sent >= COUNT_MIN && last_ns > first_ns;
        is_known.then(|| f64::from(self.sent) / (last_ns - first_ns) as f64)
    }
}

/// The layer before in the epoch of now.
#[derive(Default)]
pub struct Silence {
    epoch: Option<u32>,
    /// When the first packet of the epoch was seen.
    since_ns: Option<u64>,
    neighbours: Vec<Neighbour>,
    /// The slowest one's rate, of the last epoch in which any was known.
    slowest: Option<f64>,
}

impl Silence {
    /// Takes a look at what came so far in `epoch` from each of `previous`; `count` tells it.
    pub fn look(&mut self, epoch: u32, previous: &[u16], now_ns: u64, count: impl Fn(u16) -> u32) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.since_ns = None;
            let fresh = |index: &u16| Neighbour {
                index: *index,
                count: 0,
                span_ns: None,
                sent: 0,
            };
            self.neighbours = previous.iter().map(fresh).collect();
        }
        for neighbour in &mut self.neighbours {
            let counted = count(neighbour.index);
            let more = counted.wrapping_sub(neighbour.count);
            if more == 0 {
                continue;
            }
            neighbour.count = counted;
            self.since_ns.get_or_insert(now_ns);
            match &mut neighbour.span_ns {
                Some((first_ns, last_ns)) => {
                    *last_ns = now_ns;
                    neighbour.sent = neighbour.sent.saturating_add(more);
                    let span_ns = now_ns.saturating_sub(*first_ns);
                    if span_ns > SPAN_NS_MAX && neighbour.sent >= 2 * COUNT_MIN {
                        *first_ns = now_ns - span_ns / 2;
                        neighbour.sent /= 2;
                    }
                }
                none => *none = Some((now_ns, now_ns)),
            }
        }
        let rates = self.neighbours.iter().filter_map(Neighbour::rate);
        self.slowest = rates.reduce(f64::min).or(self.slowest);
    }

    /// Forgets whom it listened to: this node has no place.
    pub fn rest(&mut self) {
        self.epoch = None;
        self.since_ns = None;
        self.neighbours.clear();
    }

    /// How many of the layer before are silent, and how many it has. None while that can't be told: at an epoch's
    /// turn, and before anybody's rate is known.
    pub fn silent(&self, now_ns: u64) -> Option<(u16, u16)> {
        let since_ns = self.since_ns?;
        if now_ns.saturating_sub(since_ns) < SETTLES_NS {
            return None;
        }
        let slowest = self.slowest?;
        let is_silent = |neighbour: &&Neighbour| {
            let last_ns = neighbour.span_ns.map_or(since_ns, |(_, last_ns)| last_ns);
            let rate = neighbour.rate().unwrap_or(slowest);
            let silent_ns = now_ns.saturating_sub(last_ns);
            silent_ns >= SILENT_NS_MIN && silent_ns as f64 * rate > EXPECTED
        };
        let silent = self.neighbours.iter().filter(is_silent).count();
        let all = self.neighbours.len();
        Some((u16::try_from(silent).ok()?, u16::try_from(all).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Three neighbours, of which `sends` says who sends a packet in each tenth of a second. What came before in the
    /// epoch is in `counts`.
    fn played(
        silence: &mut Silence,
        epoch: u32,
        tenths: std::ops::Range<u64>,
        counts: &mut [u32; 3],
        sends: [bool; 3],
    ) {
        for tenth in tenths {
            for (count, sends) in counts.iter_mut().zip(sends) {
                *count += u32::from(sends);
            }
            let count = |index: u16| counts[usize::from(index) - 4];
            silence.look(epoch, &[4, 5, 6], tenth * 100 * MS, count);
        }
    }

    #[test]
    fn who_stops_is_silent_once_that_is_no_chance_and_not_before() {
        let (mut silence, mut counts) = (Silence::default(), [0; 3]);
        played(&mut silence, 1, 0..99, &mut counts, [true; 3]);
        assert_eq!(silence.silent(9_900 * MS), None, "an epoch's turn");
        played(&mut silence, 1, 99..200, &mut counts, [true; 3]);
        // Ten a second, the last one at 19.9 s: ln(10⁶) of them take 1.4 s, but shorter silences than 3 s are none.
        assert_eq!(silence.silent(22_800 * MS), Some((0, 3)));
        assert_eq!(silence.silent(23_000 * MS), Some((3, 3)));
        let sends = [true, false, true];
        played(&mut silence, 1, 200..300, &mut counts, sends);
        assert_eq!(silence.silent(30_000 * MS), Some((1, 3)));
        played(&mut silence, 1, 300..301, &mut counts, [true; 3]);
        assert_eq!(silence.silent(30_000 * MS), Some((0, 3)), "it is back");
    }

    #[test]
    fn who_sends_less_than_before_is_not_silent() {
        let (mut silence, mut count) = (Silence::default(), 0);
        // A thousand a second for five minutes, then one in five seconds, as when all clients leave.
        for tenth in 0..6_000 {
            count += match tenth {
                0..3_000 => 100,
                _ => u32::from(tenth % 50 == 0),
            };
            silence.look(1, &[4], tenth * 100 * MS, |_| count);
            // What was sent before must be forgotten first.
            if tenth >= 4_500 {
                assert_eq!(silence.silent(tenth * 100 * MS), Some((0, 1)), "{tenth}");
            }
        }
        assert_eq!(silence.silent(900_000 * MS), Some((1, 1)));
    }

    #[test]
    fn one_that_never_sent_in_an_epoch_is_silent_too() {
        let mut silence = Silence::default();
        played(&mut silence, 1, 0..50, &mut [0; 3], [true; 3]);
        let sends = [true, true, false];
        played(&mut silence, 2, 50..200, &mut [0; 3], sends);
        assert_eq!(silence.silent(20_000 * MS), Some((1, 3)));
        silence.rest();
        assert_eq!(silence.silent(20_000 * MS), None);
    }

    #[test]
    fn of_neighbours_whose_rate_nobody_knows_nothing_is_said() {
        let mut silence = Silence::default();
        played(&mut silence, 1, 0..10, &mut [0; 3], [true; 3]);
        assert_eq!(silence.silent(60_000 * MS), None);
    }
}
