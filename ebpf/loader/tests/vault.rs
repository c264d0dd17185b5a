//! Keys and replay tables as the loader keeps them: handed out, taken back, refused, erased. Without XDP and without root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use handover::channel::Channel;
use handover::protocol::{Refusal, RefusalKind, Reply, Request};
use handover::vault::{self, Origin, Table, VAULT_BYTES};
use loader::{Handle, Keeping, Loader, Options, Store};
use rustix::fs::{MemfdFlags, SealFlags};

const PATIENCE: Duration = Duration::from_secs(60);
const IDENTITY: [u8; 32] = [7; 32];
/// An end that no test lives to see.
const LATER: u64 = u64::MAX;

/// A loader without XDP.
struct World {
    folder: tempfile::TempDir,
    _handle: Handle,
}

impl World {
    fn new() -> World {
        World::keeping(Keeping {
            tables_bytes_max: 1 << 20,
            ..Keeping::default()
        })
    }

    fn keeping(keeping: Keeping) -> World {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            socket: socket(folder.path()),
            ..Options::default()
        };
        let loader = Loader::without_xdp(options, keeping).unwrap();
        World {
            _handle: loader.on_a_thread().unwrap(),
            folder,
        }
    }

    fn connect(&self) -> Node {
        Node(Channel::connect(&socket(self.folder.path())).unwrap())
    }

    /// A node that has the vault, asked for until its predecessor's end has come through.
    fn node(&self) -> (Node, Vec<Table>, Origin, Vec<OwnedFd>) {
        let until = Instant::now() + PATIENCE;
        loop {
            let node = self.connect();
            match node.ask(&open(IDENTITY), &[]) {
                (Reply::Vault { tables, origin }, memory) => return (node, tables, origin, memory),
                (Reply::Refused(refusal), _) if refusal.kind == RefusalKind::VaultTaken => {
                    assert!(Instant::now() < until, "{refusal}");
                    std::thread::sleep(Duration::from_millis(5));
                }
                (other, _) => panic!("{other:?}"),
            }
        }
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

struct Node(Channel);

impl Node {
    fn ask(&self, request: &Request, memory: &[BorrowedFd<'_>]) -> (Reply, Vec<OwnedFd>) {
        self.0.send(request, memory).unwrap();
        self.0.receive::<Reply>().unwrap().unwrap()
    }

    fn refused(&self, request: &Request, memory: &[BorrowedFd<'_>]) -> Refusal {
        match self.ask(request, memory) {
            (Reply::Refused(refusal), none) if none.is_empty() => refusal,
            (other, _) => panic!("not refused: {other:?}"),
        }
    }

    fn table(&self, epoch: u32, bytes: u64) -> OwnedFd {
        let (reply, mut memory) = self.ask(&table(epoch, bytes), &[]);
        assert_eq!((reply, memory.len()), (Reply::Done, 1));
        memory.remove(0)
    }
}

fn open(identity: [u8; 32]) -> Request {
    Request::Vault { identity }
}

fn table(epoch: u32, bytes: u64) -> Request {
    Request::Table(Table { epoch, bytes })
}

fn resume(tables: &[(u32, u64)]) -> Request {
    let tables = tables.iter().map(|&(epoch, bytes)| Table { epoch, bytes });
    Request::ResumeVault {
        identity: IDENTITY,
        tables: tables.collect(),
    }
}

/// Writes a key into a slot, as the node would.
fn put(vault: &OwnedFd, epoch: u32, ends_ns: u64) {
    let mut slot = [0x5a; vault::SLOT_BYTES];
    slot[..4].copy_from_slice(&1u32.to_ne_bytes());
    slot[4..8].copy_from_slice(&epoch.to_ne_bytes());
    slot[64..].copy_from_slice(&ends_ns.to_ne_bytes());
    let at = vault::slot_offset(epoch) as u64;
    assert_eq!(rustix::io::pwrite(vault, &slot, at).unwrap(), slot.len());
}

fn slot(vault: &OwnedFd, epoch: u32) -> [u8; vault::SLOT_BYTES] {
    let mut slot = [0; vault::SLOT_BYTES];
    let at = vault::slot_offset(epoch) as u64;
    rustix::io::pread(vault, &mut slot, at).unwrap();
    slot
}

fn size(memory: &OwnedFd) -> u64 {
    rustix::fs::fstat(memory).unwrap().st_size as u64
}

fn number(memory: &OwnedFd) -> u64 {
    rustix::fs::fstat(memory).unwrap().st_ino
}

/// A memfd with some of the seals, or all.
fn memory(bytes: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("test", flags).unwrap();
    rustix::fs::ftruncate(&memory, bytes).unwrap();
    rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
    memory
}

fn all_seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL
}

fn a_vault(identity: [u8; 32]) -> OwnedFd {
    let made = memory(VAULT_BYTES as u64, all_seals());
    rustix::io::pwrite(&made, &vault::head(&identity), 0).unwrap();
    made
}

#[test]
fn a_vault_is_a_sealed_page_and_one_node_has_it() {
    let world = World::new();
    let (first, tables, origin, memory) = world.node();
    assert_eq!((tables, origin, memory.len()), (vec![], Origin::New, 1));
    assert_eq!(size(&memory[0]), VAULT_BYTES as u64);
    let seals = rustix::fs::fcntl_get_seals(&memory[0]).unwrap();
    assert!(seals.contains(all_seals()), "{seals:?}");
    let mut head = [0; vault::HEAD_BYTES];
    rustix::io::pread(&memory[0], &mut head, 0).unwrap();
    assert_eq!(vault::read_head(&head), Ok(IDENTITY));
    let refused = world.connect().refused(&open(IDENTITY), &[]);
    assert_eq!(refused.kind, RefusalKind::VaultTaken);
    let own = format!("process {} has this node's keys", std::process::id());
    assert!(refused.message.contains(&own), "{refused}");
    // The one that has it may ask again.
    assert!(matches!(
        first.ask(&open(IDENTITY), &[]),
        (Reply::Vault { .. }, _)
    ));
}

#[test]
fn without_xdp_nothing_is_attached() {
    let world = World::new();
    let attach = Request::Attach {
        interface: "lo".to_owned(),
        port: 9000,
        allow_generic: true,
        capacity_pps: 100_000,
    };
    let refused = world.connect().refused(&attach, &[]);
    assert_eq!(refused.kind, RefusalKind::NoXdp);
    assert!(refused.message.contains("--no-xdp"), "{refused}");
}

#[test]
fn tables_are_one_an_epoch_within_their_budget() {
    let world = World::new();
    let nobody = world.connect();
    for request in [table(4, 4096), Request::Erase { epoch: 4 }] {
        let refused = nobody.refused(&request, &[]);
        assert_eq!(refused.kind, RefusalKind::NoVault);
        assert!(refused.message.contains("no vault"), "{refused}");
    }
    let (node, ..) = world.node();
    let one = node.table(4, 4096);
    assert_eq!(size(&one), 4096);
    assert!(rustix::fs::ftruncate(&one, 0).is_err(), "it can't be cut");
    assert_eq!(number(&node.table(4, 4096)), number(&one), "the same one");
    let said = |request| {
        let refused = node.refused(&request, &[]);
        assert_eq!(refused.kind, RefusalKind::TableUnfit);
        refused.message
    };
    assert!(said(table(4, 8192)).contains("has 4096 bytes and not 8192"));
    assert!(said(table(5, 0)).contains("at least one byte"));
    assert!(said(table(5, (1 << 20) - 4095)).contains("more than the 1048576 allowed"));
    assert!(said(table(5, u64::MAX)).contains("[keys] tables_bytes_max"));
    for epoch in 5..8 {
        node.table(epoch, 4096);
    }
    assert!(said(table(8, 4096)).contains("4 replay tables already"));
    assert_eq!(node.ask(&Request::Erase { epoch: 4 }, &[]).0, Reply::Done);
    let next = node.table(8, 4096);
    assert_ne!(number(&next), number(&one));
}

#[test]
fn keys_and_tables_wait_for_the_next_node_and_tables_without_a_key_do_not() {
    let world = World::new();
    let (node, _, _, memory) = world.node();
    put(&memory[0], 4, LATER);
    let kept = node.table(4, 4096);
    node.table(5, 4096);
    drop(node);
    let (node, tables, origin, again) = world.node();
    let expected = Table {
        epoch: 4,
        bytes: 4096,
    };
    assert_eq!((tables, origin), (vec![expected], Origin::Kept));
    assert_eq!(number(&again[0]), number(&memory[0]));
    assert_eq!(number(&again[1]), number(&kept));
    drop(node);
    // Another node's keys are not this one's, until there are none left.
    let other = [9; 32];
    let refused = loop {
        let refused = world.connect().refused(&open(other), &[]);
        if refused.kind != RefusalKind::VaultTaken {
            break refused;
        }
    };
    assert_eq!(refused.kind, RefusalKind::OtherIdentity);
    assert!(refused.message.contains("another identity"), "{refused}");
    rustix::io::pwrite(&again[0], &[0; 72], vault::slot_offset(4) as u64).unwrap();
    let (reply, fresh) = world.connect().ask(&open(other), &[]);
    let expected = Reply::Vault {
        tables: Vec::new(),
        origin: Origin::New,
    };
    assert_eq!(reply, expected);
    assert_ne!(number(&fresh[0]), number(&again[0]));
}

#[test]
fn a_key_whose_node_is_away_is_erased_when_it_ends_and_not_while_the_node_is_there() {
    let world = World::new();
    let (node, _, _, memory) = world.node();
    // One has ended, one was never told when to, one goes on.
    put(&memory[0], 4, 1);
    put(&memory[0], 5, 0);
    put(&memory[0], 6, LATER);
    node.table(4, 4096);
    std::thread::sleep(Duration::from_millis(50));
    node.table(6, 4096);
    assert!(slot(&memory[0], 4) != [0; 72], "the node erases its own");
    drop(node);
    let until = Instant::now() + PATIENCE;
    while slot(&memory[0], 4) != [0; 72] || slot(&memory[0], 5) != [0; 72] {
        assert!(Instant::now() < until, "it is not erased");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(slot(&memory[0], 6) != [0; 72]);
    let (_, tables, ..) = world.node();
    let epochs: Vec<u32> = tables.iter().map(|table| table.epoch).collect();
    assert_eq!(epochs, [6]);
}

#[test]
fn a_loader_that_comes_back_takes_what_the_node_kept() {
    let world = World::new();
    let (node, _, _, kept) = world.node();
    put(&kept[0], 4, LATER);
    let table = node.table(4, 4096);
    drop(world);
    let world = World::new();
    let node = world.connect();
    let both = [kept[0].as_fd(), table.as_fd()];
    assert_eq!(node.ask(&resume(&[(4, 4096)]), &both).0, Reply::Done);
    assert_eq!(number(&node.table(4, 4096)), number(&table));
    let refused = world.connect().refused(&resume(&[(4, 4096)]), &both);
    assert_eq!(refused.kind, RefusalKind::VaultTaken);
    drop(node);
    let (_, tables, origin, again) = world.node();
    assert_eq!((tables.len(), origin), (1, Origin::Kept));
    assert_eq!(number(&again[0]), number(&kept[0]));
}

#[test]
fn what_the_loader_would_not_have_made_itself_is_not_taken_back() {
    let world = World::new();
    let node = world.connect();
    let whole = a_vault(IDENTITY);
    let good = memory(4096, all_seals());
    let said = |tables: &[(u32, u64)], memory: &[BorrowedFd<'_>]| {
        let refused = node.refused(&resume(tables), memory);
        let kinds = [RefusalKind::MemoryUnfit, RefusalKind::TableUnfit];
        assert!(kinds.contains(&refused.kind), "{refused}");
        refused.message
    };
    // Unsealed, and sealed against one thing alone.
    for seals in [SealFlags::empty(), SealFlags::GROW, SealFlags::SHRINK] {
        let cut = memory(VAULT_BYTES as u64, seals);
        rustix::io::pwrite(&cut, &vault::head(&IDENTITY), 0).unwrap();
        assert!(said(&[], &[cut.as_fd()]).contains("the vault is not sealed"));
        let cut = memory(4096, seals);
        let both = [whole.as_fd(), cut.as_fd()];
        assert!(said(&[(4, 4096)], &both).contains("the table of epoch 4 is not sealed"));
    }
    // Of the wrong size.
    let short = memory(4095, all_seals());
    assert!(said(&[], &[short.as_fd()]).contains("has 4095 bytes and should have 4096"));
    let both = [whole.as_fd(), short.as_fd()];
    assert!(said(&[(4, 4096)], &both).contains("epoch 4 has 4095 bytes"));
    // Foreign: a file, a socket, memory of something else, another version's, another node's.
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    assert!(said(&[], &[file.as_fd()]).contains("no memory that mixctld made"));
    assert!(said(&[(4, 4096)], &[whole.as_fd(), node.0.as_fd()]).contains("no memory"));
    let blank = memory(VAULT_BYTES as u64, all_seals());
    assert!(said(&[], &[blank.as_fd()]).contains("it is no vault"));
    let newer = a_vault(IDENTITY);
    rustix::io::pwrite(&newer, &2u32.to_ne_bytes(), 4).unwrap();
    assert!(said(&[], &[newer.as_fd()]).contains("a vault of version 2"));
    let other = a_vault([8; 32]);
    assert!(said(&[], &[other.as_fd()]).contains("another node's vault"));
    // Too few, too many, twice, beyond the budget.
    assert!(said(&[], &[]).contains("0 descriptors came and 1 belong to it"));
    assert!(said(&[(4, 4096)], &[whole.as_fd()]).contains("1 descriptors came and 2"));
    let three = [whole.as_fd(), good.as_fd(), good.as_fd()];
    assert!(said(&[(4, 4096), (4, 4096)], &three).contains("epoch 4 has two"));
    let five = [
        whole.as_fd(),
        good.as_fd(),
        good.as_fd(),
        good.as_fd(),
        good.as_fd(),
        good.as_fd(),
    ];
    let tables: Vec<(u32, u64)> = (4..9).map(|epoch| (epoch, 4096)).collect();
    assert!(said(&tables, &five).contains("4 replay tables already"));
    let large = memory((1 << 20) + 1, all_seals());
    let both = [whole.as_fd(), large.as_fd()];
    assert!(said(&[(4, (1 << 20) + 1)], &both).contains("more than the 1048576 allowed"));
    // A loader that has keys of this node already takes no others.
    let (first, _, _, own) = world.node();
    put(&own[0], 4, LATER);
    drop(first);
    let refused = loop {
        let refused = node.refused(&resume(&[]), &[whole.as_fd()]);
        if refused.kind != RefusalKind::VaultTaken {
            break refused;
        }
    };
    assert!(
        refused.message.contains("those that came are others"),
        "{refused}"
    );
}

/// A service manager that is played here.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<Vec<String>>>);

impl Store for Played {
    fn keep(&mut self, name: &str, _: BorrowedFd<'_>) {
        self.0.lock().unwrap().push(format!("+{name}"));
    }

    fn forget(&mut self, name: &str) {
        self.0.lock().unwrap().push(format!("-{name}"));
    }
}

impl Played {
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn keeping(&self, returned: Vec<(&str, &OwnedFd)>) -> Keeping {
        let returned = returned.into_iter();
        Keeping {
            tables_bytes_max: 1 << 20,
            store: Some(Box::new(self.clone())),
            returned: returned
                .map(|(name, memory)| (name.to_owned(), memory.try_clone().unwrap()))
                .collect(),
        }
    }
}

#[test]
fn the_service_manager_keeps_what_the_loader_makes_and_returns_it() {
    let played = Played::default();
    let world = World::keeping(played.keeping(vec![]));
    let (node, _, _, kept) = world.node();
    put(&kept[0], 4, LATER);
    put(&kept[0], 5, LATER);
    let tables = [node.table(4, 4096), node.table(5, 8192)];
    node.table(4, 4096);
    assert_eq!(played.heard(), ["+vault", "+table-4", "+table-5"]);
    assert_eq!(node.ask(&Request::Erase { epoch: 5 }, &[]).0, Reply::Done);
    assert_eq!(played.heard(), ["-table-5"]);
    drop((world, node));

    // Its successor, under the same manager. What can't be used is let go, what is the unit's own left alone.
    let odd = memory(4096, SealFlags::empty());
    let world = World::keeping(played.keeping(vec![
        ("table-4", &tables[0]),
        ("vault", &kept[0]),
        ("table-6", &odd),
        ("http.socket", &odd),
    ]));
    assert_eq!(played.heard(), ["-table-6"]);
    let (node, listed, origin, again) = world.node();
    assert_eq!((listed.len(), origin), (1, Origin::Returned));
    assert_eq!(number(&again[0]), number(&kept[0]));
    assert_eq!(number(&again[1]), number(&tables[0]));
    drop((world, node));

    // And once more, but the node lives and brings its own, without what it has erased meanwhile.
    let world = World::keeping(played.keeping(vec![("vault", &kept[0]), ("table-4", &tables[0])]));
    let node = world.connect();
    assert_eq!(node.ask(&resume(&[]), &[kept[0].as_fd()]).0, Reply::Done);
    assert_eq!(played.heard(), ["-table-4"]);
    drop((world, node));

    // A vault of another version is dropped with its tables: the node starts anew.
    rustix::io::pwrite(&kept[0], &2u32.to_ne_bytes(), 4).unwrap();
    let world = World::keeping(played.keeping(vec![("vault", &kept[0]), ("table-4", &tables[0])]));
    assert_eq!(played.heard(), ["-vault", "-table-4"]);
    let (_, listed, origin, _) = world.node();
    assert_eq!((listed.len(), origin), (0, Origin::New));
}
