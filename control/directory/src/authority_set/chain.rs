//! The chain of authority sets: each is vouched for by the one before.

use std::net::SocketAddr;

use super::{AuthoritySet, CHAIN_BYTES_MAX, GENERATIONS_MAX, Member, SetError, SignedSet};
use crate::epoch::Parameters;
use crate::identity::Identity;
use crate::wire::{DecodeError, Reader};

const NETWORK: &str = "fogmix network v1";

/// Every set of a network from its founding to the newest one held; each is vouched for by the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    network: [u8; 16],
    parameters: Parameters,
    sets: Vec<SignedSet>,
}

impl Chain {
    /// A network that these authorities, at these addresses, found together: where one hand has all their keys.
    ///
    /// # Errors
    /// A parameter out of its bounds; too few or too many authorities, or one twice.
    pub fn founded_by(
        parameters: Parameters,
        authorities: &[(&Identity, SocketAddr)],
    ) -> Result<Chain, SetError> {
        let members = authorities.iter().map(|(key, address)| Member {
            key: key.public(),
            address: *address,
        });
        let mut founding = SignedSet::founding(parameters, members.collect())?;
        for (key, _) in authorities {
            founding.sign(key);
        }
        Chain::found(founding)
    }

    /// A network that is founded by this set; all its members have signed.
    ///
    /// # Errors
    /// It is no founding set, or somebody did not sign.
    pub fn found(founding: SignedSet) -> Result<Chain, SetError> {
        let Some(parameters) = founding.set.parameters else {
            let generation = founding.set.generation;
            return Err(SetError::Generation {
                generation,
                held: 0,
            });
        };
        let signers: Vec<_> = founding.signers()?.collect();
        let members = founding.set.members.iter().map(|member| &member.key);
        if !members.clone().all(|key| signers.contains(&key)) {
            return Err(SetError::NewMember);
        }
        if signers.len() != members.count() {
            return Err(SetError::Signature);
        }
        let mut network = [0; 16];
        let digest = blake3::derive_key(NETWORK, &founding.bytes);
        network
            .iter_mut()
            .zip(digest)
            .for_each(|(to, from)| *to = from);
        Ok(Chain {
            network,
            parameters,
            sets: vec![founding],
        })
    }

    /// Which network it is.
    pub fn network(&self) -> &[u8; 16] {
        &self.network
    }

    /// The network's parameters at its founding; genesis and length of an epoch never change.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The sets, oldest first.
    pub fn sets(&self) -> &[SignedSet] {
        &self.sets
    }

    /// The set whose signatures make the document of `epoch`: the newest that has begun by then.
    pub fn at(&self, epoch: u32) -> Option<&AuthoritySet> {
        let begun = |signed: &&SignedSet| signed.set.first_epoch <= epoch;
        self.sets.iter().rev().find(begun).map(SignedSet::set)
    }

    /// Whether it begins with all sets of `held`: the same network, and nothing forgotten.
    pub fn continues(&self, held: &Chain) -> bool {
        let own = self.sets.iter().map(|set| &set.bytes);
        let mut both = own.zip(held.sets.iter().map(|set| &set.bytes));
        self.sets.len() >= held.sets.len() && both.all(|(own, held)| own == held)
    }

    /// A set by its generation.
    pub fn generation(&self, generation: u16) -> Option<&AuthoritySet> {
        let signed = self.sets.get(usize::from(generation));
        signed.map(SignedSet::set)
    }

    /// A proposal of the set that follows the newest one, in force from `first_epoch` on, in any order of its members: for
    /// more than half of the newest set to sign, and all that are new.
    ///
    /// # Errors
    /// A field out of its bounds.
    pub fn propose(
        &self,
        first_epoch: u32,
        mut members: Vec<Member>,
    ) -> Result<SignedSet, DecodeError> {
        members.sort_unstable_by_key(|member| member.key);
        let newest = self.sets.last().map_or(0, |last| last.set.generation);
        SignedSet::propose(AuthoritySet {
            network: self.network,
            generation: newest.saturating_add(1),
            first_epoch,
            parameters: None,
            members,
        })
    }

    /// Takes the next set up. One that is held already is no error and changes nothing.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn extend(&mut self, next: SignedSet) -> Result<(), SetError> {
        let generation = next.set.generation;
        if let Some(held) = self.sets.get(usize::from(generation)) {
            return match held.bytes == next.bytes {
                true => Ok(()),
                false => Err(SetError::Equivocation(generation)),
            };
        }
        let Some(last) = self.sets.last() else {
            return Err(SetError::Network); // Not reached: a chain begins with its founding set.
        };
        let held = last.set.generation;
        if Some(generation) != held.checked_add(1) {
            return Err(SetError::Generation { generation, held });
        }
        if self.sets.len() >= GENERATIONS_MAX {
            return Err(SetError::TooMany);
        }
        if next.set.network != self.network {
            return Err(SetError::Network);
        }
        let (first_epoch, held) = (next.set.first_epoch, last.set.first_epoch);
        if first_epoch <= held {
            return Err(SetError::FirstEpoch { first_epoch, held });
        }
        let has = |set: &AuthoritySet, key: &[u8; 32]| {
            set.members.iter().any(|member| member.key == *key)
        };
        let signers: Vec<_> = next.signers()?.collect();
        if !signers
            .iter()
            .all(|key| has(&last.set, key) || has(&next.set, key))
        {
            return Err(SetError::Signature);
        }
        let valid = signers.iter().filter(|key| has(&last.set, key)).count();
        let quorum = last.set.authorities()?.quorum();
        if valid < quorum {
            return Err(SetError::Signatures { valid, quorum });
        }
        let mut members = next.set.members.iter().map(|member| &member.key);
        if !members
            .clone()
            .all(|key| has(&last.set, key) || signers.contains(&key))
        {
            return Err(SetError::NewMember);
        }
        if !members.any(|key| has(&last.set, key)) {
            return Err(SetError::NobodyStays);
        }
        self.sets.push(next);
        Ok(())
    }

    /// Encodes the whole chain.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = u16::try_from(self.sets.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes()
            .to_vec();
        for set in &self.sets {
            let set = set.encode();
            bytes.extend_from_slice(&u16::try_from(set.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(&set);
        }
        bytes
    }

    /// Decodes and checks every link of a chain.
    ///
    /// # Errors
    /// The first rule that a set breaks.
    pub fn decode(bytes: &[u8]) -> Result<Chain, SetError> {
        let limit_bytes = CHAIN_BYTES_MAX;
        if bytes.len() > limit_bytes {
            return Err(DecodeError::TooLarge { limit_bytes }.into());
        }
        let mut reader = Reader::new(bytes);
        let chain = Chain::read(&mut reader)?;
        reader.finish()?;
        Ok(chain)
    }

    /// The same from the front of a longer document.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Chain, SetError> {
        let count = reader.u16()?;
        let mut next = || -> Result<SignedSet, SetError> {
            let length = usize::from(reader.u16()?);
            Ok(SignedSet::decode(reader.take(length)?)?)
        };
        let mut chain = Chain::found(next()?)?;
        for position in 1..count {
            let set = next()?;
            // A set that stands twice would be a second encoding.
            if set.set.generation != position {
                let generation = set.set.generation;
                let held = position - 1;
                return Err(SetError::Generation { generation, held });
            }
            chain.extend(set)?;
        }
        Ok(chain)
    }
}
