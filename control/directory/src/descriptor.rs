//! What a node says of itself, signed with its identity key.
//!
//! Encoding: `"FXD1" | identity 32 | body | signature 64`, the signature over a context and everything
//! before it. The body is `role 1 | operator length 1 + ASCII | addresses count 1 + each (family 1 | ip
//! 4 or 16 | port 2) | link X25519 32 | link ML-KEM-768 1184 | epoch keys count 1 + each (epoch 4 | key
//! 32), ascending | capacity 4 | VRF key 32 | VRF proof flag 1 + 80 | published 8`.

use std::net::SocketAddr;

use crate::identity::{self, Identity};
use crate::wire::{DecodeError, Reader, put_address};

/// Longest operator name in bytes.
pub const OPERATOR_BYTES_MAX: usize = 64;
/// Most addresses a node announces: one IPv4, one IPv6.
pub const ADDRESSES_MAX: usize = 2;
/// Most epoch keys a descriptor carries.
pub const EPOCH_KEYS_MAX: usize = 4;
/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203).
pub const KEM_KEY_BYTES: usize = 1_184;
/// Bytes of an ECVRF-EDWARDS25519 proof (RFC 9381).
pub const VRF_PROOF_BYTES: usize = 80;
const BODY_BYTES_MAX: usize = 1
    + (1 + OPERATOR_BYTES_MAX)
    + (1 + ADDRESSES_MAX * 19)
    + 32
    + KEM_KEY_BYTES
    + (1 + EPOCH_KEYS_MAX * 36)
    + 4
    + 32
    + (1 + VRF_PROOF_BYTES)
    + 8;
/// Largest encoded and signed descriptor.
pub const DESCRIPTOR_BYTES_MAX: usize = 4 + 32 + BODY_BYTES_MAX + 64;

const MAGIC: &[u8; 4] = b"FXD1";
const CONTEXT: &[u8; 32] = b"fogmix descriptor, version 1\0\0\0\0";

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
    /// Sphinx keys of up to four epochs, ascending.
    pub epoch_keys: Vec<EpochKey>,
    /// What the node can forward, packets a second; its weight in path selection.
    pub capacity_pps: u32,
    /// Key of the verifiable random function that will order the dealing.
    pub vrf_key: [u8; 32],
    /// Proof on the beacon, once the network asks for one.
    pub vrf_proof: Option<[u8; VRF_PROOF_BYTES]>,
    /// When the node wrote this, milliseconds since the Unix epoch; the newest counts.
    pub published_unix_ms: u64,
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

impl Descriptor {
    /// The Sphinx public key for `epoch`.
    pub fn key_at(&self, epoch: u32) -> Option<&[u8; 32]> {
        self.epoch_keys
            .iter()
            .find(|key| key.epoch == epoch)
            .map(|key| &key.public_key)
    }

    /// Encodes and signs.
    ///
    /// # Errors
    /// A field out of its bounds, or `identity` is not this descriptor's.
    pub fn sign(&self, identity: &Identity) -> Result<Vec<u8>, DescriptorError> {
        if identity.public() != self.identity {
            return Err(DescriptorError::Identity);
        }
        let mut bytes = Vec::with_capacity(DESCRIPTOR_BYTES_MAX);
        bytes.extend_from_slice(MAGIC);
        self.encode(&mut bytes);
        // The decoder is the one place that knows the bounds.
        let mut reader = Reader::new(&bytes);
        reader.magic(MAGIC)?;
        Self::decode(&mut reader)?;
        reader.finish()?;
        let signature = identity.sign(CONTEXT, &bytes);
        bytes.extend_from_slice(&signature);
        Ok(bytes)
    }

    /// Verifies and decodes what [`Descriptor::sign`] wrote: size, then signature, then fields.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(bytes: &[u8]) -> Result<Self, DescriptorError> {
        if bytes.len() > DESCRIPTOR_BYTES_MAX {
            let limit_bytes = DESCRIPTOR_BYTES_MAX;
            return Err(DecodeError::TooLarge { limit_bytes }.into());
        }
        let (message, signature) = bytes
            .split_last_chunk::<64>()
            .ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(message);
        reader.magic(MAGIC)?;
        let identity = reader.clone().array::<32>()?;
        if !identity::verify(&identity, CONTEXT, message, signature) {
            return Err(DescriptorError::Signature);
        }
        let descriptor = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(descriptor)
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.identity);
        bytes.push(match self.role {
            Role::Mix => 1,
            Role::Gateway => 2,
        });
        put_count(bytes, self.operator.len());
        bytes.extend_from_slice(self.operator.as_bytes());
        put_count(bytes, self.addresses.len());
        for address in &self.addresses {
            put_address(bytes, address);
        }
        bytes.extend_from_slice(&self.link.x25519);
        bytes.extend_from_slice(self.link.kem.as_slice());
        put_count(bytes, self.epoch_keys.len());
        for key in &self.epoch_keys {
            bytes.extend_from_slice(&key.epoch.to_be_bytes());
            bytes.extend_from_slice(&key.public_key);
        }
        bytes.extend_from_slice(&self.capacity_pps.to_be_bytes());
        bytes.extend_from_slice(&self.vrf_key);
        bytes.push(u8::from(self.vrf_proof.is_some()));
        bytes.extend_from_slice(self.vrf_proof.as_ref().map_or(&[], <[u8; 80]>::as_slice));
        bytes.extend_from_slice(&self.published_unix_ms.to_be_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let identity = reader.array()?;
        let role = match reader.u8()? {
            1 => Role::Mix,
            2 => Role::Gateway,
            _ => return Err(DecodeError::Field("role")),
        };
        let operator = decode_operator(reader)?;
        let addresses = decode_addresses(reader)?;
        let x25519 = reader.array()?;
        let kem = Box::new(reader.array()?);
        let epoch_keys = decode_epoch_keys(reader)?;
        let capacity_pps = reader.u32()?;
        if capacity_pps == 0 {
            return Err(DecodeError::Field("capacity"));
        }
        let vrf_key = reader.array()?;
        let vrf_proof = match reader.u8()? {
            0 => None,
            1 => Some(reader.array()?),
            _ => return Err(DecodeError::Field("VRF proof flag")),
        };
        Ok(Self {
            identity,
            role,
            operator,
            addresses,
            link: LinkKey { x25519, kem },
            epoch_keys,
            capacity_pps,
            vrf_key,
            vrf_proof,
            published_unix_ms: reader.u64()?,
        })
    }
}

/// A count over 255 is written as 255, which no decoder accepts: signing such a value fails.
fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.push(u8::try_from(count).unwrap_or(u8::MAX));
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
    if keys.is_sorted_by(|a, b| a.epoch < b.epoch) {
        Ok(keys)
    } else {
        Err(DecodeError::Field(WHAT))
    }
}
