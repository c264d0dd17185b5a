//! An authority's work through an epoch: what to pull, send, relay, count, sign and publish, and when.
//!
//! A state machine without a clock, disk or network. Whoever runs it calls [`Rounds::advance`] all the time and hands in
//! what comes; every call answers with what is to be done, in order. An epoch e has 32 rounds of R = E / 32, and the
//! document of e + 1 is made in it:
//!
//! | at (x R) | what |
//! |---|---|
//! | 10, 15 | ask the others for the time |
//! | 12, 14 | pull descriptors and a newer document from the others |
//! | 16 | vote, unless this clock is off |
//! | 16 - 19 | relay votes: [`crate::relay`] |
//! | 19 - 20 | count, fetch listed descriptors that are missing, compute; record the digest, then sign it |
//! | - 31 | merge signatures, publish at the quorum; whoever has no document asks the others |
//!
//! A lone authority waits for nobody: it makes the document of this epoch if there is none, and from 16 R on the next.

mod action;
mod clock;
pub(crate) mod listing;
mod making;
mod signing;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use directory::authority_set::{Chain, Member, SetError};
use directory::{Authorities, Identity, Parameters, SignedReport};

use crate::admission::{Admission, Refusal as Unlisted};
use crate::book::{Book, DescriptorRefusal, Hour, rank};
use crate::claims::Owners;
use crate::reports::{ReportRefusal, Reports};
pub use action::{Action, Message, Newest, News, Record, Refusal};
use clock::{Offsets, relay_round};
pub use listing::LISTING_BYTES_MAX;
use listing::Listing;
use making::Making;

/// Rounds of an epoch.
const ROUNDS_EPOCH: u64 = 32;
/// What comes up to this round of an epoch gets into the next document.
pub const UPLOADED_ROUNDS: u64 = 12;
/// Votes are taken from here on.
const EARLY: u64 = 15;
const VOTE: u64 = 16;
const COUNT: u64 = 19;
/// Signatures are sent until here.
const SENT: u64 = 31;

/// What falls due in an epoch, at which round.
const STEPS: &[(u64, Step)] = &[
    (10, Step::AskTime),
    (12, Step::Pull),
    (14, Step::Pull),
    (EARLY, Step::Open),
    (VOTE, Step::Vote),
    (COUNT, Step::Count),
    (20, Step::GiveUp),
    (22, Step::Missing),
    (26, Step::Missing),
    (30, Step::Missing),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    AskTime,
    Pull,
    Open,
    Vote,
    Count,
    GiveUp,
    Missing,
}

/// An authority through the epochs.
#[derive(Debug)]
pub struct Rounds {
    key: Identity,
    chain: Chain,
    admission: Admission,
    book: Book,
    reports: Reports,
    /// The newest document held; none before a network's first.
    newest: Option<Newest>,
    record: Option<Record>,
    offsets: Offsets,
    owners: Owners,
    /// Of the mixes in the newest document, in how many documents each was listed without a proof, while others brought
    /// theirs, since this machine began.
    missed_proofs: BTreeMap<[u8; 32], u32>,
    /// Since when this machine has run, by its clock of now.
    since_ms: u64,
    /// When time was last let pass.
    advanced_ms: u64,
    making: Option<Making>,
}

impl Rounds {
    /// An authority that begins at `now_ms` with the newest document it holds and what it signed last.
    pub fn new(
        key: Identity,
        chain: Chain,
        admission: Admission,
        newest: Option<Newest>,
        record: Option<Record>,
        now_ms: u64,
    ) -> Rounds {
        let mut owners = Owners::default();
        newest.iter().for_each(|held| owners.learn(&held.consensus));
        Rounds {
            key,
            chain,
            admission,
            book: Book::default(),
            reports: Reports::default(),
            newest,
            record,
            offsets: Offsets::default(),
            owners,
            missed_proofs: BTreeMap::new(),
            since_ms: now_ms,
            advanced_ms: now_ms,
            making: None,
        }
    }

    /// The network's parameters.
    pub fn parameters(&self) -> &Parameters {
        self.chain.parameters()
    }

    /// Who the authorities are and were.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The descriptors held.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The newest document held.
    pub fn newest(&self) -> Option<&Newest> {
        self.newest.as_ref()
    }

    /// Remembers who had what before this machine began.
    pub fn remember(&mut self, owners: Owners) {
        self.owners.join(owners);
    }

    /// Who had what in the documents held and remembered.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Of the mixes in the newest document, in how many documents each that the one before listed with its key brought no
    /// proof since this machine began; one in which not one mix brought any does not count. The operator may see a pattern: each time the mix may have known the others' places.
    pub fn missed_proofs(&self) -> &BTreeMap<[u8; 32], u32> {
        &self.missed_proofs
    }

    /// Whether everyone may see the descriptors that are meant for the document of `epoch`: from the votes about it on.
    /// Before that their proofs would tell a mix that has not uploaded yet where it and the others would be put; the
    /// other authorities see them at any time.
    pub fn shows(&self, epoch: u32, now_ms: u64) -> bool {
        let parameters = self.parameters();
        let before = epoch.checked_sub(1);
        before.is_none_or(|before| {
            now_ms >= parameters.epoch_starts_ms(before) + VOTE * round_ms(parameters)
        })
    }

    /// Puts another list of admitted nodes in force.
    pub fn admit(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Takes further authority sets up. A document of which another set is to sign now is begun anew, unless it is made.
    ///
    /// # Errors
    /// The chain is of another network, or has another set of a generation that is held.
    pub fn follow(&mut self, chain: Chain) -> Result<(), SetError> {
        for set in chain.sets() {
            self.chain.extend(set.clone())?;
        }
        let of = |making: &Making| self.chain.at(making.epoch).map(|set| set.generation);
        if self
            .making
            .as_ref()
            .is_some_and(|making| !making.is_made() && of(making) != Some(making.generation))
        {
            self.making = None;
        }
        Ok(())
    }

    /// Others that this authority talks to about the document that is made now.
    pub fn peers(&self, now_ms: u64) -> Vec<Member> {
        let target = self.parameters().epoch_at(now_ms).saturating_add(1);
        let own = self.key.public();
        let set = self.chain.at(target);
        set.into_iter()
            .flat_map(|set| &set.members)
            .filter(|member| member.key != own)
            .cloned()
            .collect()
    }

    /// Lets time pass.
    pub fn advance(&mut self, now_ms: u64) -> Vec<Action> {
        let parameters = *self.parameters();
        let mut actions = Vec::new();
        if now_ms < parameters.genesis_unix_ms {
            return actions;
        }
        let now = parameters.epoch_at(now_ms);
        let start_ms = parameters.epoch_starts_ms(now);
        // A clock that was set back says of a beginning before that that it is yet to come.
        self.since_ms = self.since_ms.min(now_ms);
        let before_ms = std::mem::replace(&mut self.advanced_ms, now_ms);
        let next = now.saturating_add(1);
        let alone = self.is_alone_at(next);
        let target = match alone.then(|| self.due_alone(now_ms)) {
            Some(Some(due)) => due,
            _ => next,
        };
        if self
            .making
            .as_ref()
            .is_none_or(|making| making.epoch != target)
        {
            self.book.forget(now, &self.admission);
            let Some((authorities, generation)) = self.authorities_at(target) else {
                return actions;
            };
            let whole = alone || self.since_ms < start_ms + VOTE * round_ms(&parameters);
            self.making = Some(Making::new(target, authorities, generation, whole));
        }
        if alone {
            if self.due_alone(now_ms) == Some(target) {
                self.make_alone(now_ms, &mut actions);
            }
            return actions;
        }
        let at = |round: u64| start_ms + round * round_ms(&parameters);
        if let Some(making) = &mut self.making
            && now_ms.saturating_sub(before_ms) > round_ms(&parameters)
            && before_ms < at(COUNT)
            && now_ms > at(VOTE + 1)
        {
            making.slept = true;
        }
        while let Some(step) = self.due(now_ms - start_ms, &parameters) {
            self.take_step(step, now_ms, &mut actions);
        }
        actions
    }

    fn due(&mut self, elapsed_ms: u64, parameters: &Parameters) -> Option<Step> {
        let making = self.making.as_mut()?;
        let (at, step) = STEPS.get(making.steps)?;
        if elapsed_ms < at * round_ms(parameters) {
            return None;
        }
        making.steps += 1;
        Some(*step)
    }

    fn take_step(&mut self, step: Step, now_ms: u64, actions: &mut Vec<Action>) {
        let Some(epoch) = self.making.as_ref().map(|making| making.epoch) else {
            return;
        };
        match step {
            Step::AskTime => {
                self.offsets = Offsets::default();
                actions.push(Action::AskTime);
            }
            Step::Pull => {
                actions.push(Action::PullDocument);
                actions.push(Action::PullDescriptors(epoch));
            }
            Step::Open => {
                let network = *self.chain.network();
                if let Some(making) = &mut self.making {
                    making.open(network);
                }
                self.offsets = Offsets::default();
                actions.push(Action::AskTime);
            }
            Step::Vote => self.vote(now_ms, actions),
            Step::Count => self.count(actions),
            Step::GiveUp => self.give_up(actions),
            Step::Missing => {
                if self
                    .newest
                    .as_ref()
                    .is_none_or(|held| held.consensus.epoch() < epoch)
                {
                    actions.push(Action::PullDocument);
                }
            }
        }
    }

    /// The set that signs the document of `epoch`, and its generation.
    fn authorities_at(&self, epoch: u32) -> Option<(Authorities, u16)> {
        let set = self.chain.at(epoch)?;
        Some((set.authorities().ok()?, set.generation))
    }

    fn is_alone_at(&self, epoch: u32) -> bool {
        let set = self.chain.at(epoch);
        set.is_some_and(
            |set| matches!(set.members.as_slice(), [one] if one.key == self.key.public()),
        )
    }

    /// A descriptor that its node uploaded, or that another authority sent.
    ///
    /// # Errors
    /// It is not taken.
    pub fn descriptor(&mut self, bytes: &[u8], now_ms: u64) -> Result<Vec<Action>, Refusal> {
        let mut actions = Vec::new();
        let digest = *blake3::hash(bytes).as_bytes();
        if self.wants(&digest) {
            self.fetched(digest, bytes)?;
            self.compute_if_whole(&mut actions);
            return Ok(actions);
        }
        self.enter(bytes, now_ms, UPLOADED_ROUNDS)?;
        Ok(actions)
    }

    /// A descriptor or report that was asked for after another authority listed it: it came in time there.
    ///
    /// # Errors
    /// It is not taken.
    pub fn pulled(&mut self, bytes: &[u8], now_ms: u64) -> Result<Vec<Action>, Refusal> {
        if SignedReport::claimed_identity(bytes).is_some() {
            return self.take_report(bytes, now_ms, VOTE);
        }
        if self.wants(blake3::hash(bytes).as_bytes()) {
            return self.descriptor(bytes, now_ms);
        }
        self.enter(bytes, now_ms, VOTE)?;
        Ok(Vec::new())
    }

    /// What comes up to round `last` of an epoch may get into the document after it, the rest into the one after that. A
    /// lone authority takes what is for the next document at any time, and for this epoch's while there is none.
    fn enter(&mut self, bytes: &[u8], now_ms: u64, last: u64) -> Result<(), DescriptorRefusal> {
        let parameters = *self.parameters();
        let now = parameters.epoch_at(now_ms);
        let elapsed_ms = now_ms.saturating_sub(parameters.epoch_starts_ms(now));
        let alone = self.is_alone_at(now.saturating_add(1));
        let ahead = match alone || elapsed_ms < last * round_ms(&parameters) {
            true => 1,
            false => 2,
        };
        let hour = |target| Hour {
            now,
            target,
            unix_ms: now_ms,
            epoch_ms: parameters.epoch_ms,
        };
        if alone
            && self
                .newest
                .as_ref()
                .is_none_or(|held| held.consensus.epoch() < now)
        {
            let taken = self
                .book
                .take(bytes, &self.chain, &self.admission, hour(now));
            if taken != Err(DescriptorRefusal::Listing(Unlisted::Epoch)) {
                return taken;
            }
        }
        let hour = hour(now.saturating_add(ahead));
        self.book.take(bytes, &self.chain, &self.admission, hour)
    }

    /// What another authority holds: descriptors that are newer than what is held here are fetched from it, and reports of
    /// whom none is.
    ///
    /// # Errors
    /// Not the encoding of a list.
    pub fn listing(&mut self, from: [u8; 32], bytes: &[u8]) -> Result<Vec<Action>, Refusal> {
        let listed = Listing::decode(bytes).map_err(|_| Refusal::Malformed)?;
        let Some(making) = &self.making else {
            return Ok(Vec::new());
        };
        let held = self.book.of_epoch(making.epoch);
        let held: BTreeMap<_, _> = held.map(|held| (held.identity, rank(held))).collect();
        let wanted = listed
            .descriptors
            .into_iter()
            .filter(|(identity, published, digest)| {
                let theirs = (*published, Reverse(*digest));
                let news = held.get(identity).is_none_or(|held| theirs > *held);
                news && self.admission.knows(identity)
            });
        let reports = listed
            .reports
            .into_iter()
            .filter(|(author, _)| !self.reports.is_of(author) && self.admission.knows(author));
        let digests = wanted.map(|(_, _, digest)| digest);
        let digests = digests.chain(reports.map(|(_, digest)| digest));
        Ok(digests
            .map(|digest| Action::Fetch {
                from: Some(from),
                digest,
            })
            .collect())
    }

    /// Which descriptors are held here for the document of `epoch`, and which reports.
    pub fn list(&self, epoch: u32) -> Vec<u8> {
        let held = self.book.of_epoch(epoch);
        let descriptors = held.map(|held| (held.identity, held.published_unix_ms, held.digest()));
        let reports = self.reports.iter();
        let reports = reports.map(|report| (report.identity, report.digest()));
        Listing {
            descriptors: descriptors.collect(),
            reports: reports.collect(),
        }
        .encode()
    }

    /// A descriptor or report that is held here, by its digest.
    pub fn by_digest(&self, digest: &[u8; 32]) -> Option<&[u8]> {
        if let Some(descriptor) = self.book.by_digest(digest) {
            return Some(descriptor.bytes());
        }
        let mut reports = self.reports.iter();
        let report = reports.find(|report| report.digest() == *digest);
        report.map(SignedReport::bytes)
    }

    /// A report that its node uploaded: it counts in the next vote.
    ///
    /// # Errors
    /// It is not taken.
    pub fn report(&mut self, bytes: &[u8], now_ms: u64) -> Result<Vec<Action>, Refusal> {
        self.take_report(bytes, now_ms, UPLOADED_ROUNDS)
    }

    fn take_report(
        &mut self,
        bytes: &[u8],
        now_ms: u64,
        last: u64,
    ) -> Result<Vec<Action>, Refusal> {
        let parameters = *self.parameters();
        let now = parameters.epoch_at(now_ms);
        let elapsed_ms = now_ms.saturating_sub(parameters.epoch_starts_ms(now));
        let newest = self.newest.as_ref().map(|newest| &newest.consensus);
        let newest = newest.filter(|newest| newest.epoch() == now);
        let newest = newest.ok_or(ReportRefusal::Epoch)?;
        if elapsed_ms >= last * round_ms(&parameters) {
            return Err(ReportRefusal::Epoch.into());
        }
        self.reports.take(bytes, newest, &self.admission)?;
        Ok(Vec::new())
    }

    /// What another authority's clock said: how far it is ahead of this one, milliseconds, half the way there allowed for.
    pub fn time(&mut self, from: [u8; 32], ahead_ms: i64) {
        self.offsets.insert(from, ahead_ms);
    }
}

fn round_ms(parameters: &Parameters) -> u64 {
    parameters.epoch_ms / ROUNDS_EPOCH
}
