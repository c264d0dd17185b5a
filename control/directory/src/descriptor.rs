//! What a node says of itself, signed with its identity key.
//!
//! Encoding: `"FXD2" | network id 16 | identity 32 | body | signature 64`, the signature over a context and everything
//! before it. The body is `role 1 | operator length 1 + ASCII | addresses count 1 + each (family 1 | ip 4 or 16 | port
//! 2) | link X25519 32 | link ML-KEM-768 1184 | epoch keys count 1 + each (epoch 4 | key 32), of epochs that follow each
//! other | capacity 4 | VRF key 32 | VRF proof flag 1 + 80 | flags 1 | services flag 1, 0 | published 8`.

use core::ops::Deref;
use std::net::SocketAddr;

use crate::identity::{AuthorError, Authorship, Identity};
use crate::wire::{ADDRESS_BYTES_MAX, DecodeError, Reader, put_address, put_count, put_optional};

/// Longest operator name in bytes.
pub const OPERATOR_BYTES_MAX: usize = 64;
/// Most addresses a node announces: one IPv4, one IPv6.
pub const ADDRESSES_MAX: usize = 2;
/// Most epoch keys a descriptor carries: of the epoch that it is meant for and the one after.
pub const EPOCH_KEYS_MAX: usize = 2;
/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203).
pub const KEM_KEY_BYTES: usize = 1_184;
/// Bytes of an ECVRF-EDWARDS25519 proof (RFC 9381).
pub const VRF_PROOF_BYTES: usize = 80;
/// Role, operator, addresses and link keys.
pub(crate) const WHO_BYTES_MAX: usize =
    1 + (1 + OPERATOR_BYTES_MAX) + (1 + ADDRESSES_MAX * ADDRESS_BYTES_MAX) + 32 + KEM_KEY_BYTES;
const BODY_BYTES_MAX: usize =
    WHO_BYTES_MAX + (1 + EPOCH_KEYS_MAX * 36) + 4 + 32 + (1 + VRF_PROOF_BYTES) + 1 + 1 + 8;
/// Largest encoded and signed descriptor.
pub const DESCRIPTOR_BYTES_MAX: usize = 4 + 16 + 32 + BODY_BYTES_MAX + 64;

/// The node is on its way out: it keeps its place in the list and carries nothing.
pub const FLAG_LEAVING: u8 = 1;
/// The authorities' operators have paused the node. Never in a descriptor.
pub const FLAG_PAUSED: u8 = 2;

const AUTHORSHIP: Authorship = Authorship {
    magic: b"FXD2",
    context: b"fogmix descriptor, version 2\0\0\0\0",
    key_offset: 4 + 16,
    bytes_max: DESCRIPTOR_BYTES_MAX,
};

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Forwards packets inside one layer.
    Mix,
    /// Takes clients; first and last hop of their packets.
    Gateway,
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Role::Mix => "mix",
            Role::Gateway => "gateway",
        })
    }
}

/// Public keys of a node's link handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkKey {
    /// Static X25519 public key.
    pub x25519: [u8; 32],
    /// ML-KEM-768 encapsulation key.
    pub kem: Box<[u8; KEM_KEY_BYTES]>,
}

impl core::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LinkKey")
            .field("x25519", &self.x25519)
            .finish_non_exhaustive()
    }
}

/// The Sphinx public key of a node for one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochKey {
    /// The epoch whose packets are wrapped with this key.
    pub epoch: u32,
    /// X25519 public key.
    pub public_key: [u8; 32],
}

/// A node's self-description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Which network it means to be in.
    pub network: [u8; 16],
    /// Ed25519 identity key: the node's name.
    pub identity: [u8; 32],
    /// Mix or gateway.
    pub role: Role,
    /// Who runs the node, 1 to 64 printable ASCII bytes. Nodes of one operator never share a path.
    pub operator: String,
    /// Where the node receives datagrams; 1 or 2, the first preferred.
    pub addresses: Vec<SocketAddr>,
    /// Keys of the link handshake.
    pub link: LinkKey,
    /// Sphinx keys: of the epoch whose document it is meant for, and optionally of the one after.
    pub epoch_keys: Vec<EpochKey>,
    /// What the node can forward, packets a second; not 0.
    pub capacity_pps: u32,
    /// Key of the verifiable random function that orders the dealing.
    pub vrf_key: [u8; 32],
    /// Its proof over [`crate::beacon::layer_input`] for the first epoch key's epoch.
    pub vrf_proof: Option<[u8; VRF_PROOF_BYTES]>,
    /// [`FLAG_LEAVING`], no other bit.
    pub flags: u8,
    /// When the node wrote this, milliseconds since the Unix epoch; the newest counts.
    pub published_unix_ms: u64,
}

/// A descriptor as its node signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDescriptor {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    /// Asked for far more often than it is made: by everyone who looks for a descriptor among thousands.
    digest: [u8; 32],
}

impl Deref for SignedDescriptor {
    type Target = Descriptor;
    fn deref(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// Why a descriptor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Not the canonical encoding of a descriptor.
    #[error("malformed descriptor: {0}")]
    Decode(#[from] DecodeError),
    /// Not signed by the identity it names.
    #[error("descriptor is not signed by its identity")]
    Signature,
    /// The signing key is not the identity in the descriptor.
    #[error("descriptor names another identity than the key that signs it")]
    Identity,
}

impl From<AuthorError> for DescriptorError {
    fn from(error: AuthorError) -> Self {
        match error {
            AuthorError::Decode(error) => Self::Decode(error),
            AuthorError::Signature => Self::Signature,
        }
    }
}

impl Descriptor {
    /// The Sphinx public key for `epoch`.
    pub fn key_at(&self, epoch: u32) -> Option<&[u8; 32]> {
        self.epoch_keys
            .iter()
            .find(|key| key.epoch == epoch)
            .map(|key| &key.public_key)
    }

    /// Whether it was made for the document of `epoch`: its proof is over that one's beacon.
    pub fn is_for(&self, epoch: u32) -> bool {
        self.epoch_keys
            .first()
            .is_some_and(|key| key.epoch == epoch)
    }

    /// Encodes and signs.
    ///
    /// # Errors
    /// A field out of its bounds, or `identity` is not this descriptor's.
    pub fn sign(self, identity: &Identity) -> Result<SignedDescriptor, DescriptorError> {
        if identity.public() != self.identity {
            return Err(DescriptorError::Identity);
        }
        let bytes = self.encode();
        // The decoder is the one place that knows the bounds.
        if Self::decode(&bytes)? != self {
            return Err(DecodeError::Field("descriptor").into());
        }
        Ok(SignedDescriptor::new(
            self,
            AUTHORSHIP.sign(bytes, identity),
        ))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DESCRIPTOR_BYTES_MAX);
        bytes.extend_from_slice(AUTHORSHIP.magic);
        bytes.extend_from_slice(&self.network);
        bytes.extend_from_slice(&self.identity);
        put_who(
            &mut bytes,
            self.role,
            &self.operator,
            &self.addresses,
            &self.link,
        );
        put_count(&mut bytes, self.epoch_keys.len());
        for key in &self.epoch_keys {
            bytes.extend_from_slice(&key.epoch.to_be_bytes());
            bytes.extend_from_slice(&key.public_key);
        }
        bytes.extend_from_slice(&self.capacity_pps.to_be_bytes());
        bytes.extend_from_slice(&self.vrf_key);
        put_optional(
            &mut bytes,
            self.vrf_proof.as_ref().map(<[u8; 80]>::as_slice),
        );
        bytes.push(self.flags);
        put_no_services(&mut bytes);
        bytes.extend_from_slice(&self.published_unix_ms.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.magic(AUTHORSHIP.magic)?;
        let (network, identity) = (reader.array()?, reader.array()?);
        let (role, operator, addresses, link) = read_who(&mut reader)?;
        let epoch_keys = decode_epoch_keys(&mut reader)?;
        let capacity_pps = reader.u32()?;
        if capacity_pps == 0 {
            return Err(DecodeError::Field("capacity"));
        }
        let vrf_key = reader.array()?;
        let vrf_proof = reader.optional("VRF proof flag")?;
        let flags = reader.u8()?;
        if flags & !FLAG_LEAVING != 0 {
            return Err(DecodeError::Field("flags"));
        }
        read_no_services(&mut reader)?;
        let published_unix_ms = reader.u64()?;
        reader.finish()?;
        Ok(Self {
            network,
            identity,
            role,
            operator,
            addresses,
            link,
            epoch_keys,
            capacity_pps,
            vrf_key,
            vrf_proof,
            flags,
            published_unix_ms,
        })
    }
}

impl SignedDescriptor {
    /// Verifies and decodes what [`Descriptor::sign`] made: size, then signature, then fields.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let message = AUTHORSHIP.open(bytes)?;
        let descriptor = Descriptor::decode(message)?;
        Ok(Self::new(descriptor, bytes.to_vec()))
    }

    fn new(descriptor: Descriptor, bytes: Vec<u8>) -> Self {
        let digest = *blake3::hash(&bytes).as_bytes();
        Self {
            descriptor,
            bytes,
            digest,
        }
    }

    /// Whose descriptor bytes claim to be, before anything is verified.
    pub fn claimed_identity(bytes: &[u8]) -> Option<[u8; 32]> {
        let at = AUTHORSHIP.key_offset;
        let key = bytes.get(at..at.checked_add(32)?)?;
        key.try_into().ok()
    }

    /// What it says.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// BLAKE3 of its bytes, signature included: what votes name.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

pub(crate) fn put_who(
    bytes: &mut Vec<u8>,
    role: Role,
    operator: &str,
    addresses: &[SocketAddr],
    link: &LinkKey,
) {
    bytes.push(match role {
        Role::Mix => 1,
        Role::Gateway => 2,
    });
    put_count(bytes, operator.len());
    bytes.extend_from_slice(operator.as_bytes());
    put_count(bytes, addresses.len());
    for address in addresses {
        put_address(bytes, address);
    }
    bytes.extend_from_slice(&link.x25519);
    bytes.extend_from_slice(link.kem.as_slice());
}

/// Who a node is, beside its identity.
type Who = (Role, String, Vec<SocketAddr>, LinkKey);

pub(crate) fn read_who(reader: &mut Reader<'_>) -> Result<Who, DecodeError> {
    let role = match reader.u8()? {
        1 => Role::Mix,
        2 => Role::Gateway,
        _ => return Err(DecodeError::Field("role")),
    };
    let operator = decode_operator(reader)?;
    let addresses = decode_addresses(reader)?;
    let x25519 = reader.array()?;
    let kem = Box::new(reader.array()?);
    Ok((role, operator, addresses, LinkKey { x25519, kem }))
}

/// No node offers a service yet: the flag's place is kept, and it is 0.
pub(crate) fn put_no_services(bytes: &mut Vec<u8>) {
    bytes.push(0);
}

pub(crate) fn read_no_services(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    const WHAT: &str = "services flag";
    match reader.flag(WHAT)? {
        false => Ok(()),
        true => Err(DecodeError::Field(WHAT)),
    }
}

fn decode_operator(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    const WHAT: &str = "operator";
    let length = reader.count(1, OPERATOR_BYTES_MAX, WHAT)?;
    let bytes = reader.take(length)?;
    // Printable ASCII alone: two names that look the same are the same, and no terminal is steered.
    if !bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        return Err(DecodeError::Field(WHAT));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Field(WHAT))
}

fn decode_addresses(reader: &mut Reader<'_>) -> Result<Vec<SocketAddr>, DecodeError> {
    const WHAT: &str = "addresses";
    let count = reader.count(1, ADDRESSES_MAX, WHAT)?;
    let addresses: Vec<_> = (0..count)
        .map(|_| reader.address())
        .collect::<Result<_, _>>()?;
    // Two addresses must be of the two families: then each has one prefix to compare.
    match addresses.as_slice() {
        [first, second] if first.is_ipv4() == second.is_ipv4() => Err(DecodeError::Field(WHAT)),
        _ => Ok(addresses),
    }
}

fn decode_epoch_keys(reader: &mut Reader<'_>) -> Result<Vec<EpochKey>, DecodeError> {
    const WHAT: &str = "epoch keys";
    let count = reader.count(1, EPOCH_KEYS_MAX, WHAT)?;
    let keys: Vec<EpochKey> = (0..count)
        .map(|_| {
            Ok(EpochKey {
                epoch: reader.u32()?,
                public_key: reader.array()?,
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    match keys.as_slice() {
        [first, second] if first.epoch.checked_add(1) != Some(second.epoch) => {
            Err(DecodeError::Field(WHAT))
        }
        _ => Ok(keys),
    }
}
