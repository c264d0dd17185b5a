//! A calendar queue (R. Brown, "Calendar queues", CACM 31(10), 1988): what happens, in order of time. Days are as many as
//! the longest delay needs, so that each holds events of one lap only, and a day is sorted when it comes.

/// A packet passes from one place to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at_us: u64,
    pub(super) packet: u32,
    /// Who sends it, on the way to the entry; who receives it, after.
    pub(super) user: u32,
    /// [`OUTSIDE`] of a user's.
    pub(super) from: u16,
    pub(super) to: u16,
}

/// A user's place.
pub(super) const OUTSIDE: u16 = u16::MAX;

const DAYS: usize = 4_096;

pub(super) struct Calendar {
    days: Vec<Vec<Event>>,
    day_us: u64,
    /// Of the calendar's beginning.
    today: u64,
    /// What is left of today, the latest first.
    left: Vec<Event>,
}

impl Calendar {
    /// For events that come no later than this after the one before them.
    pub(super) fn new(longest_us: u64) -> Calendar {
        Calendar {
            days: vec![Vec::new(); DAYS],
            // One day of the lap is today.
            day_us: longest_us / (DAYS as u64 - 2) + 1,
            today: 0,
            left: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        let day = event.at_us / self.day_us;
        if day <= self.today {
            let place = self.left.partition_point(|other| other.at_us > event.at_us);
            self.left.insert(place, event);
        } else {
            debug_assert!(day - self.today < DAYS as u64, "further than a lap");
            self.days[day as usize % DAYS].push(event);
        }
    }

    /// The next one that comes before `until_us`.
    pub(super) fn pop(&mut self, until_us: u64) -> Option<Event> {
        loop {
            match self.left.last() {
                Some(event) if event.at_us < until_us => return self.left.pop(),
                Some(_) => return None,
                None if (self.today + 1) * self.day_us >= until_us => return None,
                None => {}
            }
            self.today += 1;
            // The emptied day takes its memory back for the next lap.
            let day = &mut self.days[self.today as usize % DAYS];
            std::mem::swap(&mut self.left, day);
            // Of one time what was put in first comes first: a packet may be held for no microsecond at all.
            self.left.sort_by_key(|event| event.at_us);
            self.left.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    #[test]
    fn events_come_in_order_of_time_whenever_they_were_put_in() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut calendar = Calendar::new(500_000);
        let (mut now_us, mut put, mut came) = (0, 0u32, 0u32);
        while came < 20_000 {
            for _ in 0..rng.random_range(0..4) {
                calendar.push(Event {
                    at_us: now_us + rng.random_range(0..500_000),
                    packet: put,
                    user: 0,
                    from: OUTSIDE,
                    to: 0,
                });
                put += 1;
            }
            let until_us = now_us + rng.random_range(0..2_000);
            match calendar.pop(until_us) {
                Some(event) => {
                    assert!((now_us..until_us).contains(&event.at_us));
                    now_us = event.at_us;
                    came += 1;
                }
                None => now_us = until_us,
            }
        }
        while calendar.pop(u64::MAX / 2).is_some() {
            came += 1;
            if came == put {
                break;
            }
        }
        assert_eq!(came, put, "none is lost");
        assert_eq!(size_of::<Event>(), 24);
    }
}
