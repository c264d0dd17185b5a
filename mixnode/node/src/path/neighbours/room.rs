//! Room for one more session, and who gives way for it.

use arrayvec::ArrayVec;
use sphinx::DestinationTag;

use super::{InstallError, Neighbour, Neighbours, SESSIONS_PER_MEMBER, SESSIONS_PER_STRANGER};
use crate::path::epochs::{EPOCH_SLOTS, Epochs};
use crate::path::grant::Bucket;

/// How many strangers that might give way to a new one are compared.
const COMPARED: usize = 64;
/// How many strangers are looked at for that, attached ones too: these may lie side by side by the hundred.
const LOOKED_AT: usize = 1_024;

impl Neighbours {
    /// Makes room for one more session of `key`: the neighbour's number. Its own oldest gives way first; after that a
    /// stranger may take the place of another that is attached to nothing, and nobody takes a member's.
    pub(super) fn room_for(
        &mut self,
        key: &[u8; 32],
        member: bool,
        epochs: &Epochs,
        attached: impl Fn(&DestinationTag) -> bool,
    ) -> Result<u16, InstallError> {
        let known = self.by_key.get(key).copied();
        let most = match member {
            true => SESSIONS_PER_MEMBER,
            false => SESSIONS_PER_STRANGER,
        };
        if let Some(number) = known
            && let Some(Some(neighbour)) = self.slots.get(usize::from(number))
            && neighbour.sessions.len() >= most
            && let Some(oldest) = neighbour.sessions.first().copied()
        {
            self.end(oldest);
        }
        let full = match member {
            true => self.sessions.len() - self.strangers >= self.members_max,
            false => self.strangers >= self.strangers_max,
        };
        if full && (member || !self.evict_stranger(known, attached)) {
            return Err(InstallError::Full);
        }
        match known {
            // What ended above may have been all it had.
            Some(number) if self.by_key.get(key) == Some(&number) => Ok(number),
            _ => self.introduce(key, member, epochs),
        }
    }

    fn introduce(
        &mut self,
        key: &[u8; 32],
        member: bool,
        epochs: &Epochs,
    ) -> Result<u16, InstallError> {
        if !member && self.stranger_slots >= self.stranger_slots_max {
            return Err(InstallError::Full);
        }
        let number = self.free.pop().ok_or(InstallError::Full)?;
        let destination = link::destination_tag(key);
        let mut neighbour = Neighbour {
            key: *key,
            layers: [None; EPOCH_SLOTS],
            holding: 0,
            layer_permille: 0,
            bucket: Bucket::new(),
            node_bucket: None,
            destination,
            member,
            sessions: ArrayVec::new(),
        };
        neighbour.learn(epochs, self.capacity_pps);
        if let Some(slot) = self.slots.get_mut(usize::from(number)) {
            *slot = Some(neighbour);
        }
        self.stranger_slots += usize::from(!member);
        self.by_key.insert(*key, number);
        self.by_destination.insert(destination, number);
        Ok(number)
    }

    /// Ends the oldest session among some strangers that are attached to nothing; whether there was one. Never of
    /// `spared`.
    fn evict_stranger(
        &mut self,
        spared: Option<u16>,
        attached: impl Fn(&DestinationTag) -> bool,
    ) -> bool {
        let count = self.slots.len();
        let (mut looked_at, mut compared) = (0, 0);
        let mut oldest: Option<(u64, u32)> = None;
        for step in 0..count {
            let at = (self.hand + step) % count;
            let Some(Some(one)) = self.slots.get(at) else {
                continue;
            };
            let Some(index) = one.sessions.first().filter(|_| !one.member) else {
                continue;
            };
            if looked_at == LOOKED_AT || compared == COMPARED {
                self.hand = at;
                break;
            }
            looked_at += 1;
            if spared.map(usize::from) == Some(at) || attached(&one.destination) {
                continue;
            }
            compared += 1;
            if let Some(inbound) = self.sessions.get(index).filter(|one| !one.member) {
                let age = (inbound.order, *index);
                oldest = Some(oldest.map_or(age, |other| other.min(age)));
            }
        }
        let Some((_, index)) = oldest else {
            return false;
        };
        self.counters.evicted += 1;
        self.end(index);
        true
    }
}
