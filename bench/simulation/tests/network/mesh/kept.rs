//! What `mixctld` keeps of one node, played: its vault and tables, which outlive it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use handover::vault::{Origin, Table, VAULT_BYTES, head};
use mixnode::keys::vault::{Tables, Vault, VaultMemory};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// Clones are the same memory.
#[derive(Clone)]
pub struct Kept {
    identity: [u8; 32],
    memory: Arc<File>,
    tables: Arc<Mutex<BTreeMap<u32, (Table, File)>>>,
}

/// Memory that nobody can make shorter.
fn memory(bytes: u64) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("kept", flags).unwrap();
    ftruncate(&memory, bytes).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    memory.into()
}

impl Kept {
    pub fn new(identity: [u8; 32]) -> Kept {
        let memory = memory(VAULT_BYTES as u64);
        memory.write_all_at(&head(&identity), 0).unwrap();
        Kept {
            identity,
            memory: Arc::new(memory),
            tables: Arc::default(),
        }
    }

    /// As a node gets it that starts now.
    pub fn vault(&self) -> Vault {
        let tables = self.tables.lock().unwrap();
        let handed = VaultMemory {
            origin: Origin::Kept,
            memory: self.memory.try_clone().unwrap().into(),
            tables: tables
                .values()
                .map(|(table, memory)| (*table, memory.try_clone().unwrap().into()))
                .collect(),
        };
        Vault::new(self.identity, handed, Box::new(self.clone())).unwrap()
    }
}

impl Tables for Kept {
    fn make(&mut self, table: Table) -> io::Result<OwnedFd> {
        let mut tables = self.tables.lock().unwrap();
        let (_, memory) = tables
            .entry(table.epoch)
            .or_insert_with(|| (table, memory(table.bytes)));
        Ok(memory.try_clone()?.into())
    }

    fn erase(&mut self, epoch: u32) {
        self.tables.lock().unwrap().remove(&epoch);
    }
}
