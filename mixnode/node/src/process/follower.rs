//! Follows the directory: makes epoch keys, publishes the descriptor, takes up each consensus in time.
//!
//! No thread and no clock: the node's control loop calls [`Follower::turn`] a few times a second.

use std::io;
use std::sync::Arc;

use directory::store::Store;
use directory::{
    Authorities, Consensus, Descriptor, Identity, LinkKey, Parameters, Role, SignedConsensus,
};
use rand_core::CryptoRng;

use crate::keys::epoch::{EpochState, KeyRing};

/// What a node publishes of itself beside keys and time.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Mix or gateway.
    pub role: Role,
    /// Who runs it.
    pub operator: String,
    /// Where it listens.
    pub addresses: Vec<std::net::SocketAddr>,
    /// Static keys of its links.
    pub link: LinkKey,
    /// Share of the traffic.
    pub capacity_pps: u32,
    /// Public key of the verifiable random function.
    pub vrf_key: [u8; 32],
}

/// A node's place in the directory.
pub struct Follower {
    identity: Identity,
    profile: Profile,
    max_pps: u32,
    keys: KeyRing,
    parameters: Option<Parameters>,
    /// Newest epoch whose document was taken up: older ones are refused from then on.
    newest: Option<u32>,
    /// Epoch the descriptor was last published in.
    published: Option<u32>,
}

impl Follower {
    /// A follower that knows nothing of the network yet.
    pub fn new(identity: Identity, profile: Profile, max_pps: u32) -> Follower {
        Follower {
            identity,
            profile,
            max_pps,
            keys: KeyRing::default(),
            parameters: None,
            newest: None,
            published: None,
        }
    }

    /// The network's parameters, once a document was seen.
    pub fn parameters(&self) -> Option<&Parameters> {
        self.parameters.as_ref()
    }

    /// The epoch of `unix_ms`; 0 as long as no document tells the network's beginning.
    pub fn epoch_at(&self, unix_ms: u64) -> u32 {
        self.parameters
            .map_or(0, |parameters| parameters.epoch_at(unix_ms))
    }

    /// Makes missing epoch keys. A descriptor to publish, if there are new ones.
    pub fn describe<R: CryptoRng + ?Sized>(
        &mut self,
        unix_ms: u64,
        rng: &mut R,
    ) -> Option<Descriptor> {
        let epoch = self.epoch_at(unix_ms);
        let fresh = self.keys.advance(epoch, rng);
        if !fresh && self.published == Some(epoch) {
            return None;
        }
        self.published = Some(epoch);
        Some(Descriptor {
            identity: self.identity.public(),
            role: self.profile.role,
            operator: self.profile.operator.clone(),
            addresses: self.profile.addresses.clone(),
            link: self.profile.link.clone(),
            epoch_keys: self.keys.public(epoch),
            capacity_pps: self.profile.capacity_pps,
            vrf_key: self.profile.vrf_key,
            vrf_proof: None,
            published_unix_ms: unix_ms,
        })
    }

    /// Epochs whose documents are wanted now, oldest first: the current one and the next.
    pub fn wanted(&self, unix_ms: u64) -> impl Iterator<Item = u32> + use<> {
        let now = self.epoch_at(unix_ms);
        let newest = self.newest;
        [Some(now), now.checked_add(1)]
            .into_iter()
            .flatten()
            .filter(move |epoch| newest.is_none_or(|newest| *epoch > newest))
    }

    /// Takes up a verified document.
    ///
    /// # Errors
    /// If there is no memory for the replay table.
    pub fn take_up<R: CryptoRng + ?Sized>(
        &mut self,
        consensus: Consensus,
        document: Vec<u8>,
        rng: &mut R,
    ) -> io::Result<Arc<EpochState>> {
        self.parameters = Some(*consensus.parameters());
        self.newest = Some(consensus.epoch());
        let identity = self.identity.public();
        let state = EpochState::new(
            consensus,
            document,
            &identity,
            &self.keys,
            self.max_pps,
            rng,
        )?;
        Ok(Arc::new(state))
    }

    /// One round over a store: learns the parameters, publishes the descriptor when it is due, and returns the
    /// epochs to put in force. What can't be read or verified is reported and tried again in the next round.
    ///
    /// # Errors
    /// The store can't be used at all.
    pub fn turn<R: CryptoRng + ?Sized>(
        &mut self,
        store: &Store,
        unix_ms: u64,
        rng: &mut R,
    ) -> io::Result<Vec<Arc<EpochState>>> {
        let authorities = store.read_authorities()?;
        if let Some(authorities) = &authorities
            && self.parameters.is_none()
            && let Some((_, document)) = store.latest()?
        {
            match document.verify(authorities, None) {
                Ok(consensus) => self.parameters = Some(*consensus.parameters()),
                Err(error) => tracing::warn!(%error, "refused a consensus"),
            }
        }
        if let Some(descriptor) = self.describe(unix_ms, rng) {
            store.publish_descriptor(&descriptor, &self.identity)?;
        }
        let Some(authorities) = authorities else {
            return Ok(Vec::new());
        };
        let mut states = Vec::new();
        for epoch in self.wanted(unix_ms) {
            let Some(document) = store.read_consensus(epoch)? else {
                continue;
            };
            match verify(&document, &authorities, epoch) {
                Ok(consensus) => states.push(self.take_up(consensus, document.encode(), rng)?),
                Err(error) => tracing::warn!(epoch, %error, "refused a consensus"),
            }
        }
        Ok(states)
    }
}

fn verify(
    document: &SignedConsensus,
    authorities: &Authorities,
    epoch: u32,
) -> Result<Consensus, String> {
    let consensus = document
        .verify(authorities, None)
        .map_err(|error| error.to_string())?;
    if consensus.epoch() == epoch {
        Ok(consensus)
    } else {
        Err(format!("it is the one of epoch {}", consensus.epoch()))
    }
}
