//! Places for clients: who gets one, who has to give it up.
//!
//! Keys cost nothing, addresses do, and networks of one block are had together: throwaway keys of one block must not shut
//! the gateway for the others. The rule is in the links' specification, "A full gateway".

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use arrayvec::ArrayVec;
use sphinx::DestinationTag;

use super::{Attachment, Client, Clients, LEAVING_TELLS};
use crate::path::prefix::Prefix;
use port::pool::Frame;

/// A block of networks gets one place in so many at most, but of few places a few.
const BLOCK_PART: usize = 2;
const BLOCK_MIN: usize = 4;

/// What an attach frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client is attached under that session, and has a stream.
    Attached,
    /// It is, in the place of a client that was told of this under this session at this address.
    InPlaceOf(u32, SocketAddr),
    /// A newer session of the client is attached, here or at another worker.
    Older,
    /// There is no place for it.
    Full,
}

impl Clients {
    /// Attaches the client with this tag, or moves its attachment to a newer session. Frames queued stay; those of a
    /// client that gives way go to `freed`.
    pub fn attach(
        &mut self,
        destination: DestinationTag,
        with: Attachment,
        freed: impl FnMut(Frame),
    ) -> Outcome {
        let elsewhere = self.elsewhere.find(&destination);
        if elsewhere.is_some_and(|(_, newest)| newest > with.order) {
            return Outcome::Older;
        }
        if let Some(slot) = self.by_tag.get(&destination).copied() {
            return self.renew(slot, with);
        }
        let mut outcome = Outcome::Attached;
        match self.find_place(with.address) {
            Place::Free => {}
            Place::None => return Outcome::Full,
            Place::Of(slot) => {
                if let Some(client) = self.get(slot) {
                    outcome = Outcome::InPlaceOf(client.session, client.address);
                }
                self.detach(slot, freed);
            }
        }
        match self.introduce(destination, with) {
            Some(()) => outcome,
            None => Outcome::Full,
        }
    }

    fn renew(&mut self, slot: u16, with: Attachment) -> Outcome {
        let Some(Some(client)) = self.slots.get_mut(usize::from(slot)) else {
            return Outcome::Full;
        };
        if with.order < client.order {
            return Outcome::Older;
        }
        client.heard_ns = with.now_ns;
        self.grants.give_back(client.address, client.beyond_pps);
        let granted = self.grants.take(client.address, with.rate_pps);
        (client.rate_pps, client.beyond_pps) = granted;
        if with.session != client.session {
            (client.session, client.order) = (with.session, with.order);
            client.newest_counter = with.counter;
            client.proving = None;
            // Proved by the session itself.
            let before = std::mem::replace(&mut client.address, with.address);
            self.place_of(before, with.address, granted.1);
        }
        if let Some(Some(client)) = self.slots.get_mut(usize::from(slot)) {
            client.answer(super::Answer::Attached);
        }
        Outcome::Attached
    }

    fn introduce(&mut self, destination: DestinationTag, with: Attachment) -> Option<()> {
        let free = self.slots.iter().position(Option::is_none)?;
        let slot = u16::try_from(free).ok()?;
        self.generation = self.generation.wrapping_add(1);
        let (rate_pps, beyond_pps) = self.grants.take(with.address, with.rate_pps);
        let mut client = Client {
            destination,
            session: with.session,
            order: with.order,
            address: with.address,
            proving: None,
            challenged_ns: None,
            newest_counter: with.counter,
            heard_ns: with.now_ns,
            rate_pps,
            beyond_pps,
            queue: VecDeque::with_capacity(self.queue_frames),
            answers: ArrayVec::new(),
            untold: 0,
            leaving_tells: LEAVING_TELLS,
            generation: self.generation,
        };
        client.answer(super::Answer::Attached);
        *self.slots.get_mut(free)? = Some(client);
        self.by_tag.insert(destination, slot);
        self.crowds.add(with.address);
        self.members.client_at(with.address);
        self.elsewhere.is_here(&destination);
        self.timers
            .push(Reverse((with.now_ns, slot, self.generation)));
        Some(())
    }

    /// The proved address of a client with so much beyond the network's rate is another one.
    pub(super) fn place_of(&mut self, before: SocketAddr, now: SocketAddr, beyond_pps: u32) {
        if before == now {
            return;
        }
        self.crowds.remove(before);
        self.crowds.add(now);
        self.grants.moved(before, now, beyond_pps);
        self.members.client_at(now);
        self.members.client_gone(before);
    }

    /// A place for a newcomer at this address.
    fn find_place(&self, newcomer: SocketAddr) -> Place {
        let (places, taken) = (self.slots.len(), self.len());
        let (of_block, of_network) = self.crowds.count(newcomer);
        if of_block >= BLOCK_MIN.max(places / BLOCK_PART) {
            return Place::None;
        }
        if taken < places {
            return Place::Free;
        }
        let Some((most, largest)) = self.crowds.most() else {
            return Place::None;
        };
        // It must be the better for it: else two networks would take places from each other for ever. Blocks come first:
        // among networks of one block alone their counts decide, so that neither undoes what the other did.
        let (block, fewer) = if most > of_block + 1 {
            (largest, 0)
        } else {
            (Prefix::block(newcomer.ip()), of_network + 1)
        };
        let crowded = self.crowds.most_within(block);
        crowded
            .filter(|(count, _)| *count > fewer)
            .and_then(|(_, network)| self.latest_of(network))
            .map_or(Place::None, Place::Of)
    }

    /// Of the host with most clients in this network, the one that attached last: who was there first stays.
    fn latest_of(&self, network: Prefix) -> Option<u16> {
        let clients = || {
            let slots = (0..).zip(&self.slots);
            slots
                .filter_map(|(slot, client)| Some((slot, client.as_ref()?)))
                .filter(|(_, client)| Prefix::network(client.address.ip()) == network)
        };
        let mut hosts: HashMap<Prefix, (usize, u64)> = HashMap::new();
        for (_, client) in clients() {
            let host = hosts.entry(Prefix::host(client.address.ip())).or_default();
            *host = (host.0 + 1, host.1.max(client.order));
        }
        let (_, latest) = hosts.into_values().max()?;
        clients()
            .find(|(_, client)| client.order == latest)
            .map(|(slot, _)| slot)
    }
}

enum Place {
    Free,
    Of(u16),
    None,
}
