//! Half-open sessions: answered, and no authentic frame yet.
//!
//! One of them is worth nothing: it may come of an initiation that was recorded and played again. They lie in rings of
//! fixed size, those of members, of attached clients' addresses and of strangers apart, so that no number of them takes a
//! place that matters. In a full ring the oldest session of the source with most gives way: one source, however busy,
//! turns over its own sessions alone. A client that is attached lets a second pass before the first frame of a session that
//! renews its link, which strangers from many networks would turn their ring over in, and neighbours of its network one
//! where networks count: each address that a client is attached from is a source of its own.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use link::Session;

use crate::path::prefix::Prefix;

/// Sessions of each ring.
pub const HALF_OPEN_MAX: usize = 512;
const RINGS: usize = 3;
/// Sessions of all rings.
pub const HALF_OPEN_ALL: usize = RINGS * HALF_OPEN_MAX;

/// In whose ring a session lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A consensus listed the initiator's key when it was answered.
    Member,
    /// An attached client had the address and port.
    Client,
    /// Anyone else's.
    Stranger,
}

/// A session that waits for its first frame.
pub struct HalfOpen {
    /// The handshake's outcome.
    pub session: Box<Session>,
    /// In whose ring it lies.
    pub whose: Whose,
    /// Where the response went.
    pub answered: SocketAddr,
}

/// Whose sessions are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Network(Prefix),
    /// A client's, which has shown that it receives there.
    Address(SocketAddr),
}

impl Source {
    fn of(half_open: &HalfOpen) -> Source {
        match half_open.whose {
            Whose::Client => Source::Address(half_open.answered),
            Whose::Member | Whose::Stranger => {
                Source::Network(Prefix::network(half_open.answered.ip()))
            }
        }
    }
}

/// The order of one ring.
struct Ring {
    order: VecDeque<(u32, Source)>,
    crowds: HashMap<Source, usize>,
}

impl Ring {
    fn new() -> Ring {
        Ring {
            order: VecDeque::with_capacity(HALF_OPEN_MAX),
            crowds: HashMap::with_capacity(2 * HALF_OPEN_MAX),
        }
    }

    /// Makes room if there is none; who gave way.
    fn make_room(&mut self) -> Option<u32> {
        if self.order.len() < HALF_OPEN_MAX {
            return None;
        }
        let crowd = self.crowds.values().max().copied();
        let of_crowd = |(_, source): &(u32, Source)| self.crowds.get(source).copied() == crowd;
        let at = self.order.iter().position(of_crowd)?;
        self.take(at)
    }

    fn push(&mut self, index: u32, source: Source) {
        self.order.push_back((index, source));
        *self.crowds.entry(source).or_default() += 1;
    }

    fn remove(&mut self, index: u32) {
        if let Some(at) = self.order.iter().position(|(other, _)| *other == index) {
            self.take(at);
        }
    }

    fn take(&mut self, at: usize) -> Option<u32> {
        let (index, source) = self.order.remove(at)?;
        if let Some(count) = self.crowds.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.crowds.remove(&source);
            }
        }
        Some(index)
    }
}

/// All half-open sessions of a worker.
pub struct HalfOpens {
    sessions: HashMap<u32, HalfOpen>,
    rings: [Ring; RINGS],
}

impl Default for HalfOpens {
    fn default() -> HalfOpens {
        HalfOpens {
            sessions: HashMap::with_capacity(HALF_OPEN_ALL),
            rings: std::array::from_fn(|_| Ring::new()),
        }
    }
}

impl HalfOpens {
    /// Number of them.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The one with this receiver index.
    pub fn get(&self, index: u32) -> Option<&HalfOpen> {
        self.sessions.get(&index)
    }

    /// As [`HalfOpens::get`], to mark counters.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut HalfOpen> {
        self.sessions.get_mut(&index)
    }

    /// Puts one in; the receiver index of the one that gave way.
    pub fn insert(&mut self, half_open: HalfOpen) -> Option<u32> {
        let index = half_open.session.local_index;
        let source = Source::of(&half_open);
        let ring = self.rings.get_mut(half_open.whose as usize)?;
        let gone = ring.make_room();
        ring.push(index, source);
        if let Some(gone) = gone {
            self.sessions.remove(&gone);
        }
        self.sessions.insert(index, half_open);
        gone
    }

    /// Takes one out, to become a session that counts.
    pub fn remove(&mut self, index: u32) -> Option<HalfOpen> {
        let half_open = self.sessions.remove(&index)?;
        self.rings.get_mut(half_open.whose as usize)?.remove(index);
        Some(half_open)
    }

    /// Drops those that are too old to be used; their indices go to `ended`.
    pub fn expire(&mut self, now_ns: u64, mut ended: impl FnMut(u32)) {
        for ring in &mut self.rings {
            // The oldest are in front.
            while let Some((index, _)) = ring.order.front().copied()
                && self
                    .sessions
                    .get(&index)
                    .is_none_or(|one| one.session.receive.expired(now_ns))
            {
                ring.take(0);
                self.sessions.remove(&index);
                ended(index);
            }
        }
    }
}
