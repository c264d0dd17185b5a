//! What belongs to one node alone: link key, VRF key, every address with its port.
//!
//! Whose link key somebody else names would be silenced, for packets for both go to the one that the last of them says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use directory::wire::{ADDRESS_BYTES_MAX, DecodeError, Reader, put_address};
use directory::{ADDRESSES_MAX, Consensus, Descriptor, NODES_MAX, Record};

/// Who is not listed any more keeps what it had for so many epochs: a day of those of twenty minutes, so that a host which
/// is mended over night finds its keys and its address free.
pub const KEPT_EPOCHS: u32 = 72;
/// Most nodes that are remembered: those of a full document, and as many that went.
const REMEMBERED_MAX: usize = 2 * NODES_MAX;

const MAGIC: &[u8; 4] = b"FXO1";
/// Largest encoding of [`Owners`].
pub const OWNERS_BYTES_MAX: usize =
    4 + 2 + REMEMBERED_MAX * (32 + 4 + 32 + 32 + 1 + ADDRESSES_MAX * ADDRESS_BYTES_MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Link([u8; 32]),
    Vrf([u8; 32]),
    Address(SocketAddr),
}

/// A node that claims things.
pub(crate) trait Claimant {
    /// Its identity, link key, VRF key and addresses.
    fn parts(&self) -> (&[u8; 32], &[u8; 32], &[u8; 32], &[SocketAddr]);
}

impl Claimant for Descriptor {
    fn parts(&self) -> (&[u8; 32], &[u8; 32], &[u8; 32], &[SocketAddr]) {
        let link = &self.link.x25519;
        (&self.identity, link, &self.vrf_key, &self.addresses)
    }
}

impl Claimant for Record {
    fn parts(&self) -> (&[u8; 32], &[u8; 32], &[u8; 32], &[SocketAddr]) {
        let link = &self.link.x25519;
        (&self.identity, link, &self.vrf_key, &self.addresses)
    }
}

fn claims<'a>(
    (_, link, vrf, addresses): (&[u8; 32], &[u8; 32], &[u8; 32], &'a [SocketAddr]),
) -> impl Iterator<Item = Claim> + 'a {
    let addresses = addresses.iter().copied().map(Claim::Address);
    [Claim::Link(*link), Claim::Vrf(*vrf)]
        .into_iter()
        .chain(addresses)
}

/// What a node had in the last document that listed it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Had {
    epoch: u32,
    link: [u8; 32],
    vrf: [u8; 32],
    addresses: Vec<SocketAddr>,
}

/// What an authority remembers of the documents that it held: who had what when it was last listed.
///
/// It goes into votes alone, for no two authorities need have held the same documents: what a quorum would list is still
/// computed from the document before. Of a node only what it had last is kept, so what it gave up itself is free.
///
/// Encoding, for the authority's own disk: `"FXO1" | count 2 | each (identity 32 | epoch 4 | link X25519 32 | VRF key 32 |
/// addresses count 1 + each as in a descriptor), ascending by identity`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    last: BTreeMap<[u8; 32], Had>,
}

impl Owners {
    /// Takes a document in; they come in any order.
    pub fn learn(&mut self, document: &Consensus) {
        let epoch = document.epoch();
        for node in document.nodes() {
            let had = Had {
                epoch,
                link: node.link.x25519,
                vrf: node.vrf_key,
                addresses: node.addresses.clone(),
            };
            self.take(node.identity, had);
        }
        self.bound();
    }

    /// Takes in what was remembered elsewhere.
    pub fn join(&mut self, other: Owners) {
        for (identity, had) in other.last {
            self.take(identity, had);
        }
        self.bound();
    }

    fn take(&mut self, identity: [u8; 32], had: Had) {
        let held = self.last.get(&identity);
        if held.is_none_or(|held| held.epoch < had.epoch) {
            self.last.insert(identity, had);
        }
    }

    fn bound(&mut self) {
        let newest = self.last.values().map(|had| had.epoch).max();
        let over = newest.unwrap_or(0).saturating_sub(KEPT_EPOCHS);
        self.last.retain(|_, had| had.epoch >= over);
        let mut epochs: Vec<u32> = self.last.values().map(|had| had.epoch).collect();
        if epochs.len() > REMEMBERED_MAX {
            // Whoever left first goes first, with all that left with it.
            epochs.sort_unstable_by(|a, b| b.cmp(a));
            let stays = epochs.get(REMEMBERED_MAX).map_or(0, |last| last + 1);
            self.last.retain(|_, had| had.epoch >= stays);
        }
    }

    /// What a restarted authority needs, to be written down with every document.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let count = u16::try_from(self.last.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for (identity, had) in &self.last {
            bytes.extend_from_slice(identity);
            bytes.extend_from_slice(&had.epoch.to_be_bytes());
            bytes.extend_from_slice(&had.link);
            bytes.extend_from_slice(&had.vrf);
            bytes.push(u8::try_from(had.addresses.len()).unwrap_or(u8::MAX));
            had.addresses
                .iter()
                .for_each(|address| put_address(&mut bytes, address));
        }
        bytes
    }

    /// What was written down.
    ///
    /// # Errors
    /// Not what [`Owners::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Owners, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let count = usize::from(reader.u16()?);
        if count > REMEMBERED_MAX {
            return Err(DecodeError::Field("count"));
        }
        let mut last: BTreeMap<[u8; 32], Had> = BTreeMap::new();
        for _ in 0..count {
            let identity = reader.array()?;
            if last
                .last_key_value()
                .is_some_and(|(one, _)| *one >= identity)
            {
                return Err(DecodeError::Field("order"));
            }
            let (epoch, link, vrf) = (reader.u32()?, reader.array()?, reader.array()?);
            let addresses = reader.count(1, ADDRESSES_MAX, "address count")?;
            let addresses: Result<_, _> = (0..addresses).map(|_| reader.address()).collect();
            let had = Had {
                epoch,
                link,
                vrf,
                addresses: addresses?,
            };
            last.insert(identity, had);
        }
        reader.finish()?;
        Ok(Owners { last })
    }

    /// How many nodes are remembered.
    pub fn count(&self) -> usize {
        self.last.len()
    }

    /// Who has what in the eyes of those that make the document of `epoch`, as far as `counts` says that it may be in the
    /// network at all; what several had, who had it last.
    fn of(
        &self,
        epoch: u32,
        counts: impl Fn(&[u8; 32]) -> bool,
    ) -> impl Iterator<Item = (Claim, [u8; 32])> {
        let counts = |(identity, had): &(&[u8; 32], &Had)| {
            had.epoch.saturating_add(KEPT_EPOCHS) >= epoch && counts(identity)
        };
        let mut all: Vec<_> = self.last.iter().filter(counts).collect();
        all.sort_by_key(|(_, had)| had.epoch);
        all.into_iter().flat_map(|(identity, had)| {
            let parts = (identity, &had.link, &had.vrf, had.addresses.as_slice());
            claims(parts).map(|claim| (claim, *identity))
        })
    }
}

/// Says of each node whether it claims nothing that is another's: who has it in the document before keeps it, of two that
/// are new to it neither gets it.
pub(crate) fn are_own<'a, C: Claimant + 'a>(
    nodes: impl Iterator<Item = &'a C> + Clone,
    before: Option<&Consensus>,
) -> Vec<bool> {
    told(nodes, before, BTreeMap::new())
}

/// The same, and who was in a document not long ago and is in none now keeps what it had, as long as it is one that
/// `admitted` knows.
pub(crate) fn are_own_and_were<'a, C: Claimant + 'a>(
    nodes: impl Iterator<Item = &'a C> + Clone,
    before: Option<&Consensus>,
    (owners, epoch): (&Owners, u32),
    admitted: impl Fn(&[u8; 32]) -> bool,
) -> Vec<bool> {
    told(nodes, before, owners.of(epoch, admitted).collect())
}

fn told<'a, C: Claimant + 'a>(
    nodes: impl Iterator<Item = &'a C> + Clone,
    before: Option<&Consensus>,
    mut owners: BTreeMap<Claim, [u8; 32]>,
) -> Vec<bool> {
    for node in before.into_iter().flat_map(Consensus::nodes) {
        owners.extend(claims(node.record.parts()).map(|claim| (claim, node.identity)));
    }
    let mut claimants: BTreeMap<Claim, u32> = BTreeMap::new();
    for claim in nodes.clone().flat_map(|node| claims(node.parts())) {
        *claimants.entry(claim).or_default() += 1;
    }
    let is_own = |node: &C| {
        let (identity, ..) = node.parts();
        claims(node.parts()).all(|claim| match owners.get(&claim) {
            Some(owner) => owner == identity,
            None => claimants.get(&claim).is_none_or(|count| *count == 1),
        })
    };
    nodes.map(is_own).collect()
}
