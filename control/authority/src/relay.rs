//! How votes reach everyone alike: broadcast with relayed signatures (Dolev and Strong, "Authenticated algorithms for
//! Byzantine agreement", SIAM J. Computing 12(4), 1983), in three rounds.
//!
//! With at most f = n − ⌊n/2⌋ − 1 authorities faulty (n ≤ 5, so f ≤ 2) and messages in time, all honest ones end with
//! the same vote of each author, or all without: in round r a vote counts only with r signatures, so one that is taken
//! up in the last round passed through an honest authority before, which had sent it to all.
//!
//! A relayed vote is `"FXN1" | vote length 4 | vote | count 1 | each (authority 32 | signature 64), ascending`; each
//! signs, over a context, the digest of the vote's bytes.

use std::collections::BTreeMap;

use directory::signatures::Signatures;
use directory::wire::{DecodeError, Reader};
use directory::{AUTHORITIES_MAX, Authorities, Identity, verify_signature};

use crate::vote::{SignedVote, VOTE_BYTES_MAX, VoteError};

/// Rounds of relaying: one more than faults are tolerated among [`AUTHORITIES_MAX`].
pub const ROUNDS: u8 = 3;
/// Largest relayed vote.
pub const RELAYED_BYTES_MAX: usize = 4 + 4 + VOTE_BYTES_MAX + 1 + AUTHORITIES_MAX * 96;

const MAGIC: &[u8; 4] = b"FXN1";
const CONTEXT: &[u8; 32] = b"fogmix relayed vote, version 1\0\0";

/// A vote and those who passed it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedVote {
    vote: SignedVote,
    /// All of them verify.
    signatures: Signatures,
}

/// Why a relayed vote is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// The vote inside is not sound.
    #[error(transparent)]
    Vote(#[from] VoteError),
    /// A signature does not verify.
    #[error("a relay signature is not valid")]
    Signature,
    /// By somebody, or of an authority set, that is not known here: a newer set may be on its way.
    #[error("the vote is of an authority or authority set that is not known here")]
    Unknown,
    /// Of another network or epoch, or of an authority set that is over.
    #[error("the vote is of another network, authority set or epoch")]
    Elsewhere,
    /// Its author is not among those who passed it on.
    #[error("the vote does not carry its author's relay signature")]
    Author,
    /// Too few passed it on for this round.
    #[error("the vote has {signatures} relay signatures and came in round {round}")]
    Late {
        /// How many it has.
        signatures: usize,
        /// The round it came in.
        round: u8,
    },
    /// The rounds are over.
    #[error("the vote came after the last round")]
    Over,
}

impl RelayedVote {
    /// Encodes.
    pub fn encode(&self) -> Vec<u8> {
        encode_parts(self.vote.bytes(), &self.signatures)
    }

    /// Verifies and decodes: size and form, then the relay signatures, all by members of the set, then the vote.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(bytes: &[u8], authorities: &Authorities) -> Result<RelayedVote, RelayError> {
        let limit_bytes = RELAYED_BYTES_MAX;
        if bytes.len() > limit_bytes {
            return Err(VoteError::from(DecodeError::TooLarge { limit_bytes }).into());
        }
        let (vote, signatures) = split(bytes).map_err(VoteError::from)?;
        let is_known = |key: &[u8; 32]| authorities.keys().binary_search(key).is_ok();
        if !signatures.iter().all(|(authority, _)| is_known(authority)) {
            return Err(RelayError::Unknown);
        }
        let digest = *blake3::hash(vote).as_bytes();
        let holds = |(authority, signature): (&[u8; 32], &[u8; 64])| {
            verify_signature(authority, CONTEXT, &digest, signature)
        };
        if !signatures.iter().all(holds) {
            return Err(RelayError::Signature);
        }
        Ok(RelayedVote {
            vote: SignedVote::verify(vote)?,
            signatures,
        })
    }

    /// The epoch that a relayed vote says it is about, unverified.
    ///
    /// # Errors
    /// Not the form of a relayed vote.
    pub fn peek_epoch(bytes: &[u8]) -> Result<u32, RelayError> {
        let (vote, _) = split(bytes).map_err(VoteError::from)?;
        let epoch = SignedVote::peek_epoch(vote).map_err(VoteError::from)?;
        Ok(epoch)
    }

    /// The vote.
    pub fn vote(&self) -> &SignedVote {
        &self.vote
    }

    fn countersigned(mut self, key: &Identity) -> RelayedVote {
        let signature = key.sign(CONTEXT, &self.vote.digest());
        self.signatures.insert(key.public(), signature);
        self
    }
}

pub(crate) fn encode_parts(vote: &[u8], signatures: &Signatures) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + vote.len() + signatures.len() * 96);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(vote.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(vote);
    signatures.encode(&mut bytes);
    bytes
}

/// A vote's bytes and the signatures of those who passed it on.
pub(crate) fn split(bytes: &[u8]) -> Result<(&[u8], Signatures), DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.magic(MAGIC)?;
    let length = usize::try_from(reader.u32()?).map_err(|_| DecodeError::Truncated)?;
    let vote = reader.take(length)?;
    let signatures = Signatures::decode(&mut reader, 1, AUTHORITIES_MAX)?;
    reader.finish()?;
    Ok((vote, signatures))
}

/// What one authority makes of the votes of an epoch.
#[derive(Debug)]
pub struct Relay {
    authorities: Authorities,
    network: [u8; 16],
    generation: u16,
    epoch: u32,
    /// By author the first two different ones; two are evidence, and more would say nothing new.
    taken: BTreeMap<[u8; 32], Vec<SignedVote>>,
}

/// What the rounds ended with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The votes that count, by author.
    pub votes: Vec<SignedVote>,
    /// Of each author that signed two, the two: neither counts.
    pub evidence: Vec<[SignedVote; 2]>,
}

impl Relay {
    /// Takes in votes of this set of authorities about the document of `epoch`.
    pub fn new(authorities: Authorities, network: [u8; 16], generation: u16, epoch: u32) -> Relay {
        Relay {
            authorities,
            network,
            generation,
            epoch,
            taken: BTreeMap::new(),
        }
    }

    /// This authority's own vote, ready to be sent to all others.
    ///
    /// # Errors
    /// It is not of this set, network and epoch.
    pub fn begin(&mut self, vote: SignedVote, key: &Identity) -> Result<RelayedVote, RelayError> {
        let signatures = Signatures::default();
        let own = RelayedVote { vote, signatures }.countersigned(key);
        self.take(1, own.clone(), key)?;
        Ok(own)
    }

    /// A vote that came in `round` (1 to [`ROUNDS`]; what comes before the first counts as of it). Where it is news, what
    /// is to be sent to all others; after the last round there is nobody left to tell.
    ///
    /// # Errors
    /// It does not count.
    pub fn take(
        &mut self,
        round: u8,
        relayed: RelayedVote,
        key: &Identity,
    ) -> Result<Option<RelayedVote>, RelayError> {
        let vote = relayed.vote.vote();
        if self
            .authorities
            .keys()
            .binary_search(&vote.authority)
            .is_err()
        {
            return Err(RelayError::Unknown);
        }
        if (vote.network, vote.epoch) == (self.network, self.epoch)
            && vote.generation > self.generation
        {
            return Err(RelayError::Unknown);
        }
        if (vote.network, vote.generation, vote.epoch)
            != (self.network, self.generation, self.epoch)
        {
            return Err(RelayError::Elsewhere);
        }
        if round > ROUNDS {
            return Err(RelayError::Over);
        }
        let signatures = relayed.signatures.len();
        if !relayed.signatures.contains(&vote.authority) {
            return Err(RelayError::Author);
        }
        if signatures < usize::from(round) {
            return Err(RelayError::Late { signatures, round });
        }
        let taken = self.taken.entry(vote.authority).or_default();
        if taken.len() >= 2 || taken.contains(&relayed.vote) {
            return Ok(None);
        }
        taken.push(relayed.vote.clone());
        Ok((round < ROUNDS).then(|| relayed.countersigned(key)))
    }

    /// Ends the rounds.
    pub fn finish(self) -> Outcome {
        let mut outcome = Outcome::default();
        for votes in self.taken.into_values() {
            match <[SignedVote; 2]>::try_from(votes) {
                Ok(two) => outcome.evidence.push(two),
                Err(one) => outcome.votes.extend(one),
            }
        }
        outcome
    }
}
