//! Follows the directory: makes epoch keys, publishes the descriptor, takes up each consensus in time.
//!
//! No thread and no clock: the node's control loop calls [`Follower::turn`] a few times a second.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use directory::beacon::layer_input;
use directory::store::Store;
use directory::vrf::VrfSecret;
use directory::{
    Chain, Consensus, Descriptor, FLAG_LEAVING, Held, Identity, LinkKey, Mark, Parameters,
    Previous, Report, Role, SignedConsensus, SignedDescriptor, SignedReport,
};
use rand_core::CryptoRng;

use crate::keys::epoch::{Clocks, EpochState, KeyRing, Sizes};
use crate::keys::vault::Vault;

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
}

/// Documents that a new one is held against: the one in force, the one before it, the one to come.
const DOCUMENTS_MAX: usize = 3;

/// Rounds of an epoch in which authorities take descriptors for the next one.
const UPLOAD_ROUNDS: u64 = 12;

/// How long an epoch that is in force stays so, in time since boot: reckoned once, when its document was taken up.
struct Life {
    epoch: u32,
    state: Weak<EpochState>,
    /// From here on it is refused if there is the next epoch's document.
    refused_ns: u64,
    /// From here on in any case.
    ends_ns: u64,
    /// Packets of it come to this node.
    has_part: bool,
}

/// A node's place in the directory.
pub struct Follower {
    identity: Identity,
    vrf: VrfSecret,
    profile: Profile,
    sizes: Sizes,
    keys: KeyRing,
    /// The network, and its encoding as it was read.
    chain: Option<Chain>,
    chain_bytes: Vec<u8>,
    /// As the document says that was taken up last; before there is one those of the network's founding.
    parameters: Option<Parameters>,
    /// The newest documents that were taken up, ascending. Older ones than the newest are refused.
    documents: Vec<Consensus>,
    /// The epoch that the last descriptor was meant for, and the beacon that it proved over.
    published: Option<(u32, [u8; 32])>,
    /// Epoch of the last report.
    reported: Option<u32>,
    /// Epochs in force or still to come.
    lives: Vec<Life>,
    /// The epoch in which the first document was taken up.
    started: Option<u32>,
    /// The newest document lists this node's identity with what is not this node's.
    is_elsewhere: bool,
    /// This node has asked to be listed without a place. The last epoch in which it serves, as far as is known.
    leaving: Option<u32>,
}

impl Follower {
    /// A follower that knows nothing of the network yet.
    pub fn new(identity: Identity, vrf: VrfSecret, profile: Profile, sizes: Sizes) -> Follower {
        Follower {
            identity,
            vrf,
            profile,
            sizes,
            keys: KeyRing::default(),
            chain: None,
            chain_bytes: Vec::new(),
            parameters: None,
            documents: Vec::new(),
            published: None,
            reported: None,
            lives: Vec::new(),
            started: None,
            is_elsewhere: false,
            leaving: None,
        }
    }

    /// Takes up the keys that lie in a vault, and keeps those to come there too. Says how many there were. To be called
    /// before anything else.
    pub fn keep_keys_in(&mut self, vault: Vault, boot_ns: u64) -> usize {
        self.keys = KeyRing::kept_in(vault, boot_ns);
        self.keys.count()
    }

    /// Who this node is.
    pub fn identity(&self) -> [u8; 32] {
        self.identity.public()
    }

    /// Learns which network it is in, and who signs there.
    pub fn join(&mut self, chain: Chain) {
        self.parameters.get_or_insert(*chain.parameters());
        self.chain = Some(chain);
    }

    /// The network's parameters, once it is known.
    pub fn parameters(&self) -> Option<&Parameters> {
        self.parameters.as_ref()
    }

    /// The epoch of `unix_ms`; 0 as long as the network's beginning is not known.
    pub fn epoch_at(&self, unix_ms: u64) -> u32 {
        self.parameters
            .map_or(0, |parameters| parameters.epoch_at(unix_ms))
    }

    /// Makes missing epoch keys. A descriptor to publish, if there is something new to say: keys, the epoch it is meant
    /// for, or the document whose beacon decides the node's place there. None before the network is known.
    pub fn describe<R: CryptoRng + ?Sized>(
        &mut self,
        clocks: Clocks,
        rng: &mut R,
    ) -> Option<SignedDescriptor> {
        let chain = self.chain.as_ref()?;
        let now = self.epoch_at(clocks.unix_ms);
        let fresh = self
            .keys
            .advance(now, self.parameters.as_ref(), clocks, rng);
        // An authority that is alone makes a document of now too where there is none.
        let alone = chain.at(now).is_some_and(|set| set.members.len() == 1);
        let epoch = match alone && self.newest().is_none_or(|newest| newest < now) {
            true => now,
            false => now.checked_add(1)?,
        };
        let network = *chain.network();
        let earlier = self.documents.iter().rev().find(|one| one.epoch() < epoch);
        let before = earlier.map_or_else(Previous::default, Consensus::as_previous);
        if !fresh && self.published == Some((epoch, before.beacon)) {
            return None;
        }
        let input = layer_input(&network, epoch, &before.beacon);
        let proof = match self.profile.role {
            Role::Mix => self.vrf.prove(&input).ok(),
            Role::Gateway => None,
        };
        let descriptor = Descriptor {
            network,
            identity: self.identity.public(),
            role: self.profile.role,
            operator: self.profile.operator.clone(),
            addresses: self.profile.addresses.clone(),
            link: self.profile.link.clone(),
            epoch_keys: self.keys.public(epoch),
            capacity_pps: self.profile.capacity_pps,
            vrf_key: self.vrf.public(),
            vrf_proof: proof,
            flags: match self.leaving {
                Some(_) => FLAG_LEAVING,
                None => 0,
            },
            published_unix_ms: clocks.unix_ms,
        };
        match descriptor.sign(&self.identity) {
            Ok(signed) => {
                self.published = Some((epoch, before.beacon));
                Some(signed)
            }
            Err(error) => {
                tracing::error!(%error, "can't describe this node");
                None
            }
        }
    }

    /// Has every descriptor from now on say that this node leaves: documents list it without a place, and so its
    /// registration stays. Nothing but a restart takes that back.
    pub fn leave(&mut self, unix_ms: u64) {
        let now = self.epoch_at(unix_ms);
        // What comes later than that is for the document after the next one.
        let in_time = |parameters: &Parameters| {
            let frozen_ms = parameters.epoch_starts_ms(now) + UPLOAD_ROUNDS * parameters.round_ms();
            unix_ms < frozen_ms
        };
        let in_time = self.parameters.as_ref().is_some_and(in_time);
        let parts = self.lives.iter().filter(|life| life.has_part);
        let least = now.saturating_add(u32::from(!in_time));
        self.leaving = parts.map(|life| life.epoch).chain([least]).max();
        self.published = None;
    }

    /// Whether this node leaves.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The last epoch in which this node serves, as far as is known, if it leaves.
    pub fn serves_until(&self) -> Option<u32> {
        self.leaving
    }

    /// Whether this node leaves and no packet is on its way to it any more: the document of now does not let it carry,
    /// and the keys of those that did are gone.
    pub fn is_drained(&self, unix_ms: u64) -> bool {
        let now = self.epoch_at(unix_ms);
        self.is_leaving()
            && self.documents.iter().any(|one| one.epoch() == now)
            && !self.lives.iter().any(|life| life.has_part)
    }

    /// Whether this epoch's report is due: a quarter of the epoch is over, and authorities still take it.
    pub fn is_report_due(&self, unix_ms: u64) -> bool {
        let Some(parameters) = self.parameters else {
            return false;
        };
        let now = parameters.epoch_at(unix_ms);
        let due_ms = parameters.epoch_starts_ms(now) + parameters.epoch_ms / 4;
        unix_ms >= due_ms
            && self.reported != Some(now)
            && self.documents.iter().any(|one| one.epoch() == now)
    }

    /// What this node says of the nodes of this epoch's document: by link key, who `reached` says answered or did not.
    pub fn report(
        &mut self,
        unix_ms: u64,
        reached: &BTreeMap<[u8; 32], bool>,
    ) -> Option<SignedReport> {
        let now = self.epoch_at(unix_ms);
        let consensus = self.documents.iter().find(|one| one.epoch() == now)?;
        let marks = consensus.nodes().iter().map(|node| {
            let mark = |answered: &bool| match answered {
                true => Mark::Reachable,
                false => Mark::Unreachable,
            };
            reached.get(&node.link.x25519).map_or(Mark::NotMine, mark)
        });
        let report = Report {
            network: consensus.head().network,
            identity: self.identity.public(),
            epoch: now,
            marks: marks.collect(),
        };
        self.reported = Some(now);
        report.sign(&self.identity).ok()
    }

    /// Whether another host uses this identity: a document lists it with an address or key that is not this node's.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Looks whether a document that was made after this node, `started` in that epoch, could have said what it is knows it
    /// as what it is. Earlier ones know it as it was before a restart.
    fn compare(&mut self, consensus: &Consensus, started: u32) {
        let epoch = consensus.epoch();
        let Some(listed) = consensus.find(&self.identity.public()) else {
            return;
        };
        if epoch < started.saturating_add(2) {
            return;
        }
        let own = &self.profile;
        let key = self.keys.secret(epoch);
        let foreign = if listed.addresses != own.addresses {
            Some("address")
        } else if listed.link != own.link {
            Some("link key")
        } else if key.is_some_and(|key| *key.public_key() != listed.epoch_key) {
            Some("epoch key")
        } else {
            None
        };
        if let Some(what) = foreign {
            tracing::error!(
                epoch,
                what,
                "another host uses this identity: the document lists it with what is not this node's; stop the other \
                 host, or give one of them a state_dir of its own: two take each other's packets and void each other's \
                 replay protection"
            );
        }
        self.is_elsewhere = foreign.is_some();
    }

    fn newest(&self) -> Option<u32> {
        self.documents.last().map(Consensus::epoch)
    }

    /// Epochs whose documents are wanted now, oldest first: the current one and the next; before them the last one, if
    /// this node came back with a key of it, for its packets are still on their way.
    pub fn wanted(&self, unix_ms: u64) -> impl Iterator<Item = u32> + use<> {
        let now = self.epoch_at(unix_ms);
        let newest = self.newest();
        let last = now.checked_sub(1);
        let last = last.filter(|epoch| self.keys.secret(*epoch).is_some());
        [last, Some(now), now.checked_add(1)]
            .into_iter()
            .flatten()
            .filter(move |epoch| newest.is_none_or(|newest| *epoch > newest))
    }

    /// Takes up a verified document.
    ///
    /// # Errors
    /// If there is no memory for the replay table: the document is wanted again then.
    pub fn take_up<R: CryptoRng + ?Sized>(
        &mut self,
        consensus: Consensus,
        document: Vec<u8>,
        clocks: Clocks,
        rng: &mut R,
    ) -> io::Result<Arc<EpochState>> {
        let (epoch, parameters) = (consensus.epoch(), *consensus.parameters());
        let kept = consensus.clone();
        let started = *self
            .started
            .get_or_insert(parameters.epoch_at(clocks.unix_ms));
        // Of later epochs nobody had a session with this node as it was before.
        let came_back = self.keys.is_returned(epoch) && epoch <= started.saturating_add(1);
        let state = EpochState::new(
            consensus,
            document,
            &self.identity.public(),
            &mut self.keys,
            self.sizes,
            rng,
        )?;
        let chain = self.chain.as_ref().map(Chain::encode).unwrap_or_default();
        let state = state.after_a_restart(came_back).with_authorities(chain);
        let state = Arc::new(state);
        self.parameters = Some(parameters);
        let place = self.documents.partition_point(|one| one.epoch() < epoch);
        self.documents.insert(place, kept.clone());
        if self.documents.len() > DOCUMENTS_MAX {
            self.documents.remove(0);
        }
        self.compare(&kept, started);
        if let Some(last) = &mut self.leaving
            && state.own().is_some()
        {
            *last = epoch.max(*last);
        }
        let over_ms = parameters.epoch_ends_ms(epoch);
        self.lives.push(Life {
            epoch,
            state: Arc::downgrade(&state),
            refused_ns: clocks.boot_at(over_ms.saturating_add(parameters.grace_ms())),
            ends_ns: clocks.boot_at(over_ms.saturating_add(parameters.epoch_ms)),
            has_part: state.own().is_some(),
        });
        Ok(state)
    }

    /// Ends the epochs whose time has come and erases their keys: with the document of the next epoch when no packet of
    /// the old one is on its way any more, without it at the end of that epoch. To be called all the time.
    pub fn end_epochs(&mut self, boot_ns: u64) {
        self.keys.expire(boot_ns);
        let (documents, keys) = (&self.documents, &mut self.keys);
        self.lives.retain(|life| {
            // Of the very next one: where that was left out everybody goes on with this one to its end, and by then the
            // document after it is there.
            let mut epochs = documents.iter().map(Consensus::epoch);
            let is_followed = epochs.any(|epoch| life.epoch.checked_add(1) == Some(epoch));
            let over = boot_ns >= life.ends_ns || (is_followed && boot_ns >= life.refused_ns);
            if over {
                keys.erase(life.epoch);
                if let Some(state) = life.state.upgrade() {
                    state.end();
                }
            }
            !over
        });
    }

    /// One round over a store: learns the network, publishes the descriptor when it is due, ends what is over and
    /// returns the epoch to put in force, the oldest that is wanted. It is no more than one: a large document takes long,
    /// and between two rounds the service manager hears that the node lives. What can't be read or verified is reported
    /// and tried again in the next round.
    ///
    /// # Errors
    /// The store can't be used. What could be read of it comes first, and the error with the next round.
    pub fn turn<R: CryptoRng + ?Sized>(
        &mut self,
        store: &Store,
        clocks: Clocks,
        rng: &mut R,
    ) -> io::Result<Option<Arc<EpochState>>> {
        self.end_epochs(clocks.boot_ns);
        self.read_chain(store)?;
        let published = match self.describe(clocks, rng) {
            Some(descriptor) => store.publish_descriptor(&descriptor),
            None => Ok(()),
        };
        if published.is_err() {
            // Not known to anybody yet.
            self.published = None;
        }
        let mut outcome = published;
        for epoch in self.wanted(clocks.unix_ms) {
            match self.take_from(store, epoch, clocks, rng) {
                // Once taken up it is not wanted again: no error may keep it from the workers.
                Ok(Some(state)) => return Ok(Some(state)),
                Ok(None) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome.map(|()| None)
    }

    /// Takes up the chain of authority sets if it has changed; one that is of another network, or that says less than
    /// what is known, is refused.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn read_chain(&mut self, store: &Store) -> io::Result<()> {
        let Some(bytes) = store.read_authorities()? else {
            return Ok(());
        };
        if bytes == self.chain_bytes {
            return Ok(());
        }
        match Chain::decode(&bytes) {
            Ok(chain) if self.chain.as_ref().is_none_or(|held| chain.continues(held)) => {
                self.join(chain);
            }
            Ok(_) => tracing::warn!("refused authorities of another network, or older ones"),
            Err(error) => tracing::warn!(%error, "refused the authorities"),
        }
        // Looked at once, whatever it is.
        self.chain_bytes = bytes;
        Ok(())
    }

    fn take_from<R: CryptoRng + ?Sized>(
        &mut self,
        store: &Store,
        epoch: u32,
        clocks: Clocks,
        rng: &mut R,
    ) -> io::Result<Option<Arc<EpochState>>> {
        let Some(document) = store.read_consensus(epoch)? else {
            return Ok(None);
        };
        match self.verify(&document, epoch, clocks.unix_ms) {
            Ok(consensus) => self
                .take_up(consensus, document.encode(), clocks, rng)
                .map(Some),
            Err(error) => {
                tracing::warn!(epoch, %error, "refused a consensus");
                Ok(None)
            }
        }
    }

    fn verify(
        &self,
        document: &SignedConsensus,
        epoch: u32,
        unix_ms: u64,
    ) -> Result<Consensus, String> {
        let Some(chain) = &self.chain else {
            return Err("whose signatures count is not known yet".to_owned());
        };
        let documents: Vec<&Consensus> = self.documents.iter().collect();
        let held = Held {
            documents: &documents,
            newer_than: self.newest(),
            now: Some(self.epoch_at(unix_ms)),
        };
        let consensus = document
            .verify(chain, &held)
            .map_err(|error| error.to_string())?;
        match consensus.epoch() == epoch {
            true => Ok(consensus),
            false => Err(format!("it is the one of epoch {}", consensus.epoch())),
        }
    }
}
