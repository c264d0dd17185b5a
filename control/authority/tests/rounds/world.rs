//! Authorities and nodes under one clock and one seed: messages take their time, some authorities lie.

use std::collections::{BTreeMap, BTreeSet};

use authority::admission::Admission;
use authority::relay::Relay;
use authority::round::{Action, Message, News, Record, Rounds};
use authority::vote::SignedVote;
use directory::beacon::layer_input;
use directory::store::unhex;
use directory::vrf::VrfSecret;
use directory::{
    Chain, Consensus, ConsensusSignature, Descriptor, EpochKey, Identity, LinkKey, Parameters, Role,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub const ROUND_MS: u64 = 100;
pub const EPOCH_MS: u64 = 32 * ROUND_MS;
const GENESIS_MS: u64 = 1_000_000;
const STEP_MS: u64 = 5;

pub const PARAMETERS: Parameters = Parameters {
    genesis_unix_ms: GENESIS_MS,
    epoch_ms: EPOCH_MS,
    mean_delay_us: 20_000,
    client_rate_pps: 100,
    layers: 3,
};

/// How an authority behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Honest,
    /// Neither hears nor speaks.
    Silent,
    /// What it sends comes up to four rounds late, and not to all.
    Late,
    /// Signs two votes and two documents and sends them to whom it likes when it likes.
    Lying,
}

enum Event {
    Vote(Vec<u8>),
    Signature(Vec<u8>),
    Upload(Vec<u8>),
    Pulled(Vec<u8>),
    Listing(usize, Vec<u8>),
    Document(Vec<u8>),
    Time(usize, i64),
}

pub struct Authority {
    pub kind: Kind,
    pub rounds: Rounds,
    pub ahead_ms: i64,
    pub record: Option<Record>,
    /// Digests it signed, by epoch.
    pub signed: BTreeMap<u32, BTreeSet<[u8; 32]>>,
    pub published: BTreeMap<u32, Vec<u8>>,
    pub evidence: BTreeSet<(u32, [u8; 32])>,
    pub news: Vec<News>,
}

/// Epoch, digest and count of nodes of a document.
pub type Document = (u32, [u8; 32], usize);

pub struct World {
    pub now_ms: u64,
    pub chain: Chain,
    pub authorities: Vec<Authority>,
    /// Whom nodes upload to; all unless told otherwise.
    pub uploaded: BTreeMap<u16, Vec<usize>>,
    /// Who brings its proof; the others bring none.
    pub proving: BTreeSet<u16>,
    /// Authorities that pull nothing.
    pub deaf_to_listings: BTreeSet<usize>,
    /// Authorities whose processes stand still.
    pub stopped: BTreeSet<usize>,
    /// Authorities that can't write down what they sign.
    pub full: BTreeSet<usize>,
    nodes: u16,
    events: BTreeMap<(u64, u64), (usize, Event)>,
    sequence: u64,
    rng: ChaCha20Rng,
}

pub fn key(number: usize) -> Identity {
    Identity::from_bytes(&[u8::try_from(number).unwrap() + 1; 32])
}

pub fn chain(count: usize) -> Chain {
    let keys: Vec<Identity> = (0..count).map(key).collect();
    crate::network::chain_of(PARAMETERS, &keys)
}

fn member_key(number: u16, what: &str) -> [u8; 32] {
    blake3::derive_key(what, &number.to_be_bytes())
}

/// What node `number` says of itself at `now_ms`, for the next epoch and the one after; with a proof over the document
/// `before` if it has one.
fn descriptor(chain: &Chain, number: u16, now_ms: u64, before: Option<&Consensus>) -> Vec<u8> {
    let identity = Identity::from_bytes(&member_key(number, "identity"));
    let next = PARAMETERS.epoch_at(now_ms) + 1;
    let epoch_key = |epoch: u32| EpochKey {
        epoch,
        public_key: blake3::derive_key(
            "epoch",
            &[u32::from(number), epoch].map(u32::to_be_bytes).concat(),
        ),
    };
    let role = if number < 2 { Role::Gateway } else { Role::Mix };
    let vrf = VrfSecret::from_bytes(&member_key(number, "vrf"));
    let proof = |before: &Consensus| {
        let input = layer_input(chain.network(), next, &before.as_previous().beacon);
        vrf.prove(&input).unwrap()
    };
    let descriptor = Descriptor {
        network: *chain.network(),
        identity: identity.public(),
        role,
        operator: format!("operator-{number}"),
        addresses: vec![([10, 0, u8::try_from(number).unwrap(), 1], 9_000).into()],
        link: LinkKey {
            x25519: member_key(number, "link"),
            kem: Box::new([1; 1_184]),
        },
        epoch_keys: vec![epoch_key(next), epoch_key(next + 1)],
        capacity_pps: 1_000,
        vrf_key: vrf.public(),
        vrf_proof: before.map(proof),
        flags: 0,
        published_unix_ms: now_ms,
    };
    descriptor.sign(&identity).unwrap().bytes().to_vec()
}

impl World {
    pub fn new(kinds: &[Kind], seed: u64) -> World {
        let chain = chain(kinds.len());
        let authority = |(number, kind): (usize, &Kind)| Authority {
            kind: *kind,
            rounds: Rounds::new(
                key(number),
                chain.clone(),
                Admission::Open,
                None,
                None,
                GENESIS_MS,
            ),
            ahead_ms: 0,
            record: None,
            signed: BTreeMap::new(),
            published: BTreeMap::new(),
            evidence: BTreeSet::new(),
            news: Vec::new(),
        };
        World {
            now_ms: GENESIS_MS,
            authorities: kinds.iter().enumerate().map(authority).collect(),
            chain,
            uploaded: BTreeMap::new(),
            proving: BTreeSet::new(),
            deaf_to_listings: BTreeSet::new(),
            stopped: BTreeSet::new(),
            full: BTreeSet::new(),
            nodes: 6,
            events: BTreeMap::new(),
            sequence: 0,
            rng: ChaCha20Rng::seed_from_u64(seed),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    fn clock(&self, number: usize) -> u64 {
        self.now_ms
            .saturating_add_signed(self.authorities[number].ahead_ms)
    }

    fn later(&mut self, delay_ms: u64, to: usize, event: Event) {
        self.sequence += 1;
        self.events
            .insert((self.now_ms + delay_ms, self.sequence), (to, event));
    }

    /// Starts an authority anew, with what its disk has.
    pub fn restart(&mut self, number: usize) {
        let now_ms = self.clock(number);
        let authority = &mut self.authorities[number];
        let newest = authority.rounds.newest().cloned();
        authority.rounds = Rounds::new(
            key(number),
            self.chain.clone(),
            Admission::Open,
            newest,
            authority.record,
            now_ms,
        );
    }

    pub fn run_until(&mut self, end_ms: u64) {
        while self.now_ms < end_ms {
            let into_ms = (self.now_ms - GENESIS_MS) % EPOCH_MS;
            if into_ms == 2 * ROUND_MS {
                self.upload();
            }
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now_ms
            {
                let (to, event) = entry.remove();
                match self.stopped.contains(&to) {
                    // It waits for its process.
                    true => self.later(STEP_MS, to, event),
                    false => self.deliver(to, event),
                }
            }
            for number in 0..self.authorities.len() {
                if self.stopped.contains(&number) {
                    continue;
                }
                let now_ms = self.clock(number);
                let actions = self.authorities[number].rounds.advance(now_ms);
                self.perform(number, actions);
            }
            self.now_ms += STEP_MS;
        }
    }

    pub fn run_epochs(&mut self, count: u64) {
        let done = (self.now_ms - GENESIS_MS) / EPOCH_MS;
        self.run_until(GENESIS_MS + (done + count) * EPOCH_MS);
    }

    fn upload(&mut self) {
        for node in 0..self.nodes {
            let newest = self.authorities[0].rounds.newest();
            let before = newest.filter(|_| self.proving.contains(&node));
            let before = before.map(|held| &held.consensus);
            let bytes = descriptor(&self.chain, node, self.now_ms, before);
            let all = (0..self.authorities.len()).collect();
            for to in self.uploaded.get(&node).cloned().unwrap_or(all) {
                let delay_ms = self.below(ROUND_MS);
                self.later(delay_ms, to, Event::Upload(bytes.clone()));
            }
        }
    }

    fn deliver(&mut self, to: usize, event: Event) {
        let now_ms = self.clock(to);
        let authority = &mut self.authorities[to];
        if authority.kind == Kind::Silent {
            return;
        }
        let rounds = &mut authority.rounds;
        let taken = match event {
            Event::Vote(bytes) => rounds.relayed(&bytes, now_ms),
            Event::Signature(bytes) => rounds.signature(&bytes),
            Event::Upload(bytes) => rounds.descriptor(&bytes, now_ms),
            Event::Pulled(bytes) => rounds.pulled(&bytes, now_ms),
            Event::Listing(from, bytes) => rounds.listing(key(from).public(), &bytes),
            Event::Document(bytes) => rounds.document(&bytes, now_ms),
            Event::Time(from, ahead_ms) => {
                rounds.time(key(from).public(), ahead_ms);
                Ok(Vec::new())
            }
        };
        // What is refused has no consequence.
        self.perform(to, taken.unwrap_or_default());
    }

    fn perform(&mut self, number: usize, actions: Vec<Action>) {
        let own = &self.authorities[number];
        if own.kind == Kind::Silent {
            return;
        }
        for action in actions {
            match action {
                Action::AskTime => self.ask(number, |world, other| {
                    let ahead_ms =
                        world.authorities[other].ahead_ms - world.authorities[number].ahead_ms;
                    Some(Event::Time(other, ahead_ms))
                }),
                Action::PullDocument => self.ask(number, |world, other| {
                    let newest = world.authorities[other].rounds.newest()?;
                    Some(Event::Document(newest.signed.encode()))
                }),
                Action::PullDescriptors(_) if self.deaf_to_listings.contains(&number) => {}
                Action::PullDescriptors(epoch) => self.ask(number, |world, other| {
                    Some(Event::Listing(
                        other,
                        world.authorities[other].rounds.list(epoch),
                    ))
                }),
                Action::Fetch { from, digest } => self.ask(number, |world, other| {
                    let asked = from.is_none_or(|from| from == key(other).public());
                    let held = world.authorities[other].rounds.by_digest(&digest);
                    held.filter(|_| asked)
                        .map(|held| Event::Pulled(held.to_vec()))
                }),
                Action::Send { message, .. } => self.send(number, message),
                Action::Record(record) if self.full.contains(&number) => {
                    self.authorities[number].rounds.unrecorded(record);
                }
                Action::Record(record) => {
                    self.authorities[number].record = Some(record);
                    let more = self.authorities[number].rounds.recorded(record);
                    self.perform(number, more);
                }
                Action::Publish { epoch, document } => {
                    self.authorities[number].published.insert(epoch, document);
                }
                Action::Evidence { epoch, author, two } => {
                    assert_ne!(two[0], two[1]);
                    self.authorities[number].evidence.insert((epoch, author));
                }
                Action::Tell(news) => self.authorities[number].news.push(news),
            }
        }
    }

    /// Asks every other authority that answers; half a round passes at most.
    fn ask(&mut self, number: usize, answer: impl Fn(&World, usize) -> Option<Event>) {
        for other in 0..self.authorities.len() {
            if other == number || self.authorities[other].kind == Kind::Silent {
                continue;
            }
            if let Some(event) = answer(self, other) {
                let delay_ms = self.below(ROUND_MS / 2);
                self.later(delay_ms, number, event);
            }
        }
    }

    fn send(&mut self, number: usize, message: Message) {
        if let Message::Signature(bytes) = &message {
            let signature = ConsensusSignature::decode(bytes).unwrap();
            if signature.authority == key(number).public() {
                let signed = self.authorities[number]
                    .signed
                    .entry(signature.epoch)
                    .or_default();
                signed.insert(signature.digest);
            }
        }
        let kind = self.authorities[number].kind;
        let mut versions = vec![message];
        if kind == Kind::Lying {
            versions.extend(self.second(number, &versions[0]));
        }
        for other in 0..self.authorities.len() {
            if other == number {
                continue;
            }
            for message in versions.clone() {
                let chosen = kind == Kind::Honest || !self.below(4).is_multiple_of(4);
                let within_ms = match kind {
                    Kind::Honest | Kind::Silent => ROUND_MS / 2 - STEP_MS,
                    Kind::Late | Kind::Lying => 4 * ROUND_MS,
                };
                let delay_ms = self.below(within_ms);
                let event = match message {
                    Message::Vote(bytes) => Event::Vote(bytes),
                    Message::Signature(bytes) => Event::Signature(bytes),
                };
                if chosen {
                    self.later(delay_ms, other, event);
                }
            }
        }
    }

    /// What a liar says to others in place of `message`, if it is its own.
    fn second(&mut self, number: usize, message: &Message) -> Option<Message> {
        let own = key(number);
        match message {
            Message::Vote(bytes) => {
                // "FXN1" | vote length 4 | vote | …
                let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
                let vote = SignedVote::verify(&bytes[8..8 + length]).unwrap();
                let mut vote = vote.vote().clone();
                if vote.authority != own.public() {
                    return None;
                }
                vote.nodes.pop();
                let (generation, epoch) = (vote.generation, vote.epoch);
                let authorities = self.chain.at(epoch).unwrap().authorities().unwrap();
                let mut relay = Relay::new(authorities, *self.chain.network(), generation, epoch);
                let relayed = relay.begin(vote.sign(&own).unwrap(), &own).unwrap();
                Some(Message::Vote(relayed.encode()))
            }
            Message::Signature(bytes) => {
                let signature = ConsensusSignature::decode(bytes).unwrap();
                let newest = self.authorities[number].rounds.newest()?;
                if signature.authority != own.public() {
                    return None;
                }
                let mut head = newest.consensus.head().clone();
                head.epoch = signature.epoch;
                head.previous = Default::default();
                let other = Consensus::new(head, Vec::new()).unwrap();
                Some(Message::Signature(
                    ConsensusSignature::sign(&other, &own).encode(),
                ))
            }
        }
    }

    /// Digest and nodes of the newest document of each honest authority, by its number.
    pub fn newest(&self) -> Vec<(usize, Option<Document>)> {
        let honest = self.authorities.iter().enumerate();
        honest
            .filter(|(_, authority)| authority.kind == Kind::Honest)
            .map(|(number, authority)| {
                let newest = authority.rounds.newest().map(|newest| {
                    let consensus = &newest.consensus;
                    (
                        consensus.epoch(),
                        *consensus.digest(),
                        consensus.nodes().len(),
                    )
                });
                (number, newest)
            })
            .collect()
    }

    /// All honest authorities hold the same document, of the epoch that begins now; how many nodes it lists.
    pub fn agreed(&self) -> usize {
        let newest = self.newest();
        let (_, first) = newest[0];
        assert!(newest.iter().all(|(_, held)| *held == first), "{newest:?}");
        let (epoch, _, nodes) = first.expect("there is a document");
        assert_eq!(epoch, PARAMETERS.epoch_at(self.now_ms), "{newest:?}");
        nodes
    }
}

/// Whether news name an authority by its key.
pub fn names(text: &str, number: usize) -> bool {
    let mut words = text.split_whitespace();
    words.any(|word| unhex::<32>(word) == Some(key(number).public()))
}
