//! The descriptors that an authority holds for the document that comes next.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use directory::{Chain, DESCRIPTOR_BYTES_MAX, DescriptorError, NODES_MAX, SignedDescriptor};

use crate::admission::{Admission, OPEN_PREFIX_NODES_MAX, Refusal, prefix};

/// New descriptors of one identity that are taken in an epoch.
const NEW_MAX: u8 = 4;
/// A descriptor's time may be so many epochs from the authority's own clock.
const PUBLISHED_EPOCHS: u64 = 2;

/// What is known of the hour when a descriptor comes.
#[derive(Clone, Copy, Debug)]
pub struct Hour {
    /// The epoch now.
    pub now: u32,
    /// The epoch whose document the descriptor may still get into.
    pub target: u32,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Length of an epoch.
    pub epoch_ms: u64,
}

/// Why a descriptor is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorRefusal {
    /// Larger than any descriptor.
    #[error("too-large")]
    TooLarge,
    /// Not a descriptor.
    #[error("malformed")]
    Malformed,
    /// Not signed by the identity it names.
    #[error("signature")]
    Signature,
    /// It is not one to list.
    #[error(transparent)]
    Listing(#[from] Refusal),
    /// Older than one that is held, or its time is far from now.
    #[error("stale")]
    Stale,
    /// So many of this identity came in this epoch already.
    #[error("too-many")]
    TooMany,
    /// Where everyone is let in: enough of its prefix are here.
    #[error("prefix")]
    Prefix,
    /// A network has no more nodes.
    #[error("full")]
    Full,
}

#[derive(Debug, Default)]
struct Held {
    /// By the epoch whose document it may get into, the newest of each: of the next epoch and, for what came late, of the
    /// one after.
    by_target: BTreeMap<u32, SignedDescriptor>,
    /// The epoch that new ones are counted in, and how many came.
    counted: (u32, u8),
}

/// The newest descriptor of each admitted node.
#[derive(Debug, Default)]
pub struct Book {
    nodes: BTreeMap<[u8; 32], Held>,
}

impl Book {
    /// Takes a descriptor in, if it is news. One that is held already is no error.
    ///
    /// # Errors
    /// The first rule that it breaks: who it is of is looked up before its signature is checked.
    pub fn take(
        &mut self,
        bytes: &[u8],
        chain: &Chain,
        admission: &Admission,
        hour: Hour,
    ) -> Result<(), DescriptorRefusal> {
        if bytes.len() > DESCRIPTOR_BYTES_MAX {
            return Err(DescriptorRefusal::TooLarge);
        }
        let identity = SignedDescriptor::claimed_identity(bytes);
        let identity = identity.ok_or(DescriptorRefusal::Malformed)?;
        if !admission.knows(&identity) {
            return Err(Refusal::Unknown.into());
        }
        let held = self.nodes.get(&identity);
        let mut known = held.iter().flat_map(|held| held.by_target.values());
        if known.any(|known| known.bytes() == bytes) {
            return Ok(());
        }
        let counted = match held.map(|held| held.counted) {
            Some((epoch, count)) if epoch == hour.now => count,
            _ => 0,
        };
        if counted >= NEW_MAX {
            return Err(DescriptorRefusal::TooMany);
        }
        let descriptor = SignedDescriptor::verify(bytes).map_err(|error| match error {
            DescriptorError::Decode(_) => DescriptorRefusal::Malformed,
            _ => DescriptorRefusal::Signature,
        })?;
        admission.check(&descriptor, chain, hour.target)?;
        let off_ms = descriptor.published_unix_ms.abs_diff(hour.unix_ms);
        let last = held.and_then(|held| held.by_target.values().next_back());
        let older = last.is_some_and(|last| rank(&descriptor) < rank(last));
        if older || off_ms > hour.epoch_ms.saturating_mul(PUBLISHED_EPOCHS) {
            return Err(DescriptorRefusal::Stale);
        }
        if held.is_none() {
            self.room_for(&descriptor, admission)?;
        }
        let held = self.nodes.entry(identity).or_default();
        held.counted = (hour.now, counted.saturating_add(1));
        held.by_target.insert(hour.target, descriptor);
        Ok(())
    }

    fn room_for(
        &self,
        descriptor: &SignedDescriptor,
        admission: &Admission,
    ) -> Result<(), DescriptorRefusal> {
        if self.nodes.len() >= NODES_MAX {
            return Err(DescriptorRefusal::Full);
        }
        if *admission == Admission::Open {
            let of = |descriptor: &SignedDescriptor| {
                let first = descriptor.addresses.first();
                first.map(|address| prefix(address.ip()))
            };
            let own = of(descriptor);
            let others = self.nodes.values();
            let alike = others
                .filter_map(|held| held.by_target.values().next_back())
                .filter(|held| of(held) == own);
            if alike.count() >= OPEN_PREFIX_NODES_MAX {
                return Err(DescriptorRefusal::Prefix);
            }
        }
        Ok(())
    }

    /// Those that may get into the document of `epoch`, ascending by identity.
    pub fn of_epoch(&self, epoch: u32) -> impl Iterator<Item = &SignedDescriptor> {
        self.nodes.values().filter_map(move |held| {
            // What was held before and has the key counts on: a node need not say the same thing twice.
            let until = held.by_target.range(..=epoch).rev();
            until
                .map(|(_, descriptor)| descriptor)
                .find(|descriptor| descriptor.key_at(epoch).is_some())
        })
    }

    /// One by its digest.
    pub fn by_digest(&self, digest: &[u8; 32]) -> Option<&SignedDescriptor> {
        let mut all = self.nodes.values().flat_map(|held| held.by_target.values());
        all.find(|descriptor| descriptor.digest() == *digest)
    }

    /// Forgets what is of no use from `now` on, and who is not admitted any more.
    pub fn forget(&mut self, now: u32, admission: &Admission) {
        self.nodes.retain(|identity, held| {
            held.by_target.retain(|_, descriptor| {
                let keys = descriptor.epoch_keys.iter();
                keys.max_by_key(|key| key.epoch)
                    .is_some_and(|key| key.epoch >= now)
            });
            admission.knows(identity) && !held.by_target.is_empty()
        });
    }
}

/// Of two descriptors of a node the one of higher rank counts: the newest, of two written in the same millisecond the one
/// with the smaller digest, everywhere alike.
pub fn rank(descriptor: &SignedDescriptor) -> (u64, Reverse<[u8; 32]>) {
    (descriptor.published_unix_ms, Reverse(descriptor.digest()))
}
