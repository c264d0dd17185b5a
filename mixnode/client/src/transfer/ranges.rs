//! Which chunks of a file are here: a bitmap that knows its first gap.

/// A set of chunk indices below a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunks {
    words: Vec<u64>,
    len: u32,
    count: u32,
    base: u32,
}

impl Chunks {
    /// The empty set of `len` possible chunks.
    pub(crate) fn new(len: u32) -> Self {
        Self {
            words: vec![0; (len as usize).div_ceil(64)],
            len,
            count: 0,
            base: 0,
        }
    }

    /// Chunks there can be.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Chunks in the set.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The first chunk that is missing; `len` if none is.
    pub(crate) fn base(&self) -> u32 {
        self.base
    }

    /// Whether none is missing.
    pub(crate) fn is_full(&self) -> bool {
        self.base >= self.len
    }

    /// Whether the chunk is in the set.
    pub(crate) fn contains(&self, index: u32) -> bool {
        self.words
            .get(index as usize / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Adds a chunk; `true` if it is one and was missing.
    pub(crate) fn insert(&mut self, index: u32) -> bool {
        if index >= self.len || self.contains(index) {
            return false;
        }
        if let Some(word) = self.words.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
        }
        self.count += 1;
        if index == self.base {
            self.base = self.next_missing(index);
        }
        true
    }

    /// The first missing chunk from `from` on; `len` if there is none.
    pub(crate) fn next_missing(&self, from: u32) -> u32 {
        let mut at = from as usize / 64;
        let mut mask = !0u64 << (from % 64);
        while let Some(word) = self.words.get(at) {
            let missing = !word & mask;
            if missing != 0 {
                let index = at as u32 * 64 + missing.trailing_zeros();
                return index.min(self.len);
            }
            mask = !0;
            at += 1;
        }
        self.len
    }

    /// The bitmap from the first gap on, at most `bytes_max` long, without trailing zeros.
    pub(crate) fn bitmap(&self, bytes_max: usize) -> Vec<u8> {
        let mut bitmap: Vec<u8> = (0..bytes_max as u32)
            .map_while(|byte| {
                let from = self.base.checked_add(byte * 8)?;
                (from < self.len).then(|| {
                    (0..8).fold(0, |bits, bit| {
                        bits | u8::from(self.contains(from + bit)) << bit
                    })
                })
            })
            .collect();
        while bitmap.last() == Some(&0) {
            bitmap.pop();
        }
        bitmap
    }

    /// Adds everything below `base` and what `bitmap` says of the chunks from there on; calls `added` for each new.
    pub(crate) fn merge(&mut self, base: u32, bitmap: &[u8], mut added: impl FnMut(u32)) {
        let base = base.min(self.len);
        while self.base < base {
            let index = self.base;
            self.insert(index);
            added(index);
        }
        for (byte, bits) in (0u32..).zip(bitmap) {
            for bit in (0..8).filter(|bit| bits >> bit & 1 == 1) {
                if let Some(index) = base.checked_add(byte * 8 + bit)
                    && self.insert(index)
                {
                    added(index);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_bitmap_of_ranges_agrees_with_a_set(
            len in 0u32..700,
            inserts in proptest::collection::vec(0u32..800, 0..900),
        ) {
            let mut chunks = Chunks::new(len);
            let mut set = BTreeSet::new();
            for index in inserts {
                prop_assert_eq!(chunks.insert(index), index < len && set.insert(index));
            }
            prop_assert_eq!(chunks.count() as usize, set.len());
            let gap = (0..len).find(|index| !set.contains(index)).unwrap_or(len);
            prop_assert_eq!(chunks.base(), gap);
            prop_assert_eq!(chunks.is_full(), set.len() == len as usize);
            for from in 0..len {
                let next = (from..len).find(|index| !set.contains(index)).unwrap_or(len);
                prop_assert_eq!(chunks.next_missing(from), next);
            }
        }

        #[test]
        fn a_merged_bitmap_carries_over_what_its_window_holds(
            len in 1u32..700,
            theirs in proptest::collection::vec(0u32..700, 0..700),
            ours in proptest::collection::vec(0u32..700, 0..200),
            bytes_max in 0usize..100,
        ) {
            let (mut from, mut to) = (Chunks::new(len), Chunks::new(len));
            theirs.iter().for_each(|index| { from.insert(*index); });
            ours.iter().for_each(|index| { to.insert(*index); });
            let before = to.clone();
            let mut added = BTreeSet::new();
            to.merge(from.base(), &from.bitmap(bytes_max), |index| { assert!(added.insert(index)); });
            let end = from.base() + 8 * bytes_max as u32;
            for index in 0..len {
                let visible = from.contains(index) && index < end;
                prop_assert_eq!(to.contains(index), before.contains(index) || visible);
                prop_assert_eq!(added.contains(&index), visible && !before.contains(index));
            }
        }

        #[test]
        fn no_bitmap_from_elsewhere_leaves_the_bounds(
            len in 0u32..100,
            base in any::<u32>(),
            bitmap in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut chunks = Chunks::new(len);
            chunks.merge(base, &bitmap, |index| assert!(index < len));
            prop_assert!(chunks.count() <= len && chunks.base() <= len);
        }
    }
}
