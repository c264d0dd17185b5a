//! An authority: votes about the nodes of the next epoch, agrees with the others, makes the document. No I/O, no clock.
//!
//! [`ballot`] makes a vote of what nodes say of themselves, [`relay`] brings the same votes to all, [`tally`] counts them
//! and [`document`] makes the document of them; [`round`] says when all of that happens. An authority that is alone is the same with a set of one.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod admission;
pub mod ballot;
pub mod book;
pub mod claims;
pub mod document;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
#[allow(clippy::panic)] // An oracle speaks by panicking.
pub mod fuzz;
pub mod relay;
pub mod reports;
pub mod round;
pub mod tally;
pub mod vote;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use directory::authority_set::SetError;
use directory::{
    Chain, Consensus, Identity, Parameters, SignedConsensus, SignedDescriptor, SignedReport,
};

use admission::Admission;
use ballot::Ballot;
use claims::Owners;
use document::DocumentError;
use relay::{Relay, RelayError};
use vote::{Vote, VoteError};

/// Where the authority of a laboratory says it is, which no one asks: the port of RFC 863, on this host.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// The only authority of a network, which admits everyone: that of a laboratory.
#[derive(Debug)]
pub struct Authority {
    key: Identity,
    chain: Chain,
}

/// Why the only authority makes no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AloneError {
    /// Its vote is none.
    #[error(transparent)]
    Vote(#[from] VoteError),
    /// Its vote does not count.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Its vote makes no document.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl Authority {
    /// Founds a network whose only authority has `key`.
    ///
    /// # Errors
    /// A parameter out of its bounds.
    pub fn found(key: Identity, parameters: Parameters) -> Result<Self, SetError> {
        let chain = Chain::founded_by(parameters, &[(&key, NOWHERE)])?;
        Ok(Self::of(key, chain))
    }

    /// The only authority of a network that is founded already.
    pub fn of(key: Identity, chain: Chain) -> Self {
        Self { key, chain }
    }

    /// The network, as its nodes and clients know it.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The network's parameters.
    pub fn parameters(&self) -> &Parameters {
        self.chain.parameters()
    }

    /// Makes and signs the document of `epoch` that follows `previous`, of those descriptors that have a key for it. It
    /// votes, relays its vote to nobody, and counts.
    ///
    /// # Errors
    /// See [`AloneError`]; nodes that break a rule are left out and are no error.
    pub fn make(
        &self,
        previous: Option<&Consensus>,
        epoch: u32,
        descriptors: &[SignedDescriptor],
    ) -> Result<SignedConsensus, AloneError> {
        self.make_with_reports(previous, epoch, descriptors, &[])
    }

    /// The same with what nodes of `previous` say of whom they reached.
    ///
    /// # Errors
    /// As [`Authority::make`].
    pub fn make_with_reports(
        &self,
        previous: Option<&Consensus>,
        epoch: u32,
        descriptors: &[SignedDescriptor],
        reports: &[SignedReport],
    ) -> Result<SignedConsensus, AloneError> {
        let ballot = Ballot {
            chain: &self.chain,
            previous,
            epoch,
            admission: &Admission::Open,
            descriptors,
            reports,
            owners: &Owners::default(),
        };
        let set = self.chain.at(epoch).ok_or(DocumentError::NoSet(epoch))?;
        let authorities = set.authorities().map_err(VoteError::from)?;
        let network = *self.chain.network();
        let mut relay = Relay::new(authorities, network, set.generation, epoch);
        relay.begin(ballot.vote(&self.key)?, &self.key)?;
        let votes: Vec<Vote> = relay
            .finish()
            .votes
            .iter()
            .map(|signed| signed.vote().clone())
            .collect();
        let by_digest: BTreeMap<_, _> = descriptors
            .iter()
            .map(|one| (one.digest(), one.descriptor()))
            .collect();
        let consensus = document::make(&self.chain, previous, epoch, &votes, &by_digest)?;
        Ok(SignedConsensus::sign(&consensus, &self.key))
    }
}
