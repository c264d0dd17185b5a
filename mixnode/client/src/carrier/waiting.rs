//! What is waited for by the id of a delivery: loop cover, and replies.

use std::collections::{HashMap, VecDeque};

use sphinx::{Id, SurbSecret};

use super::service::Token;

/// Reply blocks and loops that are waited for; the oldest makes room.
const WAITING_MAX: usize = 16_384;

pub(super) enum Awaited {
    Loop {
        sent_ns: u64,
    },
    Reply {
        secret: SurbSecret,
        /// Number of the service that it is for.
        service: usize,
        token: Token,
    },
}

/// Everything that is waited for.
#[derive(Default)]
pub(super) struct Waiting {
    by_id: HashMap<Id, Awaited>,
    /// Oldest first, with ids that came back meanwhile.
    order: VecDeque<Id>,
}

impl Waiting {
    pub(super) fn insert(&mut self, id: Id, awaited: Awaited) {
        if self.order.len() >= WAITING_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        self.order.push_back(id);
        self.by_id.insert(id, awaited);
    }

    pub(super) fn take(&mut self, id: &Id) -> Option<Awaited> {
        self.by_id.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_bounded_and_the_oldest_is_forgotten() {
        let mut waiting = Waiting::default();
        let id = |number: usize| (number as u64).to_le_bytes();
        for number in 0..WAITING_MAX + 10 {
            waiting.insert(id(number), Awaited::Loop { sent_ns: 0 });
        }
        assert_eq!(waiting.by_id.len(), WAITING_MAX);
        assert_eq!(waiting.order.len(), WAITING_MAX);
        assert!(waiting.take(&id(9)).is_none());
        assert!(waiting.take(&id(10)).is_some());
    }
}
