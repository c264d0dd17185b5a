//! A node as a consensus lists it.

use std::net::SocketAddr;

use crate::descriptor::{
    Descriptor, FLAG_LEAVING, FLAG_PAUSED, LinkKey, Role, VRF_PROOF_BYTES, WHO_BYTES_MAX,
    put_no_services, put_who, read_no_services, read_who,
};
use crate::wire::{DecodeError, Reader, put_optional};

/// The layer of nodes that are listed and carry nothing: mixes that are new or without a valid proof, and whoever leaves
/// or is paused.
pub const WAITING: u8 = 255;
/// Largest encoded record.
pub const RECORD_BYTES_MAX: usize =
    1 + 32 + WHO_BYTES_MAX + 32 + 4 + 32 + 4 + 1 + (1 + VRF_PROOF_BYTES) + 1;

/// What a consensus says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 0 for gateways, 1 to the number of layers for mixes, [`WAITING`] for who carries nothing.
    pub layer: u8,
    /// Ed25519 identity key: the node's name.
    pub identity: [u8; 32],
    /// Mix or gateway.
    pub role: Role,
    /// Who runs the node. Nodes of one operator never share a path.
    pub operator: String,
    /// Where the node receives datagrams; 1 or 2, the first preferred.
    pub addresses: Vec<SocketAddr>,
    /// Keys of the link handshake.
    pub link: LinkKey,
    /// Sphinx key of the consensus' epoch.
    pub epoch_key: [u8; 32],
    /// Weight in path selection, packets a second; not 0.
    pub weight: u32,
    /// Key of the verifiable random function.
    pub vrf_key: [u8; 32],
    /// Epoch of the first document in an unbroken row that lists this VRF key; the row begins anew where
    /// [`crate::Consensus::vrf_since`] says.
    pub vrf_since: u32,
    /// [`FLAG_LEAVING`], [`FLAG_PAUSED`], no other bit.
    pub flags: u8,
    /// A mix' proof over [`crate::beacon::layer_input`].
    pub vrf_proof: Option<[u8; VRF_PROOF_BYTES]>,
}

impl Record {
    /// The record of a node that is new to the network, waiting for its place: what does not follow from `descriptor` is
    /// for the caller to fill in. None without a key of `epoch`.
    pub fn new(descriptor: &Descriptor, epoch: u32) -> Option<Record> {
        Some(Record {
            layer: WAITING,
            identity: descriptor.identity,
            role: descriptor.role,
            operator: descriptor.operator.clone(),
            addresses: descriptor.addresses.clone(),
            link: descriptor.link.clone(),
            epoch_key: *descriptor.key_at(epoch)?,
            weight: descriptor.capacity_pps,
            vrf_key: descriptor.vrf_key,
            vrf_since: epoch,
            flags: descriptor.flags,
            vrf_proof: descriptor.vrf_proof,
        })
    }

    /// Whether it is a mix' and has no proof, so that the mix has no place.
    pub fn withholds(&self) -> bool {
        self.role == Role::Mix && self.vrf_proof.is_none()
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.layer);
        bytes.extend_from_slice(&self.identity);
        put_who(
            bytes,
            self.role,
            &self.operator,
            &self.addresses,
            &self.link,
        );
        bytes.extend_from_slice(&self.epoch_key);
        bytes.extend_from_slice(&self.weight.to_be_bytes());
        bytes.extend_from_slice(&self.vrf_key);
        bytes.extend_from_slice(&self.vrf_since.to_be_bytes());
        bytes.push(self.flags);
        put_optional(bytes, self.vrf_proof.as_ref().map(<[u8; 80]>::as_slice));
        put_no_services(bytes);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Record, DecodeError> {
        let layer = reader.u8()?;
        let identity = reader.array()?;
        let (role, operator, addresses, link) = read_who(reader)?;
        let epoch_key = reader.array()?;
        let weight = reader.u32()?;
        if weight == 0 {
            return Err(DecodeError::Field("weight"));
        }
        let vrf_key = reader.array()?;
        let vrf_since = reader.u32()?;
        let flags = reader.u8()?;
        if flags & !(FLAG_LEAVING | FLAG_PAUSED) != 0 {
            return Err(DecodeError::Field("flags"));
        }
        let vrf_proof = reader.optional("VRF proof flag")?;
        read_no_services(reader)?;
        Ok(Record {
            layer,
            identity,
            role,
            operator,
            addresses,
            link,
            epoch_key,
            weight,
            vrf_key,
            vrf_since,
            flags,
            vrf_proof,
        })
    }
}
