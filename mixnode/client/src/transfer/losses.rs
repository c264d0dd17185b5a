//! How many packets get lost on their way to a recipient, by what it counts.

/// Send numbers that one measurement spans at least.
const SPAN_MIN: u64 = 32;

/// The first count says nothing of losses unless this share is missing.
const STRAGGLING_MAX: f64 = 0.5;

/// Never thought lower: so much is tried at least.
const ARRIVING_MIN: f64 = 0.02;

/// The share of packets that arrive. A recipient tells the highest send number and the number of packets that have
/// arrived. Mixing reorders, so that some below the highest are still on their way: the first count is where measuring
/// starts, and from there on as many stragglers come into a span as fall out of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    /// The last count used: numbers up to, packets of them that had arrived.
    counted: Option<(u64, u64)>,
    lost: f64,
}

impl Losses {
    /// A new session counts from zero.
    pub(crate) fn restart(&mut self) {
        self.counted = None;
    }

    /// Takes the counts of an acknowledgement.
    pub(crate) fn count(&mut self, highest: u64, received: u64) {
        let sent = highest.saturating_add(1);
        let Some((sent_before, received_before)) = self.counted else {
            self.counted = (sent >= SPAN_MIN).then_some((sent, received));
            // So many are no stragglers.
            let lost = 1.0 - received as f64 / sent as f64;
            if self.counted.is_some() && lost > STRAGGLING_MAX {
                self.lost = self.lost.max(lost);
            }
            return;
        };
        let span = sent.saturating_sub(sent_before);
        if span < SPAN_MIN {
            return;
        }
        self.counted = Some((sent, received));
        let share = received.saturating_sub(received_before) as f64 / span as f64;
        // A sample weighs by what it spans; stragglers can make it more than all.
        let weight = (span as f64 / 256.0).min(1.0);
        self.lost += (1.0 - share.min(2.0) - self.lost) * weight;
    }

    /// The share of packets that arrive; none is lost before there are counts.
    pub(crate) fn arriving(&self) -> f64 {
        (1.0 - self.lost).clamp(ARRIVING_MIN, 1.0)
    }

    /// The share of packets that get lost.
    pub(crate) fn loss(&self) -> f64 {
        1.0 - self.arriving()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_arrives_follows_the_counts_and_no_count_breaks_it() {
        let mut losses = Losses::default();
        assert!(losses.loss() == 0.0);
        let mut sent = 0;
        for _ in 0..20 {
            sent += 100;
            losses.count(sent - 1, sent / 4);
        }
        assert!((losses.arriving() - 0.25).abs() < 0.01);
        // A recipient that lies.
        for counts in [(u64::MAX, u64::MAX), (5, 3), (u64::MAX, 0)] {
            losses.count(counts.0, counts.1);
            assert!((ARRIVING_MIN..=1.0).contains(&losses.arriving()));
        }
        losses.restart();
        losses.count(99, 0);
        assert!(losses.arriving() >= ARRIVING_MIN);
    }
}
