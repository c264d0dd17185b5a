//! A restart: whom this node tells of its own, and what follows from a neighbour's (`mixnode/link/SPEC.md`, "A node that
//! was restarted").

use crate::keys::epoch::EpochState;
use crate::path::core::Core;
use crate::path::epochs::{Epochs, Link, Links};
use crate::path::mail::Mail;

/// Times that a node is told, because nothing answers.
const TELLS: u8 = 3;
/// Who could not be told in this time learns of it by the next document, which renews every session.
const TELLING_NS: u64 = 30_000_000_000;
/// A session is renewed for its node's word once in this time at most.
const PAUSE_NS: u64 = 2_000_000_000;

/// What a worker tells and hears of restarts.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Neighbours are being told, and how long that goes on.
    telling_until_ns: Option<u64>,
    /// Frames in which neighbours were told.
    pub told: u64,
    /// Sessions in which a next hop said so.
    pub heard: u64,
}

/// This node came back in an epoch: asks for a session with every node before it there, to tell it. One worker does.
pub fn tell(core: &mut Core, state: &EpochState) {
    let (Some(own), 0) = (state.own(), core.settings.number) else {
        return;
    };
    let consensus = state.consensus();
    let mut layers = 0..=consensus.parameters().layers;
    let before = layers.find(|layer| consensus.next_layer(*layer) == own.layer);
    for node in before.into_iter().flat_map(|layer| consensus.layer(layer)) {
        let mut addresses = node.addresses.iter();
        let address = addresses.find(|address| address.is_ipv6() == core.settings.ipv6);
        if let Some(address) = address {
            let number = core.links.open(&node.link, *address);
            if let Some(link) = core.links.get_mut(number) {
                link.tells = TELLS;
            }
        }
    }
    core.restarts.telling_until_ns = Some(core.now_ns + TELLING_NS);
}

/// Has neighbours told again where there is a session; lets go of the links that were there for that alone. To be called
/// ten times a second.
pub fn go_on(core: &mut Core) {
    let Some(until_ns) = core.restarts.telling_until_ns else {
        return;
    };
    let is_over = core.now_ns >= until_ns;
    let mut left = false;
    for number in core.links.numbers() {
        if let Some(link) = core.links.get_mut(number)
            && link.tells > 0
        {
            if is_over {
                link.tells = 0;
                continue;
            }
            left = true;
            // The first time is the session's first frame.
            if link.tells < TELLS && link.session.is_some() && !core.greetings.contains(&number) {
                core.greetings.push(number);
            }
        }
    }
    if !left {
        core.restarts.telling_until_ns = None;
        core.epochs.tidy(&mut core.links);
    }
}

/// A node said on this session that it was restarted; whether it is a next hop. Counts once a session, whose frames are
/// copies of the first.
pub fn hear(core: &mut Core, session: u32) -> bool {
    let Some(inbound) = core.neighbours.session(session) else {
        return false;
    };
    if inbound.said_restart {
        return true;
    }
    let key = inbound.session.peer;
    if !core.epochs.lead_to(&core.links, &key) {
        return false;
    }
    let mailboxes = core.shared.mailboxes.iter();
    let full = mailboxes.filter(|mailbox| !mailbox.post(Mail::Restarted { key }));
    // Where one is full the next copy comes in time.
    let taken = full.count() == 0;
    if let Some(inbound) = core.neighbours.session_mut(session) {
        inbound.said_restart = taken;
    }
    core.restarts.heard += u64::from(taken);
    true
}

impl Epochs {
    /// Whether packets leave for the node with this key. A link that is there to tell it something does not count.
    fn lead_to(&self, links: &Links, key: &[u8; 32]) -> bool {
        let is_there = |link: &Link| link.remote.x25519 == *key;
        let mut numbers = links.numbers();
        numbers.any(|number| links.get(number).is_some_and(is_there) && self.uses(number))
    }
}

impl Links {
    /// The node with this key was restarted: its session is of no use.
    pub fn stale(&mut self, key: &[u8; 32]) {
        for number in self.numbers() {
            if let Some(link) = self.get_mut(number)
                && link.remote.x25519 == *key
            {
                link.is_stale = true;
            }
        }
    }
}

impl Link {
    /// Wants a new session if its node said that it was restarted, unless that was obeyed a moment ago. What is under way
    /// went to the node that is no more.
    pub fn renew(&mut self, now_ns: u64) {
        let waits = |at_ns: u64| now_ns.saturating_sub(at_ns) < PAUSE_NS;
        if self.is_stale && !self.renewed_ns.is_some_and(waits) {
            self.is_stale = false;
            self.renewed_ns = Some(now_ns);
            (self.wanted, self.connecting) = (true, false);
        }
    }
}
