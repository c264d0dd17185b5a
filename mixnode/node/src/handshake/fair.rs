//! The queue behind the cookie: initiations that wait for their Diffie-Hellman and decapsulation, which take most of the
//! handshaker's time.
//!
//! Nodes of the consensus, attached clients and strangers are served in turn, each from a queue of its own; within it
//! networks (/24, /48) in turn, and within a network its hosts (/32, /64). Every initiation takes the same work, so a turn
//! is one of them: this is deficit round robin with a quantum of one (Shreedhar and Varghese, 1996). Nobody has a limit of
//! its own while there is room, so that a thousand clients behind a carrier's address get in. In a full queue the oldest
//! initiation of the host with the most in the network with the most gives way: who sends more than is served pushes out
//! what it sent itself, and what is left of it is what it still waits for.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::path::prefix::Prefix;

/// Whose an initiation is, by the address that it has shown a cookie for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A node of a consensus in force has this address.
    Member,
    /// A client that is attached has this address and port.
    Client,
    /// Anyone else.
    Stranger,
}

/// Initiations that may wait in each class. Half a second's work, on a slow core.
pub const WAITING_MAX: usize = 256;

const CLASSES: usize = 3;

/// The queues of all classes.
pub struct Queue<T> {
    classes: [Fair<T>; CLASSES],
    /// The class that is served next, if anyone of it waits.
    turn: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            classes: std::array::from_fn(|_| Fair::default()),
            turn: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Number of initiations that wait.
    pub fn len(&self) -> usize {
        self.classes.iter().map(|class| class.waiting).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.waiting == 0)
    }

    /// Puts one in; what gave way for it, if its class was full.
    pub fn push(&mut self, class: Class, source: IpAddr, one: T) -> Option<T> {
        self.classes.get_mut(class as usize)?.push(source, one)
    }

    /// Takes the one whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        for step in 0..CLASSES {
            let class = (self.turn + step) % CLASSES;
            if let Some(one) = self.classes.get_mut(class).and_then(Fair::pop) {
                self.turn = (class + 1) % CLASSES;
                return Some(one);
            }
        }
        None
    }
}

/// One class. No network and no host in it is empty; those in front are served next.
struct Fair<T> {
    networks: VecDeque<Network<T>>,
    waiting: usize,
}

struct Network<T> {
    prefix: Prefix,
    hosts: VecDeque<Host<T>>,
    waiting: usize,
}

struct Host<T> {
    prefix: Prefix,
    waiting: VecDeque<T>,
}

impl<T> Default for Fair<T> {
    fn default() -> Fair<T> {
        Fair {
            networks: VecDeque::new(),
            waiting: 0,
        }
    }
}

impl<T> Fair<T> {
    fn push(&mut self, source: IpAddr, one: T) -> Option<T> {
        let prefix = Prefix::network(source);
        let known = self.networks.iter().position(|one| one.prefix == prefix);
        let at = known.unwrap_or_else(|| {
            let (hosts, waiting) = (VecDeque::new(), 0);
            self.networks.push_back(Network {
                prefix,
                hosts,
                waiting,
            });
            self.networks.len() - 1
        });
        self.networks.get_mut(at)?.push(source, one);
        self.waiting += 1;
        if self.waiting <= WAITING_MAX {
            return None;
        }
        let most = self.networks.iter().enumerate();
        let (at, _) = most.max_by_key(|(_, network)| network.waiting)?;
        self.take(at, Network::take_of_most).map(|(gone, _)| gone)
    }

    /// Serves the network in front, which then waits behind the others.
    fn pop(&mut self) -> Option<T> {
        let (one, emptied) = self.take(0, Network::pop)?;
        if !emptied {
            self.networks.rotate_left(1);
        }
        Some(one)
    }

    /// Takes one out of a network; whether that was its last.
    fn take(
        &mut self,
        at: usize,
        how: impl FnOnce(&mut Network<T>) -> Option<T>,
    ) -> Option<(T, bool)> {
        let network = self.networks.get_mut(at)?;
        let one = how(network)?;
        self.waiting -= 1;
        let emptied = network.waiting == 0;
        if emptied {
            self.networks.remove(at);
        }
        Some((one, emptied))
    }
}

impl<T> Network<T> {
    fn push(&mut self, source: IpAddr, one: T) {
        let prefix = Prefix::host(source);
        self.waiting += 1;
        match self.hosts.iter_mut().find(|host| host.prefix == prefix) {
            Some(host) => host.waiting.push_back(one),
            None => self.hosts.push_back(Host {
                prefix,
                waiting: VecDeque::from([one]),
            }),
        }
    }

    /// Serves the host in front, which then waits behind the others.
    fn pop(&mut self) -> Option<T> {
        let (one, emptied) = self.take(0)?;
        if !emptied {
            self.hosts.rotate_left(1);
        }
        Some(one)
    }

    /// The oldest of the host with the most.
    fn take_of_most(&mut self) -> Option<T> {
        let most = self.hosts.iter().enumerate();
        let (at, _) = most.max_by_key(|(_, host)| host.waiting.len())?;
        self.take(at).map(|(gone, _)| gone)
    }

    fn take(&mut self, at: usize) -> Option<(T, bool)> {
        let host = self.hosts.get_mut(at)?;
        let one = host.waiting.pop_front()?;
        self.waiting -= 1;
        let emptied = host.waiting.is_empty();
        if emptied {
            self.hosts.remove(at);
        }
        Some((one, emptied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn drained(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn networks_take_turns_and_hosts_within_a_network() {
        let mut queue = Queue::default();
        for number in 0..6 {
            queue.push(Class::Stranger, at("192.0.2.1"), number);
        }
        queue.push(Class::Stranger, at("192.0.2.2"), 10);
        queue.push(Class::Stranger, at("198.51.100.1"), 20);
        queue.push(Class::Stranger, at("2001:db8::1"), 30);
        assert_eq!(queue.len(), 9);
        assert_eq!(drained(&mut queue), [0, 20, 30, 10, 1, 2, 3, 4, 5]);
        assert!(queue.is_empty());
    }

    #[test]
    fn classes_take_turns_and_none_waits_for_another_that_is_empty() {
        let mut queue = Queue::default();
        for number in 0..4 {
            queue.push(Class::Stranger, at("192.0.2.1"), number);
        }
        queue.push(Class::Member, at("203.0.113.1"), 10);
        queue.push(Class::Client, at("192.0.2.1"), 20);
        assert_eq!(drained(&mut queue), [10, 20, 0, 1, 2, 3]);
    }

    #[test]
    fn in_a_full_queue_the_oldest_of_the_most_crowded_host_gives_way() {
        let mut queue = Queue::default();
        // A crowded network: one host has a third of what waits, a few others the rest.
        for number in 0..WAITING_MAX as u32 - 1 {
            let host = if number % 3 == 0 { 1 } else { 2 + number % 5 };
            let source = at(&format!("192.0.2.{host}"));
            assert_eq!(queue.push(Class::Stranger, source, number), None);
        }
        let alone = at("198.51.100.1");
        assert_eq!(queue.push(Class::Stranger, alone, 1_000), None);
        assert_eq!(queue.push(Class::Stranger, alone, 1_001), Some(0));
        assert_eq!(queue.push(Class::Stranger, alone, 1_002), Some(3));
        assert_eq!(queue.len(), WAITING_MAX);
        // Other classes have room of their own.
        assert_eq!(queue.push(Class::Member, at("192.0.2.1"), 2_000), None);
        let all = drained(&mut queue);
        assert_eq!(all.len(), WAITING_MAX + 1);
        assert!(
            [1_000, 1_001, 1_002, 2_000]
                .iter()
                .all(|one| all.contains(one))
        );
    }

    #[test]
    fn a_carriers_address_has_the_whole_queue_while_nobody_else_wants_it() {
        let mut queue = Queue::default();
        for number in 0..WAITING_MAX as u32 {
            assert_eq!(queue.push(Class::Stranger, at("192.0.2.1"), number), None);
        }
        let expected: Vec<u32> = (0..WAITING_MAX as u32).collect();
        assert_eq!(drained(&mut queue), expected);
    }
}
