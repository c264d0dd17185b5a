//! The epochs a worker has installed, with its links to the next hops of each.

use std::net::SocketAddr;
use std::sync::Arc;

use directory::{LinkKey, Parameters};
use link::{LinkPublic, Session};

use crate::keys::epoch::{EpochState, OwnPart};

/// Epochs are told apart by two bits of a frame.
pub const EPOCH_SLOTS: usize = 4;
/// No link.
const NONE: u16 = u16::MAX;

struct Installed {
    /// Dropped, and the key with it, when the epoch is over.
    state: Option<Arc<EpochState>>,
    /// Link of each node that may be the next hop, by index in the consensus. Kept until the slot is used again:
    /// packets held past the epoch's end still leave.
    links: Vec<u16>,
}

/// What a worker knows of the epochs, by epoch modulo 4.
#[derive(Default)]
pub struct Epochs {
    slots: [Option<Installed>; EPOCH_SLOTS],
    now: u32,
    /// The epoch that this node makes packets of.
    sending: Option<u32>,
}

/// The slot of an epoch: what a frame carries of it.
pub const fn slot_of(epoch: u32) -> u8 {
    (epoch % EPOCH_SLOTS as u32) as u8
}

impl Epochs {
    /// The epoch of now, by the wall clock.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Takes note of the wall clock: which epoch it is, what has begun, what this node makes packets of. Lets go of the
    /// epochs that are over; when that is, is not this clock's business (see `process::follower`).
    pub fn advance(&mut self, unix_ms: u64) {
        for installed in self.slots.iter_mut().flatten() {
            match &installed.state {
                Some(state) if state.is_over() => installed.state = None,
                Some(state) => state.begin(unix_ms),
                None => {}
            }
        }
        let parameters = self.states().flatten().next();
        let Some(parameters) = parameters.map(|state| *state.consensus().parameters()) else {
            self.sending = None;
            return;
        };
        self.now = parameters.epoch_at(unix_ms);
        self.sending = self.choose(&parameters, unix_ms);
    }

    /// The epoch that this node makes packets of: the one of now from its own moment on, the one before until then,
    /// and as long as there is no document of this one. From that moment on who has no part in the one of now makes none:
    /// what it made of the one before would come after everybody else's, and be refused.
    fn choose(&self, parameters: &Parameters, unix_ms: u64) -> Option<u32> {
        let before = self.now.checked_sub(1).and_then(|epoch| {
            let (state, _) = self.accepted(slot_of(epoch))?;
            (state.epoch() == epoch).then_some(state)
        });
        let Some(now) = self.document_of(self.now) else {
            let last_ms = parameters.epoch_ends_ms(self.now);
            let arrives = unix_ms.saturating_add(parameters.travel_ms()) <= last_ms;
            return before.filter(|_| arrives).map(EpochState::epoch);
        };
        match before {
            Some(before) if !now.has_turned(unix_ms) => Some(before.epoch()),
            _ => Some(now.epoch()),
        }
    }

    /// The states installed, by slot.
    pub fn states(&self) -> impl Iterator<Item = Option<&EpochState>> {
        self.slots.iter().map(|slot| {
            slot.as_ref()
                .and_then(|installed| installed.state.as_deref())
        })
    }

    /// The state in `slot` if its packets are accepted now, and this node's part in it.
    #[inline]
    pub fn accepted(&self, slot: u8) -> Option<(&EpochState, &OwnPart)> {
        let installed = self.slots.get(usize::from(slot))?.as_ref()?;
        let state = installed.state.as_deref()?;
        Some((state, state.own().filter(|_| state.is_open())?))
    }

    /// The state of the epoch that this node makes packets of, and its part.
    pub fn sending(&self) -> Option<(&EpochState, &OwnPart)> {
        self.accepted(slot_of(self.sending?))
            .filter(|(state, _)| Some(state.epoch()) == self.sending)
    }

    /// The state of `epoch`, accepted or still to come; for `u32::MAX` the newest.
    pub fn document_of(&self, epoch: u32) -> Option<&EpochState> {
        let states = self.states().flatten();
        if epoch == link::control::LATEST {
            states.max_by_key(|state| state.epoch())
        } else {
            states.into_iter().find(|state| state.epoch() == epoch)
        }
    }

    /// The link to node `next` of the epoch in `slot`.
    #[inline]
    pub fn link(&self, slot: u8, next: u16) -> Option<u16> {
        let links = &self.slots.get(usize::from(slot))?.as_ref()?.links;
        links
            .get(usize::from(next))
            .copied()
            .filter(|link| *link != NONE)
    }

    /// Installs an epoch in place of the one four before it, with a link to every possible next hop.
    pub fn install(&mut self, state: Arc<EpochState>, links: &mut Links, ipv6: bool) {
        let consensus = state.consensus();
        let mut table = vec![NONE; consensus.nodes().len()];
        if let Some(own) = state.own() {
            for node in consensus.layer(consensus.next_layer(own.layer)) {
                // The same address family as the socket; a node without one can't be reached from here.
                let address = node
                    .addresses
                    .iter()
                    .find(|address| address.is_ipv6() == ipv6);
                if let (Some(address), Some(place)) =
                    (address, table.get_mut(usize::from(node.index)))
                {
                    *place = links.open(&node.link, *address);
                }
            }
        }
        let epoch = state.epoch();
        if let Some(slot) = self.slots.get_mut(usize::from(slot_of(epoch))) {
            *slot = Some(Installed {
                state: Some(state),
                links: table,
            });
        }
        self.tidy(links);
    }

    /// Whether packets of an epoch leave through this link.
    pub fn uses(&self, link: u16) -> bool {
        let mut slots = self.slots.iter().flatten();
        slots.any(|slot| slot.links.contains(&link))
    }

    /// Drops the links that nothing leaves through any more.
    pub fn tidy(&self, links: &mut Links) {
        links.keep(|link| self.uses(link));
    }
}

/// The way to one next hop.
pub struct Link {
    /// Its static keys.
    pub remote: Arc<LinkPublic>,
    /// Its address.
    pub address: SocketAddr,
    /// The sending session, once there is one.
    pub session: Option<Box<Session>>,
    /// A new session is wanted: there is none, it is old, or its other end may have been restarted.
    pub wanted: bool,
    /// The handshaker was asked for one.
    pub connecting: bool,
    /// So many times more its node is told that this one was restarted: see [`crate::path::restart`].
    pub tells: u8,
    /// Its node said that it was restarted, and no new session was asked for since.
    pub is_stale: bool,
    /// When one last was for that.
    pub renewed_ns: Option<u64>,
}

/// The links of one worker, by number.
#[derive(Default)]
pub struct Links {
    slots: Vec<Option<Link>>,
    /// Links that are no more, by number and key: the handshaker may still try for them, and knows how their nodes stand.
    dropped: Vec<(u16, [u8; 32])>,
}

impl Links {
    /// A link by number.
    #[inline]
    pub fn get(&self, link: u16) -> Option<&Link> {
        self.slots.get(usize::from(link))?.as_ref()
    }

    /// A link by number, to send on.
    #[inline]
    pub fn get_mut(&mut self, link: u16) -> Option<&mut Link> {
        self.slots.get_mut(usize::from(link))?.as_mut()
    }

    /// Numbers of all links.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        0..u16::try_from(self.slots.len()).unwrap_or(NONE)
    }

    /// Links with a session.
    pub fn connected(&self) -> usize {
        self.slots
            .iter()
            .flatten()
            .filter(|link| link.session.is_some())
            .count()
    }

    /// The link to a node, made if there is none. Asks for a new session: the node may have been restarted since
    /// the last epoch and know nothing of the old one.
    pub fn open(&mut self, node: &LinkKey, address: SocketAddr) -> u16 {
        let LinkKey { x25519, kem } = node;
        let same = |link: &Link| link.remote.x25519 == *x25519 && link.remote.kem == *kem;
        let known = self
            .slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(same));
        if let Some(position) = known
            && let Some(Some(link)) = self.slots.get_mut(position)
        {
            if link.address != address {
                // What is under way goes to where it no longer is.
                link.connecting = false;
            }
            link.address = address;
            link.wanted = true;
            return u16::try_from(position).unwrap_or(NONE);
        }
        let link = Link {
            remote: Arc::new(LinkPublic {
                x25519: *x25519,
                kem: kem.clone(),
            }),
            address,
            session: None,
            wanted: true,
            connecting: false,
            tells: 0,
            is_stale: false,
            renewed_ns: None,
        };
        let free = self
            .slots
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.slots.len());
        // It is the same again. What was another node's is told of all the same: the key tells the two apart.
        let again = |(number, key): &(u16, [u8; 32])| usize::from(*number) == free && key == x25519;
        self.dropped.retain(|dropped| !again(dropped));
        match self.slots.get_mut(free) {
            Some(slot) => *slot = Some(link),
            None => self.slots.push(Some(link)),
        }
        u16::try_from(free).unwrap_or(NONE)
    }

    fn keep(&mut self, mut used: impl FnMut(u16) -> bool) {
        for (number, slot) in (0..).zip(self.slots.iter_mut()) {
            let tells = slot.as_ref().is_some_and(|link| link.tells > 0);
            if !tells
                && !used(number)
                && let Some(link) = slot.take()
            {
                self.dropped.push((number, link.remote.x25519));
            }
        }
    }

    /// Tells of links that are no more, each until that was `taken`.
    pub fn abandon(&mut self, mut taken: impl FnMut(u16, [u8; 32]) -> bool) {
        while self
            .dropped
            .pop_if(|(number, key)| taken(*number, *key))
            .is_some()
        {}
    }
}
