//! The one document of an epoch: parameters, beacon, and every node with its place.
//!
//! Encoding: `"FXC1" | parameters 25 | epoch 4 | beacon 32 | node count 2 | each node (layer 1 |
//! descriptor fields)`. Nodes are in ascending order of identity, so an index is a position and no node
//! appears twice.

use core::ops::Deref;

use crate::descriptor::{Descriptor, Role};
use crate::epoch::Parameters;
use crate::wire::{DecodeError, Reader};

/// Most nodes of a network; bounds the document.
pub const NODES_MAX: usize = 2_048;
pub(crate) const MAGIC: &[u8; 4] = b"FXC1";

/// A node's descriptor with its place in the epoch. Dereferences to the [`Descriptor`]; the epoch keys
/// are those of the consensus' epoch and, if known, the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Position in the consensus: what routing blocks name.
    pub index: u16,
    /// 0 for gateways, 1 to the number of layers for mixes.
    pub layer: u8,
    /// What the node said of itself.
    pub descriptor: Descriptor,
}

impl Deref for Node {
    type Target = Descriptor;
    fn deref(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// Nodes of one layer with cumulative capacity, for weighted picks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) members: Vec<u16>,
    /// `cumulative[i]` is the summed capacity of `members[..=i]`.
    pub(crate) cumulative: Vec<u64>,
}

/// A verified document. Immutable once made, so that the layer tables always fit the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consensus {
    parameters: Parameters,
    epoch: u32,
    beacon: [u8; 32],
    nodes: Vec<Node>,
    layers: Vec<Layer>,
}

/// Why nodes do not make a consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// A parameter or a node's field is out of its bounds.
    #[error("{0}")]
    Field(#[from] DecodeError),
    /// Too many nodes.
    #[error("more than {NODES_MAX} nodes")]
    TooMany,
    /// Two nodes with one identity, or nodes out of order.
    #[error("nodes are not in ascending order of identity")]
    Order,
    /// Two nodes name one link key.
    #[error("two nodes have one link key")]
    Duplicate,
    /// A gateway in a layer, or a mix in none.
    #[error("a node's layer does not fit its role")]
    Layer,
    /// A node has no key for this epoch, or keys of epochs that are not its business.
    #[error("a node's epoch keys are not those of this epoch and the next")]
    Keys,
}

impl Consensus {
    /// Puts nodes (layer, descriptor), ascending by identity, into a document.
    ///
    /// # Errors
    /// The first rule the nodes break.
    pub fn new(
        parameters: Parameters,
        epoch: u32,
        beacon: [u8; 32],
        nodes: Vec<(u8, Descriptor)>,
    ) -> Result<Self, ConsensusError> {
        parameters.check()?;
        if nodes.len() > NODES_MAX {
            return Err(ConsensusError::TooMany);
        }
        if !nodes.is_sorted_by(|(_, a), (_, b)| a.identity < b.identity) {
            return Err(ConsensusError::Order);
        }
        // Frames to either would be for whom a table remembers last.
        let mut link_keys: Vec<&[u8; 32]> =
            nodes.iter().map(|(_, node)| &node.link.x25519).collect();
        link_keys.sort_unstable();
        if !link_keys.is_sorted_by(|a, b| a < b) {
            return Err(ConsensusError::Duplicate);
        }
        let mut layers = vec![Layer::default(); usize::from(parameters.layers) + 1];
        let mut placed = Vec::with_capacity(nodes.len());
        for (index, (layer, descriptor)) in (0u16..).zip(nodes) {
            if (layer == 0) != (descriptor.role == Role::Gateway) {
                return Err(ConsensusError::Layer);
            }
            check_keys(&descriptor, epoch)?;
            let table = layers
                .get_mut(usize::from(layer))
                .ok_or(ConsensusError::Layer)?;
            let before = table.cumulative.last().copied().unwrap_or(0);
            table.members.push(index);
            table
                .cumulative
                .push(before + u64::from(descriptor.capacity_pps));
            placed.push(Node {
                index,
                layer,
                descriptor,
            });
        }
        Ok(Self {
            parameters,
            epoch,
            beacon,
            nodes: placed,
            layers,
        })
    }

    /// The network's parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The epoch this document is for.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The epoch's public randomness.
    pub fn beacon(&self) -> &[u8; 32] {
        &self.beacon
    }

    /// All nodes, each at its index.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node a routing block names.
    pub fn node(&self, index: u16) -> Option<&Node> {
        self.nodes.get(usize::from(index))
    }

    /// The node with this identity key.
    pub fn find(&self, identity: &[u8; 32]) -> Option<&Node> {
        let position = self
            .nodes
            .binary_search_by(|node| node.identity.cmp(identity))
            .ok()?;
        self.nodes.get(position)
    }

    /// All gateways, ascending by index.
    pub fn gateways(&self) -> impl Iterator<Item = &Node> {
        self.layer(0)
    }

    /// The nodes of a layer (0: gateways), ascending by index; none for a layer that does not exist.
    pub fn layer(&self, layer: u8) -> impl Iterator<Item = &Node> {
        self.layers
            .get(usize::from(layer))
            .map_or(&[][..], |layer| layer.members.as_slice())
            .iter()
            .filter_map(|index| self.node(*index))
    }

    pub(crate) fn table(&self, layer: u8) -> Option<&Layer> {
        self.layers.get(usize::from(layer))
    }

    /// The layer after `layer`: gateways → 1 → … → last → gateways.
    pub fn next_layer(&self, layer: u8) -> u8 {
        if layer < self.parameters.layers {
            layer + 1
        } else {
            0
        }
    }

    /// Whether a node of `from_layer` may send to node `to`: the layer graph, in which a packet only
    /// moves to the next layer.
    pub fn may_forward(&self, from_layer: u8, to: u16) -> bool {
        from_layer <= self.parameters.layers
            && self
                .node(to)
                .is_some_and(|node| node.layer == self.next_layer(from_layer))
    }

    /// The epoch that `unix_ms` falls in.
    pub fn epoch_at(&self, unix_ms: u64) -> u32 {
        self.parameters.epoch_at(unix_ms)
    }

    /// First millisecond of this document's epoch.
    pub fn starts_ms(&self) -> u64 {
        self.parameters.epoch_starts_ms(self.epoch)
    }

    /// First millisecond after this document's epoch.
    pub fn ends_ms(&self) -> u64 {
        self.parameters.epoch_ends_ms(self.epoch)
    }

    /// The canonical bytes that authorities sign.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + self.nodes.len() * 1_600);
        bytes.extend_from_slice(MAGIC);
        self.parameters.encode(&mut bytes);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.beacon);
        let count = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for node in &self.nodes {
            bytes.push(node.layer);
            node.descriptor.encode(&mut bytes);
        }
        bytes
    }

    /// Decodes the canonical bytes. Callers go through [`crate::SignedConsensus::verify`], which checks
    /// size and signatures first.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ConsensusError> {
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let parameters = Parameters::decode(&mut reader)?;
        let epoch = reader.u32()?;
        let beacon = reader.array()?;
        let count = usize::from(reader.u16()?);
        if count > NODES_MAX {
            return Err(ConsensusError::TooMany);
        }
        // Grows with what is really there, not with what the count claims.
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push((reader.u8()?, Descriptor::decode(&mut reader)?));
        }
        reader.finish()?;
        Self::new(parameters, epoch, beacon, nodes)
    }
}

fn check_keys(descriptor: &Descriptor, epoch: u32) -> Result<(), ConsensusError> {
    match descriptor.epoch_keys.as_slice() {
        [now] if now.epoch == epoch => Ok(()),
        [now, next] if now.epoch == epoch && Some(next.epoch) == epoch.checked_add(1) => Ok(()),
        _ => Err(ConsensusError::Keys),
    }
}
