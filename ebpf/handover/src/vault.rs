//! The vault: one page of memory that holds a node's epoch keys, so that they outlive its process.
//!
//! The loader makes it, a sealed memfd, and keeps it; the node maps it and alone reads or writes keys. Beside it lie the
//! replay tables, a memfd each. It never leaves the host, so all numbers have the host's byte order:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic, `FXK1` |
//! | 4 | 4 | version |
//! | 8 | 32 | the node's identity |
//! | 40 | 4 × 72 | slots; that of an epoch is the one of its number modulo 4 |
//!
//! A slot: state 4 (0 empty, 1 valid) | epoch 4 | X25519 secret 32 | secret of the replay table 16 | bytes of the table 8
//! | when the key ends at the latest 8 (CLOCK_BOOTTIME, nanoseconds: no jump of the wall clock erases a live key; 0: not
//! known yet).
//!
//! **Whole or not there.** Who writes may be killed after any store. State and epoch are one word, written last with
//! Release: a half-written slot is empty. The size of the table is written after its secret: without it the slot holds a
//! key that no packet was accepted under yet.

use std::sync::atomic::{AtomicU64, Ordering, compiler_fence, fence};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of the vault: one page.
pub const VAULT_BYTES: usize = 4096;
/// Epochs whose keys it holds: the one before, the one of now, and two ahead.
pub const SLOTS: usize = 4;
/// Bytes of what stands before the slots.
pub const HEAD_BYTES: usize = 40;
/// Bytes of a slot.
pub const SLOT_BYTES: usize = 72;
/// Bytes at a slot's beginning that hold no secret: state and epoch.
pub const SLOT_HEAD_BYTES: usize = 8;
/// Bytes at its end that hold none: those of the table, and when the key ends.
pub const SLOT_TAIL_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"FXK1";
const VERSION: u32 = 1;
const WORD_BYTES: usize = 8;
const HEAD_WORDS: usize = HEAD_BYTES / WORD_BYTES;
const SLOT_WORDS: usize = SLOT_BYTES / WORD_BYTES;
const VALID: u32 = 1;

// Words of a slot.
const STATE: usize = 0;
const KEY: usize = 1;
const TABLE_SECRET: usize = 5;
const TABLE: usize = 7;
const ENDS: usize = 8;

const _: () = assert!(HEAD_BYTES + SLOTS * SLOT_BYTES <= VAULT_BYTES);
const _: () = assert!(ENDS + 1 == SLOT_WORDS && TABLE * WORD_BYTES == SLOT_BYTES - SLOT_TAIL_BYTES);

/// A replay table, as loader and node speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The epoch whose packets it remembers.
    pub epoch: u32,
    /// Its size.
    pub bytes: u64,
}

/// Where a vault comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Just made: it holds nothing.
    New,
    /// The loader held it while the node was away.
    Kept,
    /// The loader was away itself: it got it back from the service manager.
    Returned,
}

impl Origin {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Origin::New => "new",
            Origin::Kept => "kept",
            Origin::Returned => "returned",
        }
    }
}

/// Why something is not this node's vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAVault {
    /// Too short.
    Truncated,
    /// No vault at all.
    Foreign,
    /// A vault of another version of this program.
    Version(u32),
    /// Another node's.
    OtherIdentity,
}

impl std::fmt::Display for NotAVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotAVault::Truncated => f.write_str("it is shorter than a vault"),
            NotAVault::Foreign => f.write_str("it is no vault"),
            NotAVault::Version(version) => write!(f, "it is a vault of version {version}"),
            NotAVault::OtherIdentity => f.write_str("it is another node's vault"),
        }
    }
}

impl std::error::Error for NotAVault {}

/// What a fresh vault begins with.
pub fn head(identity: &[u8; 32]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&VERSION.to_ne_bytes());
    head[8..].copy_from_slice(identity);
    head
}

/// Whose vault begins so.
///
/// # Errors
/// It is none, or one of another version.
pub fn read_head(head: &[u8]) -> Result<[u8; 32], NotAVault> {
    let head: &[u8; HEAD_BYTES] = head
        .get(..HEAD_BYTES)
        .and_then(|head| head.try_into().ok())
        .ok_or(NotAVault::Truncated)?;
    let [m0, m1, m2, m3, v0, v1, v2, v3, identity @ ..] = *head;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(NotAVault::Foreign);
    }
    match u32::from_ne_bytes([v0, v1, v2, v3]) {
        VERSION => Ok(identity),
        version => Err(NotAVault::Version(version)),
    }
}

/// Where the slot of `epoch` begins, bytes.
pub fn slot_offset(epoch: u32) -> usize {
    HEAD_BYTES + slot_of(epoch) * SLOT_BYTES
}

fn slot_of(epoch: u32) -> usize {
    epoch as usize % SLOTS
}

/// What the loader knows of a key that is there: nothing that is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its epoch.
    pub epoch: u32,
    /// Bytes of its table; 0 while it has none.
    pub table_bytes: u64,
    /// When it ends at the latest, CLOCK_BOOTTIME in nanoseconds; 0 while that is not known.
    pub ends_ns: u64,
}

/// Reads what is not secret of a slot; `None` if it is empty.
pub fn facts(head: [u8; SLOT_HEAD_BYTES], tail: [u8; SLOT_TAIL_BYTES]) -> Option<Facts> {
    let epoch = epoch_of(u64::from_ne_bytes(head))?;
    let [table_bytes, ends_ns] = words(&tail);
    Some(Facts {
        epoch,
        table_bytes,
        ends_ns,
    })
}

fn state(epoch: u32) -> u64 {
    let ([s0, s1, s2, s3], [e0, e1, e2, e3]) = (VALID.to_ne_bytes(), epoch.to_ne_bytes());
    u64::from_ne_bytes([s0, s1, s2, s3, e0, e1, e2, e3])
}

/// The epoch of a slot with this first word, if there is a key in it.
fn epoch_of(word: u64) -> Option<u32> {
    let [s0, s1, s2, s3, e0, e1, e2, e3] = word.to_ne_bytes();
    (u32::from_ne_bytes([s0, s1, s2, s3]) == VALID).then(|| u32::from_ne_bytes([e0, e1, e2, e3]))
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(WORD_BYTES)) {
        *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

/// A key as it lies in a slot. Secrets are read to where they stay: moves of this leave no copies.
pub struct Key {
    /// Its epoch.
    pub epoch: u32,
    /// The X25519 secret.
    pub secret: Box<Zeroizing<[u8; 32]>>,
    /// Its table: the bytes, and the secret that tags are placed by. `None`: no packet was accepted yet.
    pub table: Option<(u64, Box<Zeroizing<[u8; 16]>>)>,
    /// When it ends at the latest, CLOCK_BOOTTIME in nanoseconds, as far as that is known.
    pub ends_ns: Option<u64>,
}

/// A vault in memory: whole words that somebody else may change at any time, though only the node does.
pub struct Page<'a> {
    slots: [&'a [AtomicU64]; SLOTS],
}

impl<'a> Page<'a> {
    /// Looks at memory that ought to be the vault of `identity`.
    ///
    /// # Errors
    /// It is not.
    pub fn new(words: &'a [AtomicU64], identity: &[u8; 32]) -> Result<Page<'a>, NotAVault> {
        if words.len() * WORD_BYTES < VAULT_BYTES {
            return Err(NotAVault::Truncated);
        }
        let head = words.iter().take(HEAD_WORDS);
        let head: Vec<u8> = head
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect();
        if read_head(&head)? != *identity {
            return Err(NotAVault::OtherIdentity);
        }
        let slot = |number| {
            let from = HEAD_WORDS + number * SLOT_WORDS;
            words.get(from..from + SLOT_WORDS).unwrap_or_default()
        };
        Ok(Page {
            slots: std::array::from_fn(slot),
        })
    }

    /// The keys that are there, by epoch.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.slots.iter().filter_map(|slot| read(slot)).collect();
        keys.sort_by_key(|key| key.epoch);
        keys
    }

    /// Whether there is room for a key of `epoch`: nobody else's is in its slot.
    pub fn is_free(&self, epoch: u32) -> bool {
        let there = self.word(epoch, STATE).and_then(epoch_of);
        there.is_none_or(|there| there == epoch)
    }

    /// Writes the key of `epoch` in place of what was in its slot: it has no table yet.
    pub fn put(&self, epoch: u32, secret: &[u8; 32], ends_ns: Option<u64>) {
        self.clear(epoch);
        self.store_bytes(epoch, KEY, secret);
        self.store(epoch, ENDS, ends_ns.unwrap_or(0));
        self.store(epoch, STATE, state(epoch));
    }

    /// Writes down that the key of `epoch` has a table from now on, in which tags are placed by `secret`.
    pub fn set_table(&self, epoch: u32, secret: &[u8; 16], bytes: u64) {
        if self.holds(epoch) {
            self.store(epoch, TABLE, 0);
            self.store_bytes(epoch, TABLE_SECRET, secret);
            self.store(epoch, TABLE, bytes);
        }
    }

    /// Writes down when the key of `epoch` ends.
    pub fn set_ends(&self, epoch: u32, ends_ns: u64) {
        if self.holds(epoch) {
            self.store(epoch, ENDS, ends_ns);
        }
    }

    /// Erases the key of `epoch`, if it is there, before anything that comes after.
    pub fn erase(&self, epoch: u32) {
        if self.holds(epoch) {
            self.clear(epoch);
        }
    }

    fn holds(&self, epoch: u32) -> bool {
        self.word(epoch, STATE).and_then(epoch_of) == Some(epoch)
    }

    /// Zeroes a slot: first that it holds anything. Others map this memory, so no compiler may leave a store out.
    fn clear(&self, epoch: u32) {
        for at in 0..SLOT_WORDS {
            self.store(epoch, at, 0);
        }
        compiler_fence(Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    fn word(&self, epoch: u32, at: usize) -> Option<u64> {
        let word = self.slots.get(slot_of(epoch))?.get(at)?;
        Some(word.load(Ordering::Acquire))
    }

    /// Word by word: nowhere else do the bytes lie together.
    fn store_bytes(&self, epoch: u32, from: usize, bytes: &[u8]) {
        for (at, word) in (from..).zip(bytes.chunks_exact(WORD_BYTES)) {
            let [word] = words(word);
            self.store(epoch, at, word);
        }
    }

    fn store(&self, epoch: u32, at: usize, word: u64) {
        let to = self.slots.get(slot_of(epoch)).and_then(|slot| slot.get(at));
        if let Some(to) = to {
            to.store(word, Ordering::Release);
        }
    }
}

fn read(slot: &[AtomicU64]) -> Option<Key> {
    let word = |at: usize| slot.get(at).map(|word| word.load(Ordering::Acquire));
    let epoch = epoch_of(word(STATE)?)?;
    let mut secret = Box::<Zeroizing<[u8; 32]>>::default();
    fill(&mut **secret, |at| word(KEY + at))?;
    let mut placed = Box::<Zeroizing<[u8; 16]>>::default();
    fill(&mut **placed, |at| word(TABLE_SECRET + at))?;
    let bytes = word(TABLE)?;
    let ends_ns = word(ENDS)?;
    Some(Key {
        epoch,
        secret,
        table: (bytes > 0).then_some((bytes, placed)),
        ends_ns: (ends_ns > 0).then_some(ends_ns),
    })
}

fn fill(bytes: &mut [u8], word: impl Fn(usize) -> Option<u64>) -> Option<()> {
    for (at, to) in bytes.chunks_exact_mut(WORD_BYTES).enumerate() {
        to.copy_from_slice(&word(at)?.to_ne_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: [u8; 32] = [7; 32];

    /// A fresh vault, as the loader makes it.
    fn fresh() -> Vec<AtomicU64> {
        let mut bytes = [0; VAULT_BYTES];
        bytes[..HEAD_BYTES].copy_from_slice(&head(&IDENTITY));
        let words = words::<{ VAULT_BYTES / WORD_BYTES }>(&bytes);
        words.into_iter().map(AtomicU64::new).collect()
    }

    fn page(words: &[AtomicU64]) -> Page<'_> {
        Page::new(words, &IDENTITY).unwrap()
    }

    fn bytes(words: &[AtomicU64]) -> Vec<u8> {
        let words = words.iter();
        words
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect()
    }

    fn facts_of(vault: &[AtomicU64], epoch: u32) -> Option<Facts> {
        let slot = &bytes(vault)[slot_offset(epoch)..][..SLOT_BYTES];
        facts(
            slot[..SLOT_HEAD_BYTES].try_into().unwrap(),
            slot[SLOT_BYTES - SLOT_TAIL_BYTES..].try_into().unwrap(),
        )
    }

    #[test]
    fn what_is_written_is_read_back_where_the_table_of_offsets_says() {
        let vault = fresh();
        assert!(page(&vault).keys().is_empty());
        page(&vault).put(413, &[0x11; 32], None);
        page(&vault).put(412, &[0x22; 32], Some(99));
        page(&vault).set_table(412, &[0x33; 16], 4096);
        page(&vault).set_ends(413, 0x0102_0304);
        let keys = page(&vault).keys();
        assert_eq!(keys.len(), 2);
        assert_eq!((keys[0].epoch, **keys[0].secret), (412, [0x22; 32]));
        let (table_bytes, secret) = keys[0].table.as_ref().unwrap();
        assert_eq!((*table_bytes, ***secret), (4096, [0x33; 16]));
        assert_eq!(keys[0].ends_ns, Some(99));
        assert_eq!((keys[1].epoch, **keys[1].secret), (413, [0x11; 32]));
        assert!(keys[1].table.is_none());
        assert_eq!(keys[1].ends_ns, Some(0x0102_0304));
        let found = bytes(&vault);
        assert_eq!(&found[..4], b"FXK1");
        assert_eq!(found[4..8], 1u32.to_ne_bytes());
        assert_eq!(found[8..40], IDENTITY);
        let slot = &found[40..][..72];
        assert_eq!(slot[..4], 1u32.to_ne_bytes());
        assert_eq!(slot[4..8], 412u32.to_ne_bytes());
        assert_eq!(slot[8..40], [0x22; 32]);
        assert_eq!(slot[40..56], [0x33; 16]);
        assert_eq!(slot[56..64], 4096u64.to_ne_bytes());
        assert_eq!(slot[64..72], 99u64.to_ne_bytes());
        let expected = Facts {
            epoch: 412,
            table_bytes: 4096,
            ends_ns: 99,
        };
        assert_eq!(facts_of(&vault, 412), Some(expected));
        assert_eq!(facts_of(&vault, 414), None);
    }

    #[test]
    fn truncated_foreign_of_another_version_and_of_another_node_are_each_named() {
        let wrong = |vault: &[AtomicU64]| Page::new(vault, &IDENTITY).err().unwrap();
        assert_eq!(wrong(&fresh()[..511]), NotAVault::Truncated);
        assert_eq!(wrong(&[]), NotAVault::Truncated);
        assert_eq!(read_head(&head(&IDENTITY)[..39]), Err(NotAVault::Truncated));
        let vault = fresh();
        vault[0].store(0, Ordering::Relaxed);
        assert_eq!(wrong(&vault), NotAVault::Foreign);
        let [m0, m1, m2, m3] = MAGIC;
        let [v0, v1, v2, v3] = 2u32.to_ne_bytes();
        let newer = u64::from_ne_bytes([m0, m1, m2, m3, v0, v1, v2, v3]);
        vault[0].store(newer, Ordering::Relaxed);
        assert_eq!(wrong(&vault), NotAVault::Version(2));
        let vault = fresh();
        assert_eq!(
            Page::new(&vault, &[8; 32]).err().unwrap(),
            NotAVault::OtherIdentity
        );
    }

    #[test]
    fn a_half_written_slot_is_empty_and_a_half_written_table_is_none() {
        let (whole, vault) = (fresh(), fresh());
        page(&whole).put(5, &[0x44; 32], Some(1));
        let first = HEAD_WORDS + SLOT_WORDS;
        let written: Vec<u64> = whole.iter().map(|w| w.load(Ordering::Relaxed)).collect();
        // The order in which `put` stores: killed after each of them but the last.
        for at in (1..SLOT_WORDS).map(|at| first + at) {
            vault[at].store(written[at], Ordering::Relaxed);
            assert!(page(&vault).keys().is_empty());
            assert_eq!(facts_of(&vault, 5), None);
        }
        vault[first].store(written[first], Ordering::Relaxed);
        assert_eq!(page(&vault).keys().len(), 1);
        for at in [first + TABLE_SECRET, first + TABLE_SECRET + 1] {
            vault[at].store(u64::MAX, Ordering::Relaxed);
            assert!(page(&vault).keys()[0].table.is_none());
        }
        for state in [2u32, u32::MAX] {
            let [s0, s1, s2, s3] = state.to_ne_bytes();
            let odd = u64::from_ne_bytes([s0, s1, s2, s3, 5, 0, 0, 0]);
            vault[first].store(odd, Ordering::Relaxed);
            assert!(page(&vault).keys().is_empty(), "a state nobody knows");
        }
    }

    #[test]
    fn erasing_leaves_no_byte_and_touches_no_other_epoch() {
        let vault = fresh();
        page(&vault).put(4, &[0x55; 32], Some(3));
        page(&vault).set_table(4, &[0x66; 16], 64);
        page(&vault).put(5, &[0x77; 32], None);
        assert!(!page(&vault).is_free(8) && page(&vault).is_free(4));
        page(&vault).erase(8);
        page(&vault).set_ends(8, 1);
        page(&vault).set_table(8, &[1; 16], 1);
        assert_eq!(page(&vault).keys()[0].ends_ns, Some(3));
        page(&vault).erase(4);
        let found = bytes(&vault);
        let slot = &found[slot_offset(4)..][..SLOT_BYTES];
        assert!(slot.iter().all(|byte| *byte == 0));
        assert_eq!(page(&vault).keys().len(), 1);
        assert!(page(&vault).is_free(8));
    }
}
