//! What anybody may ask of a client, at a bounded rate.

/// So many at once, and one more after each while.
pub(super) struct Bucket {
    full: u32,
    each_ns: u64,
    left: u32,
    since_ns: u64,
}

impl Bucket {
    /// A full bucket of so many, and the nanoseconds, at least one, until there is another.
    pub(super) fn new((full, each_ns): (u32, u64)) -> Self {
        Self {
            full,
            each_ns: each_ns.max(1),
            left: full,
            since_ns: 0,
        }
    }

    /// The same, empty at `now_ns`.
    pub(super) fn empty(rate: (u32, u64), now_ns: u64) -> Self {
        Self {
            left: 0,
            since_ns: now_ns,
            ..Self::new(rate)
        }
    }

    /// A full bucket of `at_once`, of which no more than `in_all` can be taken in an epoch that begins with it, and in
    /// the same measure after that. `in_all` is the larger.
    pub(super) fn over_an_epoch((at_once, in_all): (u32, u32), epoch_ms: u64) -> Self {
        let epoch_ns = epoch_ms.saturating_mul(1_000_000);
        let each_ns = epoch_ns / u64::from(in_all.saturating_sub(at_once).max(1));
        Self::new((at_once, each_ns))
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let came = now_ns.saturating_sub(self.since_ns) / self.each_ns;
        self.since_ns += came * self.each_ns;
        let came = u32::try_from(came).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(came).min(self.full);
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_fill_at_once_and_then_one_each_while() {
        let mut bucket = Bucket::new((3, 10));
        let mut taken = |now_ns| (0..9).filter(|_| bucket.take(now_ns)).count();
        assert_eq!(taken(0), 3);
        assert_eq!(taken(9), 0);
        assert_eq!(taken(25), 2);
        assert_eq!(taken(u64::MAX), 3);
        let mut bucket = Bucket::empty((3, 10), 100);
        let mut taken = |now_ns| (0..9).filter(|_| bucket.take(now_ns)).count();
        assert_eq!((taken(109), taken(110), taken(1_000)), (0, 1, 3));
    }
}
