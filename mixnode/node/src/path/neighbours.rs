//! Who sends to this worker: sessions by receiver index, and the neighbours behind them.
//!
//! A session counts from its first authentic frame; before that it lies in a ring ([`crate::path::half_open`]). Members of
//! the consensus have room of their own, so that no number of strangers keeps one out.

mod counters;
mod room;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use arrayvec::ArrayVec;
use link::{ReceiveSession, Session};
use sphinx::DestinationTag;

use crate::path::epochs::{EPOCH_SLOTS, Epochs};
use crate::path::grant::{Bucket, node_pps};
use crate::path::half_open::{HALF_OPEN_ALL, HalfOpen, HalfOpens, Whose};

pub use counters::SessionCounters;

/// Sessions a node may have with one worker: each of its workers may hold one, two while it rekeys. The oldest gives way.
const SESSIONS_PER_MEMBER: usize = 16;
/// Sessions a stranger may have: the one it uses and the one before. The oldest gives way.
pub const SESSIONS_PER_STRANGER: usize = 2;
/// Neighbours of one worker, clients included.
const NEIGHBOURS_MAX: usize = 32_768;
/// Clients that moved to another worker and whose sessions will be ended; further ones keep theirs until they expire.
const PARTING_MAX: usize = 1_024;

/// One call of [`Neighbours::expire`] looks at one part in so many of the neighbours: a table of thousands is never
/// walked between two bursts.
const EXPIRE_PARTS: usize = 16;

/// A session and what belongs to it here.
pub struct Inbound {
    /// The handshake's outcome.
    pub session: Box<Session>,
    /// Number of the neighbour.
    pub neighbour: u16,
    /// Under this name the neighbour is reached, should it be a client: derived from the key it proved.
    pub destination: DestinationTag,
    /// Which of two sessions is the newer: the larger, also of sessions with two workers.
    pub order: u64,
    /// Where the response went: the session's first frame proved it.
    pub answered: SocketAddr,
    /// Its node said on it that it was restarted.
    pub said_restart: bool,
    member: bool,
}

/// A node's layer, and its index in an epoch's consensus.
type Place = (u8, u16);

/// Someone who proved a static key: a node, or at a gateway a client.
pub struct Neighbour {
    /// Its static X25519 key.
    pub key: [u8; 32],
    /// By epoch modulo 4: the epoch, and the neighbour's layer and index in it (`None`: not a node then).
    layers: [Option<(u32, Option<Place>)>; EPOCH_SLOTS],
    /// Frames of the pool that came from it and are still held.
    pub holding: u32,
    /// What it brings of its layer's traffic, in thousandths; the most of all epochs installed.
    pub layer_permille: u32,
    /// What it may send, should it be a client.
    pub bucket: Bucket,
    /// The same of a node; none where nobody has a limit.
    pub node_bucket: Option<Bucket>,
    destination: DestinationTag,
    member: bool,
    sessions: ArrayVec<u32, SESSIONS_PER_MEMBER>,
}

impl Neighbour {
    /// Its layer in the epoch installed in `slot`; `None` if it is no node of that epoch.
    pub fn layer(&self, slot: u8) -> Option<u8> {
        self.place(slot).map(|(layer, _)| layer)
    }

    /// The same with its index in that epoch's consensus.
    pub fn place(&self, slot: u8) -> Option<Place> {
        let (_, place) = self.layers.get(usize::from(slot)).copied().flatten()?;
        place
    }

    /// Whether it is a node that has spent all it may send. Only authentic frames do that.
    pub fn is_over_its_rate(&self, now_ns: u64) -> bool {
        let bucket = self.node_bucket.as_ref().filter(|_| self.is_node());
        bucket.is_some_and(|bucket| !bucket.has_token(now_ns))
    }

    /// Whether it is a node of any epoch installed.
    pub fn is_node(&self) -> bool {
        self.layers
            .iter()
            .flatten()
            .any(|(_, layer)| layer.is_some())
    }

    fn learn(&mut self, epochs: &Epochs, capacity_pps: u32) {
        let shares = epochs.states().flatten();
        self.layer_permille = shares
            .map(|state| state.layer_permille(&self.key))
            .max()
            .unwrap_or(0);
        for (place, installed) in self.layers.iter_mut().zip(epochs.states()) {
            if let Some(state) = installed {
                *place = Some((state.epoch(), state.place_of(&self.key)));
            }
        }
        let rate_pps = node_pps(capacity_pps, self.layer_permille);
        let same = self
            .node_bucket
            .as_ref()
            .is_some_and(|bucket| bucket.rate_pps() == rate_pps);
        if capacity_pps > 0 && !same {
            self.node_bucket = Some(Bucket::of_node(rate_pps));
        }
    }
}

/// Why a session was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The worker has as many sessions or neighbours of this kind as it may, and none that gives way.
    Full,
    /// A session with this index lives.
    IndexInUse,
    /// No half-open session has this index.
    Unknown,
}

/// The tables of one worker.
pub struct Neighbours {
    sessions: HashMap<u32, Inbound>,
    half_open: HalfOpens,
    /// Most sessions of strangers, and of members.
    strangers_max: usize,
    members_max: usize,
    /// Sessions of strangers now.
    strangers: usize,
    slots: Vec<Option<Neighbour>>,
    /// Neighbours that are strangers, and the most there may be.
    stranger_slots: usize,
    stranger_slots_max: usize,
    free: Vec<u16>,
    by_key: HashMap<[u8; 32], u16>,
    by_destination: HashMap<DestinationTag, u16>,
    /// The part that is looked at next.
    expire_part: usize,
    /// The slot where the search for a stranger that gives way goes on.
    hand: usize,
    /// Packets a second that the node can do, of which nodes get their rates; 0: they have none.
    capacity_pps: u32,
    counters: SessionCounters,
    /// Who holds most of the wheel, as far as was seen when frames came, and how much.
    largest: (u16, u32),
    /// Clients that attached elsewhere, by the time at which their sessions here end.
    parting: VecDeque<(u64, DestinationTag)>,
    /// Indices of sessions that are over, if anyone wants to know.
    ended: Option<Vec<u32>>,
}

impl Neighbours {
    /// Tables for up to `sessions_max` sessions, of which strangers may have `strangers_max`.
    pub fn new(sessions_max: usize, strangers_max: usize) -> Neighbours {
        let strangers_max = strangers_max.min(sessions_max);
        let members_max = sessions_max - strangers_max;
        let slots = sessions_max.clamp(1, NEIGHBOURS_MAX);
        Neighbours {
            sessions: HashMap::with_capacity(sessions_max),
            half_open: HalfOpens::default(),
            strangers_max,
            members_max,
            strangers: 0,
            slots: (0..slots).map(|_| None).collect(),
            stranger_slots: 0,
            stranger_slots_max: slots.saturating_sub(members_max),
            free: (0..slots)
                .rev()
                .filter_map(|slot| u16::try_from(slot).ok())
                .collect(),
            by_key: HashMap::with_capacity(slots),
            by_destination: HashMap::with_capacity(slots),
            expire_part: 0,
            hand: 0,
            capacity_pps: 0,
            counters: SessionCounters::default(),
            largest: (0, 0),
            parting: VecDeque::with_capacity(PARTING_MAX),
            ended: None,
        }
    }

    /// Holds nodes to rates of their own from now on, at a node that can do so many packets a second; 0: to none.
    pub fn limit_nodes(&mut self, capacity_pps: u32) {
        self.capacity_pps = capacity_pps;
    }

    /// Remembers from now on which sessions have ended, for [`Neighbours::tell_ended`].
    pub fn remember_ended(&mut self) {
        let room = self.strangers_max + self.members_max + HALF_OPEN_ALL;
        self.ended = Some(Vec::with_capacity(room));
    }

    /// Tells the receiver indices of sessions that are over, each until it was taken.
    pub fn tell_ended(&mut self, mut taken: impl FnMut(u32) -> bool) {
        if let Some(ended) = &mut self.ended {
            while let Some(index) = ended.pop_if(|index| taken(*index)) {
                debug_assert!(
                    !self.sessions.contains_key(&index) && self.half_open.get(index).is_none(),
                    "it is not over"
                );
            }
        }
    }

    /// Notes that the session of `index`, which was not installed, is over.
    pub fn refused(&mut self, index: u32) {
        if !self.sessions.contains_key(&index)
            && self.half_open.get(index).is_none()
            && let Some(ended) = &mut self.ended
        {
            ended.push(index);
        }
    }

    /// Number of sessions that count.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Number of half-open sessions.
    pub fn half_open_count(&self) -> usize {
        self.half_open.len()
    }

    /// What became of sessions.
    pub fn counters(&self) -> SessionCounters {
        self.counters
    }

    /// The receiving half that a receiver index names, half-open or not, and whose it is if that is known.
    #[inline]
    pub fn receiving(&self, index: u32) -> Option<(&ReceiveSession, Option<&Neighbour>)> {
        match self.sessions.get(&index) {
            Some(inbound) => Some((&inbound.session.receive, self.get(inbound.neighbour))),
            None => Some((&self.half_open.get(index)?.session.receive, None)),
        }
    }

    /// As [`Neighbours::receiving`], to mark counters.
    #[inline]
    pub fn receiving_mut(&mut self, index: u32) -> Option<&mut ReceiveSession> {
        match self.sessions.get_mut(&index) {
            Some(inbound) => Some(&mut inbound.session.receive),
            None => Some(&mut self.half_open.get_mut(index)?.session.receive),
        }
    }

    /// The session of a receiver index, once it counts.
    #[inline]
    pub fn session(&self, index: u32) -> Option<&Inbound> {
        self.sessions.get(&index)
    }

    /// As [`Neighbours::session`], to mark counters and to send.
    #[inline]
    pub fn session_mut(&mut self, index: u32) -> Option<&mut Inbound> {
        self.sessions.get_mut(&index)
    }

    /// A neighbour by number.
    #[inline]
    pub fn get(&self, number: u16) -> Option<&Neighbour> {
        self.slots.get(usize::from(number))?.as_ref()
    }

    /// As [`Neighbours::get`], to take tokens and to grant.
    #[inline]
    pub fn get_mut(&mut self, number: u16) -> Option<&mut Neighbour> {
        self.slots.get_mut(usize::from(number))?.as_mut()
    }

    /// Counts a frame that is held for this neighbour.
    #[inline]
    pub fn hold(&mut self, number: u16) {
        if let Some(Some(neighbour)) = self.slots.get_mut(usize::from(number)) {
            neighbour.holding += 1;
            if neighbour.holding > self.largest.1 {
                self.largest = (number, neighbour.holding);
            }
        }
    }

    /// Counts a frame that left.
    #[inline]
    pub fn let_go(&mut self, number: u16) {
        if let Some(Some(neighbour)) = self.slots.get_mut(usize::from(number)) {
            neighbour.holding = neighbour.holding.saturating_sub(1);
            // Whoever holds more now says so with the next frame that comes from there.
            if number == self.largest.0 {
                self.largest.1 = neighbour.holding;
            }
        }
        self.forget_if_idle(number);
    }

    /// Frames of the wheel that one neighbour holds: of the one with most.
    #[inline]
    pub fn largest(&self) -> u32 {
        self.largest.1
    }

    /// Takes an answered session, half-open. `answered` is where the response goes.
    ///
    /// # Errors
    /// The index is taken: the initiator, which gets no reply, tries again.
    pub fn wait_for(
        &mut self,
        session: Box<Session>,
        whose: Whose,
        answered: SocketAddr,
    ) -> Result<(), InstallError> {
        let index = session.local_index;
        if self.sessions.contains_key(&index) || self.half_open.get(index).is_some() {
            self.counters.index_in_use += 1;
            return Err(InstallError::IndexInUse);
        }
        let half_open = HalfOpen {
            session,
            whose,
            answered,
        };
        if let Some(gone) = self.half_open.insert(half_open) {
            self.counters.half_open_evicted += 1;
            self.over(gone);
        }
        Ok(())
    }

    /// The first authentic frame of a half-open session has come: from here on it counts, with this [`Inbound::order`].
    /// `attached` says who is an attached client: those do not give way to others.
    ///
    /// # Errors
    /// There is no room, and the session is over; the index names no half-open session.
    pub fn confirm(
        &mut self,
        index: u32,
        order: u64,
        epochs: &Epochs,
        attached: impl Fn(&DestinationTag) -> bool,
    ) -> Result<(), InstallError> {
        let HalfOpen {
            session,
            whose,
            answered,
        } = self.half_open.remove(index).ok_or(InstallError::Unknown)?;
        let (key, member) = (session.peer, whose == Whose::Member);
        let neighbour = match self.room_for(&key, member, epochs, attached) {
            Ok(neighbour) => neighbour,
            Err(error) => {
                self.counters.full += 1;
                self.over(index);
                return Err(error);
            }
        };
        let Some(Some(owner)) = self.slots.get_mut(usize::from(neighbour)) else {
            return Err(InstallError::Full);
        };
        let destination = owner.destination;
        owner.sessions.push(index);
        self.strangers += usize::from(!member);
        self.counters.confirmed += 1;
        let inbound = Inbound {
            session,
            neighbour,
            destination,
            order,
            answered,
            said_restart: false,
            member,
        };
        self.sessions.insert(index, inbound);
        Ok(())
    }

    /// Ends all sessions of the client with this tag at `at_ns`, if it has any: it attached elsewhere. Times rise.
    pub fn end_later(&mut self, destination: &DestinationTag, at_ns: u64) {
        let waits = |(_, other): &(u64, DestinationTag)| other == destination;
        if !self.by_destination.contains_key(destination) || self.parting.iter().any(waits) {
            return;
        }
        // Where there is no room its sessions end with their time: they cost no more than that.
        if self.parting.len() >= PARTING_MAX {
            return;
        }
        self.parting.push_back((at_ns, *destination));
    }

    /// Ends the sessions whose time has come; not of those that are `attached` here again.
    pub fn end_parted(&mut self, now_ns: u64, attached: impl Fn(&DestinationTag) -> bool) {
        while let Some((_, destination)) = self.parting.pop_front_if(|(at_ns, _)| *at_ns <= now_ns)
        {
            if !attached(&destination) {
                self.end_all_of(&destination);
            }
        }
    }

    fn end_all_of(&mut self, destination: &DestinationTag) {
        let number = self.by_destination.get(destination);
        let neighbour = number.and_then(|number| self.get(*number));
        let sessions = neighbour.map(|neighbour| neighbour.sessions.clone());
        for index in sessions.into_iter().flatten() {
            self.end(index);
        }
    }

    /// Ends a session that counts.
    fn end(&mut self, index: u32) {
        let Some(inbound) = self.sessions.remove(&index) else {
            return;
        };
        self.strangers -= usize::from(!inbound.member);
        let number = inbound.neighbour;
        if let Some(Some(neighbour)) = self.slots.get_mut(usize::from(number)) {
            neighbour.sessions.retain(|other| *other != index);
        }
        self.over(index);
        self.forget_if_idle(number);
    }

    /// Notes that the session of this index is over.
    fn over(&mut self, index: u32) {
        self.ended.iter_mut().for_each(|ended| ended.push(index));
    }

    /// Looks every neighbour up again after an epoch was installed.
    pub fn learn(&mut self, epochs: &Epochs) {
        for neighbour in self.slots.iter_mut().flatten() {
            neighbour.learn(epochs, self.capacity_pps);
        }
    }

    /// Drops sessions that are too old to be used, of a part of the neighbours; sixteen calls see all of them.
    pub fn expire(&mut self, now_ns: u64) {
        let part = self.expire_part;
        self.expire_part = (part + 1) % EXPIRE_PARTS;
        for number in (part..self.slots.len()).step_by(EXPIRE_PARTS) {
            let Some(Some(neighbour)) = self.slots.get(number) else {
                continue;
            };
            let expired: ArrayVec<u32, SESSIONS_PER_MEMBER> = neighbour
                .sessions
                .iter()
                .filter(|index| {
                    let inbound = self.sessions.get(index);
                    inbound.is_none_or(|inbound| inbound.session.receive.expired(now_ns))
                })
                .copied()
                .collect();
            for index in expired {
                self.end(index);
            }
        }
        let ended = &mut self.ended;
        self.half_open.expire(now_ns, |index| {
            ended.iter_mut().for_each(|ended| ended.push(index))
        });
    }

    fn forget_if_idle(&mut self, number: u16) {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else {
            return;
        };
        if let Some(neighbour) = slot
            && neighbour.sessions.is_empty()
            && neighbour.holding == 0
        {
            self.by_key.remove(&neighbour.key);
            self.by_destination.remove(&neighbour.destination);
            self.stranger_slots -= usize::from(!neighbour.member);
            *slot = None;
            self.free.push(number);
        }
    }
}
