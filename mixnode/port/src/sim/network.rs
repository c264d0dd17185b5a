//! An in-memory network under a seed: loss, delay, reordering, partitions, and a trace of every datagram.
//!
//! The same seed and the same calls give the same run, to the nanosecond. Time is virtual: whoever drives the
//! network moves it with [`Network::advance`]; nothing here reads a clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::pool::DATAGRAM_BYTES;

/// Datagrams under way for which memory is taken at start; more makes the network grow.
const FLIGHT_START: usize = 1024;
/// Datagrams an endpoint holds unread unless told otherwise, like a socket's receive buffer.
pub const INBOX_DEFAULT: usize = 1024;

/// What the network does to datagrams. Changes apply to datagrams sent afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Probability of losing a datagram.
    pub loss: f64,
    /// Least time a datagram is under way.
    pub delay_ns: u64,
    /// Uniform addition to it, up to this.
    pub jitter_ns: u64,
    /// Probability of being held back by `reorder_ns` more, hence overtaken.
    pub reorder: f64,
    /// How long a datagram that is held back is.
    pub reorder_ns: u64,
}

/// What becomes of a datagram, decided when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Comes to its destination (if somebody is there then, with room) at this time.
    Arrives {
        /// Time of arrival.
        at_ns: u64,
    },
    /// Lost at random.
    Lost,
    /// Source and destination are in different parts of a partition.
    Partitioned,
}

/// One datagram, as a watcher of the whole network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced<'a> {
    /// When it was sent.
    pub sent_ns: u64,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What becomes of it.
    pub fate: Fate,
}

/// Where datagrams went. `sent` = the others + those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Sent by anyone.
    pub sent: u64,
    /// Put into an inbox.
    pub arrived: u64,
    /// Lost at random.
    pub lost: u64,
    /// Lost to a partition.
    pub partitioned: u64,
    /// Nobody was at the destination.
    pub unreachable: u64,
    /// The inbox at the destination was full.
    pub overflowed: u64,
}

pub(super) struct Datagram {
    pub(super) bytes: [u8; DATAGRAM_BYTES],
    pub(super) length: usize,
    pub(super) source: SocketAddr,
    destination: SocketAddr,
}

struct Inbox {
    waiting: VecDeque<u32>,
    capacity: usize,
}

type Trace = Box<dyn FnMut(&Traced<'_>) + Send>;

pub(super) struct State {
    now_ns: u64,
    rng: ChaCha8Rng,
    conditions: Conditions,
    apart: Vec<IpAddr>,
    inboxes: BTreeMap<SocketAddr, Inbox>,
    datagrams: Vec<Datagram>,
    free: Vec<u32>,
    /// Arrival time, sequence number (ties are in order of sending), datagram.
    flight: BinaryHeap<Reverse<(u64, u64, u32)>>,
    sequence: u64,
    counters: NetworkCounters,
    trace: Option<Trace>,
}

impl State {
    fn send(&mut self, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) {
        // Always the same draws, so that one datagram's fate does not shift the next one's.
        let (loss, reorder): (f64, f64) = (self.rng.random(), self.rng.random());
        let jitter_ns = self.rng.random_range(0..=self.conditions.jitter_ns);
        self.counters.sent += 1;
        let fate = if self.apart.contains(&source.ip()) != self.apart.contains(&destination.ip()) {
            self.counters.partitioned += 1;
            Fate::Partitioned
        } else if loss < self.conditions.loss {
            self.counters.lost += 1;
            Fate::Lost
        } else {
            let held_back_ns = if reorder < self.conditions.reorder {
                self.conditions.reorder_ns
            } else {
                0
            };
            Fate::Arrives {
                at_ns: self.now_ns + self.conditions.delay_ns + jitter_ns + held_back_ns,
            }
        };
        if let Some(trace) = &mut self.trace {
            trace(&Traced {
                sent_ns: self.now_ns,
                source,
                destination,
                bytes,
                fate,
            });
        }
        if let Fate::Arrives { at_ns } = fate {
            let number = self.store(source, destination, bytes);
            self.sequence += 1;
            self.flight.push(Reverse((at_ns, self.sequence, number)));
        }
    }

    fn store(&mut self, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.datagrams.push(Datagram {
                bytes: [0; DATAGRAM_BYTES],
                length: 0,
                source,
                destination,
            });
            // Room to give every datagram back without allocating then.
            self.free.reserve(self.datagrams.len());
            self.datagrams.len() as u32 - 1
        });
        let datagram = &mut self.datagrams[number as usize];
        let kept = bytes.len().min(DATAGRAM_BYTES);
        datagram.bytes[..kept].copy_from_slice(&bytes[..kept]);
        (datagram.length, datagram.source, datagram.destination) =
            (bytes.len(), source, destination);
        number
    }

    fn advance(&mut self, now_ns: u64, mut arrived: impl FnMut(SocketAddr)) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some(&Reverse((at_ns, _, number))) = self.flight.peek()
            && at_ns <= self.now_ns
        {
            self.flight.pop();
            let destination = self.datagrams[number as usize].destination;
            match self.inboxes.get_mut(&destination) {
                Some(inbox) if inbox.waiting.len() < inbox.capacity => {
                    inbox.waiting.push_back(number);
                    self.counters.arrived += 1;
                    arrived(destination);
                    continue;
                }
                Some(_) => self.counters.overflowed += 1,
                None => self.counters.unreachable += 1,
            }
            self.free.push(number);
        }
    }

    /// Hands the oldest datagram waiting at `address` to `read`.
    pub(super) fn take<T>(
        &mut self,
        address: SocketAddr,
        read: impl FnOnce(&Datagram) -> T,
    ) -> Option<T> {
        let number = self.inboxes.get_mut(&address)?.waiting.pop_front()?;
        self.free.push(number);
        Some(read(&self.datagrams[number as usize]))
    }

    pub(super) fn waiting(&self, address: SocketAddr) -> usize {
        self.inboxes
            .get(&address)
            .map_or(0, |inbox| inbox.waiting.len())
    }
}

/// The network; clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

impl Network {
    /// A network at time 0 whose accidents are drawn from `seed`.
    pub fn new(seed: u64, conditions: Conditions) -> Network {
        Network(Arc::new(Mutex::new(State {
            now_ns: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            conditions,
            apart: Vec::new(),
            inboxes: BTreeMap::new(),
            datagrams: Vec::with_capacity(FLIGHT_START),
            free: Vec::with_capacity(FLIGHT_START),
            flight: BinaryHeap::with_capacity(FLIGHT_START),
            sequence: 0,
            counters: NetworkCounters::default(),
            trace: None,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A trace hook that panicked left nothing half done that matters to a test already failing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `address` until the endpoint is dropped; `inbox` datagrams may wait there unread.
    ///
    /// # Errors
    /// `AddrInUse` if somebody has it.
    pub fn open(&self, address: SocketAddr, inbox: usize) -> io::Result<Endpoint> {
        let mut state = self.state();
        if state.inboxes.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.inboxes.insert(
            address,
            Inbox {
                waiting: VecDeque::with_capacity(inbox),
                capacity: inbox,
            },
        );
        Ok(Endpoint {
            network: self.clone(),
            address,
        })
    }

    /// The network's time.
    pub fn now_ns(&self) -> u64 {
        self.state().now_ns
    }

    /// When the next datagram arrives, if any is under way.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        self.state()
            .flight
            .peek()
            .map(|&Reverse((at_ns, _, _))| at_ns)
    }

    /// Moves time on to `now_ns` (never back) and puts what has arrived into inboxes, calling `arrived` with the
    /// destination of each, in order. `arrived` must not use the network.
    pub fn advance(&self, now_ns: u64, arrived: impl FnMut(SocketAddr)) {
        self.state().advance(now_ns, arrived);
    }

    /// Changes the conditions.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.state().conditions = conditions;
    }

    /// Cuts the network in two: these hosts on one side, everyone else on the other. An empty list heals it.
    pub fn partition(&self, apart: &[IpAddr]) {
        self.state().apart = apart.to_vec();
    }

    /// Calls `trace` with every datagram sent from now on. It must not use the network.
    pub fn trace(&self, trace: impl FnMut(&Traced<'_>) + Send + 'static) {
        self.state().trace = Some(Box::new(trace));
    }

    /// Where datagrams went so far.
    pub fn counters(&self) -> NetworkCounters {
        self.state().counters
    }

    /// Number of datagrams sent that have not reached or missed their destination.
    pub fn under_way(&self) -> usize {
        self.state().flight.len()
    }
}

/// One address on the network; dropping it frees the address and forgets what was unread.
pub struct Endpoint {
    pub(super) network: Network,
    address: SocketAddr,
}

impl Endpoint {
    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends now, in the network's time.
    pub fn send(&self, destination: SocketAddr, bytes: &[u8]) {
        self.network.state().send(self.address, destination, bytes);
    }

    /// The oldest unread datagram: its source and length; `bytes` has its first [`DATAGRAM_BYTES`].
    pub fn receive(&self, bytes: &mut [u8; DATAGRAM_BYTES]) -> Option<(SocketAddr, usize)> {
        self.network.state().take(self.address, |datagram| {
            bytes.copy_from_slice(&datagram.bytes);
            (datagram.source, datagram.length)
        })
    }

    /// Number of datagrams unread.
    pub fn waiting(&self) -> usize {
        self.network.state().waiting(self.address)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let mut state = self.network.state();
        if let Some(inbox) = state.inboxes.remove(&self.address) {
            state.free.extend(inbox.waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 9000))
    }

    /// Times and order in which numbered datagrams come in under `seed`.
    fn run(seed: u64, conditions: Conditions) -> (Vec<(u64, u8)>, NetworkCounters) {
        let network = Network::new(seed, conditions);
        let (a, b) = (
            network.open(host(1), 512).unwrap(),
            network.open(host(2), 512).unwrap(),
        );
        let mut came = Vec::new();
        for n in 0..=255 {
            a.send(host(2), &[n; DATAGRAM_BYTES]);
        }
        let mut bytes = [0; DATAGRAM_BYTES];
        while let Some(next_ns) = network.next_arrival_ns() {
            network.advance(next_ns, |to| assert_eq!(to, host(2)));
            while let Some((source, length)) = b.receive(&mut bytes) {
                assert_eq!((source, length), (host(1), DATAGRAM_BYTES));
                came.push((network.now_ns(), bytes[0]));
            }
        }
        (came, network.counters())
    }

    #[test]
    fn a_seed_fixes_loss_delay_and_order() {
        let conditions = Conditions {
            loss: 0.2,
            delay_ns: 1000,
            jitter_ns: 50,
            reorder: 0.1,
            reorder_ns: 10_000,
        };
        let (came, counters) = run(1, conditions);
        assert_eq!((came.clone(), counters), run(1, conditions));
        assert_ne!(came, run(2, conditions).0);
        assert_eq!(counters.sent, counters.arrived + counters.lost);
        assert!((20..90).contains(&counters.lost), "{counters:?}");
        assert!(came.is_sorted_by_key(|&(at_ns, _)| at_ns));
        assert!(!came.is_sorted_by_key(|&(_, n)| n));
        assert!(
            came.iter()
                .all(|&(at_ns, _)| (1000..=11_050).contains(&at_ns))
        );
    }

    #[test]
    fn without_accidents_nothing_is_lost_or_reordered() {
        let (came, _) = run(3, Conditions::default());
        assert_eq!(came, (0..=255).map(|n| (0, n)).collect::<Vec<_>>());
    }

    #[test]
    fn a_partition_separates_and_heals_and_the_dead_are_unreachable() {
        let network = Network::new(0, Conditions::default());
        let (a, b) = (
            network.open(host(1), 1).unwrap(),
            network.open(host(2), 1).unwrap(),
        );
        assert!(network.open(host(1), 1).is_err());
        network.partition(&[host(1).ip()]);
        a.send(host(2), &[0]);
        network.partition(&[]);
        a.send(host(2), &[1]);
        a.send(host(2), &[2]);
        network.advance(0, |_| ());
        assert_eq!(b.waiting(), 1);
        drop(b);
        a.send(host(2), &[3]);
        network.advance(1, |_| ());
        let counters = network.counters();
        assert_eq!(
            (
                counters.partitioned,
                counters.overflowed,
                counters.unreachable
            ),
            (1, 1, 1)
        );
        assert!(network.open(host(2), 1).is_ok());
    }

    #[test]
    fn the_trace_shows_every_datagram() {
        let network = Network::new(
            0,
            Conditions {
                delay_ns: 5,
                ..Conditions::default()
            },
        );
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        network.trace(move |traced| {
            let expected = Traced {
                sent_ns: 0,
                source: host(1),
                destination: host(2),
                bytes: &[1, 2, 3],
                fate: Fate::Arrives { at_ns: 5 },
            };
            log.lock().unwrap().push(*traced == expected);
        });
        network.open(host(1), 1).unwrap().send(host(2), &[1, 2, 3]);
        assert_eq!(*seen.lock().unwrap(), [true]);
    }
}
