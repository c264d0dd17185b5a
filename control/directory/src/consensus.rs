//! The one document of an epoch: parameters, beacon, and every node with its place.
//!
//! Encoding: `"FXC2" | network id 16 | generation 2 | method 1 | parameters 25 | epoch 4 | previous epoch 4 | previous
//! digest 32 | previous beacon 32 | beacon 32 | authority count 1 | each (commit flag 1 + 32 | reveal flag 1 + 32 |
//! excluded until 4), in the order of the set | node count 2 | records`, each record `layer 1 | identity 32 | role 1 |
//! operator length 1 + ASCII | addresses count 1 + each | link X25519 32 | link ML-KEM-768 1184 | epoch key 32 | weight 4
//! | VRF key 32 | VRF since 4 | flags 1 | proof flag 1 + 80 | services flag 1, 0`. Nodes are in ascending order of
//! identity, so an index is a position and no node appears twice.

use core::borrow::Borrow;
use core::cmp::Ordering;
use core::ops::Deref;

use crate::beacon::{beacon, commit};
use crate::descriptor::Role;
use crate::epoch::Parameters;
use crate::head::{EPOCH_OFFSET, HEAD_BYTES_MAX, Head, MAGIC, Previous};
use crate::layers::{deal, output};
use crate::record::{RECORD_BYTES_MAX, Record, WAITING};
use crate::signed::Authorities;
use crate::wire::{DecodeError, Reader};

/// Most nodes of a network; bounds the document.
pub const NODES_MAX: usize = 2_048;
/// Largest consensus without signatures.
pub(crate) const DOCUMENT_BYTES_MAX: usize = HEAD_BYTES_MAX + NODES_MAX * RECORD_BYTES_MAX;

/// A record with its index. Dereferences to the [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Position in the consensus: what routing blocks name.
    pub index: u16,
    /// What the document says of it.
    pub record: Record,
}

impl Deref for Node {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.record
    }
}

/// Nodes of one layer with cumulative weight, for weighted picks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) members: Vec<u16>,
    /// `cumulative[i]` is the summed weight of `members[..=i]`.
    pub(crate) cumulative: Vec<u64>,
}

/// A document. Immutable once made, so that the layer tables always fit the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consensus {
    head: Head,
    nodes: Vec<Node>,
    layers: Vec<Layer>,
    digest: [u8; 32],
}

/// Why a consensus is none.
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
    /// A gateway in a layer, a mix in none, or a layer that does not exist.
    #[error("a node's layer does not fit its role")]
    Role,
    /// It names a predecessor of its own epoch or a later one.
    #[error("it names a predecessor that is not before it")]
    Predecessor,
    /// It does not speak of every authority of its set.
    #[error("it does not speak of every authority of its set")]
    Parts,
    /// The beacon does not follow from the reveals.
    #[error("the beacon does not follow from what was revealed")]
    Beacon,
    /// A node's proof is not valid, or a gateway carries one.
    #[error("the VRF proof of node {0} is not valid")]
    Proof(u16),
    /// A node is not in the layer that follows from the proofs.
    #[error("node {0} is not in the layer that it was dealt to")]
    Layer(u16),
    /// A node's key is said to be listed since an epoch that has not been.
    #[error("the VRF key of node {0} is not listed since when the document says")]
    Since(u16),
    /// A value is revealed that the document before holds no commitment to.
    #[error("a revealed value was not committed to")]
    Reveal,
}

impl Consensus {
    /// Puts records, ascending by identity, into a document. What follows from the proofs and the authorities' set is
    /// for [`Consensus::recompute`] to check.
    ///
    /// # Errors
    /// The first rule of form the records break.
    pub fn new(head: Head, records: Vec<Record>) -> Result<Self, ConsensusError> {
        head.parameters.check()?;
        if !head.is_first() && head.previous.epoch >= head.epoch {
            return Err(ConsensusError::Predecessor);
        }
        if records.len() > NODES_MAX {
            return Err(ConsensusError::TooMany);
        }
        if !records.is_sorted_by(|a, b| a.identity < b.identity) {
            return Err(ConsensusError::Order);
        }
        // Frames to either would be for whom a table remembers last.
        let mut link_keys: Vec<&[u8; 32]> =
            records.iter().map(|record| &record.link.x25519).collect();
        link_keys.sort_unstable();
        if !link_keys.is_sorted_by(|a, b| a < b) {
            return Err(ConsensusError::Duplicate);
        }
        let mut layers = vec![Layer::default(); usize::from(head.parameters.layers) + 1];
        let mut nodes = Vec::with_capacity(records.len());
        for (index, record) in (0u16..).zip(records) {
            if record.layer != WAITING {
                if (record.layer == 0) != (record.role == Role::Gateway) {
                    return Err(ConsensusError::Role);
                }
                let table = layers
                    .get_mut(usize::from(record.layer))
                    .ok_or(ConsensusError::Role)?;
                let before = table.cumulative.last().copied().unwrap_or(0);
                table.members.push(index);
                table.cumulative.push(before + u64::from(record.weight));
            }
            nodes.push(Node { index, record });
        }
        let mut consensus = Self {
            head,
            nodes,
            layers,
            digest: [0; 32],
        };
        consensus.digest = *blake3::hash(&consensus.encode()).as_bytes();
        Ok(consensus)
    }

    /// The document of these records that follows `previous`, with every node in the layer that follows from its proof.
    /// Proofs that are not valid are left out, and each key is listed since when [`Consensus::vrf_since`] says.
    ///
    /// # Errors
    /// As [`Consensus::new`].
    pub fn dealt(
        head: Head,
        mut records: Vec<Record>,
        previous: Option<&Consensus>,
    ) -> Result<Self, ConsensusError> {
        let outputs: Vec<_> = records.iter().map(|record| output(&head, record)).collect();
        for (record, output) in records.iter_mut().zip(&outputs) {
            record.vrf_proof = record.vrf_proof.filter(|_| output.is_some());
        }
        if let Some(previous) = previous {
            let since = previous.vrf_since(&records, head.epoch);
            for (record, since) in records.iter_mut().zip(since) {
                record.vrf_since = since;
            }
        }
        let layers = deal(&head, &records, &outputs);
        for (record, layer) in records.iter_mut().zip(layers) {
            record.layer = layer;
        }
        Self::new(head, records)
    }

    /// Checks what everyone can compute again: beacon, proofs, layers. `authorities` are those of its set.
    ///
    /// # Errors
    /// The first thing that is not as it follows from the rest.
    pub fn recompute(&self, authorities: &Authorities) -> Result<(), ConsensusError> {
        let head = &self.head;
        if head.parts.len() != authorities.keys().len() {
            return Err(ConsensusError::Parts);
        }
        let reveals: Vec<_> = authorities
            .keys()
            .iter()
            .zip(&head.parts)
            .filter_map(|(authority, part)| Some((*authority, part.reveal?)))
            .collect();
        if beacon(&head.network, head.epoch, &head.previous.beacon, &reveals) != head.beacon {
            return Err(ConsensusError::Beacon);
        }
        let mut outputs = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let output = output(head, node);
            if output.is_none() && node.vrf_proof.is_some() {
                return Err(ConsensusError::Proof(node.index));
            }
            if node.vrf_since > head.epoch {
                return Err(ConsensusError::Since(node.index));
            }
            outputs.push(output);
        }
        let records: Vec<&Record> = self.nodes.iter().map(|node| &node.record).collect();
        let layers = deal(head, &records, &outputs);
        let mut placed = self.nodes.iter().zip(layers);
        match placed.find(|(node, layer)| node.layer != *layer) {
            Some((node, _)) => Err(ConsensusError::Layer(node.index)),
            None => Ok(()),
        }
    }

    /// Checks it against the document that it names as the one before: every reveal opens a commitment that stands
    /// there, and keys are listed since when both say. `sets` are the authorities of this one and of the one before.
    ///
    /// # Errors
    /// The first thing that does not follow.
    pub fn follows(
        &self,
        before: &Consensus,
        sets: [&Authorities; 2],
    ) -> Result<(), ConsensusError> {
        let [own, old] = sets.map(Authorities::keys);
        for (authority, part) in own.iter().zip(&self.head.parts) {
            let Some(reveal) = part.reveal else {
                continue;
            };
            let mut parts = old.iter().zip(&before.head.parts);
            let held = parts.find(|(key, _)| *key == authority);
            let committed = held.and_then(|(_, part)| part.commit);
            if committed != Some(commit(authority, before.epoch(), &reveal)) {
                return Err(ConsensusError::Reveal);
            }
        }
        let records: Vec<&Record> = self.nodes.iter().map(|node| &node.record).collect();
        let since = before.vrf_since(&records, self.epoch());
        let mut nodes = self.nodes.iter().zip(since);
        match nodes.find(|(node, since)| node.vrf_since != *since) {
            Some((node, _)) => Err(ConsensusError::Since(node.index)),
            None => Ok(()),
        }
    }

    /// Since when the document of `epoch`, which follows this one, says that the key of each of its `records` is listed,
    /// in their order.
    ///
    /// A mix whose key stands here and that brings no proof there begins anew, as with a new key: were either free, mixes
    /// that know the others' proofs could choose among deals by it. Unless more than half of those mixes bring none, for
    /// then this document came too late to them, and whoever had it in time would have all places until they are old again.
    pub fn vrf_since<R: Borrow<Record>>(&self, records: &[R], epoch: u32) -> Vec<u32> {
        let records = records.iter().map(R::borrow);
        let known: Vec<Option<&Node>> = records.clone().map(|record| self.lists(record)).collect();
        let mixes = records.clone().zip(&known);
        let (all, silent) = mixes.fold((0usize, 0usize), |(all, silent), (record, known)| {
            let counts = known.is_some() && record.role == Role::Mix;
            let withholds = counts && record.withholds();
            (all + usize::from(counts), silent + usize::from(withholds))
        });
        let was_late = silent > all / 2;
        let since = |(record, known): (&Record, Option<&Node>)| match known {
            Some(known) if was_late || !record.withholds() => known.vrf_since,
            _ => epoch,
        };
        records.zip(known).map(since).collect()
    }

    /// The node of `record`, if it is here with the same VRF key.
    pub fn lists(&self, record: &Record) -> Option<&Node> {
        let node = self.find(&record.identity);
        node.filter(|node| node.vrf_key == record.vrf_key)
    }

    /// All but the nodes.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// BLAKE3 of the bytes that authorities sign: what the next document names.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What the document after this one says of it.
    pub fn as_previous(&self) -> Previous {
        Previous {
            epoch: self.epoch(),
            digest: self.digest,
            beacon: self.head.beacon,
        }
    }

    /// The network's parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.head.parameters
    }

    /// The epoch this document is for.
    pub fn epoch(&self) -> u32 {
        self.head.epoch
    }

    /// The epoch's public randomness.
    pub fn beacon(&self) -> &[u8; 32] {
        &self.head.beacon
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

    /// The layer after `layer`: gateways → 1 → … → last → gateways; after [`WAITING`] comes nothing.
    pub fn next_layer(&self, layer: u8) -> u8 {
        match layer.cmp(&self.head.parameters.layers) {
            Ordering::Less => layer + 1,
            Ordering::Equal => 0,
            Ordering::Greater => WAITING,
        }
    }

    /// Whether a node of `from_layer` may send to node `to`: the layer graph, in which a packet only
    /// moves to the next layer.
    pub fn may_forward(&self, from_layer: u8, to: u16) -> bool {
        from_layer <= self.head.parameters.layers
            && self
                .node(to)
                .is_some_and(|node| node.layer == self.next_layer(from_layer))
    }

    /// The epoch that `unix_ms` falls in.
    pub fn epoch_at(&self, unix_ms: u64) -> u32 {
        self.head.parameters.epoch_at(unix_ms)
    }

    /// First millisecond of this document's epoch.
    pub fn starts_ms(&self) -> u64 {
        self.head.parameters.epoch_starts_ms(self.head.epoch)
    }

    /// First millisecond after this document's epoch.
    pub fn ends_ms(&self) -> u64 {
        self.head.parameters.epoch_ends_ms(self.head.epoch)
    }

    /// The canonical bytes that authorities sign.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX + self.nodes.len() * RECORD_BYTES_MAX);
        self.head.encode(&mut bytes);
        let count = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for node in &self.nodes {
            node.record.encode(&mut bytes);
        }
        bytes
    }

    /// The epoch that encoded bytes claim, before anything else of them is looked at.
    pub(crate) fn peek_epoch(bytes: &[u8]) -> Result<u32, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.clone().magic(MAGIC)?;
        reader.take(EPOCH_OFFSET)?;
        reader.u32()
    }

    /// Decodes the canonical bytes. Callers go through [`crate::SignedConsensus::verify`], which checks
    /// size and signatures first.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ConsensusError> {
        let mut reader = Reader::new(bytes);
        let head = Head::decode(&mut reader)?;
        let count = usize::from(reader.u16()?);
        if count > NODES_MAX {
            return Err(ConsensusError::TooMany);
        }
        // Grows with what is really there, not with what the count claims.
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(Record::decode(&mut reader)?);
        }
        reader.finish()?;
        Self::new(head, records)
    }
}
