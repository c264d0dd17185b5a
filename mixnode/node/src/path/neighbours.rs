//! Who sends to this worker: sessions by receiver index, and the neighbours behind them.

use std::collections::HashMap;

use arrayvec::ArrayVec;
use link::Session;
use sphinx::DestinationTag;

use crate::path::epochs::{EPOCH_SLOTS, Epochs};
use crate::path::grant::Bucket;

/// Sessions one neighbour may have with one worker: each of its workers may hold one, two while it rekeys. The
/// oldest gives way.
const SESSIONS_PER_NEIGHBOUR: usize = 16;
/// Neighbours of one worker, clients included.
const NEIGHBOURS_MAX: usize = 16_384;

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
    /// Which of two sessions is the newer: the larger.
    pub order: u64,
}

/// Someone who proved a static key: a node, or at a gateway a client.
pub struct Neighbour {
    /// Its static X25519 key.
    pub key: [u8; 32],
    /// By epoch modulo 4: the epoch, and the neighbour's layer in it (`None`: not a node then).
    layers: [Option<(u32, Option<u8>)>; EPOCH_SLOTS],
    /// Frames of the pool that came from it and are still held.
    pub holding: u32,
    /// What it brings of its layer's traffic, in thousandths; the most of all epochs installed.
    pub layer_permille: u32,
    /// What it may send, should it be a client.
    pub bucket: Bucket,
    sessions: ArrayVec<u32, SESSIONS_PER_NEIGHBOUR>,
}

impl Neighbour {
    /// Its layer in the epoch installed in `slot`; `None` if it is no node of that epoch.
    pub fn layer(&self, slot: u8) -> Option<u8> {
        self.layers
            .get(usize::from(slot))
            .copied()
            .flatten()
            .and_then(|(_, layer)| layer)
    }

    /// Whether it is a node of any epoch installed.
    pub fn is_node(&self) -> bool {
        self.layers
            .iter()
            .flatten()
            .any(|(_, layer)| layer.is_some())
    }

    fn learn(&mut self, epochs: &Epochs) {
        let shares = epochs.states().flatten();
        self.layer_permille = shares
            .map(|state| state.layer_permille(&self.key))
            .max()
            .unwrap_or(0);
        for (place, installed) in self.layers.iter_mut().zip(epochs.states()) {
            if let Some(state) = installed {
                *place = Some((state.epoch(), state.layer_of(&self.key)));
            }
        }
    }
}

/// Why a session was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The worker has as many sessions or neighbours as it may.
    Full,
    /// A session with this index lives.
    IndexInUse,
}

/// The tables of one worker.
pub struct Neighbours {
    sessions: HashMap<u32, Inbound>,
    sessions_max: usize,
    slots: Vec<Option<Neighbour>>,
    free: Vec<u16>,
    by_key: HashMap<[u8; 32], u16>,
    order: u64,
    /// The part that is looked at next.
    expire_part: usize,
    /// Indices of sessions that are over, if anyone wants to know.
    ended: Option<Vec<u32>>,
}

impl Neighbours {
    /// Tables for up to `sessions_max` sessions.
    pub fn new(sessions_max: usize) -> Neighbours {
        let slots = sessions_max.clamp(1, NEIGHBOURS_MAX);
        Neighbours {
            sessions: HashMap::with_capacity(sessions_max),
            sessions_max,
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots)
                .rev()
                .filter_map(|slot| u16::try_from(slot).ok())
                .collect(),
            by_key: HashMap::with_capacity(slots),
            order: 0,
            expire_part: 0,
            ended: None,
        }
    }

    /// Remembers from now on which sessions have ended, for [`Neighbours::tell_ended`].
    pub fn remember_ended(&mut self) {
        self.ended = Some(Vec::with_capacity(self.sessions_max));
    }

    /// Tells the receiver indices of sessions that are over, each until it was taken.
    pub fn tell_ended(&mut self, mut taken: impl FnMut(u32) -> bool) {
        if let Some(ended) = &mut self.ended {
            while let Some(index) = ended.pop_if(|index| taken(*index)) {
                debug_assert!(!self.sessions.contains_key(&index), "it is not over");
            }
        }
    }

    /// Notes that the session of `index`, which was not installed, is over.
    pub fn refused(&mut self, index: u32) {
        if !self.sessions.contains_key(&index)
            && let Some(ended) = &mut self.ended
        {
            ended.push(index);
        }
    }

    /// Number of sessions.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The session of a receiver index.
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
        }
    }

    /// Counts a frame that left.
    #[inline]
    pub fn let_go(&mut self, number: u16) {
        if let Some(Some(neighbour)) = self.slots.get_mut(usize::from(number)) {
            neighbour.holding = neighbour.holding.saturating_sub(1);
        }
        self.forget_if_idle(number);
    }

    /// Installs an accepted session.
    ///
    /// # Errors
    /// The tables are full or the index is taken: the initiator, which gets no reply, tries again.
    pub fn install(&mut self, session: Box<Session>, epochs: &Epochs) -> Result<u16, InstallError> {
        let index = session.local_index;
        if self.sessions.contains_key(&index) {
            return Err(InstallError::IndexInUse);
        }
        let key = session.peer;
        let number = match self.by_key.get(&key) {
            Some(number) => *number,
            None => {
                if self.sessions.len() >= self.sessions_max {
                    return Err(InstallError::Full);
                }
                let number = self.free.pop().ok_or(InstallError::Full)?;
                let mut neighbour = Neighbour {
                    key,
                    layers: [None; EPOCH_SLOTS],
                    holding: 0,
                    layer_permille: 0,
                    bucket: Bucket::new(),
                    sessions: ArrayVec::new(),
                };
                neighbour.learn(epochs);
                if let Some(slot) = self.slots.get_mut(usize::from(number)) {
                    *slot = Some(neighbour);
                }
                self.by_key.insert(key, number);
                number
            }
        };
        if let Some(Some(neighbour)) = self.slots.get_mut(usize::from(number)) {
            if neighbour.sessions.is_full() {
                let oldest = neighbour.sessions.remove(0);
                self.sessions.remove(&oldest);
                self.ended.iter_mut().for_each(|ended| ended.push(oldest));
            } else if self.sessions.len() >= self.sessions_max {
                return Err(InstallError::Full);
            }
            neighbour.sessions.push(index);
        }
        self.order += 1;
        self.sessions.insert(
            index,
            Inbound {
                session,
                neighbour: number,
                destination: link::destination_tag(&key),
                order: self.order,
            },
        );
        Ok(number)
    }

    /// Looks every neighbour up again after an epoch was installed.
    pub fn learn(&mut self, epochs: &Epochs) {
        for neighbour in self.slots.iter_mut().flatten() {
            neighbour.learn(epochs);
        }
    }

    /// Drops sessions that are too old to be used, of a part of the neighbours; sixteen calls see all of them.
    pub fn expire(&mut self, now_ns: u64) {
        let part = self.expire_part;
        self.expire_part = (part + 1) % EXPIRE_PARTS;
        for number in (part..self.slots.len()).step_by(EXPIRE_PARTS) {
            let Some(Some(neighbour)) = self.slots.get_mut(number) else {
                continue;
            };
            let (sessions, ended) = (&mut self.sessions, &mut self.ended);
            let before = neighbour.sessions.len();
            neighbour.sessions.retain(|index| {
                let expired = sessions
                    .get(index)
                    .is_none_or(|inbound| inbound.session.receive.expired(now_ns));
                if expired {
                    sessions.remove(index);
                    ended.iter_mut().for_each(|ended| ended.push(*index));
                }
                !expired
            });
            if neighbour.sessions.len() != before
                && let Ok(number) = u16::try_from(number)
            {
                self.forget_if_idle(number);
            }
        }
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
            *slot = None;
            self.free.push(number);
        }
    }
}
