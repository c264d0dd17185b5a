//! Who the authorities are, and how that changes: a chain of sets from the network's founding on.
//!
//! Encoding of a set: `"FXA1" | network id 16, zero in generation 0 | generation 2 | first epoch 4 | parameters 25, in
//! generation 0 alone | member count 1 | each (key 32 | URL length 1 + ASCII), ascending by key | signature count 1 |
//! each (key 32 | signature 64), ascending`, signed over a context and everything before the signatures. A chain is
//! `count 2 | each (length 2 | set)`.

use std::net::IpAddr;

use crate::epoch::Parameters;
use crate::identity::{self, Identity};
use crate::signatures::Signatures;
use crate::signed::{AUTHORITIES_MAX, Authorities};
use crate::wire::{DecodeError, Reader};

/// Longest URL of an authority, bytes.
pub const URL_BYTES_MAX: usize = 96;
/// Most sets of a chain.
pub const GENERATIONS_MAX: usize = 64;
/// Most signatures of a set: of every key of it and of the set before.
const SIGNATURES_MAX: usize = 2 * AUTHORITIES_MAX;
/// Largest encoded and signed set.
pub const SET_BYTES_MAX: usize =
    4 + 16 + 2 + 4 + 25 + 1 + AUTHORITIES_MAX * (33 + URL_BYTES_MAX) + 1 + SIGNATURES_MAX * 96;
/// Largest encoded chain.
pub const CHAIN_BYTES_MAX: usize = 2 + GENERATIONS_MAX * (2 + SET_BYTES_MAX);

const MAGIC: &[u8; 4] = b"FXA1";
const CONTEXT: &[u8; 32] = b"fogmix authority set, version 1\0";
const NETWORK: &str = "fogmix network v1";

/// One authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// Where nodes and the other authorities reach it: `http://` or `https://`, printable ASCII.
    pub url: String,
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
        let is_here = |member: &Member| host_of(&member.url).is_some_and(is_loopback);
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
            bytes.push(u8::try_from(member.url.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(member.url.as_bytes());
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
                let key = reader.array()?;
                let url = decode_url(reader)?;
                Ok(Member { key, url })
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

/// The host that a URL names; an IPv6 address without its brackets.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let host_and_port = rest.split(['/', '?', '#']).next()?;
    if let Some(address) = host_and_port.strip_prefix('[') {
        return address.split(']').next();
    }
    host_and_port.split(':').next()
}

/// Whether a host is always the one that asks.
fn is_loopback(host: &str) -> bool {
    let named = host.eq_ignore_ascii_case("localhost");
    named || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn decode_url(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    const WHAT: &str = "authority URL";
    let length = reader.count(1, URL_BYTES_MAX, WHAT)?;
    let bytes = reader.take(length)?;
    let plain = bytes.iter().all(|byte| (0x21..0x7f).contains(byte));
    let url = String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Field(WHAT))?;
    let host = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    match host {
        Some(host) if plain && !host.is_empty() => Ok(url),
        _ => Err(DecodeError::Field(WHAT)),
    }
}

impl SignedSet {
    /// A proposal without a signature.
    ///
    /// # Errors
    /// A field out of its bounds.
    pub fn propose(set: AuthoritySet) -> Result<SignedSet, DecodeError> {
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

/// Every set of a network from its founding to the newest one held; each is vouched for by the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    network: [u8; 16],
    parameters: Parameters,
    sets: Vec<SignedSet>,
}

impl Chain {
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

#[cfg(test)]
mod tests;
