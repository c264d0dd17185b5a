//! Signatures of authorities over a consensus.
//!
//! Encoding: `"FXS2" | generation 2 | consensus length 4 | consensus | signatures` ([`crate::signatures`]), and of one
//! signature that travels alone `"FXG1" | epoch 4 | digest 32 | authority 32 | signature 64`. What is signed, over a
//! context, is `network id 16 | epoch 4 | digest 32`: one who lacks the bytes can check it, and two of one authority for
//! one epoch are evidence.

use crate::authority_set::Chain;
use crate::consensus::{Consensus, ConsensusError, DOCUMENT_BYTES_MAX};
use crate::identity::{self, Identity};
use crate::signatures::Signatures;
use crate::wire::{DecodeError, Reader};

/// Most authorities of a network.
pub const AUTHORITIES_MAX: usize = 5;
/// Largest encoded signed consensus.
pub const CONSENSUS_BYTES_MAX: usize = 4 + 2 + 4 + DOCUMENT_BYTES_MAX + 1 + AUTHORITIES_MAX * 96;
/// Bytes of a signature that travels alone.
pub const SIGNATURE_BYTES: usize = 4 + 4 + 32 + 32 + 64;

const MAGIC: &[u8; 4] = b"FXS2";
const ALONE: &[u8; 4] = b"FXG1";
const CONTEXT: &[u8; 32] = b"fogmix consensus, version 2\0\0\0\0\0";

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
}

/// One authority's signature over the consensus of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsensusSignature {
    /// The consensus' epoch.
    pub epoch: u32,
    /// Its digest.
    pub digest: [u8; 32],
    /// Who signs.
    pub authority: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
}

fn message(network: &[u8; 16], epoch: u32, digest: &[u8; 32]) -> Vec<u8> {
    [network.as_slice(), &epoch.to_be_bytes(), digest].concat()
}

impl ConsensusSignature {
    /// Signs `consensus`.
    pub fn sign(consensus: &Consensus, authority: &Identity) -> Self {
        let (epoch, digest) = (consensus.epoch(), *consensus.digest());
        let message = message(&consensus.head().network, epoch, &digest);
        Self {
            epoch,
            digest,
            authority: authority.public(),
            signature: authority.sign(CONTEXT, &message),
        }
    }

    /// Whether it is the authority's, in this network. Whether that authority has a say is another question.
    pub fn holds(&self, network: &[u8; 16]) -> bool {
        let message = message(network, self.epoch, &self.digest);
        identity::verify(&self.authority, CONTEXT, &message, &self.signature)
    }

    /// Encodes.
    pub fn encode(&self) -> Vec<u8> {
        let epoch = self.epoch.to_be_bytes();
        let fields: [&[u8]; 5] = [
            ALONE,
            &epoch,
            &self.digest,
            &self.authority,
            &self.signature,
        ];
        fields.concat()
    }

    /// Decodes; nothing is verified.
    ///
    /// # Errors
    /// Not the canonical encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic(ALONE)?;
        let signature = Self {
            epoch: reader.u32()?,
            digest: reader.array()?,
            authority: reader.array()?,
            signature: reader.array()?,
        };
        reader.finish()?;
        Ok(signature)
    }
}

/// The bytes of a consensus with signatures, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedConsensus {
    generation: u16,
    bytes: Vec<u8>,
    signatures: Signatures,
}

/// What a reader holds a document against, beside its chain of authority sets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'a> {
    /// Documents that it has verified before.
    pub documents: &'a [&'a Consensus],
    /// It wants a later one than this.
    pub newer_than: Option<u32>,
    /// The epoch by its clock: of a document further ahead than the next one it knows nothing good.
    pub now: Option<u32>,
}

/// Why a signed consensus is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not the canonical encoding.
    #[error("malformed consensus: {0}")]
    Decode(#[from] DecodeError),
    /// Of an authority set that is not known here, or that is not the one for its epoch.
    #[error(
        "consensus is signed by authority set {0}, which does not sign for its epoch or is not known here"
    )]
    Generation(u16),
    /// Fewer than a majority of its authority set signed it.
    #[error("consensus has {valid} of {quorum} signatures needed")]
    Signatures {
        /// Valid signatures by authorities of the set.
        valid: usize,
        /// How many are needed.
        quorum: usize,
    },
    /// Signed, yet it breaks a rule.
    #[error("invalid consensus: {0}")]
    Consensus(#[from] ConsensusError),
    /// Of another network.
    #[error("this consensus is of another network")]
    Network,
    /// It moves the network's epochs.
    #[error("consensus has another genesis or length of epochs than the network was founded with")]
    Epochs,
    /// The document is not newer than the one already held.
    #[error("consensus of epoch {epoch} is not newer than epoch {have}, which is already known")]
    RolledBack {
        /// The document's epoch.
        epoch: u32,
        /// The newest epoch known.
        have: u32,
    },
    /// Too far ahead of the reader's clock.
    #[error("consensus of epoch {epoch} in epoch {now}")]
    Early {
        /// The document's epoch.
        epoch: u32,
        /// The reader's.
        now: u32,
    },
    /// Another document of an epoch that is held, valid too.
    #[error("a second consensus of epoch {0}: authorities signed two")]
    Equivocation(u32),
    /// It does not follow the document before it that is held.
    #[error("consensus of epoch {epoch} does not follow that of epoch {held}, which is held")]
    Previous {
        /// The document's epoch.
        epoch: u32,
        /// The held one's.
        held: u32,
    },
}

impl SignedConsensus {
    /// Signs `consensus` with one authority's key.
    pub fn sign(consensus: &Consensus, authority: &Identity) -> Self {
        let mut signed = Self::unsigned(consensus);
        let own = ConsensusSignature::sign(consensus, authority);
        signed.signatures.insert(own.authority, own.signature);
        signed
    }

    /// `consensus` with those of `signatures` that are over it. Whose they are is not looked at.
    pub fn gathered<'a>(
        consensus: &Consensus,
        signatures: impl IntoIterator<Item = &'a ConsensusSignature>,
    ) -> Self {
        let mut signed = Self::unsigned(consensus);
        let over = (consensus.epoch(), *consensus.digest());
        for one in signatures {
            if (one.epoch, one.digest) == over && signed.signatures.len() < AUTHORITIES_MAX {
                signed.signatures.insert(one.authority, one.signature);
            }
        }
        signed
    }

    fn unsigned(consensus: &Consensus) -> Self {
        Self {
            generation: consensus.head().generation,
            bytes: consensus.encode(),
            signatures: Signatures::default(),
        }
    }

    pub(crate) fn with(consensus: &Consensus, signatures: Signatures) -> Self {
        let mut signed = Self::unsigned(consensus);
        signed.signatures = signatures;
        signed
    }

    pub(crate) fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// BLAKE3 of the document's bytes.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.bytes).as_bytes()
    }

    /// Adds the signatures of `other` when both are over the same bytes; says whether they are.
    pub fn merge(&mut self, other: &Self) -> bool {
        if (self.generation, &self.bytes) != (other.generation, &other.bytes) {
            return false;
        }
        for (authority, signature) in other.signatures.iter() {
            self.signatures.insert(*authority, *signature);
        }
        true
    }

    /// Encodes document and signatures.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 11 + self.signatures.len() * 96);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.bytes);
        self.signatures.encode(&mut bytes);
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
        let generation = reader.u16()?;
        let length = usize::try_from(reader.u32()?).map_err(|_| DecodeError::Truncated)?;
        let document = reader.take(length)?;
        let signatures = Signatures::decode(&mut reader, 1, AUTHORITIES_MAX)?;
        reader.finish()?;
        Ok(Self {
            generation,
            bytes: document.to_vec(),
            signatures,
        })
    }

    /// Verifies: signatures of the set that is in force for its epoch, then form, then all that the reader knows, then
    /// what everyone can compute again.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, chain: &Chain, held: &Held<'_>) -> Result<Consensus, VerifyError> {
        let epoch = Consensus::peek_epoch(&self.bytes)?;
        let strange = VerifyError::Generation(self.generation);
        let set = chain.at(epoch).ok_or(strange)?;
        if set.generation != self.generation {
            return Err(strange);
        }
        let authorities = set.authorities()?;
        let quorum = authorities.quorum();
        let valid = self.signers(&authorities, chain.network(), epoch).len();
        if valid < quorum {
            return Err(VerifyError::Signatures { valid, quorum });
        }
        let consensus = Consensus::decode(&self.bytes)?;
        self.check_head(&consensus, chain)?;
        check_held(&consensus, &authorities, chain, held)?;
        consensus.recompute(&authorities)?;
        Ok(consensus)
    }

    /// Which of these authorities signed it for `epoch` of `network`, ascending.
    pub fn signers(
        &self,
        authorities: &Authorities,
        network: &[u8; 16],
        epoch: u32,
    ) -> Vec<[u8; 32]> {
        let message = message(network, epoch, &self.digest());
        let valid = self.signatures.iter().filter(|(authority, signature)| {
            authorities.keys().binary_search(authority).is_ok()
                && identity::verify(authority, CONTEXT, &message, signature)
        });
        valid.map(|(authority, _)| *authority).collect()
    }

    fn check_head(&self, consensus: &Consensus, chain: &Chain) -> Result<(), VerifyError> {
        let head = consensus.head();
        if head.network != *chain.network() {
            return Err(VerifyError::Network);
        }
        if head.generation != self.generation {
            return Err(VerifyError::Generation(head.generation));
        }
        let epochs = |of: &crate::Parameters| (of.genesis_unix_ms, of.epoch_ms);
        match epochs(&head.parameters) == epochs(chain.parameters()) {
            true => Ok(()),
            false => Err(VerifyError::Epochs),
        }
    }
}

fn check_held(
    consensus: &Consensus,
    authorities: &Authorities,
    chain: &Chain,
    held: &Held<'_>,
) -> Result<(), VerifyError> {
    let epoch = consensus.epoch();
    if let Some(now) = held.now
        && epoch > now.saturating_add(1)
    {
        return Err(VerifyError::Early { epoch, now });
    }
    let mut of_epoch = held.documents.iter().filter(|one| one.epoch() == epoch);
    if of_epoch.any(|one| one.digest() != consensus.digest()) {
        return Err(VerifyError::Equivocation(epoch));
    }
    if let Some(have) = held.newer_than
        && epoch <= have
    {
        return Err(VerifyError::RolledBack { epoch, have });
    }
    let earlier = held.documents.iter().filter(|one| one.epoch() < epoch);
    let Some(before) = earlier.max_by_key(|one| one.epoch()) else {
        return Ok(());
    };
    let previous = consensus.head().previous;
    if previous == before.as_previous() {
        let old = chain.generation(before.head().generation);
        let old = old.ok_or(VerifyError::Generation(before.head().generation))?;
        consensus.follows(before, [authorities, &old.authorities()?])?;
        return Ok(());
    }
    // One between them that is not held is no contradiction.
    match consensus.head().is_first() || previous.epoch <= before.epoch() {
        true => Err(VerifyError::Previous {
            epoch,
            held: before.epoch(),
        }),
        false => Ok(()),
    }
}
