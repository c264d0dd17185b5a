//! The gateway's clients on one worker: who is attached, what is queued for them, when they get their next frame.
//!
//! Nothing is kept but bounded queues in memory. Every client gets a Poisson stream of its own: a queued delivery if
//! there is one, else an answer, else cover, so that the stream tells nothing about what it carries.

mod crowds;
mod elsewhere;
mod grants;
mod places;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use link::control::CHALLENGE_BYTES;
use sphinx::DestinationTag;

use crate::handshake::Members;
use crowds::Crowds;
use elsewhere::Elsewhere;
use grants::Grants;
use port::pool::Frame;

pub use elsewhere::Told;
pub use places::Outcome;

/// Times that a client is told that its gateway leaves: nothing answers that.
const LEAVING_TELLS: u8 = 3;
/// Answers queued for one client.
const ANSWERS_MAX: usize = 16;
/// A client that was silent for so long has gone: it sends a steady stream.
const SILENT_NS: u64 = 60_000_000_000;
/// Between two challenges of one client: before an address is proved it gets one datagram in so long.
const CHALLENGE_NS: u64 = 1_000_000_000;

/// A control frame owed to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is attached, at its rate.
    Attached,
    /// It asked for a part of a consensus.
    Chunk {
        /// Of which epoch.
        epoch: u32,
        /// Which part.
        chunk: u16,
    },
    /// Its gateway leaves the network.
    Leaving {
        /// The last epoch in which it serves.
        epoch: u32,
    },
}

/// One attached client.
pub struct Client {
    /// Under this name packets reach it.
    pub destination: DestinationTag,
    /// Its session with this worker.
    pub session: u32,
    /// [`crate::path::neighbours::Inbound::order`] of that session: which of two attachments is the newer, among all
    /// workers.
    pub order: u64,
    /// Where its stream goes: an address that it has proved.
    pub address: SocketAddr,
    /// Where its newest authenticated frame came from instead.
    proving: Option<Proving>,
    challenged_ns: Option<u64>,
    newest_counter: u64,
    heard_ns: u64,
    /// Rate of its stream, packets a second.
    pub rate_pps: u32,
    /// How much of that was taken of what there is for all beyond the network's rate.
    beyond_pps: u32,
    queue: VecDeque<Frame>,
    answers: ArrayVec<Answer, ANSWERS_MAX>,
    /// Slots in which it is still told that its gateway leaves.
    leaving_tells: u8,
    /// Workers, a bit each, whose mailbox had no room for the letter that says where this client is.
    untold: u128,
    /// Frames this attachment's stream was started for; an older timer of the slot is stale.
    generation: u32,
}

/// An address that a client may have moved to.
struct Proving {
    address: SocketAddr,
    nonce: [u8; CHALLENGE_BYTES],
    /// A frame came from there since the last challenge, if there was one.
    due: bool,
}

/// What the next slot of a client's stream carries.
pub enum Content {
    /// A delivery, ready in its frame.
    Delivery(Frame),
    /// A control frame to be written.
    Answer(Answer),
    /// A challenge, to the address that is not proved: see [`Client::challenged`].
    Challenge([u8; CHALLENGE_BYTES]),
    /// Nothing.
    Cover,
}

/// All clients of one worker.
pub struct Clients {
    slots: Vec<Option<Client>>,
    by_tag: HashMap<DestinationTag, u16>,
    elsewhere: Elsewhere,
    crowds: Crowds,
    grants: Grants,
    /// Told of every client's address: its handshakes wait apart from strangers'.
    members: Arc<Members>,
    /// Whether some worker may be [`Client::untold`].
    untold: bool,
    timers: BinaryHeap<Reverse<(u64, u16, u32)>>,
    queue_frames: usize,
    queued: usize,
    generation: u32,
    /// The last epoch in which this gateway serves, if it leaves.
    leaving: Option<u32>,
}

/// Where deliveries for a destination go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// To a client of this worker.
    Here(u16),
    /// To a client of another worker.
    Worker(u8),
    /// To nobody.
    Unknown,
}

impl Clients {
    /// Room for `clients_max` clients with up to `queue_frames` queued deliveries each; `members` learns where they are.
    pub fn new(clients_max: u16, queue_frames: usize, members: Arc<Members>) -> Clients {
        let count = usize::from(clients_max);
        Clients {
            slots: (0..count).map(|_| None).collect(),
            by_tag: HashMap::with_capacity(count),
            elsewhere: Elsewhere::new(count),
            crowds: Crowds::default(),
            grants: Grants::default(),
            members,
            untold: false,
            // Stale timers fire once and go; twice the clients is room for all that can be.
            timers: BinaryHeap::with_capacity(2 * count + 1),
            queue_frames,
            queued: 0,
            generation: 0,
            leaving: None,
        }
    }

    /// Grants everyone `ordinary_pps` from now on that asks for it, and beyond that no more than `beyond_pps` to all
    /// together, to one block of networks half of that; none: as much as is asked for.
    pub fn limit_grants(&mut self, ordinary_pps: u32, beyond_pps: Option<u64>) {
        self.grants.limit(ordinary_pps, beyond_pps);
    }

    /// Number of clients attached here.
    pub fn len(&self) -> usize {
        self.by_tag.len()
    }

    /// Whether nobody is attached here.
    pub fn is_empty(&self) -> bool {
        self.by_tag.is_empty()
    }

    /// Frames queued for clients.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// A client attached to another worker. Frees what was queued for an older attachment here, into `freed`. Says whether
    /// that attachment is the newest.
    pub fn moved(
        &mut self,
        destination: DestinationTag,
        (worker, order): (u8, u64),
        now_ns: u64,
        freed: impl FnMut(Frame),
    ) -> bool {
        if let Some(slot) = self.by_tag.get(&destination).copied() {
            let newer = self.get(slot).is_some_and(|client| client.order > order);
            if newer {
                return false;
            }
            self.remove(slot, freed);
        }
        self.elsewhere.learn(destination, (worker, order), now_ns)
    }

    /// A client has gone from another worker: the session of this order was its newest.
    pub fn gone(&mut self, destination: &DestinationTag, order: u64) {
        self.elsewhere.forget(destination, order);
    }

    /// Forgets now and then the clients on other workers of whom nothing was heard for too long.
    pub fn forget_moved(&mut self, now_ns: u64) {
        self.elsewhere.forget_old(now_ns);
    }

    /// Where deliveries for `destination` go.
    pub fn find(&self, destination: &DestinationTag) -> Whereabouts {
        match (
            self.by_tag.get(destination),
            self.elsewhere.find(destination),
        ) {
            (Some(slot), _) => Whereabouts::Here(*slot),
            (None, Some((worker, _))) => Whereabouts::Worker(worker),
            (None, None) => Whereabouts::Unknown,
        }
    }

    /// A client by slot.
    pub fn get(&self, slot: u16) -> Option<&Client> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    /// Whether a client is attached here under this tag.
    pub fn is_attached(&self, destination: &DestinationTag) -> bool {
        self.by_tag.contains_key(destination)
    }

    /// The client attached under this tag.
    pub fn attached(&mut self, destination: &DestinationTag) -> Option<&mut Client> {
        let slot = *self.by_tag.get(destination)?;
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// The client with this tag answers a challenge, from `source`; whether that proves the address. Then the stream
    /// follows.
    pub fn answered(
        &mut self,
        destination: &DestinationTag,
        nonce: &[u8; CHALLENGE_BYTES],
        source: SocketAddr,
    ) -> bool {
        let Some(client) = self.attached(destination) else {
            return false;
        };
        if !client.proves(nonce, source) {
            return false;
        }
        client.proving = None;
        let before = std::mem::replace(&mut client.address, source);
        let beyond_pps = client.beyond_pps;
        self.place_of(before, source, beyond_pps);
        true
    }

    /// Tells these workers, a bit each and all others that there are, where a client is that has just attached here: `post`
    /// is given the worker, and says whether the mailbox took the letter.
    pub fn announce(
        &mut self,
        destination: &DestinationTag,
        workers: u128,
        post: impl FnMut(u8, Told) -> bool,
    ) {
        self.elsewhere.set_others(workers);
        if let Some(client) = self.attached(destination) {
            client.untold = workers;
            self.untold |= !client.tell(post);
        }
    }

    /// Tells those whose mailbox had no room before, then other workers who has gone.
    pub fn tell(&mut self, mut post: impl FnMut(u8, Told) -> bool) {
        if self.untold {
            let clients = self.slots.iter_mut().flatten();
            self.untold = clients.fold(false, |untold, client| !client.tell(&mut post) | untold);
        }
        let here = &self.by_tag;
        self.elsewhere
            .tell(|client| here.contains_key(client), &mut post);
    }

    /// Queues a delivery, its content already in place.
    ///
    /// # Errors
    /// Gives the frame back if the client's queue is full or the client gone.
    pub fn queue(&mut self, slot: u16, frame: Frame) -> Result<(), Frame> {
        let Some(Some(client)) = self.slots.get_mut(usize::from(slot)) else {
            return Err(frame);
        };
        if client.queue.len() >= self.queue_frames {
            return Err(frame);
        }
        client.queue.push_back(frame);
        self.queued += 1;
        Ok(())
    }

    /// When the next frame of any stream is due.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at_ns, _, _))| *at_ns)
    }

    /// The slot whose stream is due, with the time it was due at. The caller sends and calls
    /// [`Clients::schedule`].
    pub fn due(&mut self, now_ns: u64) -> Option<(u16, u64)> {
        while let Some(Reverse((at_ns, slot, generation))) = self.timers.peek().copied()
            && at_ns <= now_ns
        {
            self.timers.pop();
            if self
                .get(slot)
                .is_some_and(|client| client.generation == generation)
            {
                return Some((slot, at_ns));
            }
        }
        None
    }

    /// Sets the time of the stream's next frame.
    pub fn schedule(&mut self, slot: u16, at_ns: u64) {
        if let Some(client) = self.get(slot) {
            let generation = client.generation;
            self.timers.push(Reverse((at_ns, slot, generation)));
        }
    }

    /// Takes what the stream's frame carries.
    pub fn next_content(&mut self, slot: u16, now_ns: u64) -> Content {
        let Some(Some(client)) = self.slots.get_mut(usize::from(slot)) else {
            return Content::Cover;
        };
        if let Some(proving) = client.proving.as_mut().filter(|proving| proving.due) {
            proving.due = false;
            client.challenged_ns = Some(now_ns);
            Content::Challenge(proving.nonce)
        } else if !client.answers.is_empty() {
            // Before deliveries, which anybody can send: the client asked for no more of these than it has slots.
            Content::Answer(client.answers.remove(0))
        } else if let Some(epoch) = self.leaving
            && client.leaving_tells > 0
        {
            client.leaving_tells -= 1;
            Content::Answer(Answer::Leaving { epoch })
        } else if let Some(frame) = client.queue.pop_front() {
            self.queued -= 1;
            Content::Delivery(frame)
        } else {
            Content::Cover
        }
    }

    /// Tells everyone attached now or later that this gateway leaves, and in which epoch it serves last.
    pub fn leave(&mut self, epoch: u32) {
        self.leaving = Some(epoch);
        let clients = self.slots.iter_mut().flatten();
        clients.for_each(|client| client.leaving_tells = LEAVING_TELLS);
    }

    /// Detaches a client, as other workers are told; what was queued goes to `freed`.
    pub fn detach(&mut self, slot: u16, freed: impl FnMut(Frame)) {
        if let Some(client) = self.get(slot) {
            let (destination, order) = (client.destination, client.order);
            self.elsewhere.gone(destination, order);
        }
        self.remove(slot, freed);
    }

    fn remove(&mut self, slot: u16, mut freed: impl FnMut(Frame)) {
        if let Some(client) = self.slots.get_mut(usize::from(slot)).and_then(Option::take) {
            self.by_tag.remove(&client.destination);
            self.crowds.remove(client.address);
            self.grants.give_back(client.address, client.beyond_pps);
            self.members.client_gone(client.address);
            self.queued -= client.queue.len();
            client.queue.into_iter().for_each(&mut freed);
        }
    }

    /// The first slot from `from` on whose client was silent for too long. Who detaches one goes on behind it: thousands
    /// that fall silent together are found in one walk.
    pub fn silent(&self, from: u16, now_ns: u64) -> Option<u16> {
        let slots = (0..).zip(&self.slots).skip(usize::from(from));
        let is_silent = |client: &Client| now_ns.saturating_sub(client.heard_ns) > SILENT_NS;
        slots
            .filter_map(|(slot, client)| Some((slot, client.as_ref()?)))
            .find(|(_, client)| is_silent(client))
            .map(|(slot, _)| slot)
    }

    /// Any attached slot: how a stopping gateway empties its queues.
    pub fn any(&self) -> Option<u16> {
        self.slots
            .iter()
            .position(Option::is_some)
            .and_then(|slot| u16::try_from(slot).ok())
    }
}

/// What an attach frame brings.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    /// The session it came through.
    pub session: u32,
    /// Which of two sessions is the newer, among all workers.
    pub order: u64,
    /// Counter of the frame.
    pub counter: u64,
    /// Where the response of that session's handshake went: its first authentic frame has proved it.
    pub address: SocketAddr,
    /// Rate asked for, as far as one client may have it.
    pub rate_pps: u32,
    /// Now.
    pub now_ns: u64,
}

impl Client {
    /// An authenticated frame of the attached session arrived. If it is the newest and came from elsewhere, that address
    /// is to be challenged in the next slot; the stream stays where it is.
    pub fn heard(
        &mut self,
        counter: u64,
        source: SocketAddr,
        now_ns: u64,
        nonce: impl FnOnce() -> [u8; CHALLENGE_BYTES],
    ) {
        self.heard_ns = now_ns;
        if counter < self.newest_counter {
            return;
        }
        self.newest_counter = counter;
        if source == self.address {
            self.proving = None;
            return;
        }
        let lately = |at_ns| now_ns.saturating_sub(at_ns) < CHALLENGE_NS;
        if self.challenged_ns.is_some_and(lately) {
            return;
        }
        match &mut self.proving {
            Some(proving) if proving.address == source => proving.due = true,
            _ => {
                self.proving = Some(Proving {
                    address: source,
                    nonce: nonce(),
                    due: true,
                });
            }
        }
    }

    /// The address that is challenged.
    pub fn challenged(&self) -> Option<SocketAddr> {
        self.proving.as_ref().map(|proving| proving.address)
    }

    /// Whether the answer to a challenge, which came from `source`, proves that address.
    fn proves(&self, nonce: &[u8; CHALLENGE_BYTES], source: SocketAddr) -> bool {
        self.proving.as_ref().is_some_and(|proving| {
            let differing = proving.nonce.iter().zip(nonce);
            let difference = differing.fold(0, |sum, (ours, theirs)| sum | (ours ^ theirs));
            proving.address == source && difference == 0
        })
    }

    /// Tells those who are untold; whether nobody is any more.
    fn tell(&mut self, mut post: impl FnMut(u8, Told) -> bool) -> bool {
        let told = Told {
            destination: self.destination,
            order: self.order,
            is_gone: false,
        };
        self.untold = told.tell(self.untold, &mut post);
        self.untold == 0
    }

    /// Owes the client an answer. A repeated question is answered once; says whether there was room.
    pub fn answer(&mut self, answer: Answer) -> bool {
        self.answers.contains(&answer) || self.answers.try_push(answer).is_ok()
    }
}
