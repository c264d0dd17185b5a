//! Epochs: a node's keys for each, and what is in force for one.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use directory::{Consensus, EpochKey, Parameters};
use rand::RngExt;
use rand_core::CryptoRng;
use sphinx::{EpochSecret, leaving_nothing};

use handover::vault::Table;
use zeroize::Zeroizing;

use crate::keys::heard::Heard;
use crate::keys::replay::{ReplayTable, bytes_for, tags_for};
use crate::keys::vault::{Returned, Vault};

/// Keys are made for the current epoch and this many after it: a descriptor names those of the next two.
const KEYS_AHEAD: u32 = 2;

/// Epochs whose keys are held at once. A clock that is set to and fro makes keys that nobody asked for; none is made
/// when there are so many, until the first of them ends.
const KEYS_MAX: usize = 16;

/// Two clocks. How long a key lives is decided by the one that nobody can set and that counts sleep; the wall clock
/// says which epoch it is, and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The wall clock, Unix milliseconds.
    pub unix_ms: u64,
    /// Time since boot, sleep included, nanoseconds.
    pub boot_ns: u64,
}

impl Clocks {
    /// When it will be `unix_ms` by the wall clock of now, in time since boot; now if that has passed.
    pub fn boot_at(&self, unix_ms: u64) -> u64 {
        let left_ms = unix_ms.saturating_sub(self.unix_ms);
        self.boot_ns
            .saturating_add(left_ms.saturating_mul(1_000_000))
    }
}

struct Held {
    secret: Arc<EpochSecret>,
    /// When it is erased at the latest, time since boot; not known before the network's parameters are.
    ends_ns: Option<u64>,
    /// Whether it lies in the vault too.
    is_kept: bool,
    /// It came back with a vault.
    is_returned: bool,
    /// The table it came back with, until its epoch is taken up.
    table: Option<ReplayTable>,
}

impl Held {
    fn fresh<R: CryptoRng + ?Sized>(
        epoch: u32,
        ends_ns: Option<u64>,
        vault: Option<&Vault>,
        rng: &mut R,
    ) -> Held {
        let mut secret = Box::<Zeroizing<[u8; 32]>>::default();
        rng.fill_bytes(&mut **secret);
        Held {
            is_kept: vault.is_some_and(|vault| vault.put(epoch, &secret, ends_ns)),
            secret: Arc::new(EpochSecret::new(secret)),
            ends_ns,
            is_returned: false,
            table: None,
        }
    }
}

/// The secrets of a node, by epoch. They live in memory alone, where there is a vault also in that.
#[derive(Default)]
pub struct KeyRing {
    secrets: BTreeMap<u32, Held>,
    vault: Option<Vault>,
}

impl KeyRing {
    /// The keys that lie in a vault, and those to come there too.
    pub fn kept_in(mut vault: Vault, boot_ns: u64) -> KeyRing {
        let held = |Returned { key, table }: Returned| {
            let held = Held {
                secret: Arc::new(EpochSecret::new(key.secret)),
                ends_ns: key.ends_ns,
                is_kept: true,
                is_returned: true,
                table,
            };
            (key.epoch, held)
        };
        let secrets = leaving_nothing(|| vault.take_back(boot_ns).into_iter().map(held).collect());
        KeyRing {
            secrets,
            vault: Some(vault),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.secrets.len()
    }

    /// Makes the keys that are missing for `epoch` and those after it. Says whether there are new ones, which then have
    /// to be published.
    pub fn advance<R: CryptoRng + ?Sized>(
        &mut self,
        epoch: u32,
        parameters: Option<&Parameters>,
        clocks: Clocks,
        rng: &mut R,
    ) -> bool {
        let ends_ns = |of: u32| {
            let parameters = parameters?;
            Some(clocks.boot_at(parameters.epoch_ends_ms(of.saturating_add(1))))
        };
        for (of, held) in &mut self.secrets {
            if held.ends_ns.is_none() {
                held.ends_ns = ends_ns(*of);
                if let (Some(vault), Some(ends_ns), true) =
                    (&self.vault, held.ends_ns, held.is_kept)
                {
                    vault.set_ends(*of, ends_ns);
                }
            }
        }
        self.expire(clocks.boot_ns);
        let mut fresh = false;
        for of in epoch..=epoch.saturating_add(KEYS_AHEAD) {
            if self.secrets.len() < KEYS_MAX || self.secrets.contains_key(&of) {
                let vault = self.vault.as_ref();
                self.secrets.entry(of).or_insert_with(|| {
                    fresh = true;
                    leaving_nothing(|| Held::fresh(of, ends_ns(of), vault, rng))
                });
            }
        }
        fresh
    }

    /// Forgets the keys whose time is over.
    pub fn expire(&mut self, boot_ns: u64) {
        let over = |held: &Held| held.ends_ns.is_some_and(|ends_ns| boot_ns >= ends_ns);
        for epoch in self
            .secrets
            .extract_if(.., |_, held| over(held))
            .collect::<Vec<_>>()
        {
            self.let_go(epoch);
        }
    }

    /// Forgets the key of `epoch`.
    pub fn erase(&mut self, epoch: u32) {
        if let Some(held) = self.secrets.remove(&epoch) {
            self.let_go((epoch, held));
        }
    }

    fn let_go(&mut self, (epoch, held): (u32, Held)) {
        // What is mapped of its table, before the loader is told that it may go.
        let is_kept = held.is_kept;
        drop(held);
        if let Some(vault) = self.vault.as_mut().filter(|_| is_kept) {
            vault.erase(epoch);
        }
    }

    /// The table for the key of `epoch`: the one it came back with, else a fresh one for `tags` packets.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn table<R: CryptoRng + ?Sized>(
        &mut self,
        epoch: u32,
        tags: u64,
        rng: &mut R,
    ) -> io::Result<ReplayTable> {
        let held = self.secrets.get_mut(&epoch);
        if let Some(table) = held.and_then(|held| held.table.take()) {
            return Ok(table);
        }
        leaving_nothing(|| self.fresh_table(epoch, tags, rng))
    }

    fn fresh_table<R: CryptoRng + ?Sized>(
        &mut self,
        epoch: u32,
        tags: u64,
        rng: &mut R,
    ) -> io::Result<ReplayTable> {
        let mut secret = Zeroizing::new([0; 16]);
        rng.fill_bytes(&mut *secret);
        if let (Some(held), Some(vault)) = (self.secrets.get_mut(&epoch), &mut self.vault)
            && held.is_kept
        {
            let bytes = bytes_for(tags);
            match vault.table(Table { epoch, bytes }, &secret) {
                Ok(table) => return Ok(table),
                Err(error) => {
                    held.is_kept = false;
                    tracing::warn!(
                        epoch,
                        bytes,
                        %error,
                        "the replay table is not kept by mixctld, so key and table of this epoch end with this process"
                    );
                }
            }
        }
        ReplayTable::new(tags, &secret)
    }

    /// The public halves of `epoch` and the one after, as a descriptor lists them.
    pub fn public(&self, epoch: u32) -> Vec<EpochKey> {
        self.secrets
            .range(epoch..=epoch.saturating_add(1))
            .map(|(of, held)| EpochKey {
                epoch: *of,
                public_key: *held.secret.public_key(),
            })
            .collect()
    }

    /// Whether the key of `epoch` came back with a vault: this node had it before a restart.
    pub fn is_returned(&self, epoch: u32) -> bool {
        self.secrets
            .get(&epoch)
            .is_some_and(|held| held.is_returned)
    }

    /// The secret of `epoch`.
    pub fn secret(&self, epoch: u32) -> Option<&Arc<EpochSecret>> {
        self.secrets.get(&epoch).map(|held| &held.secret)
    }
}

/// This node's part in an epoch.
pub struct OwnPart {
    /// Its index in the consensus.
    pub index: u16,
    /// Its layer; 0 for a gateway.
    pub layer: u8,
    /// Opens packets wrapped to it.
    pub secret: Arc<EpochSecret>,
    /// Remembers them. Dies with the key.
    pub replay: ReplayTable,
}

/// Before its start by the wall clock nothing of an epoch is accepted; once begun it stays so, wherever the clock goes,
/// until it is over.
const WAITING: u8 = 0;
const OPEN: u8 = 1;
const OVER: u8 = 2;

/// What the tables of a node's epochs are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Packets a second, at most, of which each tag is remembered.
    pub max_pps: u32,
    /// Workers that count.
    pub workers: u8,
}

/// One epoch, as all workers of a node share it. Dropped by the last of them when its key is no longer accepted.
pub struct EpochState {
    consensus: Consensus,
    document: Vec<u8>,
    authorities: Vec<u8>,
    own: Option<OwnPart>,
    /// When this node begins to make packets of it, Unix milliseconds: drawn anew for every epoch.
    turns_ms: u64,
    phase: AtomicU8,
    by_link_key: HashMap<[u8; 32], u16>,
    came_back: bool,
    heard: Arc<Heard>,
}

impl EpochState {
    /// Puts together what is in force for the consensus' epoch. `document` is the signed, encoded consensus that
    /// clients fetch. A node that the consensus does not list, lets wait, or lists with a key that is not in `keys`
    /// (made before a restart), sits the epoch out.
    ///
    /// # Errors
    /// If there is no memory for the replay table.
    pub fn new<R: CryptoRng + ?Sized>(
        consensus: Consensus,
        document: Vec<u8>,
        identity: &[u8; 32],
        keys: &mut KeyRing,
        sizes: Sizes,
        rng: &mut R,
    ) -> io::Result<EpochState> {
        let epoch = consensus.epoch();
        let own = match (consensus.find(identity), keys.secret(epoch).cloned()) {
            (Some(node), Some(secret))
                if node.layer != directory::WAITING && node.epoch_key == *secret.public_key() =>
            {
                let tags = tags_for(sizes.max_pps, key_life_ms(consensus.parameters()));
                Some(OwnPart {
                    index: node.index,
                    layer: node.layer,
                    secret,
                    replay: keys.table(epoch, tags, rng)?,
                })
            }
            _ => None,
        };
        let by_link_key = consensus
            .nodes()
            .iter()
            .map(|node| (node.link.x25519, node.index))
            .collect();
        let spread_ms = consensus.parameters().turn_spread_ms();
        let turns_ms = consensus.starts_ms() + rng.random_range(0..=spread_ms);
        Ok(EpochState {
            heard: Arc::new(Heard::new(
                consensus.nodes().len(),
                usize::from(sizes.workers),
            )),
            turns_ms,
            phase: AtomicU8::new(WAITING),
            consensus,
            document,
            authorities: Vec::new(),
            own,
            by_link_key,
            came_back: false,
        })
    }

    /// The same, if `came_back` of an epoch in which this node was restarted and goes on: its neighbours are told.
    #[must_use]
    pub fn after_a_restart(mut self, came_back: bool) -> EpochState {
        self.came_back = came_back && self.own.is_some();
        self
    }

    /// Whether neighbours may have sessions with this node, as it was before a restart.
    pub fn came_back(&self) -> bool {
        self.came_back
    }

    /// The same with the chain of authority sets, encoded: clients fetch it who can't tell who signed the document.
    #[must_use]
    pub fn with_authorities(mut self, chain: Vec<u8>) -> EpochState {
        self.authorities = chain;
        self
    }

    /// Begins it if it is time by the wall clock.
    pub fn begin(&self, unix_ms: u64) {
        if unix_ms >= self.consensus.starts_ms() {
            let _ = self
                .phase
                .compare_exchange(WAITING, OPEN, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Ends it for good: its packets are refused from now on, and whoever holds it lets go of it.
    pub fn end(&self) {
        self.phase.store(OVER, Ordering::Release);
    }

    /// Whether its packets are accepted.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == OPEN
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.phase.load(Ordering::Acquire) == OVER
    }

    /// Whether this node makes packets of it by now, given that there is an epoch before it to use until then.
    pub fn has_turned(&self, unix_ms: u64) -> bool {
        unix_ms >= self.turns_ms
    }

    /// The consensus in force.
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Its epoch.
    pub fn epoch(&self) -> u32 {
        self.consensus.epoch()
    }

    /// The signed document, encoded.
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// The chain of authority sets that was known when the document was taken up, encoded; empty if it was not said.
    pub fn authorities(&self) -> &[u8] {
        &self.authorities
    }

    /// What came from the layer before.
    pub fn heard(&self) -> &Arc<Heard> {
        &self.heard
    }

    /// This node's part, if it has one.
    pub fn own(&self) -> Option<&OwnPart> {
        self.own.as_ref()
    }

    /// Index of the node with this static link key.
    pub fn node_of(&self, link_key: &[u8; 32]) -> Option<u16> {
        self.by_link_key.get(link_key).copied()
    }

    /// What the node with this static link key brings of its layer's traffic, in thousandths; 0 for a client and for who
    /// carries nothing.
    pub fn layer_permille(&self, link_key: &[u8; 32]) -> u32 {
        let node = self.node_of(link_key);
        let node = node.and_then(|index| self.consensus.node(index));
        let Some(node) = node.filter(|node| node.layer != directory::WAITING) else {
            return 0;
        };
        let layer = self.consensus.layer(node.layer);
        let sum: u64 = layer.map(|other| u64::from(other.weight)).sum();
        let permille = u64::from(node.weight) * 1_000 / sum.max(1);
        u32::try_from(permille).unwrap_or(1_000)
    }

    /// Layer and index of the neighbour with this static link key, the layer [`directory::WAITING`] for one that carries
    /// nothing; `None` for a client.
    pub fn place_of(&self, link_key: &[u8; 32]) -> Option<(u8, u16)> {
        let node = self.consensus.node(self.node_of(link_key)?)?;
        Some((node.layer, node.index))
    }
}

/// How long a key is accepted at most: its epoch and the next.
pub fn key_life_ms(parameters: &Parameters) -> u64 {
    2 * parameters.epoch_ms
}
