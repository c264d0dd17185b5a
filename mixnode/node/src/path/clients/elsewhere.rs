//! Clients of a gateway's other workers, and what those are told of this one's.
//!
//! A client's packets come to whatever worker the network card hands them to, so each has to know where all are. Whoever
//! goes is told too: clients that come and go, which cost nothing but keys, would otherwise fill every table, and those
//! that come after them would get nothing of what lands on other workers.

use std::collections::{HashMap, VecDeque};

use sphinx::DestinationTag;

/// Workers of a node at most, as its configuration checks.
const WORKERS_MAX: usize = 128;
/// A client on another worker attaches again with each of its sessions, which live for so long. Of who was not heard since
/// then the letter that says that it has gone was lost.
const ELSEWHERE_NS: u64 = 900_000_000_000;
const FORGET_NS: u64 = 60_000_000_000;
/// Letters that say who has gone and come to one worker in one turn of ten in a second, of all others together: half of
/// what its mailbox has room for.
const TOLD_AT_ONCE: usize = 128;

/// What a worker tells another of a client of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client.
    pub destination: DestinationTag,
    /// Which of two of its sessions is the newer: the larger.
    pub order: u64,
    /// It has gone.
    pub is_gone: bool,
}

impl Told {
    /// Tells these workers, a bit each; `post` is given the worker and says whether the mailbox took the letter. Who is
    /// still untold.
    pub(super) fn tell(self, workers: u128, post: &mut impl FnMut(u8, Self) -> bool) -> u128 {
        let (mut left, mut untold) = (workers, workers);
        while left != 0 {
            let lowest = left & left.wrapping_neg();
            left &= !lowest;
            // A bit's number in 128.
            let worker = lowest.trailing_zeros() as u8;
            if post(worker, self) {
                untold &= !lowest;
            }
        }
        untold
    }
}

/// What is known of other workers' clients.
pub(super) struct Elsewhere {
    /// Which worker, how new, and when that was heard.
    known: HashMap<DestinationTag, (u8, u64, u64)>,
    /// Clients that a worker may have.
    clients_max: usize,
    /// When they are looked through next.
    forget_ns: u64,
    /// All other workers, a bit each, once there was something to tell them.
    others: u128,
    /// Clients that have gone from here, and who does not know yet.
    gone: VecDeque<(Told, u128)>,
}

impl Elsewhere {
    pub(super) fn new(clients_max: usize) -> Elsewhere {
        Elsewhere {
            known: HashMap::new(),
            clients_max,
            forget_ns: 0,
            others: 0,
            gone: VecDeque::with_capacity(clients_max),
        }
    }

    /// The worker of a client, and how new that is.
    pub(super) fn find(&self, destination: &DestinationTag) -> Option<(u8, u64)> {
        let (worker, order, _) = self.known.get(destination)?;
        Some((*worker, *order))
    }

    /// A client attached to another worker; whether nothing newer is known of it.
    pub(super) fn learn(
        &mut self,
        destination: DestinationTag,
        (worker, order): (u8, u64),
        now_ns: u64,
    ) -> bool {
        let newest = self.find(&destination);
        if newest.is_some_and(|(_, newest)| newest > order) {
            return false;
        }
        // Room for all that other workers can have at once.
        if newest.is_some() || self.known.len() < WORKERS_MAX * self.clients_max {
            self.known.insert(destination, (worker, order, now_ns));
        }
        true
    }

    /// It is attached here.
    pub(super) fn is_here(&mut self, destination: &DestinationTag) {
        self.known.remove(destination);
    }

    /// A client has gone whose newest session had this order: an older place of it, wherever that was, is none either.
    pub(super) fn forget(&mut self, destination: &DestinationTag, order: u64) {
        let known = self.find(destination);
        if known.is_some_and(|(_, newest)| newest <= order) {
            self.known.remove(destination);
        }
    }

    /// Forgets now and then those of whom nothing was heard for too long.
    pub(super) fn forget_old(&mut self, now_ns: u64) {
        if now_ns < self.forget_ns {
            return;
        }
        self.forget_ns = now_ns + FORGET_NS;
        self.known
            .retain(|_, (_, _, heard_ns)| now_ns.saturating_sub(*heard_ns) <= ELSEWHERE_NS);
    }

    /// These are the other workers.
    pub(super) fn set_others(&mut self, workers: u128) {
        self.others = workers;
    }

    /// A client of this worker has gone; others are told with [`Elsewhere::tell`].
    pub(super) fn gone(&mut self, destination: DestinationTag, order: u64) {
        if self.others == 0 {
            return;
        }
        // Who is not told of the oldest forgets it by its time.
        if self.gone.len() >= self.clients_max {
            self.gone.pop_front();
        }
        let told = Told {
            destination,
            order,
            is_gone: true,
        };
        self.gone.push_back((told, self.others));
    }

    /// Tells other workers who has gone, some at a time, and of nobody who `is_back`: those letters may have gone out
    /// before. Whose mailbox is full hears no more of it this time: the room is for packets and for clients that come.
    pub(super) fn tell(
        &mut self,
        is_back: impl Fn(&DestinationTag) -> bool,
        post: &mut impl FnMut(u8, Told) -> bool,
    ) {
        let mut full = 0;
        let part = (TOLD_AT_ONCE / self.others.count_ones().max(1) as usize).max(1);
        for _ in 0..self.gone.len().min(part) {
            let Some((told, untold)) = self.gone.pop_front() else {
                return;
            };
            if is_back(&told.destination) {
                continue;
            }
            full |= told.tell(untold & !full, post);
            if untold & full != 0 {
                self.gone.push_back((told, untold & full));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: DestinationTag = [7; 16];

    #[test]
    fn a_letter_of_who_has_gone_ends_what_is_older_wherever_it_was_and_nothing_newer() {
        let mut known = Elsewhere::new(4);
        for (at, newest) in [((1, 5), 6), ((2, 5), 6), ((1, 6), 6)] {
            assert!(known.learn(CLIENT, at, 0));
            known.forget(&CLIENT, newest);
            assert_eq!(known.find(&CLIENT), None, "{at:?}");
        }
        assert!(known.learn(CLIENT, (2, 7), 0));
        known.forget(&CLIENT, 6);
        assert_eq!(known.find(&CLIENT), Some((2, 7)));
    }

    /// It may attach again with the session it had, so that the letter would end what others know of it now.
    #[test]
    fn nobody_is_told_that_a_client_has_gone_which_is_back() {
        let mut own = Elsewhere::new(4);
        own.set_others(0b110);
        let mut told = Vec::new();
        own.gone(CLIENT, 5);
        own.gone([8; 16], 6);
        own.tell(|client| *client == CLIENT, &mut |worker, one| {
            told.push((worker, one.destination[0], one.order));
            true
        });
        assert_eq!(told, [(1, 8, 6), (2, 8, 6)]);
        own.tell(|_| false, &mut |_, _| unreachable!("all was told"));
    }
}
