//! The answers that a recipient owes.

use sphinx::Surb;

use super::trouble::Trouble;
use super::{File, Incoming, Peer, Received};
use crate::carrier::{Reply, Use};
use crate::identity::Identity;
use crate::transfer::content::{
    Ack, Answer, BITMAP_BYTES_MAX, KEY_HALF_BYTES, TransferId, TransferState,
};

/// Packets that one answer waits for, unless time is up.
const ANSWER_EVERY: u32 = 24;

impl Incoming {
    /// The answer to put into the slot at `now_ns`, if one is owed. `use_of` says when a reply block can travel, from
    /// this user's gateway.
    pub(crate) fn next_reply(
        &mut self,
        identity: &Identity,
        now_ns: u64,
        use_of: &dyn Fn(&Surb) -> Use,
    ) -> Option<Reply> {
        let delay_ns = self.answer_delay_ns;
        let is_of_now = |surb: &Surb| use_of(surb) == Use::Now;
        let blocks = &self.blocks;
        let is_usable = |surb: &Surb| is_of_now(surb) && !blocks.contains(surb);
        // A session that has sent reply blocks and nothing of a transfer is owed nothing.
        let due = |peer: &Peer| {
            let late = now_ns.saturating_sub(peer.since_ns) >= delay_ns;
            let wanted = peer.unanswered >= ANSWER_EVERY || (peer.unanswered > 0 && late);
            (peer.urgent || wanted) && peer.subject().is_some() && peer.surbs.iter().any(is_usable)
        };
        let due = self.peers.iter().filter(|(_, peer)| due(peer));
        let mut due: Vec<_> = due.map(|(name, peer)| (peer.since_ns, *name)).collect();
        due.sort_unstable();
        // The one that has waited longest; one whose answer can't be made keeps nobody behind it.
        let acknowledgement = due.into_iter().find_map(|(_, name)| {
            let peer = self.peers.get_mut(&name)?;
            // Those of the next epoch stay, to be there when it comes.
            let is_good = |surb: &Surb| use_of(surb) != Use::Never && !self.blocks.contains(surb);
            peer.surbs.retain(is_good);
            let place = peer.surbs.iter().position(is_of_now)?;
            let surb = peer.surbs.remove(place)?;
            if !self.uses_block(&surb, now_ns) {
                return None;
            }
            let peer = self.peers.get_mut(&name)?;
            (peer.unanswered, peer.urgent) = (0, false);
            let (transfer, highest, received) = (peer.subject()?, peer.highest, peer.received);
            let mut ack = self.acknowledge(transfer, now_ns);
            (ack.highest, ack.received) = (highest, received);
            let plaintext = Answer::Ack(ack).encode();
            Some(Reply { surb, plaintext })
        });
        if acknowledgement.is_some() {
            return acknowledgement;
        }
        // Last: whoever has the address can ask for keys.
        while let Some((surb, half)) = self.key_answers.pop_front() {
            if is_of_now(&surb) && self.uses_block(&surb, now_ns) {
                let mut key = Box::new([0; KEY_HALF_BYTES]);
                let (first, second) = identity.kem_public().split_at(KEY_HALF_BYTES);
                key.copy_from_slice(if half == 0 { first } else { second });
                let plaintext = Answer::KeyHalf { half, key }.encode();
                return Some(Reply { surb, plaintext });
            }
        }
        None
    }

    /// Uses a reply block; `false` if it must not be.
    fn uses_block(&mut self, surb: &Surb, now_ns: u64) -> bool {
        let used = self.blocks.insert(surb, &mut *self.storage);
        used.unwrap_or_else(|error| {
            self.storage_failed(&error, now_ns);
            false
        })
    }

    fn acknowledge(&mut self, transfer: TransferId, now_ns: u64) -> Ack {
        let mut ack = Ack {
            transfer,
            state: TransferState::Unknown,
            generation: 0,
            base: 0,
            highest: 0,
            received: 0,
            bitmap: Vec::new(),
        };
        match self.files.get_mut(&transfer) {
            None => {}
            Some(File::Complete) => ack.state = TransferState::Complete,
            Some(File::Refused) => ack.state = TransferState::Refused,
            Some(File::Open(open)) => {
                ack.generation = open.generation;
                ack.state = TransferState::Paused;
                if let Err(error) = self.storage.flush(&transfer) {
                    // What may be lost with this process is not acknowledged.
                    let told = Trouble::strike(&mut open.trouble, &error, now_ns);
                    self.events.extend(told.map(Received::Storage));
                    return ack;
                }
                if open.trouble.as_ref().is_none_or(|t| t.is_over(now_ns)) {
                    ack.state = TransferState::Partial;
                }
                ack.base = open.chunks.base();
                ack.bitmap = open.chunks.bitmap(BITMAP_BYTES_MAX);
            }
        }
        ack
    }
}
