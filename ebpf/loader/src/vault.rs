//! A node's keys and replay tables, which outlive its process: kept here, never read here.
//!
//! What is in the vault is [`handover::vault`]'s. The loader needs of it whose it is, which slots hold a key, and when
//! each ends; the keys themselves it can't read, for its mapping has no access (it only keeps the page out of swap).

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use handover::vault::{
    Facts, HEAD_BYTES, NotAVault, Origin, SLOT_BYTES, SLOT_HEAD_BYTES, SLOT_TAIL_BYTES, SLOTS,
    Table, VAULT_BYTES, facts, head, read_head, slot_offset,
};

use super::GRACE;
use super::memory::{self, examine, is_same, read, size, write};
use super::sockets::Resident;
use super::state::ConnectionId;
use crate::error::VaultError;

/// What keeps descriptors beyond the loader's own end: the service manager. Without one a node brings them back.
pub trait Store: Send {
    /// Keeps `memory` under `name`.
    fn keep(&mut self, name: &str, memory: BorrowedFd<'_>);
    /// Lets go of it.
    fn forget(&mut self, name: &str);
}

/// What the vault is called in a [`Store`].
const VAULT_NAME: &str = "vault";
/// What a table is called there, before the number of its epoch.
const TABLE_NAME: &str = "table-";

/// Longest time between looks whether a key has ended: the machine may have slept, which poll's clock does not count.
const LOOK: Duration = Duration::from_secs(10);

/// A node, as far as its vault is concerned.
#[derive(Clone, Copy, Debug)]
struct Owner {
    connection: ConnectionId,
    pid: i32,
}

struct Vault {
    identity: [u8; 32],
    memory: OwnedFd,
    /// Keeps it out of swap, where that is allowed.
    _resident: Option<Resident>,
    origin: Origin,
    owner: Option<Owner>,
    /// Nothing is erased before, because the node may come back to it.
    spared_until: Option<Instant>,
    tables: BTreeMap<u32, (u64, OwnedFd)>,
}

/// What is handed to a node.
pub(super) struct Handed {
    pub tables: Vec<Table>,
    pub origin: Origin,
    /// The vault, then the tables.
    pub descriptors: Vec<OwnedFd>,
}

/// The vault of this loader's node, if it has one yet.
pub(super) struct Vaults {
    vault: Option<Vault>,
    /// What all tables together may take, bytes.
    tables_bytes_max: u64,
    store: Option<Box<dyn Store>>,
}

impl Vaults {
    /// Nothing yet, but for what `store` `returned`: what an earlier loader had it keep, by name.
    pub fn new(
        tables_bytes_max: u64,
        store: Option<Box<dyn Store>>,
        returned: Vec<(String, OwnedFd)>,
    ) -> Vaults {
        let mut vaults = Vaults {
            vault: None,
            tables_bytes_max,
            store,
        };
        vaults.take_back(returned);
        vaults
    }

    /// Takes what the service manager kept; what can't be used is not kept any longer.
    fn take_back(&mut self, returned: Vec<(String, OwnedFd)>) {
        let (vaults, others): (Vec<_>, Vec<_>) = returned
            .into_iter()
            .partition(|(name, _)| name == VAULT_NAME);
        let mut refused = Vec::new();
        for (name, memory) in vaults {
            match whose(&memory) {
                Ok(identity) if self.vault.is_none() => {
                    let mut vault = Vault::of(identity, memory, Origin::Returned, BTreeMap::new());
                    vault.spared_until = Some(Instant::now() + GRACE);
                    self.vault = Some(vault);
                }
                Ok(_) => refused.push((name, "there is another one".to_owned())),
                Err(error) => refused.push((name, error.to_string())),
            }
        }
        for (name, memory) in others {
            let epoch = name.strip_prefix(TABLE_NAME).map(str::parse::<u32>);
            let Some(Ok(epoch)) = epoch else {
                // A socket of the unit, say: not ours to take, nor to be told about.
                continue;
            };
            match self.take_back_table(epoch, memory) {
                Ok(()) => {}
                Err(why) => refused.push((name, why)),
            }
        }
        for (name, why) in refused {
            tracing::warn!(name, why, "what the service manager kept is let go");
            self.forget(&name);
        }
        if let Some(vault) = &self.vault {
            tracing::info!(
                keys = vault.keys().len(),
                tables = vault.tables.len(),
                "keys and replay tables returned from the service manager"
            );
        }
    }

    fn take_back_table(&mut self, epoch: u32, memory: OwnedFd) -> Result<(), String> {
        let vault = self.vault.as_mut().ok_or("there is no vault beside it")?;
        let bytes = size(&memory).map_err(|error| error.to_string())?;
        let others = vault.tables.values().map(|(bytes, _)| *bytes);
        within(self.tables_bytes_max, others, bytes)
            .and_then(|()| examine(&memory, "it", bytes))
            .map_err(|error| error.to_string())?;
        match vault.tables.insert(epoch, (bytes, memory)) {
            None => Ok(()),
            Some(_) => Err("there is another one".to_owned()),
        }
    }

    fn keep(&mut self, name: &str, memory: impl AsFd) {
        if let Some(store) = &mut self.store {
            store.keep(name, memory.as_fd());
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(store) = &mut self.store {
            store.forget(name);
        }
    }

    /// Drops tables: the service manager's descriptor first and the own one last, so that gigabytes are freed here and
    /// not there.
    fn drop_tables(&mut self, gone: impl Fn(u32) -> bool) {
        let Some(vault) = &mut self.vault else {
            return;
        };
        let going: Vec<u32> = vault
            .tables
            .keys()
            .copied()
            .filter(|epoch| gone(*epoch))
            .collect();
        for epoch in going {
            if let Some(store) = &mut self.store {
                store.forget(&table_name(epoch));
            }
            vault.tables.remove(&epoch);
        }
    }

    /// Drops tables whose key is gone: the node that zeroed it did not come to say so.
    fn tidy(&mut self) {
        let keys = self.vault.as_ref().map(Vault::keys).unwrap_or_default();
        let keys: BTreeSet<u32> = keys.iter().map(|key| key.epoch).collect();
        self.drop_tables(|epoch| !keys.contains(&epoch));
    }

    /// Hands a node its vault, a fresh one if there is none.
    pub fn open(
        &mut self,
        connection: ConnectionId,
        pid: i32,
        identity: [u8; 32],
    ) -> Result<Handed, VaultError> {
        self.tidy();
        if let Some(vault) = &self.vault {
            vault.must_not_be_taken(connection)?;
            if vault.identity != identity {
                if !vault.keys().is_empty() {
                    return Err(VaultError::OtherIdentity);
                }
                self.forget(VAULT_NAME);
                self.vault = None;
            }
        }
        if self.vault.is_none() {
            let vault = Vault::make(identity)?;
            self.keep(VAULT_NAME, &vault.memory);
            self.vault = Some(vault);
        }
        let vault = self.vault.as_mut().ok_or(VaultError::NoVault)?;
        vault.owner = Some(Owner { connection, pid });
        vault.spared_until = None;
        let mut descriptors = vec![duplicate(&vault.memory)?];
        for (_, table) in vault.tables.values() {
            descriptors.push(duplicate(table)?);
        }
        let handed = Handed {
            tables: vault.tables(),
            origin: vault.origin,
            descriptors,
        };
        // Whoever asks next gets what lived through this node's end.
        vault.origin = Origin::Kept;
        Ok(handed)
    }

    /// Makes the table of an epoch, or hands out the one that is there.
    pub fn table(&mut self, connection: ConnectionId, table: Table) -> Result<OwnedFd, VaultError> {
        let bytes_max = self.tables_bytes_max;
        let vault = self.owned(connection)?;
        let Table { epoch, bytes } = table;
        if let Some((there, memory)) = vault.tables.get(&epoch) {
            return match *there == bytes {
                true => duplicate(memory),
                false => Err(VaultError::OtherSize {
                    epoch,
                    there: *there,
                    bytes,
                }),
            };
        }
        within(
            bytes_max,
            vault.tables.values().map(|(bytes, _)| *bytes),
            bytes,
        )?;
        let name = format!("fogmix-{}", table_name(epoch));
        let made = memory::sealed(&name, bytes).map_err(|error| VaultError::Memory {
            what: format!("the replay table of epoch {epoch}"),
            error,
        })?;
        let handed = duplicate(&made)?;
        vault.tables.insert(epoch, (bytes, made));
        self.keep(&table_name(epoch), &handed);
        Ok(handed)
    }

    /// Drops the table of an epoch whose key the node has zeroed.
    pub fn erase(&mut self, connection: ConnectionId, epoch: u32) -> Result<(), VaultError> {
        self.owned(connection)?;
        self.drop_tables(|other| other == epoch);
        Ok(())
    }

    /// Takes over what a node kept through the end of an earlier loader, or knows it as what is here.
    pub fn resume(
        &mut self,
        connection: ConnectionId,
        pid: i32,
        identity: [u8; 32],
        tables: &[Table],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), VaultError> {
        let expected = tables.len() + 1;
        if descriptors.len() != expected {
            return Err(VaultError::Descriptors {
                found: descriptors.len(),
                expected,
            });
        }
        let mut descriptors = descriptors.into_iter();
        let Some(came) = descriptors.next() else {
            return Err(VaultError::Descriptors { found: 0, expected });
        };
        if whose(&came)? != identity {
            return Err(VaultError::NotAVault(NotAVault::OtherIdentity));
        }
        let mut kept = BTreeMap::new();
        for (Table { epoch, bytes }, memory) in tables.iter().zip(descriptors) {
            within(
                self.tables_bytes_max,
                kept.values().map(|(bytes, _)| *bytes),
                *bytes,
            )?;
            examine(&memory, &format!("the table of epoch {epoch}"), *bytes)?;
            if kept.insert(*epoch, (*bytes, memory)).is_some() {
                return Err(VaultError::Twice { epoch: *epoch });
            }
        }
        match &self.vault {
            Some(vault) => {
                vault.must_not_be_taken(connection)?;
                if vault.identity != identity {
                    return Err(VaultError::OtherIdentity);
                }
                let like = |(epoch, (_, memory)): (&u32, &(u64, OwnedFd))| {
                    let there = vault.tables.get(epoch);
                    there.is_some_and(|(_, there)| is_same(there, memory))
                };
                if !is_same(&vault.memory, &came) || !kept.iter().all(like) {
                    return Err(VaultError::OtherMemory);
                }
                // What it has erased meanwhile goes here too.
                self.drop_tables(|epoch| !kept.contains_key(&epoch));
            }
            None => {
                self.keep(VAULT_NAME, &came);
                for (epoch, (_, memory)) in &kept {
                    self.keep(&table_name(*epoch), memory);
                }
                self.vault = Some(Vault::of(identity, came, Origin::Kept, kept));
            }
        }
        if let Some(vault) = &mut self.vault {
            vault.owner = Some(Owner { connection, pid });
            vault.spared_until = None;
            vault.origin = Origin::Kept;
        }
        Ok(())
    }

    /// Whether this connection's node has the vault.
    pub fn is_owner(&self, connection: ConnectionId) -> bool {
        let owner = self.vault.as_ref().and_then(|vault| vault.owner);
        owner.is_some_and(|owner| owner.connection == connection)
    }

    /// A connection has ended.
    pub fn ended(&mut self, connection: ConnectionId) {
        if !self.is_owner(connection) {
            return;
        }
        if let Some(vault) = &mut self.vault {
            vault.owner = None;
        }
        self.tidy();
        if let Some(vault) = &self.vault {
            tracing::info!(
                keys = vault.keys().len(),
                "its node is gone; keys and replay tables wait for it"
            );
        }
    }

    /// How long nothing needs to be erased at least; `None`: nothing is due unless something else happens.
    pub fn next_look(&self, now: Instant, boot_ns: u64) -> Option<Duration> {
        let vault = self.vault.as_ref().filter(|vault| vault.owner.is_none())?;
        let keys = vault.keys();
        let ends_ns = keys.iter().map(|key| key.ends_ns).min()?;
        let left = Duration::from_nanos(ends_ns.saturating_sub(boot_ns));
        let spared = vault
            .spared_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        Some(left.max(spared).min(LOOK))
    }

    /// Erases what is past its end, if no node is there to do it.
    pub fn expire(&mut self, now: Instant, boot_ns: u64) {
        let Some(vault) = self.vault.as_mut().filter(|vault| vault.owner.is_none()) else {
            return;
        };
        if vault.spared_until.is_some_and(|until| now < until) {
            return;
        }
        let over = |key: &Facts| key.ends_ns <= boot_ns;
        for Facts { epoch, .. } in vault.keys().into_iter().filter(over) {
            tracing::info!(epoch, "a key whose node is away has ended: it is erased");
            let zeroed = write(&vault.memory, slot_offset(epoch), &[0; SLOT_BYTES]);
            if let Err(error) = zeroed {
                tracing::error!(epoch, %error, "can't erase a key");
            }
        }
        self.tidy();
    }

    fn owned(&mut self, connection: ConnectionId) -> Result<&mut Vault, VaultError> {
        let vault = self.vault.as_mut().ok_or(VaultError::NoVault)?;
        match vault.owner {
            Some(owner) if owner.connection == connection => Ok(vault),
            _ => Err(VaultError::NoVault),
        }
    }
}

impl Vault {
    /// A fresh one.
    fn make(identity: [u8; 32]) -> Result<Vault, VaultError> {
        let failed = |error| VaultError::Memory {
            what: "the vault".to_owned(),
            error,
        };
        let memory = memory::sealed("fogmix-vault", VAULT_BYTES as u64).map_err(failed)?;
        write(&memory, 0, &head(&identity)).map_err(failed)?;
        Ok(Vault::of(identity, memory, Origin::New, BTreeMap::new()))
    }

    fn of(
        identity: [u8; 32],
        memory: OwnedFd,
        origin: Origin,
        tables: BTreeMap<u32, (u64, OwnedFd)>,
    ) -> Vault {
        let resident = Resident::new(memory.as_fd(), VAULT_BYTES);
        if let Err(error) = &resident {
            tracing::warn!(
                %error,
                "the vault is not locked, so keys may be swapped out while no node is there: give mixctld CAP_IPC_LOCK \
                 or LimitMEMLOCK=infinity, or run without swap"
            );
        }
        Vault {
            identity,
            memory,
            _resident: resident.ok(),
            origin,
            owner: None,
            spared_until: None,
            tables,
        }
    }

    fn must_not_be_taken(&self, connection: ConnectionId) -> Result<(), VaultError> {
        match self.owner {
            Some(owner) if owner.connection != connection => {
                Err(VaultError::Taken { pid: owner.pid })
            }
            _ => Ok(()),
        }
    }

    fn tables(&self) -> Vec<Table> {
        let tables = self.tables.iter();
        tables
            .map(|(&epoch, &(bytes, _))| Table { epoch, bytes })
            .collect()
    }

    /// What is known of the keys that are there.
    fn keys(&self) -> Vec<Facts> {
        // Any four epochs in a row have the four slots.
        let slots = (0..SLOTS as u32).map(slot_offset);
        slots
            .filter_map(|at| {
                let (mut first, mut last) = ([0; SLOT_HEAD_BYTES], [0; SLOT_TAIL_BYTES]);
                read(&self.memory, at, &mut first)?;
                read(&self.memory, at + SLOT_BYTES - SLOT_TAIL_BYTES, &mut last)?;
                facts(first, last)
            })
            .collect()
    }
}

fn table_name(epoch: u32) -> String {
    format!("{TABLE_NAME}{epoch}")
}

/// Whose vault this memory is.
fn whose(memory: &OwnedFd) -> Result<[u8; 32], VaultError> {
    examine(memory, "the vault", VAULT_BYTES as u64)?;
    let mut first = [0; HEAD_BYTES];
    read(memory, 0, &mut first).ok_or(VaultError::NotAVault(NotAVault::Truncated))?;
    read_head(&first).map_err(VaultError::NotAVault)
}

/// Whether one more table of `bytes` may be beside `others`.
fn within(
    bytes_max: u64,
    others: impl Iterator<Item = u64> + Clone,
    bytes: u64,
) -> Result<(), VaultError> {
    if bytes == 0 {
        return Err(VaultError::NoBytes);
    }
    if others.clone().count() >= SLOTS {
        return Err(VaultError::TooMany);
    }
    let sum = others.fold(bytes, u64::saturating_add);
    match sum <= bytes_max {
        true => Ok(()),
        false => Err(VaultError::Budget {
            bytes: sum,
            bytes_max,
        }),
    }
}

fn duplicate(memory: &OwnedFd) -> Result<OwnedFd, VaultError> {
    memory.try_clone().map_err(|error| VaultError::Memory {
        what: "one more descriptor".to_owned(),
        error,
    })
}
