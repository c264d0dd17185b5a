//! What the loader's thread holds of a node's keys: descriptors, to bring them to a loader that comes back.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use handover::vault::Table;

use crate::keys::vault::VaultMemory;

/// Descriptors of the vault and its tables.
#[derive(Debug)]
pub struct Kept {
    pub(super) identity: [u8; 32],
    pub(super) vault: OwnedFd,
    pub(super) tables: BTreeMap<u32, (Table, OwnedFd)>,
}

impl Kept {
    /// Of what was handed to the node with this identity.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn of(identity: [u8; 32], handed: &VaultMemory) -> io::Result<Kept> {
        let mut tables = BTreeMap::new();
        for (table, memory) in &handed.tables {
            tables.insert(table.epoch, (*table, memory.try_clone()?));
        }
        Ok(Kept {
            identity,
            vault: handed.memory.try_clone()?,
            tables,
        })
    }
}
