//! The making of one document.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use directory::store::hex;
use directory::{
    Authorities, Consensus, ConsensusSignature, Held, SignedConsensus, SignedDescriptor,
    SignedReport, VerifyError,
};

use super::action::shown;
use super::{
    Action, COUNT, Message, Newest, News, Record, Refusal, Rounds, VOTE, relay_round, round_ms,
};
use crate::ballot::Ballot;
use crate::document;
use crate::relay::{Outcome, Relay, RelayedVote};
use crate::vote::{SignedVote, Vote};

/// Where the making of a document stands.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) epoch: u32,
    pub(super) authorities: Authorities,
    pub(super) generation: u16,
    /// This machine ran before the votes: one that did not signs nothing.
    whole: bool,
    /// It stood still for more than a round while votes were relayed: of what came meanwhile it took nothing.
    pub(super) slept: bool,
    /// How many of the epoch's steps are taken.
    pub(super) steps: usize,
    /// From the first moment that votes are taken to the count.
    pub(super) relay: Option<Relay>,
    /// That moment is past.
    pub(super) is_opened: bool,
    /// The votes that count, once the rounds are over and there are enough of them.
    votes: Option<Vec<Vote>>,
    /// Descriptors that are listed and not here yet, and those that came.
    lacking: BTreeSet<[u8; 32]>,
    fetched: BTreeMap<[u8; 32], SignedDescriptor>,
    /// What was computed here.
    pub(super) ours: Option<Consensus>,
    /// By author the first two over different digests.
    pub(super) signatures: BTreeMap<[u8; 32], Vec<ConsensusSignature>>,
    pub(super) published: bool,
    /// A lone authority that failed waits until then.
    again_ms: u64,
}

impl Making {
    pub(super) fn new(epoch: u32, authorities: Authorities, generation: u16, whole: bool) -> Self {
        Making {
            epoch,
            authorities,
            generation,
            whole,
            slept: false,
            steps: 0,
            relay: None,
            is_opened: false,
            votes: None,
            lacking: BTreeSet::new(),
            fetched: BTreeMap::new(),
            ours: None,
            signatures: BTreeMap::new(),
            published: false,
            again_ms: 0,
        }
    }

    /// Whether the document was computed here: it may be signed.
    pub(super) fn is_made(&self) -> bool {
        self.ours.is_some()
    }

    /// Takes votes from here on.
    pub(super) fn open(&mut self, network: [u8; 16]) {
        self.is_opened = true;
        let authorities = self.authorities.clone();
        self.relay = Some(Relay::new(
            authorities,
            network,
            self.generation,
            self.epoch,
        ));
    }
}

impl Rounds {
    /// This authority's vote about the document of `epoch`.
    fn own_vote(&self, epoch: u32) -> Result<SignedVote, String> {
        let descriptors: Vec<SignedDescriptor> = self.book.of_epoch(epoch).cloned().collect();
        let reports: Vec<SignedReport> = self.reports.iter().cloned().collect();
        let ballot = Ballot {
            chain: &self.chain,
            previous: self.newest.as_ref().map(|newest| &newest.consensus),
            epoch,
            admission: &self.admission,
            descriptors: &descriptors,
            reports: &reports,
            owners: &self.owners,
        };
        ballot.vote(&self.key).map_err(|error| error.to_string())
    }

    pub(super) fn vote(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let parameters = *self.parameters();
        let median_ms = self.offsets.median_ms();
        let Some(making) = &self.making else {
            return;
        };
        let epoch = making.epoch;
        let sat_out = |why: String| Action::Tell(News::SatOut { epoch, why });
        if making
            .authorities
            .keys()
            .binary_search(&self.key.public())
            .is_err()
        {
            return;
        }
        if !making.whole {
            actions.push(sat_out(
                "this process began in the middle of the rounds".to_owned(),
            ));
            return;
        }
        if median_ms.unsigned_abs() > round_ms(&parameters) / 4 {
            let why =
                format!("the others' clocks are {median_ms} ms ahead of this one: set it (NTP)");
            actions.push(sat_out(why));
            return;
        }
        let start_ms = parameters.epoch_starts_ms(epoch.saturating_sub(1));
        // Nobody takes a vote with one signature any more: who counted it alone would sign what nobody else does.
        if relay_round(now_ms.saturating_sub(start_ms), &parameters) > 1 {
            actions.push(sat_out(
                "this process stood still when votes were due".to_owned(),
            ));
            return;
        }
        let voted = self.own_vote(epoch).and_then(|vote| {
            let relay = self
                .making
                .as_mut()
                .and_then(|making| making.relay.as_mut());
            let relay = relay.ok_or("votes are not taken yet")?;
            let own = relay
                .begin(vote, &self.key)
                .map_err(|error| error.to_string())?;
            Ok(own.encode())
        });
        debug_assert!(now_ms >= start_ms + VOTE * round_ms(&parameters));
        match voted {
            Ok(vote) => actions.push(Action::Send {
                message: Message::Vote(vote),
                until_ms: start_ms + COUNT * round_ms(&parameters),
                every_ms: round_ms(&parameters) / 4,
            }),
            Err(why) => actions.push(sat_out(why)),
        }
    }

    pub(super) fn count(&mut self, actions: &mut Vec<Action>) {
        let Some(making) = self.making.as_mut() else {
            return;
        };
        let Some(relay) = making.relay.take() else {
            return;
        };
        let Outcome { votes, evidence } = relay.finish();
        let epoch = making.epoch;
        // The others may have had the vote that it lacks in time: it would sign what nobody else does.
        let is_wanting = making.slept && votes.len() < making.authorities.keys().len();
        for [one, other] in evidence {
            let author = one.vote().authority;
            let two = [one.bytes().to_vec(), other.bytes().to_vec()];
            actions.extend(shown(epoch, author, "votes", two));
        }
        if is_wanting {
            let why = "this process stood still between vote and count, and lacks a vote that others may have";
            actions.push(Action::Tell(News::NoDocument {
                epoch,
                why: why.to_owned(),
            }));
            return;
        }
        let votes = votes.iter().map(|vote| vote.vote().clone()).collect();
        self.count_votes(votes, actions);
    }

    fn count_votes(&mut self, votes: Vec<Vote>, actions: &mut Vec<Action>) {
        let previous = self.newest.as_ref().map(|newest| &newest.consensus);
        let Some(making) = &mut self.making else {
            return;
        };
        let epoch = making.epoch;
        let listed = match document::count(&self.chain, previous, epoch, &votes) {
            Ok(tally) => tally.nodes,
            Err(error) => {
                let why = error.to_string();
                actions.push(Action::Tell(News::NoDocument { epoch, why }));
                return;
            }
        };
        if listed.is_empty() {
            let why = "no quorum lists any node".to_owned();
            actions.push(Action::Tell(News::NoDocument { epoch, why }));
            return;
        }
        for entry in &listed {
            match self.book.by_digest(&entry.digest) {
                Some(held) => {
                    making.fetched.insert(entry.digest, held.clone());
                }
                None => {
                    making.lacking.insert(entry.digest);
                }
            }
        }
        making.votes = Some(votes);
        actions.extend(making.lacking.iter().map(|digest| Action::Fetch {
            from: None,
            digest: *digest,
        }));
        self.compute_if_whole(actions);
    }

    /// Whether a listed descriptor is waited for.
    pub(super) fn wants(&self, digest: &[u8; 32]) -> bool {
        let making = self.making.as_ref();
        making.is_some_and(|making| making.lacking.contains(digest))
    }

    /// A listed descriptor: a quorum vouches for it, its signature is its node's.
    pub(super) fn fetched(&mut self, digest: [u8; 32], bytes: &[u8]) -> Result<(), Refusal> {
        let descriptor = SignedDescriptor::verify(bytes).map_err(|_| Refusal::Signature)?;
        if let Some(making) = &mut self.making {
            making.lacking.remove(&digest);
            making.fetched.insert(digest, descriptor);
        }
        Ok(())
    }

    pub(super) fn compute_if_whole(&mut self, actions: &mut Vec<Action>) {
        let previous = self.newest.as_ref().map(|newest| &newest.consensus);
        let Some(making) = &mut self.making else {
            return;
        };
        if !making.lacking.is_empty() || making.ours.is_some() {
            return;
        }
        let Some(votes) = &making.votes else {
            return;
        };
        let epoch = making.epoch;
        let descriptors = making.fetched.iter();
        let descriptors = descriptors.map(|(digest, one)| (*digest, one.descriptor()));
        let descriptors = descriptors.collect();
        let consensus = match document::make(&self.chain, previous, epoch, votes, &descriptors) {
            Ok(consensus) => consensus,
            Err(error) => {
                let why = error.to_string();
                actions.push(Action::Tell(News::NoDocument { epoch, why }));
                return;
            }
        };
        let digest = *consensus.digest();
        making.ours = Some(consensus);
        let signs = making.whole && making.authorities.keys().contains(&self.key.public());
        match self.record {
            Some(record) if record.epoch >= epoch && record.digest != digest => {
                let why = format!(
                    "document {} was signed here before for epoch {}",
                    hex(&record.digest),
                    record.epoch
                );
                actions.push(Action::Tell(News::NoDocument { epoch, why }));
            }
            _ if signs => actions.push(Action::Record(Record { epoch, digest })),
            _ => {}
        }
        self.publish_if_signed(actions);
    }

    pub(super) fn hold(&mut self, newest: Newest, actions: &mut Vec<Action>) {
        actions.push(Action::Publish {
            epoch: newest.consensus.epoch(),
            document: newest.signed.encode(),
        });
        let consensus = &newest.consensus;
        self.owners.learn(consensus);
        self.reports.begin(consensus);
        self.missed_proofs
            .retain(|identity, _| consensus.find(identity).is_some());
        let head = consensus.head();
        let before = self.newest.as_ref().map(|held| &held.consensus);
        // Where others made the document before, nobody here can say who knew its beacon.
        let before = before.filter(|before| before.epoch() == head.previous.epoch);
        let knew =
            |node: &&directory::Node| before.is_some_and(|before| before.lists(node).is_some());
        let mut nodes = consensus.nodes().iter();
        // Where not one brought a proof the document before was late to all of them: that is nobody's choice.
        let was_known = nodes.any(|node| node.vrf_proof.is_some());
        let silent = consensus.nodes().iter().filter(|node| node.withholds());
        for node in silent.filter(|_| was_known).filter(knew) {
            let missed = self.missed_proofs.entry(node.identity).or_default();
            *missed = missed.saturating_add(1);
        }
        self.newest = Some(newest);
    }

    /// Another authority's newest document: taken over if it is newer than what is held here.
    ///
    /// # Errors
    /// It breaks a rule.
    pub fn document(&mut self, bytes: &[u8], now_ms: u64) -> Result<Vec<Action>, Refusal> {
        let signed = SignedConsensus::decode(bytes).map_err(|_| Refusal::Malformed)?;
        let held: Vec<&Consensus> = self.newest.iter().map(|held| &held.consensus).collect();
        if self
            .newest
            .as_ref()
            .is_some_and(|held| held.signed.digest() == signed.digest())
        {
            return Ok(Vec::new());
        }
        let newest = self.newest.as_ref().map(|held| held.consensus.epoch());
        let context = Held {
            documents: &held,
            newer_than: newest,
            now: Some(self.parameters().epoch_at(now_ms)),
        };
        let consensus = match signed.verify(&self.chain, &context) {
            Ok(consensus) => consensus,
            Err(VerifyError::RolledBack { .. }) => return Ok(Vec::new()),
            Err(_) => return Err(Refusal::Document),
        };
        let epoch = consensus.epoch();
        let mut actions = vec![Action::Tell(News::TakenOver(epoch))];
        if let Some(making) = self.making.as_mut().filter(|making| making.epoch <= epoch) {
            making.published = true;
        }
        self.hold(Newest { consensus, signed }, &mut actions);
        Ok(actions)
    }

    /// What is still missing when the time for fetching is over: no document from here.
    pub(super) fn give_up(&mut self, actions: &mut Vec<Action>) {
        let Some(making) = &mut self.making else {
            return;
        };
        if making.lacking.is_empty() {
            return;
        }
        let (epoch, missing) = (making.epoch, making.lacking.len());
        let why = format!("{missing} listed descriptors could be had from nobody");
        making.lacking.clear();
        making.votes = None;
        actions.push(Action::Tell(News::NoDocument { epoch, why }));
    }

    /// Which document a lone authority makes at `now_ms`: of this epoch if there is none, and from the time of votes on of
    /// the next; none before somebody could be listed in it.
    pub(super) fn due_alone(&self, now_ms: u64) -> Option<u32> {
        let parameters = self.parameters();
        let now = parameters.epoch_at(now_ms);
        let from_ms = parameters.epoch_starts_ms(now) + VOTE * round_ms(parameters);
        let next = now.checked_add(1).filter(|_| now_ms >= from_ms);
        let held = self.newest.as_ref().map(|held| held.consensus.epoch());
        let mut missing = [Some(now), next]
            .into_iter()
            .flatten()
            .filter(|epoch| held.is_none_or(|held| held < *epoch));
        missing.find(|epoch| self.book.of_epoch(*epoch).next().is_some())
    }

    /// Makes a lone authority's document; where it fails, again a round later.
    pub(super) fn make_alone(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let again_ms = now_ms + round_ms(self.parameters());
        let Some(making) = self
            .making
            .as_mut()
            .filter(|making| making.ours.is_none() && making.again_ms <= now_ms)
        else {
            return;
        };
        making.again_ms = again_ms;
        let epoch = making.epoch;
        match self.own_vote(epoch) {
            Ok(vote) => self.count_votes(vec![vote.vote().clone()], actions),
            Err(why) => actions.push(Action::Tell(News::SatOut { epoch, why })),
        }
    }
}

impl Rounds {
    /// A relayed vote.
    ///
    /// # Errors
    /// It does not count.
    pub fn relayed(&mut self, bytes: &[u8], now_ms: u64) -> Result<Vec<Action>, Refusal> {
        let parameters = *self.parameters();
        let now = parameters.epoch_at(now_ms);
        let start_ms = parameters.epoch_starts_ms(now);
        // Who sends it may have a clock that is a little ahead.
        let making = self.making.as_mut().ok_or(Refusal::Early)?;
        match RelayedVote::peek_epoch(bytes)?.cmp(&making.epoch) {
            Ordering::Greater => return Err(Refusal::Early),
            Ordering::Less => return Err(Refusal::Epoch),
            Ordering::Equal if making.epoch != now.saturating_add(1) => return Err(Refusal::Epoch),
            Ordering::Equal => {}
        }
        let not_open = match making.is_opened {
            true => Refusal::Epoch,
            false => Refusal::Early,
        };
        let relay: &mut Relay = making.relay.as_mut().ok_or(not_open)?;
        let vote = RelayedVote::verify(bytes, &making.authorities)?;
        let round = relay_round(now_ms.saturating_sub(start_ms), &parameters);
        let news = relay.take(round, vote, &self.key)?;
        Ok(news
            .map(|relayed| Action::Send {
                message: Message::Vote(relayed.encode()),
                until_ms: start_ms + COUNT * round_ms(&parameters),
                every_ms: round_ms(&parameters) / 4,
            })
            .into_iter()
            .collect())
    }
}
