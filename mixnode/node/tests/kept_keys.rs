//! Epoch keys and replay tables in memory that outlives the node: what a killed node's successor finds of them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use directory::Parameters;
use handover::vault::{self, Origin, Page, Table, VAULT_BYTES};
use mixnode::keys::epoch::{Clocks, KeyRing};
use mixnode::keys::replay::bytes_for;
use mixnode::keys::vault::{Tables, Vault, VaultFault, VaultMemory};
use port::mapping::{Backing, Mapping, Options};
use rand_core::SeedableRng;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use sphinx::Generator;

const IDENTITY: [u8; 32] = [7; 32];

/// The loader's part, played here: it survives the nodes.
#[derive(Clone)]
struct Played {
    memory: Arc<OwnedFd>,
    tables: Arc<Mutex<BTreeMap<u32, (Table, OwnedFd)>>>,
    away: bool,
}

/// Memory as the loader makes it: nobody can make it shorter.
fn memory(bytes: u64) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("played", flags).unwrap();
    ftruncate(&memory, bytes).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    memory
}

impl Played {
    fn new() -> Played {
        let file = memory(VAULT_BYTES as u64);
        rustix::io::pwrite(&file, &vault::head(&IDENTITY), 0).unwrap();
        Played {
            memory: Arc::new(file),
            tables: Arc::default(),
            away: false,
        }
    }

    fn handed(&self) -> VaultMemory {
        let tables = self.tables.lock().unwrap();
        VaultMemory {
            origin: Origin::Kept,
            memory: self.memory.try_clone().unwrap(),
            tables: tables
                .values()
                .map(|(table, memory)| (*table, memory.try_clone().unwrap()))
                .collect(),
        }
    }

    /// The keys that a node finds which starts now.
    fn ring(&self, boot_ns: u64) -> KeyRing {
        let vault = Vault::new(IDENTITY, self.handed(), Box::new(self.clone())).unwrap();
        KeyRing::kept_in(vault, boot_ns)
    }

    fn epochs(&self) -> Vec<u32> {
        let page = Mapping::new(
            VAULT_BYTES,
            Backing::File(self.memory.as_fd(), 0),
            Options::default(),
        )
        .unwrap();
        let keys = Page::new(page.as_atomics(), &IDENTITY).unwrap().keys();
        keys.iter().map(|key| key.epoch).collect()
    }

    fn tables(&self) -> Vec<u32> {
        self.tables.lock().unwrap().keys().copied().collect()
    }
}

impl Tables for Played {
    fn make(&mut self, table: Table) -> io::Result<OwnedFd> {
        if self.away {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut tables = self.tables.lock().unwrap();
        let (_, memory) = tables
            .entry(table.epoch)
            .or_insert_with(|| (table, memory(table.bytes)));
        memory.try_clone()
    }

    fn erase(&mut self, epoch: u32) {
        self.tables.lock().unwrap().remove(&epoch);
    }
}

fn parameters() -> Parameters {
    Parameters {
        genesis_unix_ms: 0,
        epoch_ms: 1_000,
        mean_delay_us: 1_000,
        client_rate_pps: 100,
        layers: 2,
    }
}

fn at(seconds: u64) -> Clocks {
    Clocks {
        unix_ms: seconds * 1_000,
        boot_ns: seconds * 1_000_000_000,
    }
}

fn public(ring: &KeyRing, epoch: u32) -> [u8; 32] {
    *ring.secret(epoch).unwrap().public_key()
}

#[test]
fn a_killed_nodes_successor_has_its_keys_and_every_tag() {
    let (played, mut rng) = (Played::new(), Generator::from_seed([1; 32]));
    let mut first = played.ring(0);
    assert_eq!(first.count(), 0);
    assert!(first.advance(7, Some(&parameters()), at(7), &mut rng));
    let keys = [7, 8, 9].map(|epoch| public(&first, epoch));
    let table = first.table(7, 1_000, &mut rng).unwrap();
    let tags: Vec<[u8; 16]> = (0..200u128).map(|tag| tag.to_be_bytes()).collect();
    for tag in &tags {
        table.insert(tag).unwrap();
    }
    // SIGKILL runs no destructor. What is mapped goes with the process.
    std::mem::forget((first, table));

    let mut second = played.ring(at(8).boot_ns);
    assert_eq!(second.count(), 3);
    assert!(!second.advance(7, Some(&parameters()), at(7), &mut rng));
    assert_eq!([7, 8, 9].map(|epoch| public(&second, epoch)), keys);
    // Its size is the one it was made with, whatever the node is made for now.
    let table = second.table(7, 5_000, &mut rng).unwrap();
    assert!(tags.iter().all(|tag| table.insert(tag).is_err()));
    table.insert(&[0xff; 16]).unwrap();
    // A key that no packet came under has a fresh one.
    second
        .table(8, 1_000, &mut rng)
        .unwrap()
        .insert(&tags[0])
        .unwrap();
    second.erase(7);
    assert_eq!((played.epochs(), played.tables()), (vec![8, 9], vec![8]));
}

#[test]
fn a_key_without_its_table_does_not_come_back() {
    let (played, mut rng) = (Played::new(), Generator::from_seed([2; 32]));
    let mut first = played.ring(0);
    first.advance(7, Some(&parameters()), at(7), &mut rng);
    first.table(7, 1_000, &mut rng).unwrap();
    first.table(8, 1_000, &mut rng).unwrap();
    std::mem::forget(first);
    // The one table is lost, the other is another's: a key alone would take every packet again.
    let mut tables = played.tables.lock().unwrap();
    tables.remove(&7);
    tables.get_mut(&8).unwrap().0.bytes += 64;
    drop(tables);
    let second = played.ring(at(7).boot_ns);
    assert!(second.secret(7).is_none() && second.secret(8).is_none());
    assert!(second.secret(9).is_some());
    assert_eq!((played.epochs(), played.tables()), (vec![9], vec![]));
}

#[test]
fn a_key_whose_table_can_not_be_kept_is_not_kept_either() {
    let (mut played, mut rng) = (Played::new(), Generator::from_seed([3; 32]));
    played.away = true;
    let mut ring = played.ring(0);
    ring.advance(7, Some(&parameters()), at(7), &mut rng);
    assert_eq!(played.epochs(), [7, 8, 9]);
    let table = ring.table(7, 1_000, &mut rng).unwrap();
    table.insert(&[1; 16]).unwrap();
    // It works on in this process, and is gone with it.
    assert!(ring.secret(7).is_some());
    assert_eq!(played.epochs(), [8, 9]);
}

#[test]
fn keys_end_by_the_clock_since_boot_also_after_a_return() {
    let (played, mut rng) = (Played::new(), Generator::from_seed([4; 32]));
    let mut first = played.ring(0);
    // The network is not known yet, and so is no end.
    first.advance(7, None, at(7), &mut rng);
    first.advance(7, Some(&parameters()), at(7), &mut rng);
    first.table(7, 1_000, &mut rng).unwrap();
    std::mem::forget(first);
    let mut second = played.ring(at(9).boot_ns);
    assert_eq!(second.count(), 2, "that of 7 ended with epoch 8");
    assert_eq!((played.epochs(), played.tables()), (vec![8, 9], vec![]));
    second.expire(at(10).boot_ns);
    assert_eq!(played.epochs(), [9]);
}

#[test]
fn keys_beyond_the_vaults_slots_live_in_the_process_alone() {
    let (played, mut rng) = (Played::new(), Generator::from_seed([5; 32]));
    let mut ring = played.ring(0);
    ring.advance(7, Some(&parameters()), at(7), &mut rng);
    // The clock is set ahead: 11 to 13 want the slots of 7 to 9, which live on.
    let ahead = Clocks {
        unix_ms: 11_000,
        ..at(7)
    };
    assert!(ring.advance(11, Some(&parameters()), ahead, &mut rng));
    assert_eq!(ring.count(), 6);
    assert_eq!(played.epochs(), [7, 8, 9]);
    ring.table(11, 1_000, &mut rng).unwrap();
    ring.erase(11);
    assert_eq!((played.epochs(), played.tables()), (vec![7, 8, 9], vec![]));
}

#[test]
fn memory_that_is_no_vault_of_this_node_is_not_used() {
    let mut handed = Played::new().handed();
    handed.memory = memory(100);
    let fault = |identity, handed| {
        let tables = Box::new(Played::new());
        match Vault::new(identity, handed, tables) {
            Err(VaultFault::Unfit(fault)) => fault,
            other => panic!("{:?}", other.err()),
        }
    };
    assert_eq!(fault(IDENTITY, handed), vault::NotAVault::Truncated);
    let handed = Played::new().handed();
    assert_eq!(fault([8; 32], handed), vault::NotAVault::OtherIdentity);
}

/// A file on a disk that looks like a vault, and memory that whoever holds it can cut short.
#[test]
fn attack_a_false_keeper_gets_no_key_into_a_file_and_cuts_no_memory_short() {
    let file = || -> OwnedFd { tempfile::tempfile().unwrap().into() };
    let loose = || memfd_create("loose", MemfdFlags::CLOEXEC).unwrap();
    for memory in [file(), loose()] {
        ftruncate(&memory, VAULT_BYTES as u64).unwrap();
        rustix::io::pwrite(&memory, &vault::head(&IDENTITY), 0).unwrap();
        let mut handed = Played::new().handed();
        handed.memory = memory.try_clone().unwrap();
        let refused = Vault::new(IDENTITY, handed, Box::new(Played::new()));
        assert!(matches!(refused.err(), Some(VaultFault::Unsealed)));
    }
    // The same of a table: its key goes with it.
    for memory in [file(), loose()] {
        let mut rng = Generator::seed_from_u64(5);
        let played = Played::new();
        let mut ring = played.ring(0);
        ring.advance(7, Some(&parameters()), at(7), &mut rng);
        let bytes = bytes_for(1_000);
        ftruncate(&memory, bytes).unwrap();
        let table = Table { epoch: 7, bytes };
        played.tables.lock().unwrap().insert(7, (table, memory));
        ring.table(7, 1_000, &mut rng).unwrap();
        assert_eq!(played.epochs(), [8, 9], "it lives in the process alone");
    }
}
