//! The rings between an AF_XDP socket and the kernel: one side produces, the other consumes.
//!
//! A ring is two 32-bit indices that run freely and wrap, and a power of two of entries. The producer writes an entry
//! and then its index (release); the consumer reads the index (acquire) and then the entry, and gives the place back
//! with its own index (release), which the producer reads (acquire) before it writes there again. Each side remembers
//! what it last saw of the other's index and looks again only when that is used up, so that a cache line moves once a
//! batch and not once an entry.
//!
//! This file is one of the crate's rooms for unsafe code (memory shared with the kernel). It works over any
//! [`RingMemory`]: the kernel's in a node, the heap's in tests, the model checker's under loom.
#![allow(
    unsafe_code,
    reason = "entries are reached by slot, as the protocol of the two sides allows"
)]

/// Memory of one ring.
///
/// # Safety
/// `entries` is a power of two and never changes. `read` and `write` reach a valid place for every slot below
/// `entries`. Values stored with `set_…` are seen by the other side's loads, release against acquire.
pub unsafe trait RingMemory {
    /// What the ring carries: plain data, any bytes of which are a value.
    type Entry: Copy;

    /// Places of the ring.
    fn entries(&self) -> u32;
    /// The producer's index, acquire.
    fn producer(&self) -> u32;
    /// Stores the producer's index, release.
    fn set_producer(&self, index: u32);
    /// The consumer's index, acquire.
    fn consumer(&self) -> u32;
    /// Stores the consumer's index, release.
    fn set_consumer(&self, index: u32);
    /// Whether the other side sleeps and has to be woken by a system call. Ordered after all that this side stored
    /// before: the other side raises its flag and then looks at the ring again, or is seen to have raised it.
    fn needs_wakeup(&self) -> bool;

    /// Reads the entry in `slot`.
    ///
    /// # Safety
    /// `slot` is below `entries`, and the producer does not write it meanwhile.
    unsafe fn read(&self, slot: u32) -> Self::Entry;

    /// Writes the entry in `slot`.
    ///
    /// # Safety
    /// `slot` is below `entries`, and nobody else reads or writes it meanwhile.
    unsafe fn write(&self, slot: u32, entry: Self::Entry);
}

/// The side of a ring that puts entries in.
pub struct Producer<M: RingMemory> {
    memory: M,
    mask: u32,
    /// Our index, ahead of the stored one by what is not published yet.
    index: u32,
    /// The stored one.
    published: u32,
    /// The other side's index as last seen.
    consumer: u32,
}

impl<M: RingMemory> Producer<M> {
    /// Takes the producing side of `memory`, at the index it has.
    ///
    /// # Safety
    /// No other producer uses this memory while this one lives.
    pub unsafe fn new(memory: M) -> Producer<M> {
        let index = memory.producer();
        Producer {
            mask: memory.entries() - 1,
            index,
            published: index,
            consumer: memory.consumer(),
            memory,
        }
    }

    /// Places of the ring.
    pub fn entries(&self) -> u32 {
        self.mask + 1
    }

    /// Makes sure that `wanted` entries can be pushed, or as many as there are places free; returns that number,
    /// at least `wanted` or all there are.
    #[inline]
    pub fn room(&mut self, wanted: u32) -> u32 {
        let known = self.free();
        if known >= wanted {
            return known;
        }
        self.consumer = self.memory.consumer();
        self.free()
    }

    fn free(&self) -> u32 {
        // An index ahead of ours is nonsense from the other side: then nothing counts as free, and nothing it may
        // still read is overwritten.
        let used = self.index.wrapping_sub(self.consumer);
        self.entries().saturating_sub(used)
    }

    /// Puts an entry in. The other side sees it after [`Producer::publish`].
    ///
    /// # Errors
    /// Gives the entry back when no place is free.
    #[inline]
    pub fn push(&mut self, entry: M::Entry) -> Result<(), M::Entry> {
        if self.room(1) == 0 {
            return Err(entry);
        }
        // SAFETY: masked, hence below `entries`; the place is free: the consumer's index, read with acquire, has
        // passed it, and ours, which would show it to the consumer, has not been stored.
        unsafe { self.memory.write(self.index & self.mask, entry) };
        self.index = self.index.wrapping_add(1);
        Ok(())
    }

    /// Shows the other side everything pushed so far; returns how many entries that are.
    #[inline]
    pub fn publish(&mut self) -> u32 {
        let count = self.index.wrapping_sub(self.published);
        if count > 0 {
            self.published = self.index;
            self.memory.set_producer(self.index);
        }
        count
    }

    /// Entries published that the other side has not taken yet.
    pub fn pending(&mut self) -> u32 {
        self.consumer = self.memory.consumer();
        self.published
            .wrapping_sub(self.consumer)
            .min(self.entries())
    }

    /// Whether the other side has to be woken by a system call.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.memory.needs_wakeup()
    }

    /// Whether the other side sleeps although there are entries for it.
    pub fn is_slept_on(&mut self) -> bool {
        self.memory.needs_wakeup() && self.pending() > 0
    }
}

/// The side of a ring that takes entries out.
pub struct Consumer<M: RingMemory> {
    memory: M,
    mask: u32,
    /// Our index, ahead of the stored one by what was taken and not given back yet.
    index: u32,
    /// The stored one.
    released: u32,
    /// The other side's index as last seen.
    producer: u32,
}

impl<M: RingMemory> Consumer<M> {
    /// Takes the consuming side of `memory`, at the index it has.
    ///
    /// # Safety
    /// No other consumer uses this memory while this one lives.
    pub unsafe fn new(memory: M) -> Consumer<M> {
        let index = memory.consumer();
        Consumer {
            mask: memory.entries() - 1,
            index,
            released: index,
            producer: index,
            memory,
        }
    }

    /// Entries that can be taken out, looking at the other side's index only when none is known. More than the ring
    /// has places is nonsense from the other side and counts as none.
    #[inline]
    pub fn available(&mut self) -> u32 {
        let known = self.producer.wrapping_sub(self.index);
        if known > 0 && known <= self.mask + 1 {
            return known;
        }
        self.producer = self.memory.producer();
        let known = self.producer.wrapping_sub(self.index);
        if known <= self.mask + 1 { known } else { 0 }
    }

    /// Whether the other side's index is impossible: it claims more entries than the ring has places.
    pub fn is_corrupt(&self) -> bool {
        self.memory.producer().wrapping_sub(self.released) > self.mask + 1
    }

    /// Takes an entry out. Its place is the other side's again after [`Consumer::release`].
    #[inline]
    pub fn pop(&mut self) -> Option<M::Entry> {
        if self.available() == 0 {
            return None;
        }
        // SAFETY: masked, hence below `entries`; the producer's index, read with acquire, has passed this place, and
        // it does not write there before our index, stored with release, has.
        let entry = unsafe { self.memory.read(self.index & self.mask) };
        self.index = self.index.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of everything taken out back; returns how many.
    #[inline]
    pub fn release(&mut self) -> u32 {
        let count = self.index.wrapping_sub(self.released);
        if count > 0 {
            self.released = self.index;
            self.memory.set_consumer(self.index);
        }
        count
    }
}
