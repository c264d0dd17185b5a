//! Keys and replay tables in memory that outlives this process: the loader holds it, this node alone reads and writes it.
//!
//! What lies in the page is [`handover::vault`]'s. A packet's tag is in its table before the packet goes on, and every
//! table is a memory of its own that no death of a process undoes: at any instant of a crash a tag may be in and its
//! packet lost, never the reverse. **A key is kept with its table or not at all**: one whose table can't be kept is
//! erased here and lives on in the process alone.
//!
//! What was handed over is looked at first: keys go into memory alone, never into a file of a disk, and into none that
//! somebody can make shorter, which would end this process.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use handover::vault::{Key, NotAVault, Origin, Page, Table, VAULT_BYTES};
use port::mapping::{Backing, Lock, Mapping, Options};

use super::replay::ReplayTable;

/// What the loader handed over.
#[derive(Debug)]
pub struct VaultMemory {
    /// Where it comes from.
    pub origin: Origin,
    /// The vault.
    pub memory: OwnedFd,
    /// Tables.
    pub tables: Vec<(Table, OwnedFd)>,
}

/// Who makes tables and lets them go.
pub trait Tables: Send {
    /// The table of an epoch, of exactly that size: fresh, or the one that was made before.
    ///
    /// # Errors
    /// There is none to be had.
    fn make(&mut self, table: Table) -> io::Result<OwnedFd>;

    /// Lets the table of an epoch go, whose key has been zeroed.
    fn erase(&mut self, epoch: u32);
}

/// Why memory that was handed over is of no use.
#[derive(Debug, thiserror::Error)]
pub enum VaultFault {
    /// It can't be mapped.
    #[error("the vault can't be mapped: {0}")]
    Mapping(#[from] io::Error),
    /// It is no memory, or none that keeps its size.
    #[error(
        "what the loader handed over as the vault is no memory that is sealed against shrinking"
    )]
    Unsealed,
    /// It is not this node's vault.
    #[error("what the loader handed over as the vault is of no use: {0}")]
    Unfit(#[from] NotAVault),
}

/// A key that came back, and its table if packets were accepted under it.
pub(super) struct Returned {
    pub key: Key,
    pub table: Option<ReplayTable>,
}

/// The vault of this node.
pub struct Vault {
    identity: [u8; 32],
    page: Mapping,
    origin: Origin,
    /// Tables that came with it, until their keys are taken up.
    returned: BTreeMap<u32, (u64, OwnedFd)>,
    tables: Box<dyn Tables>,
}

impl Vault {
    /// Maps what was handed to the node with this identity. `tables` makes more.
    ///
    /// # Errors
    /// [`VaultFault`].
    pub fn new(
        identity: [u8; 32],
        handed: VaultMemory,
        tables: Box<dyn Tables>,
    ) -> Result<Vault, VaultFault> {
        let options = Options {
            lock: Lock::Now,
            secret: true,
            ..Options::default()
        };
        if !is_sealed(&handed.memory) {
            return Err(VaultFault::Unsealed);
        }
        // What lies past a file's end is SIGBUS.
        if bytes_of(&handed.memory)? != VAULT_BYTES as u64 {
            return Err(NotAVault::Truncated.into());
        }
        let backing = Backing::File(handed.memory.as_fd(), 0);
        let page = Mapping::new(VAULT_BYTES, backing, options)?;
        Page::new(page.as_atomics(), &identity)?;
        let returned = handed.tables.into_iter();
        Ok(Vault {
            identity,
            page,
            origin: handed.origin,
            returned: returned
                .map(|(table, memory)| (table.epoch, (table.bytes, memory)))
                .collect(),
            tables,
        })
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    fn page(&self) -> Option<Page<'_>> {
        Page::new(self.page.as_atomics(), &self.identity).ok()
    }

    /// Takes the keys that are of use; what is not goes: keys past their end, and those whose table is lost.
    pub(super) fn take_back(&mut self, boot_ns: u64) -> Vec<Returned> {
        let keys = self.page().map(|page| page.keys()).unwrap_or_default();
        let mut taken = Vec::new();
        for key in keys {
            let epoch = key.epoch;
            let over = key.ends_ns.is_some_and(|ends_ns| ends_ns <= boot_ns);
            let table = match (&key.table, self.returned.remove(&epoch)) {
                (None, _) => Ok(None),
                (Some((bytes, secret)), Some((there, memory))) if *bytes == there => {
                    map(&memory, *bytes, secret).map(Some)
                }
                (Some(_), _) => Err(io::ErrorKind::NotFound.into()),
            };
            match table {
                Ok(table) if !over => taken.push(Returned { key, table }),
                Ok(_) => self.erase(epoch),
                Err(error) => {
                    tracing::warn!(
                        epoch,
                        %error,
                        "a key came back without its replay table: it is erased, for packets could be played again"
                    );
                    self.erase(epoch);
                }
            }
        }
        for (epoch, _) in std::mem::take(&mut self.returned) {
            self.tables.erase(epoch);
        }
        taken
    }

    /// Keeps the key of `epoch`; false: its slot is taken by a key that still lives, as happens when a clock was set.
    pub(super) fn put(&self, epoch: u32, secret: &[u8; 32], ends_ns: Option<u64>) -> bool {
        let Some(page) = self.page().filter(|page| page.is_free(epoch)) else {
            return false;
        };
        page.put(epoch, secret, ends_ns);
        true
    }

    /// Keeps it until then.
    pub(super) fn set_ends(&self, epoch: u32, ends_ns: u64) {
        if let Some(page) = self.page() {
            page.set_ends(epoch, ends_ns);
        }
    }

    /// The table for the key of `epoch`, whose tags are placed by `secret`: both are kept from now on.
    ///
    /// # Errors
    /// There is none. The key is not kept any more either.
    pub(super) fn table(&mut self, table: Table, secret: &[u8; 16]) -> io::Result<ReplayTable> {
        let made = self.tables.make(table);
        match made.and_then(|memory| map(&memory, table.bytes, secret)) {
            Ok(made) => {
                if let Some(page) = self.page() {
                    page.set_table(table.epoch, secret, table.bytes);
                }
                Ok(made)
            }
            Err(error) => {
                self.erase(table.epoch);
                Err(error)
            }
        }
    }

    /// Zeroes the key of `epoch`, then lets its table go. The table's last mapping goes with the last worker that has it.
    pub(super) fn erase(&mut self, epoch: u32) {
        if let Some(page) = self.page() {
            page.erase(epoch);
        }
        self.tables.erase(epoch);
    }
}

/// Whether it is a memfd whose size can't shrink. A file on a disk has no seals.
fn is_sealed(memory: &OwnedFd) -> bool {
    let seals = rustix::fs::fcntl_get_seals(memory);
    seals.is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::SHRINK))
}

fn bytes_of(memory: &OwnedFd) -> io::Result<u64> {
    let found = rustix::fs::fstat(memory)?;
    Ok(u64::try_from(found.st_size).unwrap_or(0))
}

fn map(memory: &OwnedFd, bytes: u64, secret: &[u8; 16]) -> io::Result<ReplayTable> {
    if !is_sealed(memory) || bytes_of(memory)? != bytes {
        return Err(io::ErrorKind::InvalidData.into());
    }
    ReplayTable::shared(memory.as_fd(), bytes, secret)
}
