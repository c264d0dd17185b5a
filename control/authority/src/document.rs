//! The document that follows from the votes: [`crate::tally`] says who is listed, this puts the records together. Pure,
//! so that all who hold the same votes and descriptors come to the same bytes.

use std::collections::BTreeMap;

use directory::{
    Chain, Consensus, ConsensusError, Descriptor, FLAG_LEAVING, FLAG_PAUSED, Head, NODES_MAX,
    Previous, Record, Role,
};

use crate::claims::are_own;
use crate::tally::{Ground, METHOD, Tally, TallyError, tally};
use crate::vote::{Entry, Vote};

/// Why no document can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The votes do not suffice.
    #[error(transparent)]
    Tally(#[from] TallyError),
    /// No authority set is in force for the epoch.
    #[error("no authority set is in force for epoch {0}")]
    NoSet(u32),
    /// A quorum computes documents in a way that is not known here.
    #[error("documents are computed by method {0}, which this version does not know")]
    Method(u8),
    /// A listed descriptor is not here.
    #[error("a listed descriptor is not here: {}", directory::store::hex(.0))]
    Missing([u8; 32]),
    /// What comes out is no document.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

/// Counts votes about the document of `epoch` that follows `previous`.
///
/// # Errors
/// There is no set for the epoch, or too few votes.
pub fn count(
    chain: &Chain,
    previous: Option<&Consensus>,
    epoch: u32,
    votes: &[Vote],
) -> Result<Tally, DocumentError> {
    let set = chain.at(epoch).ok_or(DocumentError::NoSet(epoch))?;
    let authorities = set.authorities().map_err(ConsensusError::from)?;
    let ground = Ground::after(previous, chain, epoch).map_err(ConsensusError::from)?;
    Ok(tally(&authorities, &ground, epoch, votes)?)
}

/// The document of `epoch` that follows `previous`. `descriptors` are by digest; at least those that the tally lists.
///
/// # Errors
/// See [`DocumentError`].
pub fn make(
    chain: &Chain,
    previous: Option<&Consensus>,
    epoch: u32,
    votes: &[Vote],
    descriptors: &BTreeMap<[u8; 32], &Descriptor>,
) -> Result<Consensus, DocumentError> {
    let tally = count(chain, previous, epoch, votes)?;
    if tally.method > METHOD {
        return Err(DocumentError::Method(tally.method));
    }
    let mut records = Vec::with_capacity(tally.nodes.len());
    for entry in &tally.nodes {
        let descriptor = descriptors.get(&entry.digest);
        let descriptor = descriptor.ok_or(DocumentError::Missing(entry.digest))?;
        records.extend(record(entry, descriptor, epoch));
    }
    // Two quorums of authorities may list what no single one would.
    records.sort_by_key(|record: &Record| record.identity);
    records.dedup_by_key(|record| record.identity);
    let mut own = are_own(records.iter(), previous).into_iter();
    records.retain(|_| own.next().unwrap_or(false));
    if records.len() > NODES_MAX {
        let is_new = |record: &Record| {
            let before = previous.and_then(|before| before.find(&record.identity));
            before.is_none()
        };
        records.sort_by_key(is_new);
        records.truncate(NODES_MAX);
        records.sort_unstable_by_key(|record| record.identity);
    }
    let head = Head {
        network: *chain.network(),
        generation: chain.at(epoch).map_or(0, |set| set.generation),
        method: tally.method,
        parameters: tally.parameters,
        epoch,
        previous: previous.map_or_else(Previous::default, Consensus::as_previous),
        beacon: tally.beacon,
        parts: tally.parts.into_iter().map(|(_, part)| part).collect(),
    };
    Ok(Consensus::dealt(head, records, previous)?)
}

/// None if the descriptor is not the entry's, or without a key for the epoch: no honest authority lists such a one.
fn record(entry: &Entry, descriptor: &Descriptor, epoch: u32) -> Option<Record> {
    if descriptor.identity != entry.identity {
        return None;
    }
    let mut record = Record::new(descriptor, epoch)?;
    record.weight = entry.weight;
    record.flags = entry.flags & (FLAG_LEAVING | FLAG_PAUSED);
    if record.role == Role::Gateway {
        record.vrf_proof = None;
    }
    Some(record)
}
