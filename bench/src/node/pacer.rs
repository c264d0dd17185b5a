//! When packets are due. The times are fixed ahead and wait for nobody (an open loop): a packet that can't be sent at its
//! time is not sent at all, and counted. Sent later, in a burst, it would measure the sender; and a sender that waits for
//! the node would hide how long the node lets it wait (Tene's "coordinated omission").

/// How late a packet may be sent.
const LATE_MAX_NS: u64 = 100_000;

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is due yet.
    Wait,
    /// Send one.
    Send,
    /// All times are over.
    Over,
}

/// The times of one phase.
pub(crate) struct Pacer {
    interval_ns: f64,
    /// Packets of the phase.
    count: u64,
    next: u64,
    /// Packets that were not sent, for their time was over.
    pub(crate) behind: u64,
}

impl Pacer {
    /// `count` packets at this rate.
    pub(crate) fn new(pps: f64, count: u64) -> Pacer {
        Pacer {
            interval_ns: 1e9 / pps,
            count,
            next: 0,
            behind: 0,
        }
    }

    /// The step at `now_ns` since the phase began.
    pub(crate) fn step(&mut self, now_ns: u64) -> Step {
        while self.next < self.count && self.due_ns() + LATE_MAX_NS < now_ns {
            self.behind += 1;
            self.next += 1;
        }
        if self.next >= self.count {
            return Step::Over;
        }
        if now_ns < self.due_ns() {
            return Step::Wait;
        }
        self.next += 1;
        Step::Send
    }

    /// When the next one is due, since the phase began.
    pub(crate) fn due_ns(&self) -> u64 {
        (self.next as f64 * self.interval_ns) as u64
    }
}

/// The highest rate that holds, between one that does and one that does not, after so many halvings.
pub(super) fn bisect<E>(
    mut low: f64,
    mut high: f64,
    steps: u32,
    mut holds: impl FnMut(f64) -> Result<bool, E>,
) -> Result<f64, E> {
    for _ in 0..steps {
        let middle = f64::midpoint(low, high);
        match holds(middle)? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_due_at_fixed_times() {
        let mut pacer = Pacer::new(10_000.0, 3);
        assert_eq!(pacer.step(0), Step::Send);
        assert_eq!(pacer.step(1), Step::Wait);
        assert_eq!(pacer.step(99_999), Step::Wait);
        assert_eq!(pacer.step(100_000), Step::Send);
        // A little late is in time, and moves nothing after it.
        assert_eq!(pacer.step(230_000), Step::Send);
        assert_eq!(pacer.step(230_001), Step::Over);
        assert_eq!(pacer.behind, 0);
    }

    #[test]
    fn a_generator_that_lags_is_counted_and_never_catches_up_in_a_burst() {
        let mut pacer = Pacer::new(100_000.0, 1_000);
        let (mut now_ns, mut sent, mut most, mut burst) = (0, 0, 0, 0);
        loop {
            match pacer.step(now_ns) {
                Step::Send => {
                    sent += 1;
                    burst += 1;
                    now_ns += 100;
                }
                Step::Wait => {
                    most = most.max(burst);
                    burst = 0;
                    now_ns += 1_000;
                }
                Step::Over => break,
            }
            // Two milliseconds of something else.
            if sent == 500 {
                sent += 1_000;
                now_ns += 2_000_000;
            }
        }
        sent -= 1_000;
        assert_eq!(sent + pacer.behind, 1_000);
        // 200 packets were due meanwhile; those of the last tenth of a millisecond still are.
        assert!((185..=195).contains(&pacer.behind), "{}", pacer.behind);
        assert!(most <= 13, "{most} in a row");
    }

    #[test]
    fn the_highest_rate_that_holds_is_found() {
        let holds = |pps: f64| Ok::<_, ()>(pps <= 73.0);
        let found = bisect(0.0, 128.0, 7, holds).unwrap();
        assert_eq!(found, 73.0);
        assert!(bisect(0.0, 1.0, 3, |_| Err(())).is_err());
    }
}
