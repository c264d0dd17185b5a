//! Who has the chunks that the port took: a table by chunk, beside the rings that name chunks by address.
//!
//! A frame's token stays here while the kernel may use its chunk. An address that comes back from the kernel is worth
//! what this table says of it: one that names no chunk lent for that purpose is counted and forgotten, never believed.

use crate::pool::{CHUNK_BYTES, Frame, FramePool};

/// Where one chunk's token is.
enum Slot {
    /// In the pool or with a stage.
    Elsewhere,
    /// Lent to the kernel to receive into, by the queue of this place.
    Receiving(Frame, u16),
    /// Lent to the kernel to send.
    Sending(Frame, u16),
}

/// Tokens of the chunks that the kernel has.
pub(super) struct Chunks {
    slots: Box<[Slot]>,
    held: usize,
}

impl Chunks {
    /// A table for the chunks of `pool`.
    pub(super) fn new(pool: &FramePool) -> Chunks {
        Chunks {
            slots: (0..pool.capacity()).map(|_| Slot::Elsewhere).collect(),
            held: 0,
        }
    }

    /// Number of tokens here.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Keeps `frame` while the kernel receives into it; returns its chunk's address.
    pub(super) fn receive_into(&mut self, frame: Frame, queue: u16) -> u64 {
        let index = frame.index();
        self.put(index, Slot::Receiving(frame, queue));
        u64::from(index) * CHUNK_BYTES as u64
    }

    /// Keeps `frame` while the kernel sends it; returns its chunk's address.
    pub(super) fn send(&mut self, frame: Frame, queue: u16) -> u64 {
        let index = frame.index();
        self.put(index, Slot::Sending(frame, queue));
        u64::from(index) * CHUNK_BYTES as u64
    }

    fn put(&mut self, index: u32, slot: Slot) {
        let place = self.slots.get_mut(index as usize);
        debug_assert!(matches!(place, Some(Slot::Elsewhere)), "a token is unique");
        if let Some(place) = place {
            *place = slot;
            self.held += 1;
        }
    }

    /// Takes back the frame the kernel received into, by an address in its chunk.
    pub(super) fn received(&mut self, address: u64, queue: u16) -> Option<Frame> {
        let slot = self.slot(address)?;
        match std::mem::replace(slot, Slot::Elsewhere) {
            Slot::Receiving(frame, lender) if lender == queue => {
                self.held -= 1;
                Some(frame)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Takes back the frame the kernel has sent, by an address in its chunk.
    pub(super) fn sent(&mut self, address: u64, queue: u16) -> Option<Frame> {
        let slot = self.slot(address)?;
        match std::mem::replace(slot, Slot::Elsewhere) {
            Slot::Sending(frame, lender) if lender == queue => {
                self.held -= 1;
                Some(frame)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    fn slot(&mut self, address: u64) -> Option<&mut Slot> {
        let index = usize::try_from(address / CHUNK_BYTES as u64).ok()?;
        self.slots.get_mut(index)
    }

    /// Gives every frame back, when the kernel has none any more; returns how many were not sent.
    pub(super) fn drain(&mut self, pool: &mut FramePool) -> u64 {
        let mut unsent = 0;
        self.held = 0;
        for slot in &mut self.slots {
            match std::mem::replace(slot, Slot::Elsewhere) {
                Slot::Elsewhere => {}
                Slot::Receiving(frame, _) => pool.release(frame),
                Slot::Sending(frame, _) => {
                    unsent += 1;
                    pool.release(frame);
                }
            }
        }
        unsent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The kernel may say anything: a frame comes back once, to the queue that lent it, for what it was lent for.
        #[test]
        fn no_address_from_the_kernel_loses_or_doubles_a_frame(
            answers in proptest::collection::vec((0_u64..20 * CHUNK_BYTES as u64, 0_u16..3, any::<bool>()), 0..200),
            wild: u64,
        ) {
            let mut pool = FramePool::new(16).unwrap();
            let mut chunks = Chunks::new(&pool);
            // Chunk n: even ones receive, odd ones send, by queue n / 8.
            let mut lent = [false; 16];
            while let Some(frame) = pool.take() {
                let (index, queue) = (frame.index(), (frame.index() / 8) as u16);
                let address = match index % 2 {
                    0 => chunks.receive_into(frame, queue),
                    _ => chunks.send(frame, queue),
                };
                prop_assert_eq!(address, u64::from(index) * CHUNK_BYTES as u64);
                lent[index as usize] = true;
            }
            for (address, queue, sent) in answers {
                let index = (address / CHUNK_BYTES as u64) as usize;
                let expected = index < 16 && lent[index] && (index % 2 == 1) == sent && index / 8 == usize::from(queue);
                let frame = if sent { chunks.sent(address, queue) } else { chunks.received(address, queue) };
                prop_assert_eq!(frame.as_ref().map(|frame| frame.index() as usize), expected.then_some(index));
                if let Some(frame) = frame {
                    lent[index] = false;
                    pool.release(frame);
                }
            }
            prop_assert_eq!(lent.iter().filter(|&&one| one).count() as u32, pool.in_use());
            if wild >= 16 * CHUNK_BYTES as u64 {
                prop_assert!(chunks.sent(wild, 0).is_none() && chunks.received(wild, 0).is_none());
            }
            let unsent = (0..16).filter(|&index| lent[index] && index % 2 == 1).count() as u64;
            prop_assert_eq!(chunks.drain(&mut pool), unsent);
            prop_assert_eq!((pool.in_use(), chunks.drain(&mut pool)), (0, 0));
        }
    }
}
