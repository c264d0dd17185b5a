//! What an authority says once an epoch: which nodes it would list, and its part of the next beacon.
//!
//! Encoding: `"FXV1" | authority 32 | network id 16 | generation 2 | newest method 1 | epoch 4 | hash of the previous
//! document 32 | parameters 25 | commitment 32 | reveal flag 1 + 32 | node count 2 | each (identity 32 | digest 32 |
//! flags 1 | weight 4), ascending by identity | signature 64`, the signature over a context and everything before it.

use directory::wire::{DecodeError, Reader, put_optional};
use directory::{
    AuthorError, Authorship, FLAG_LEAVING, FLAG_PAUSED, Identity, NODES_MAX, Parameters,
};

/// Bytes of a node in a vote.
const ENTRY_BYTES: usize = 32 + 32 + 1 + 4;
/// Bytes of a vote that lists nobody and reveals something.
const BARE_BYTES: usize = 4 + 32 + 16 + 2 + 1 + 4 + 32 + 25 + 32 + 33 + 2 + 64;
/// Largest vote.
pub const VOTE_BYTES_MAX: usize = BARE_BYTES + NODES_MAX * ENTRY_BYTES;

const AUTHORSHIP: Authorship = Authorship {
    magic: b"FXV1",
    context: b"fogmix vote, version 1\0\0\0\0\0\0\0\0\0\0",
    key_offset: 4,
    bytes_max: VOTE_BYTES_MAX,
};

/// A node that a vote lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its identity key.
    pub identity: [u8; 32],
    /// BLAKE3 of its signed descriptor.
    pub digest: [u8; 32],
    /// [`FLAG_LEAVING`], [`FLAG_PAUSED`]; no other bit.
    pub flags: u8,
    /// Its weight in path selection, packets a second; not 0.
    pub weight: u32,
}

/// One authority's vote about the document of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Whose it is: an Ed25519 key.
    pub authority: [u8; 32],
    /// Which network.
    pub network: [u8; 16],
    /// Generation of the authority set that it counts in.
    pub generation: u16,
    /// The newest way to compute a document that this authority knows.
    pub method: u8,
    /// The epoch that the document will be for.
    pub epoch: u32,
    /// Digest of the document that it follows; zero for a network's first.
    pub previous: [u8; 32],
    /// Parameters wanted.
    pub parameters: Parameters,
    /// Commitment to the value that will be revealed in the next vote.
    pub commit: [u8; 32],
    /// The value that the previous document's commitment was for.
    pub reveal: Option<[u8; 32]>,
    /// Ascending by identity.
    pub nodes: Vec<Entry>,
}

/// A vote as its author signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedVote {
    vote: Vote,
    bytes: Vec<u8>,
}

/// Why a vote is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    /// Not the canonical encoding of a vote.
    #[error("malformed vote: {0}")]
    Decode(#[from] DecodeError),
    /// Not signed by the authority that it names.
    #[error("the vote is not signed by its authority")]
    Signature,
    /// The signing key is not the authority in the vote.
    #[error("the vote names another authority than the key that signs it")]
    Author,
}

impl From<AuthorError> for VoteError {
    fn from(error: AuthorError) -> Self {
        match error {
            AuthorError::Decode(error) => Self::Decode(error),
            AuthorError::Signature => Self::Signature,
        }
    }
}

impl Vote {
    /// Encodes and signs.
    ///
    /// # Errors
    /// A field out of its bounds, or `key` is not this vote's authority.
    pub fn sign(self, key: &Identity) -> Result<SignedVote, VoteError> {
        if key.public() != self.authority {
            return Err(VoteError::Author);
        }
        let bytes = self.encode();
        // The decoder is the one place that knows the bounds.
        if Vote::decode(&bytes)? != self {
            return Err(DecodeError::Field("vote").into());
        }
        Ok(SignedVote {
            bytes: AUTHORSHIP.sign(bytes, key),
            vote: self,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BARE_BYTES + self.nodes.len() * ENTRY_BYTES);
        bytes.extend_from_slice(AUTHORSHIP.magic);
        bytes.extend_from_slice(&self.authority);
        bytes.extend_from_slice(&self.network);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.push(self.method);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.previous);
        self.parameters.encode(&mut bytes);
        bytes.extend_from_slice(&self.commit);
        put_optional(&mut bytes, self.reveal.as_ref().map(<[u8; 32]>::as_slice));
        let count = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for node in &self.nodes {
            bytes.extend_from_slice(&node.identity);
            bytes.extend_from_slice(&node.digest);
            bytes.push(node.flags);
            bytes.extend_from_slice(&node.weight.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Vote, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic(AUTHORSHIP.magic)?;
        let (authority, network) = (reader.array()?, reader.array()?);
        let (generation, method, epoch) = (reader.u16()?, reader.u8()?, reader.u32()?);
        let previous = reader.array()?;
        let parameters = Parameters::decode(&mut reader)?;
        let commit = reader.array()?;
        let reveal = reader.optional("reveal flag")?;
        let count = usize::from(reader.u16()?);
        if count > NODES_MAX {
            return Err(DecodeError::Field("node count"));
        }
        // Grows with what is really there, not with what the count claims.
        let mut nodes: Vec<Entry> = Vec::new();
        for _ in 0..count {
            let node = Entry {
                identity: reader.array()?,
                digest: reader.array()?,
                flags: reader.u8()?,
                weight: reader.u32()?,
            };
            if node.flags & !(FLAG_LEAVING | FLAG_PAUSED) != 0 {
                return Err(DecodeError::Field("node flags"));
            }
            if node.weight == 0 {
                return Err(DecodeError::Field("node weight"));
            }
            if nodes
                .last()
                .is_some_and(|last| last.identity >= node.identity)
            {
                return Err(DecodeError::Field("node order"));
            }
            nodes.push(node);
        }
        reader.finish()?;
        Ok(Vote {
            authority,
            network,
            generation,
            method,
            epoch,
            previous,
            parameters,
            commit,
            reveal,
            nodes,
        })
    }
}

impl SignedVote {
    /// Verifies and decodes: size, then signature, then fields.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(bytes: &[u8]) -> Result<SignedVote, VoteError> {
        let message = AUTHORSHIP.open(bytes)?;
        Ok(SignedVote {
            vote: Vote::decode(message)?,
            bytes: bytes.to_vec(),
        })
    }

    /// The epoch that it says it is about, unverified.
    pub(crate) fn peek_epoch(bytes: &[u8]) -> Result<u32, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic(AUTHORSHIP.magic)?;
        // Authority, network id, generation and method.
        reader.take(32 + 16 + 2 + 1)?;
        reader.u32()
    }

    /// What it says.
    pub fn vote(&self) -> &Vote {
        &self.vote
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// BLAKE3 of its bytes, signature included.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.bytes).as_bytes()
    }
}
