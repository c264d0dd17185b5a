//! The replay filter: which packets of an epoch were seen before.
//!
//! One fixed table per epoch key, shared by all workers without a lock. A replay tag becomes a bucket and a
//! 64-bit fingerprint through AES-128 under a random secret, because senders can grind tags: without the secret
//! nobody can aim at a bucket. Entries are never removed; the table dies with its key.
//!
//! **Resident before its epoch.** A slot is a random place in up to gigabytes. If the first packet to come there had to
//! have the page made, an epoch would begin with thousands of packets that cost twice as much as others. So whoever
//! installs a table has it touched ahead, beside the workers ([`ReplayTable::touch`]), in huge pages where there are
//! any; and a worker has a packet's bucket loaded while it still checks that packet ([`ReplayTable::prefetch`]).
//!
//! **Exactly once.** Every tag has one probe sequence of slots, and a slot that is not zero never changes again.
//! Whoever inserts takes the first zero slot of its sequence by compare-and-swap. Suppose one fingerprint stood in
//! two slots i < j of one sequence: whoever wrote j passed slot i while it was not zero, hence already holding
//! that fingerprint, and would have answered "seen". So of any number of workers with the same packet exactly one
//! is told that it is fresh. Two different tags take each other's place only if they agree in all 64 bits of the
//! fingerprint and in the bucket: a loss of one packet in 2^59 at the default load, never an acceptance.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use port::mapping::Backing;
use sphinx::ReplayTag;

mod insert;

pub use insert::ReplayRefusal;
use insert::insert_if_absent;

/// Slots of a bucket: one cache line.
pub const BUCKET_SLOTS: usize = 8;
/// Buckets of one probe sequence. At full capacity about one packet in 10^5 finds all of them full.
const PROBES: u64 = 4;
/// Slots for every tag the table is made for: it is never more than half full unless rates were exceeded.
const SLOTS_PER_TAG: u64 = 2;
/// Most slots of a table: 64 GiB.
const SLOTS_MAX: u64 = 1 << 33;
/// Bytes touched at a time: a millisecond or two, between which whoever waits for the same memory map gets it.
const TOUCH_BYTES: usize = 4 << 20;

/// Bytes of a table for so many tags.
pub fn bytes_for(tags: u64) -> u64 {
    slots_for(tags) * 8
}

/// Bytes of a table for `max_pps` packets a second over a key's life of `life_ms`; up to three tables live at once.
pub fn table_bytes(max_pps: u32, life_ms: u64) -> u64 {
    bytes_for(tags_for(max_pps, life_ms))
}

/// Tags to expect over a key's life.
pub fn tags_for(max_pps: u32, life_ms: u64) -> u64 {
    (u128::from(max_pps) * u128::from(life_ms))
        .div_ceil(1000)
        .min(u128::from(u64::MAX)) as u64
}

fn slots_for(tags: u64) -> u64 {
    let slots = tags
        .saturating_mul(SLOTS_PER_TAG)
        .clamp(PROBES * BUCKET_SLOTS as u64, SLOTS_MAX);
    slots.next_multiple_of(BUCKET_SLOTS as u64)
}

/// The replay table of one epoch key.
pub struct ReplayTable {
    slots: memory::Slots,
    buckets: u64,
    /// In one place for good: its first round key is the secret.
    cipher: Box<aes::Aes128>,
}

impl ReplayTable {
    /// A table for `tags` packets (see [`tags_for`]), hashed under `secret`, which is random for every table.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(tags: u64, secret: &[u8; 16]) -> std::io::Result<ReplayTable> {
        let slots = slots_for(tags);
        Ok(ReplayTable {
            slots: memory::Slots::of(Backing::Anonymous, slots as usize)?,
            buckets: slots / BUCKET_SLOTS as u64,
            cipher: cipher(secret),
        })
    }

    /// A table in memory that outlives this process, with all it holds: the file has `bytes` bytes, which stay. `secret`
    /// is the one that its tags were placed by.
    ///
    /// # Errors
    /// It can't be mapped, or is of no size that a table has.
    pub fn shared(
        memory: BorrowedFd<'_>,
        bytes: u64,
        secret: &[u8; 16],
    ) -> std::io::Result<ReplayTable> {
        let slots = bytes / 8;
        let whole = bytes.is_multiple_of(8) && slots.is_multiple_of(BUCKET_SLOTS as u64);
        if !whole || !(PROBES * BUCKET_SLOTS as u64..=SLOTS_MAX).contains(&slots) {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        Ok(ReplayTable {
            slots: memory::Slots::of(Backing::File(memory, 0), slots as usize)?,
            buckets: slots / BUCKET_SLOTS as u64,
            cipher: cipher(secret),
        })
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> usize {
        self.slots.as_slice().len() * 8
    }

    /// Whether the table is locked into memory (never swapped).
    pub fn is_locked(&self) -> bool {
        self.slots.is_locked()
    }

    /// Whether all of the table that was [touched](ReplayTable::touch) lies in huge pages.
    pub fn is_huge(&self) -> bool {
        self.slots.is_huge()
    }

    /// Makes the piece of the table resident that begins at byte `from`, before it is needed or while it is used: what
    /// it holds stays. Says where the next piece begins, if there is one: to be called with 0 first.
    ///
    /// # Errors
    /// The kernel (before Linux 5.14) can't, or the memory may not be had. The table is as good as before: the rest of
    /// its pages come with the packets that need them. A machine that is out of memory may end processes instead: see
    /// to it that there is enough.
    pub fn touch(&self, from: usize) -> std::io::Result<Option<usize>> {
        let next = from.saturating_add(TOUCH_BYTES);
        self.slots.touch(from..next)?;
        Ok((next < self.bytes()).then_some(next))
    }

    /// Has the processor load what [`ReplayTable::insert`] of `tag` will look at first.
    #[inline]
    pub fn prefetch(&self, tag: &ReplayTag) {
        let (first, ..) = self.place(tag);
        self.slots.prefetch(first as usize * BUCKET_SLOTS);
    }

    /// Remembers `tag`. Of all calls with one tag, from any threads, exactly one returns `Ok`.
    ///
    /// # Errors
    /// [`ReplayRefusal::Seen`] or [`ReplayRefusal::Full`]; the packet is dropped in both cases.
    pub fn insert(&self, tag: &ReplayTag) -> Result<(), ReplayRefusal> {
        let (first, step, fingerprint) = self.place(tag);
        let slots = self.slots.as_slice();
        let sequence = (0..PROBES).flat_map(|probe| {
            let bucket = (first + probe * step) % self.buckets;
            let start = bucket as usize * BUCKET_SLOTS;
            slots[start..start + BUCKET_SLOTS].iter()
        });
        insert_if_absent(sequence, fingerprint)
    }

    /// First bucket, distance to the next, and fingerprint of a tag.
    fn place(&self, tag: &ReplayTag) -> (u64, u64, u64) {
        let mut block = aes::Block::from(*tag);
        self.cipher.encrypt_block(&mut block);
        let block = u128::from_le_bytes(block.0);
        let (place, fingerprint) = (block as u64, (block >> 64) as u64);
        // The high product spreads 64 uniform bits over any number of buckets without a division.
        let first = ((u128::from(place) * u128::from(self.buckets)) >> 64) as u64;
        // The low bits of `place` have next to no influence on `first`: an independent second choice.
        let step = 1 + (place & 0xffff_ffff) % (self.buckets - 1).max(1);
        // Zero means empty.
        (first, step, fingerprint.max(1))
    }
}

fn cipher(secret: &[u8; 16]) -> Box<aes::Aes128> {
    Box::new(aes::Aes128::new(secret.into()))
}

mod memory {
    //! The table's memory: zero pages at first, which cost nothing until touched.

    use std::io;
    use std::ops::Range;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use port::mapping::{Backing, Lock, Mapping, Options, prefetch};

    /// From this size on huge pages are asked for. In a smaller table the part of the last one that is not needed
    /// would weigh too much.
    const HUGE_FROM_BYTES: usize = 4 << 20;

    /// Slots, kept out of core dumps and, where the limit allows, out of swap.
    pub(super) struct Slots {
        mapping: Mapping,
        /// Whether every piece touched so far lies in huge pages; false in a table too small for them.
        huge: AtomicBool,
    }

    impl Slots {
        pub(super) fn of(backing: Backing<'_>, count: usize) -> io::Result<Slots> {
            let bytes = count * size_of::<AtomicU64>();
            let huge = bytes >= HUGE_FROM_BYTES;
            let options = Options {
                populate: false,
                lock: Lock::OnTouch,
                secret: true,
                huge,
            };
            Ok(Slots {
                mapping: Mapping::new(bytes, backing, options)?,
                huge: AtomicBool::new(huge),
            })
        }

        #[inline]
        pub(super) fn as_slice(&self) -> &[AtomicU64] {
            self.mapping.as_atomics()
        }

        pub(super) fn touch(&self, bytes: Range<usize>) -> io::Result<()> {
            self.mapping.populate(bytes.clone())?;
            if self.huge.load(Ordering::Relaxed) && !self.mapping.collapse(bytes) {
                self.huge.store(false, Ordering::Relaxed);
            }
            Ok(())
        }

        #[inline]
        pub(super) fn prefetch(&self, slot: usize) {
            if let Some(slot) = self.as_slice().get(slot) {
                prefetch(slot);
            }
        }

        pub(super) fn is_locked(&self) -> bool {
            self.mapping.is_locked()
        }

        pub(super) fn is_huge(&self) -> bool {
            self.huge.load(Ordering::Relaxed)
        }
    }
}
