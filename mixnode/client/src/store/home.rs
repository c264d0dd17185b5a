//! The client's own store: keys, the network it joined, cached keys of others, journals of what is being sent.
//!
//! ```text
//! identity.key          end-to-end keys, mode 0400
//! mailbox-<gateway>.key one mailbox key a gateway, mode 0400
//! gateway               the chosen gateway's identity: the guard
//! reserves              its reserves, drawn at the same time, and which of them is used: see `reserves`
//! network               the chain of authorities, and the consensus that the network was joined with
//! consensus/<epoch>     verified documents of the last few epochs, the next one's among them
//! keys/<hash>           recipients' ML-KEM keys that were fetched and checked: see `keys`
//! sending/<transfer>    what is being sent
//! receiving/<transfer>  what arrives: see `disk`
//! receiving/used        marks of what was taken once: see `used`; of reply blocks that were used in its folder `blocks`
//! lock                  held by the running client
//! control               the socket at which it takes what other commands ask: see `face::control`
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use directory::store::open_regular;
use directory::{Bootstrap, CONSENSUS_BYTES_MAX, Chain, Consensus, Held, SignedConsensus};
use link::ClientKeys;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::disk::{hex, write_atomic};
use super::keys::KnownKeys;
use super::{files, reserves};
use crate::address::Address;
use crate::carrier::{DOCUMENTS_MAX, Documents, GuardState};
use crate::identity::{IDENTITY_BYTES, Identity, KEM_KEY_BYTES};
use crate::transfer::TransferId;

/// Far more than any journal is: two paths, an address and two hashes.
const JOURNAL_BYTES_MAX: usize = 1 << 16;
/// What makes a folder a store.
const IDENTITY: &str = "identity.key";
/// How often the lock is tried, and how long in between.
const LOCK_TRIES: u32 = 10;
const LOCK_STEP: Duration = Duration::from_millis(20);

/// Why the store is no use.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The file system says no.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}; remove it and run fog init again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key does not hold what it should: a new one would be another address.
    #[error("{path}: {reason}; restore it from a backup: removing it makes a new address")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no store.
    #[error("{0} is no fog home: run fog init --network FILE first")]
    Missing(PathBuf),
    /// Another client runs on it: two would share a mailbox, and only the newest attachment receives.
    #[error("another fog is running on {0}: fog down stops it, or use --home with another folder")]
    Locked(PathBuf),
    /// The network file is not sound.
    #[error("{path}: {reason}")]
    Network {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// An open store.
pub struct Home {
    path: PathBuf,
    /// End-to-end keys.
    pub identity: Identity,
    /// Mailbox key at the gateway.
    pub mailbox: ClientKeys,
    /// The gateway's identity: the guard.
    pub gateway: [u8; 32],
    /// The guard's reserves, and the mailbox keys there.
    pub reserves: Vec<([u8; 32], ClientKeys)>,
    /// Where the client stood with its guard when it ran last.
    pub guard_state: GuardState,
    /// Whose consensus to believe.
    pub authorities: Chain,
    /// The documents that it holds.
    pub documents: Documents,
    _lock: Option<File>,
}

/// What is being sent: found again when the same file is sent to the same address after a kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) transfer: TransferId,
    pub(crate) address: String,
    #[serde(with = "super::paths")]
    pub(crate) file: PathBuf,
    pub(crate) hash: [u8; 32],
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, HomeError> {
    result.map_err(|error| HomeError::Io {
        path: path.to_owned(),
        error,
    })
}

impl Home {
    /// Where a user's store is: `$XDG_DATA_HOME/fog`, else `~/.local/share/fog`.
    pub fn default_path() -> Option<PathBuf> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        absolute("XDG_DATA_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/share")))
            .map(|data| data.join("fog"))
    }

    /// Makes a store, or joins it to another network: keys that exist are kept, and in the same network the guard and
    /// its reserves too, as long as the network has them. Those that are missing, unless the gateway is chosen here, are
    /// drawn, weighted by capacity.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn init<R: CryptoRng + ?Sized>(
        path: &Path,
        network: &Path,
        gateway: Option<[u8; 32]>,
        rng: &mut R,
    ) -> Result<Address, HomeError> {
        let unsound = |reason: String| HomeError::Network {
            path: network.to_owned(),
            reason,
        };
        let mut bootstrap = at(network, Bootstrap::read(network))?;
        let consensus = bootstrap
            .verify()
            .map_err(|error| unsound(error.to_string()))?;
        let joined = Bootstrap::read(&path.join("network")).ok();
        let joined = joined.filter(|joined| bootstrap.check_network(&joined.chain).is_ok());
        let (mut known, mut state) = (Vec::new(), GuardState::default());
        let mut newest = consensus.clone();
        if let Some(joined) = &joined {
            // An old file does not know the newest sets.
            for set in joined.chain.sets() {
                let kept = bootstrap.chain.extend(set.clone());
                kept.map_err(|error| unsound(error.to_string()))?;
            }
            known.extend(read_gateway(path).ok());
            let (reserves, before) = reserves::read(path)?;
            known.extend(reserves);
            state = before;
            // An old file does not tell who has left since.
            let stored = stored_consensuses(path, &bootstrap.chain);
            let stored = stored.into_iter().chain([newest]);
            newest = stored
                .max_by_key(Consensus::epoch)
                .unwrap_or_else(|| consensus.clone());
        }
        let guard = reserves::guard(&newest, gateway, &known, rng)
            .ok_or_else(|| unsound("no such gateway in this network".to_owned()))?;
        let reserves = reserves::reserves(&newest, guard, &known, rng);
        let gateway = guard.identity;
        if !known.iter().eq([&gateway].into_iter().chain(&reserves)) {
            state = GuardState::default();
        }
        for folder in [path, &path.join("keys"), &path.join("sending")] {
            let mut builder = fs::DirBuilder::new();
            at(folder, builder.recursive(true).mode(0o700).create(folder))?;
        }
        let _lock = lock(path)?;
        let mut fresh = || {
            let mut bytes = Zeroizing::new([0; IDENTITY_BYTES]);
            rng.fill_bytes(&mut *bytes);
            bytes
        };
        create_key(&path.join(IDENTITY), &fresh()[..])?;
        for gateway in reserves.iter().chain([&gateway]) {
            create_key(&mailbox_path(path, gateway), &fresh()[..32])?;
        }
        let network = path.join("network");
        match joined {
            // Of the same network nothing is forgotten: an old file does not roll it back.
            Some(joined) => {
                if let (Ok(consensus), Some(document)) = (joined.verify(), &joined.consensus) {
                    at(path, save(path, consensus.epoch(), &document.encode()))?;
                }
            }
            None => forget_all(path)?,
        }
        if let Some(document) = &bootstrap.consensus {
            at(path, save(path, consensus.epoch(), &document.encode()))?;
        }
        at(&network, write_atomic(&network, &bootstrap.encode(), 0o600))?;
        let chosen = path.join("gateway");
        at(&chosen, write_atomic(&chosen, &gateway, 0o600))?;
        at(path, reserves::write(path, &reserves, state))?;
        Ok(Self::read(path)?.address())
    }

    /// Whether there is a store: one that this user may not look into is there all the same, and says so.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn find(path: &Path) -> Result<(), HomeError> {
        match at(path, path.join(IDENTITY).try_exists())? {
            true => Ok(()),
            false => Err(HomeError::Missing(path.to_owned())),
        }
    }

    /// Opens a store for a running client, alone.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        Self::find(path)?;
        let lock = lock(path)?;
        let mut home = Self::read(path)?;
        KnownKeys::of(path).prune(SystemTime::now());
        home._lock = Some(lock);
        Ok(home)
    }

    /// Reads a store without running a client on it.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn read(path: &Path) -> Result<Self, HomeError> {
        Self::find(path)?;
        let identity = Identity::from_bytes(&*read_key(&path.join(IDENTITY))?);
        let gateway = read_gateway(path)?;
        let mailbox = ClientKeys::from_bytes(&*read_key(&mailbox_path(path, &gateway))?);
        let (reserves, guard_state) = reserves::read(path)?;
        let with_keys = |gateway: [u8; 32]| {
            let keys = read_key(&mailbox_path(path, &gateway))?;
            Ok((gateway, ClientKeys::from_bytes(&keys)))
        };
        let reserves = reserves
            .into_iter()
            .map(with_keys)
            .collect::<Result<_, HomeError>>()?;
        let network = path.join("network");
        let bootstrap = at(&network, Bootstrap::read(&network))?;
        let joined = bootstrap.verify().map_err(|error| HomeError::Invalid {
            path: network,
            reason: error.to_string(),
        })?;
        let mut documents = Documents::from(joined);
        for consensus in stored_consensuses(path, &bootstrap.chain) {
            documents.insert(consensus);
        }
        Ok(Self {
            path: path.to_owned(),
            identity,
            mailbox,
            gateway,
            reserves,
            guard_state,
            authorities: bootstrap.chain,
            documents,
            _lock: None,
        })
    }

    /// The user's address.
    pub fn address(&self) -> Address {
        self.identity.address(self.gateway, &self.mailbox)
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores the verified consensus of `epoch` beside those of other epochs; of too many, those of the lowest go.
    ///
    /// # Errors
    /// The file system's.
    pub fn save_consensus(&self, epoch: u32, document: &[u8]) -> io::Result<()> {
        save(&self.path, epoch, document)
    }

    /// Stores a chain of authority sets in place of a shorter one.
    ///
    /// # Errors
    /// The file system's, or what the network was joined with is no such file any more.
    pub fn save_authorities(&self, chain: &Chain) -> io::Result<()> {
        let path = self.path.join("network");
        let mut network = Bootstrap::read(&path)?;
        network.chain = chain.clone();
        write_atomic(&path, &network.encode(), 0o600)
    }

    /// Stores where the client stands with its guard.
    ///
    /// # Errors
    /// The file system's.
    pub fn save_guard_state(&self, state: GuardState) -> io::Result<()> {
        let reserves: Vec<[u8; 32]> = self
            .reserves
            .iter()
            .map(|(identity, _)| *identity)
            .collect();
        reserves::write(&self.path, &reserves, state)
    }

    pub(crate) fn save_key(&self, hash: &[u8; 32], key: &[u8; KEM_KEY_BYTES]) -> io::Result<()> {
        KnownKeys::of(&self.path).save(hash, key)
    }

    /// A recipient's ML-KEM key from the cache; its hash is checked by whoever uses it.
    pub(crate) fn cached_key(&self, hash: &[u8; 32]) -> Option<Box<[u8; KEM_KEY_BYTES]>> {
        KnownKeys::of(&self.path).read(hash)
    }

    /// The journal of this file on its way to this address, if it was begun before; and those of what the file was before
    /// it changed, of which nothing more can be sent.
    pub(crate) fn find_journal(&self, wanted: &Journal) -> (Option<Journal>, Vec<Journal>) {
        let entries = fs::read_dir(self.path.join("sending"))
            .into_iter()
            .flatten();
        let found = entries
            .filter_map(|entry| files::read(&entry.ok()?.path(), JOURNAL_BYTES_MAX).ok())
            .filter_map(|text| serde_json::from_slice::<Journal>(&text).ok())
            .filter(|found| {
                // A copy of standard input that is gone can't go on.
                let lost = found.file.starts_with(&self.path) && !found.file.exists();
                if lost {
                    self.remove_journal(&found.transfer);
                }
                !lost
            })
            .filter(|found| (&found.address, &found.file) == (&wanted.address, &wanted.file));
        let (mut same, changed): (Vec<_>, Vec<_>) =
            found.partition(|found| found.hash == wanted.hash);
        (same.pop(), changed)
    }

    pub(crate) fn save_journal(&self, journal: &Journal) -> io::Result<()> {
        let text = serde_json::to_vec(journal).map_err(io::Error::other)?;
        write_atomic(&self.journal_path(&journal.transfer), &text, 0o600)
    }

    pub(crate) fn remove_journal(&self, transfer: &TransferId) {
        let _ = fs::remove_file(self.journal_path(transfer));
    }

    fn journal_path(&self, transfer: &TransferId) -> PathBuf {
        self.path.join("sending").join(hex(transfer))
    }
}

fn save(home: &Path, epoch: u32, document: &[u8]) -> io::Result<()> {
    let folder = home.join("consensus");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    write_atomic(&folder.join(epoch.to_string()), document, 0o600)?;
    let mut epochs = stored_epochs(home);
    epochs.sort_unstable();
    for old in epochs.iter().rev().skip(DOCUMENTS_MAX) {
        let _ = fs::remove_file(folder.join(old.to_string()));
    }
    Ok(())
}

fn stored_epochs(home: &Path) -> Vec<u32> {
    let entries = fs::read_dir(home.join("consensus")).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The stored documents that verify: what is broken can be fetched again.
fn stored_consensuses(home: &Path, authorities: &Chain) -> Vec<Consensus> {
    let read = |epoch: u32| {
        let path = home.join("consensus").join(epoch.to_string());
        let bytes = files::read(&path, CONSENSUS_BYTES_MAX).ok()?;
        let document = SignedConsensus::decode(&bytes).ok()?;
        let consensus = document.verify(authorities, &Held::default()).ok()?;
        (consensus.epoch() == epoch).then_some(consensus)
    };
    stored_epochs(home).into_iter().filter_map(read).collect()
}

fn forget_all(home: &Path) -> Result<(), HomeError> {
    let folder = home.join("consensus");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => at(&folder, removed),
    }
}

fn mailbox_path(home: &Path, gateway: &[u8; 32]) -> PathBuf {
    home.join(format!("mailbox-{}.key", hex(gateway)))
}

fn lock(home: &Path) -> Result<File, HomeError> {
    let path = home.join("lock");
    let file = at(&path, files::open(&path))?;
    for tries in 0.. {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // One that has just said its last word has not let go yet.
            Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => std::thread::sleep(LOCK_STEP),
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => return Err(HomeError::Io { path, error }),
        }
    }
    Err(HomeError::Locked(home.to_owned()))
}

fn create_key(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    if path.exists() {
        return Ok(());
    }
    at(path, write_atomic(path, bytes, 0o400))
}

fn read_gateway(home: &Path) -> Result<[u8; 32], HomeError> {
    let path = home.join("gateway");
    let gateway = read_whole(&path)?.ok_or_else(|| HomeError::Invalid {
        path,
        reason: "not 32 bytes".to_owned(),
    })?;
    Ok(*gateway)
}

fn read_key<const N: usize>(path: &Path) -> Result<Zeroizing<[u8; N]>, HomeError> {
    read_whole(path)?.ok_or_else(|| HomeError::Key {
        path: path.to_owned(),
        reason: format!("not {N} bytes"),
    })
}

/// A file of so many bytes; none if it has more or fewer.
fn read_whole<const N: usize>(path: &Path) -> Result<Option<Zeroizing<[u8; N]>>, HomeError> {
    let mut bytes = Zeroizing::new([0; N]);
    let mut file = at(path, open_regular(path))?;
    // Read into its place: no copy is left behind on the heap.
    let whole = file.read_exact(&mut bytes[..]).is_ok() && matches!(file.read(&mut [0]), Ok(0));
    Ok(whole.then_some(bytes))
}
