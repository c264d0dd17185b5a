//! Signatures of authorities over a consensus.
//!
//! Encoding: `"FXS1" | consensus length 4 | consensus | signature count 1 | each (authority 32 |
//! signature 64), ascending by authority`.

use crate::consensus::{Consensus, ConsensusError, NODES_MAX};
use crate::descriptor::DESCRIPTOR_BYTES_MAX;
use crate::identity::{self, Identity};
use crate::wire::{DecodeError, Reader};

/// Most authorities of a network.
pub const AUTHORITIES_MAX: usize = 5;
/// Largest encoded signed consensus: [`NODES_MAX`] of the largest nodes and some hundreds of bytes.
pub const CONSENSUS_BYTES_MAX: usize = NODES_MAX * DESCRIPTOR_BYTES_MAX + 1_024;

const MAGIC: &[u8; 4] = b"FXS1";
const CONTEXT: &[u8; 32] = b"fogmix consensus, version 1\0\0\0\0\0";

/// The keys whose signatures make a consensus; a majority must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities(Vec<[u8; 32]>);

impl Authorities {
    /// 1 to 5 distinct keys, in any order.
    ///
    /// # Errors
    /// Too few, too many, or one twice.
    pub fn new(mut keys: Vec<[u8; 32]>) -> Result<Self, DecodeError> {
        keys.sort_unstable();
        let distinct = keys.is_sorted_by(|a, b| a < b);
        if distinct && (1..=AUTHORITIES_MAX).contains(&keys.len()) {
            Ok(Self(keys))
        } else {
            Err(DecodeError::Field("authority keys"))
        }
    }

    /// The keys, ascending.
    pub fn keys(&self) -> &[[u8; 32]] {
        &self.0
    }

    /// How many must sign: more than half.
    pub fn quorum(&self) -> usize {
        self.0.len() / 2 + 1
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        bytes.extend(self.0.iter().flatten());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count(1, AUTHORITIES_MAX, "authority keys")?;
        let keys: Vec<[u8; 32]> = (0..count)
            .map(|_| reader.array())
            .collect::<Result<_, _>>()?;
        if keys.is_sorted_by(|a, b| a < b) {
            Ok(Self(keys))
        } else {
            Err(DecodeError::Field("authority keys"))
        }
    }
}

/// The bytes of a consensus with signatures, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedConsensus {
    bytes: Vec<u8>,
    /// (authority, signature), ascending by authority.
    signatures: Vec<([u8; 32], [u8; 64])>,
}

/// Why a signed consensus is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not the canonical encoding.
    #[error("malformed consensus: {0}")]
    Decode(#[from] DecodeError),
    /// Fewer than a majority of the known authorities signed these bytes.
    #[error("consensus has {valid} of {quorum} signatures needed")]
    Signatures {
        /// Valid signatures by known authorities.
        valid: usize,
        /// How many are needed.
        quorum: usize,
    },
    /// Signed, yet its nodes break a rule.
    #[error("invalid consensus: {0}")]
    Consensus(#[from] ConsensusError),
    /// The document is not newer than the one already held.
    #[error("consensus of epoch {epoch} is not newer than epoch {have}, which is already known")]
    RolledBack {
        /// The document's epoch.
        epoch: u32,
        /// The newest epoch known.
        have: u32,
    },
}

impl SignedConsensus {
    /// Signs `consensus` with one authority's key.
    pub fn sign(consensus: &Consensus, authority: &Identity) -> Self {
        let bytes = consensus.encode();
        let signature = authority.sign(CONTEXT, &bytes);
        Self {
            bytes,
            signatures: vec![(authority.public(), signature)],
        }
    }

    /// Adds the signatures of `other` when both are over the same bytes; says whether they are.
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.bytes != other.bytes {
            return false;
        }
        for (authority, signature) in &other.signatures {
            if let Err(at) = self.signatures.binary_search_by(|(a, _)| a.cmp(authority)) {
                self.signatures.insert(at, (*authority, *signature));
            }
        }
        true
    }

    /// Encodes document and signatures.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 9 + self.signatures.len() * 96);
        bytes.extend_from_slice(MAGIC);
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.bytes);
        bytes.push(u8::try_from(self.signatures.len()).unwrap_or(u8::MAX));
        for (authority, signature) in &self.signatures {
            bytes.extend_from_slice(authority);
            bytes.extend_from_slice(signature);
        }
        bytes
    }

    /// Decodes the envelope; nothing inside is looked at before [`SignedConsensus::verify`].
    ///
    /// # Errors
    /// Not the canonical encoding, or too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let limit_bytes = CONSENSUS_BYTES_MAX;
        if bytes.len() > limit_bytes {
            return Err(DecodeError::TooLarge { limit_bytes });
        }
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let length = usize::try_from(reader.u32()?).map_err(|_| DecodeError::Truncated)?;
        let document = reader.take(length)?;
        let count = reader.count(1, AUTHORITIES_MAX, "signature count")?;
        let signatures: Vec<_> = (0..count)
            .map(|_| Ok((reader.array()?, reader.array()?)))
            .collect::<Result<_, DecodeError>>()?;
        reader.finish()?;
        if !signatures.is_sorted_by(|(a, _): &([u8; 32], _), (b, _)| a < b) {
            return Err(DecodeError::Field("signature order"));
        }
        Ok(Self {
            bytes: document.to_vec(),
            signatures,
        })
    }

    /// Verifies signatures, then decodes. With `previous_epoch`, the newest epoch the caller holds,
    /// the document must be newer.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        &self,
        authorities: &Authorities,
        previous_epoch: Option<u32>,
    ) -> Result<Consensus, VerifyError> {
        let quorum = authorities.quorum();
        let valid = self
            .signatures
            .iter()
            .filter(|(authority, signature)| {
                authorities.keys().binary_search(authority).is_ok()
                    && identity::verify(authority, CONTEXT, &self.bytes, signature)
            })
            .count();
        if valid < quorum {
            return Err(VerifyError::Signatures { valid, quorum });
        }
        let consensus = Consensus::decode(&self.bytes)?;
        match previous_epoch {
            Some(have) if consensus.epoch() <= have => Err(VerifyError::RolledBack {
                epoch: consensus.epoch(),
                have,
            }),
            _ => Ok(consensus),
        }
    }
}
