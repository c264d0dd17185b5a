//! What changes from one consensus to another, for who holds the first.
//!
//! Encoding: `"FXU1" | base digest 32 | target digest 32 | head of the target as in a consensus | removed count 2 | index 2
//! each, ascending | added count 2 | records, ascending by identity | kept count 2 | each (index 2 | layer 1 | epoch key 32
//! | weight 4 | flags 1 | proof flag 1 + 80), ascending | signatures`. Indices are the base's. Of a node that is kept all
//! else is as in the base; of one with more news the old record is removed and the new one added.

use crate::consensus::{Consensus, ConsensusError, NODES_MAX};
use crate::descriptor::{FLAG_LEAVING, FLAG_PAUSED, VRF_PROOF_BYTES};
use crate::head::{HEAD_BYTES_MAX, Head};
use crate::record::{RECORD_BYTES_MAX, Record};
use crate::signatures::Signatures;
use crate::signed::{AUTHORITIES_MAX, SignedConsensus};
use crate::wire::{DecodeError, Reader, put_optional};

/// Largest diff: every node removed, as many added.
pub const DIFF_BYTES_MAX: usize = 4
    + 64
    + HEAD_BYTES_MAX
    + (2 + NODES_MAX * 2)
    + (2 + NODES_MAX * RECORD_BYTES_MAX)
    + 2
    + (1 + AUTHORITIES_MAX * 96);

const MAGIC: &[u8; 4] = b"FXU1";

/// What is new of a node that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    index: u16,
    layer: u8,
    epoch_key: [u8; 32],
    weight: u32,
    flags: u8,
    vrf_proof: Option<[u8; VRF_PROOF_BYTES]>,
}

/// The way from one consensus to another, with the signatures over the latter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    base: [u8; 32],
    target: [u8; 32],
    head: Head,
    removed: Vec<u16>,
    added: Vec<Record>,
    kept: Vec<Kept>,
    signatures: Signatures,
}

/// Why a diff leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// Not the canonical encoding.
    #[error("malformed diff: {0}")]
    Decode(#[from] DecodeError),
    /// It begins with another document than the one held.
    #[error("the diff begins with a document that is not held")]
    Base,
    /// It does not say of every node of its base whether it stays.
    #[error("the diff does not speak of every node of its base")]
    Nodes,
    /// What it leads to is no consensus.
    #[error("the diff makes no consensus: {0}")]
    Consensus(#[from] ConsensusError),
    /// What it leads to is not what it says.
    #[error("the diff does not lead to the document that it names")]
    Target,
}

impl Diff {
    /// From `base` to `target`, which is what `signed` signs; none if it is not.
    pub fn between(base: &Consensus, target: &Consensus, signed: &SignedConsensus) -> Option<Diff> {
        if signed.digest() != *target.digest() {
            return None;
        }
        let mut diff = Diff {
            base: *base.digest(),
            target: *target.digest(),
            head: target.head().clone(),
            removed: Vec::new(),
            added: Vec::new(),
            kept: Vec::new(),
            signatures: signed.signatures().clone(),
        };
        for node in base.nodes() {
            let same = target.find(&node.identity).map(|new| &new.record);
            match same.filter(|new| updated(node, &Kept::of(node.index, new)) == **new) {
                Some(new) => diff.kept.push(Kept::of(node.index, new)),
                None => diff.removed.push(node.index),
            }
        }
        let stays = |record: &Record| {
            let old = base.find(&record.identity);
            let kept = old.map(|old| {
                diff.kept
                    .binary_search_by_key(&old.index, |kept| kept.index)
            });
            kept.is_some_and(|kept| kept.is_ok())
        };
        let records = target.nodes().iter().map(|node| &node.record);
        diff.added = records.filter(|record| !stays(record)).cloned().collect();
        Some(diff)
    }

    /// The document that it leads to from `base`, not verified.
    ///
    /// # Errors
    /// It does not begin there, or leads elsewhere than it says.
    pub fn apply(&self, base: &Consensus) -> Result<SignedConsensus, DiffError> {
        if *base.digest() != self.base {
            return Err(DiffError::Base);
        }
        let mut records = self.added.clone();
        let (mut removed, mut kept) = (self.removed.iter(), self.kept.iter().peekable());
        for node in base.nodes() {
            match kept.next_if(|kept| kept.index == node.index) {
                Some(kept) => records.push(updated(node, kept)),
                None if removed.next() == Some(&node.index) => {}
                None => return Err(DiffError::Nodes),
            }
        }
        if removed.next().is_some() || kept.next().is_some() {
            return Err(DiffError::Nodes);
        }
        records.sort_unstable_by_key(|record| record.identity);
        let consensus = Consensus::new(self.head.clone(), records)?;
        match *consensus.digest() == self.target {
            true => Ok(SignedConsensus::with(&consensus, self.signatures.clone())),
            false => Err(DiffError::Target),
        }
    }

    /// Encodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.base);
        bytes.extend_from_slice(&self.target);
        self.head.encode(&mut bytes);
        put_count(&mut bytes, self.removed.len());
        for index in &self.removed {
            bytes.extend_from_slice(&index.to_be_bytes());
        }
        put_count(&mut bytes, self.added.len());
        for record in &self.added {
            record.encode(&mut bytes);
        }
        put_count(&mut bytes, self.kept.len());
        for kept in &self.kept {
            bytes.extend_from_slice(&kept.index.to_be_bytes());
            bytes.push(kept.layer);
            bytes.extend_from_slice(&kept.epoch_key);
            bytes.extend_from_slice(&kept.weight.to_be_bytes());
            bytes.push(kept.flags);
            put_optional(
                &mut bytes,
                kept.vrf_proof.as_ref().map(<[u8; 80]>::as_slice),
            );
        }
        self.signatures.encode(&mut bytes);
        bytes
    }

    /// Decodes; what comes of it is for [`Diff::apply`], and whether that is signed for its reader.
    ///
    /// # Errors
    /// Not the canonical encoding, or too large.
    pub fn decode(bytes: &[u8]) -> Result<Diff, DecodeError> {
        let limit_bytes = DIFF_BYTES_MAX;
        if bytes.len() > limit_bytes {
            return Err(DecodeError::TooLarge { limit_bytes });
        }
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let (base, target) = (reader.array()?, reader.array()?);
        let head = Head::decode(&mut reader)?;
        let removed = list(&mut reader, |reader| reader.u16(), |index| *index)?;
        let added = list(&mut reader, Record::decode, |record| record.identity)?;
        let kept = list(&mut reader, Kept::decode, |kept| kept.index)?;
        let signatures = Signatures::decode(&mut reader, 1, AUTHORITIES_MAX)?;
        reader.finish()?;
        Ok(Diff {
            base,
            target,
            head,
            removed,
            added,
            kept,
            signatures,
        })
    }
}

impl Kept {
    fn of(index: u16, new: &Record) -> Kept {
        Kept {
            index,
            layer: new.layer,
            epoch_key: new.epoch_key,
            weight: new.weight,
            flags: new.flags,
            vrf_proof: new.vrf_proof,
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Kept, DecodeError> {
        let kept = Kept {
            index: reader.u16()?,
            layer: reader.u8()?,
            epoch_key: reader.array()?,
            weight: reader.u32()?,
            flags: reader.u8()?,
            vrf_proof: reader.optional("VRF proof flag")?,
        };
        match (kept.weight, kept.flags & !(FLAG_LEAVING | FLAG_PAUSED)) {
            (0, _) => Err(DecodeError::Field("weight")),
            (_, 0) => Ok(kept),
            _ => Err(DecodeError::Field("flags")),
        }
    }
}

fn updated(old: &Record, kept: &Kept) -> Record {
    Record {
        layer: kept.layer,
        epoch_key: kept.epoch_key,
        weight: kept.weight,
        flags: kept.flags,
        vrf_proof: kept.vrf_proof,
        ..old.clone()
    }
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&count.to_be_bytes());
}

/// A list with a count of two bytes, strictly ascending by `key`. It grows with what is really there, not with what the
/// count claims.
fn list<T, K: Ord>(
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
    key: impl Fn(&T) -> K,
) -> Result<Vec<T>, DecodeError> {
    let count = usize::from(reader.u16()?);
    if count > NODES_MAX {
        return Err(DecodeError::Field("node count"));
    }
    let mut items = Vec::new();
    for _ in 0..count {
        let item = read(reader)?;
        if items.last().is_some_and(|last| key(last) >= key(&item)) {
            return Err(DecodeError::Field("order"));
        }
        items.push(item);
    }
    Ok(items)
}
