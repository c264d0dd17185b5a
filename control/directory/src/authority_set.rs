//! Who the authorities are, and how that changes: a chain of sets from the network's founding on.
//!
//! Encoding of a set: `"FXA1" | network id 16, zero in generation 0 | generation 2 | first epoch 4 | parameters 25, in
//! generation 0 alone | member count 1 | each (key 32 | address as in a descriptor), ascending by key | signature count 1
//! | each (key 32 | signature 64), ascending`, signed over a context and everything before the signatures. A chain is
//! `count 2 | each (length 2 | set)`.

mod chain;

use std::net::SocketAddr;

use crate::epoch::Parameters;
use crate::identity::{self, Identity};
use crate::signatures::Signatures;
use crate::signed::{AUTHORITIES_MAX, Authorities};
use crate::wire::{ADDRESS_BYTES_MAX, DecodeError, Reader, put_address};

pub use chain::Chain;

/// Most sets of a chain.
pub const GENERATIONS_MAX: usize = 64;
/// Most signatures of a set: of every key of it and of the set before.
const SIGNATURES_MAX: usize = 2 * AUTHORITIES_MAX;
/// Largest encoded and signed set.
pub const SET_BYTES_MAX: usize =
    4 + 16 + 2 + 4 + 25 + 1 + AUTHORITIES_MAX * (32 + ADDRESS_BYTES_MAX) + 1 + SIGNATURES_MAX * 96;
/// Largest encoded chain.
pub const CHAIN_BYTES_MAX: usize = 2 + GENERATIONS_MAX * (2 + SET_BYTES_MAX);

const MAGIC: &[u8; 4] = b"FXA1";
const CONTEXT: &[u8; 32] = b"fogmix authority set, version 1\0";

/// One authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// Where nodes and the other authorities reach it, over HTTP. No name: whoever resolves one could be lied to, and would
    /// wait for it.
    pub address: SocketAddr,
}

/// The authorities of a span of epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySet {
    /// Which network; zero in the set that founds it.
    pub network: [u8; 16],
    /// 0 founds the network.
    pub generation: u16,
    /// From this epoch on its documents are signed by this set.
    pub first_epoch: u32,
    /// The network's parameters; in generation 0 alone.
    pub parameters: Option<Parameters>,
    /// 1 to 5, ascending by key.
    pub members: Vec<Member>,
}

/// A set with its signatures, in place in a chain once [`Chain`] has taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSet {
    set: AuthoritySet,
    /// What is signed.
    bytes: Vec<u8>,
    signatures: Signatures,
}

/// Why a set is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Not the canonical encoding.
    #[error("malformed authority set: {0}")]
    Decode(#[from] DecodeError),
    /// Not the set after the newest one held.
    #[error("authority set of generation {generation} does not follow generation {held}")]
    Generation {
        /// Its generation.
        generation: u16,
        /// The newest one held.
        held: u16,
    },
    /// A set of a generation that is held, and another one.
    #[error("a second authority set of generation {0}: somebody signed two")]
    Equivocation(u16),
    /// Of another network.
    #[error("this authority set is of another network")]
    Network,
    /// It would be in force before the set that it follows, or at once.
    #[error("authority set begins with epoch {first_epoch}, not after epoch {held}")]
    FirstEpoch {
        /// Its first epoch.
        first_epoch: u32,
        /// That of the set before.
        held: u32,
    },
    /// Too few of the set before agreed.
    #[error("authority set has {valid} of {quorum} signatures needed from the set before it")]
    Signatures {
        /// Valid ones.
        valid: usize,
        /// How many are needed.
        quorum: usize,
    },
    /// A new member did not sign: nobody showed that this key is in use.
    #[error("a new authority has not signed the set it is in")]
    NewMember,
    /// No key of the set before stays: the beacon's chain would break.
    #[error("no authority of the set before stays")]
    NobodyStays,
    /// A signature by nobody who has a say, or one that does not verify.
    #[error("authority set carries a signature that does not belong there")]
    Signature,
    /// The chain is full.
    #[error("more than {GENERATIONS_MAX} authority sets")]
    TooMany,
}

impl AuthoritySet {
    /// The keys.
    ///
    /// # Errors
    /// Too few, too many, or one twice.
    pub fn authorities(&self) -> Result<Authorities, DecodeError> {
        Authorities::new(self.members.iter().map(|member| member.key).collect())
    }

    /// Whether all of them are at loopback addresses: a network on one host, of a laboratory or a test.
    pub fn is_on_one_host(&self) -> bool {
        let is_here = |member: &Member| member.address.ip().is_loopback();
        self.members.iter().all(is_here)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.network);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.first_epoch.to_be_bytes());
        if let Some(parameters) = &self.parameters {
            parameters.encode(&mut bytes);
        }
        bytes.push(u8::try_from(self.members.len()).unwrap_or(u8::MAX));
        for member in &self.members {
            bytes.extend_from_slice(&member.key);
            put_address(&mut bytes, &member.address);
        }
        bytes
    }

    fn decode(reader: &mut Reader<'_>) -> Result<AuthoritySet, DecodeError> {
        reader.magic(MAGIC)?;
        let network: [u8; 16] = reader.array()?;
        let generation = reader.u16()?;
        if (generation == 0) != (network == [0; 16]) {
            return Err(DecodeError::Field("network id"));
        }
        let first_epoch = reader.u32()?;
        let parameters = match generation {
            0 => Some(Parameters::decode(reader)?),
            _ => None,
        };
        let count = reader.count(1, AUTHORITIES_MAX, "authority count")?;
        let members: Vec<Member> = (0..count)
            .map(|_| {
                let (key, address) = (reader.array()?, reader.address()?);
                Ok(Member { key, address })
            })
            .collect::<Result<_, DecodeError>>()?;
        if !members.is_sorted_by(|a, b| a.key < b.key) {
            return Err(DecodeError::Field("authority order"));
        }
        Ok(AuthoritySet {
            network,
            generation,
            first_epoch,
            parameters,
            members,
        })
    }
}

impl SignedSet {
    /// A proposal to found a network, in any order of its members: for all of them to sign.
    ///
    /// # Errors
    /// A field out of its bounds.
    pub fn founding(
        parameters: Parameters,
        mut members: Vec<Member>,
    ) -> Result<SignedSet, DecodeError> {
        members.sort_unstable_by_key(|member| member.key);
        SignedSet::propose(AuthoritySet {
            network: [0; 16],
            generation: 0,
            first_epoch: 0,
            parameters: Some(parameters),
            members,
        })
    }

    fn propose(set: AuthoritySet) -> Result<SignedSet, DecodeError> {
        let bytes = set.encode();
        // The decoder is the one place that knows the bounds.
        let mut reader = Reader::new(&bytes);
        let decoded = AuthoritySet::decode(&mut reader)?;
        reader.finish()?;
        if decoded != set {
            return Err(DecodeError::Field("authority set"));
        }
        Ok(SignedSet {
            set,
            bytes,
            signatures: Signatures::default(),
        })
    }

    /// Adds a signature.
    pub fn sign(&mut self, authority: &Identity) {
        let signature = authority.sign(CONTEXT, &self.bytes);
        self.signatures.insert(authority.public(), signature);
    }

    /// Whether it carries a signature of this key; whether that holds is checked by the chain that takes the set.
    pub fn is_signed_by(&self, key: &[u8; 32]) -> bool {
        self.signatures.contains(key)
    }

    /// What it says.
    pub fn set(&self) -> &AuthoritySet {
        &self.set
    }

    /// Encodes set and signatures.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        self.signatures.encode(&mut bytes);
        bytes
    }

    /// Decodes; who signed is checked by the chain that takes it.
    ///
    /// # Errors
    /// Not the canonical encoding, or too large.
    pub fn decode(bytes: &[u8]) -> Result<SignedSet, DecodeError> {
        let limit_bytes = SET_BYTES_MAX;
        if bytes.len() > limit_bytes {
            return Err(DecodeError::TooLarge { limit_bytes });
        }
        let mut reader = Reader::new(bytes);
        let set = AuthoritySet::decode(&mut reader)?;
        let signatures = Signatures::decode(&mut reader, 0, SIGNATURES_MAX)?;
        reader.finish()?;
        Ok(SignedSet {
            bytes: set.encode(),
            set,
            signatures,
        })
    }

    /// Who signed. A signature that does not verify spoils the set, so that a set has one encoding for all readers.
    fn signers(&self) -> Result<impl Iterator<Item = &[u8; 32]>, SetError> {
        let mut all = self.signatures.iter();
        let holds = |(key, signature): (&[u8; 32], &[u8; 64])| {
            identity::verify(key, CONTEXT, &self.bytes, signature)
        };
        match all.all(holds) {
            true => Ok(self.signatures.iter().map(|(key, _)| key)),
            false => Err(SetError::Signature),
        }
    }
}

#[cfg(test)]
mod tests;
