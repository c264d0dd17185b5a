//! Sending one file and receiving files, on a real socket, clock and disk: a thread that sends in the slots
//! (`departing`), and this one for all that takes time.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand_core::{Rng, SeedableRng};
use sphinx::Generator;

use crate::address::Address;
use crate::event::Event;
use crate::histogram::Latency;
use crate::store::home::{Home, HomeError, Journal};
use crate::store::{DiskStorage, Storage};
use crate::transfer::{Failure, Manifest, Phase, Received, TransferId};

pub use super::lookout::Wait;
use super::lookout::{Lookout, unix_s};
use super::session::Session;
use super::source::measure;
pub use super::source::open as open_source;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Slots a second; the network's rate if `None`.
    pub rate_pps: Option<u32>,
    /// Share of slots for loop cover.
    pub loop_share: f64,
    /// Each received datagram is dropped with this probability: for the lab, whose nodes do the same.
    pub loss: f64,
    /// Larger files are refused.
    pub file_bytes_max: u64,
    /// Given up after so long.
    pub timeout: Option<Duration>,
    /// What was sent stays in the journal, until [`forget`]: one of several, which the same command sends again when it is
    /// interrupted; the recipient then says at once that it has this one.
    pub keeps_journal: bool,
    /// What the recipient is told as the name of a file that is sent; the file's own if `None`.
    pub name: Option<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate_pps: None,
            loop_share: 0.1,
            loss: 0.0,
            file_bytes_max: 16 << 30,
            timeout: None,
            keeps_journal: false,
            name: None,
        }
    }
}

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Its phase.
    pub phase: Phase,
    /// Chunks acknowledged.
    pub chunks: u32,
    /// Chunks in all.
    pub total: u32,
    /// Bytes of the file.
    pub size: u64,
    /// Share of packets lost lately, 0 to 1.
    pub loss: f64,
}

/// What a sender tells while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum SendEvent {
    /// The file is being hashed, which takes a while: bytes done, and all.
    Hashing(u64, u64),
    /// How far it is.
    Progress(Progress),
    /// What it waits for; `None`: it goes on.
    Waiting(Option<Wait>),
}

/// What became of a file that was sent.
#[derive(Clone, Debug)]
pub struct SendSummary {
    /// The transfer.
    pub transfer: TransferId,
    /// Bytes of the file.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// Packets sent for it.
    pub packets: u64,
    /// Chunks sent again.
    pub retransmitted: u64,
    /// Share of packets lost lately, 0 to 1.
    pub loss: f64,
    /// From the first slot to the recipient's word that it has the whole file.
    pub duration: Duration,
    /// Packet out, answer back; the recipient's wait for more packets to answer together is part of it.
    pub round_trip: Latency,
}

/// What a running recipient tells.
#[derive(Clone, Debug)]
pub enum ReceiveEvent {
    /// Attached to the gateway: files can arrive.
    Ready(Address),
    /// Something arrived.
    Received(Received),
    /// What it waits for; `None`: it goes on.
    Waiting(Option<Wait>),
}

/// What a recipient counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiveSummary {
    /// Files received.
    pub files: u64,
}

/// Why running ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file to send.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The socket.
    #[error("network: {0}")]
    Socket(io::Error),
    /// A result that can't be printed.
    #[error("can't print: {0}")]
    Output(io::Error),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The transfer failed.
    #[error(transparent)]
    Transfer(Failure),
    /// Asked to stop before the end.
    #[error("stopped before the file was acknowledged: the same command goes on where it stopped")]
    Stopped,
    /// The time that was given is over.
    #[error(
        "not done after {:.0} s{}: the same command goes on where it stopped",
        after.as_secs_f64(),
        wait.as_ref().map_or_else(String::new, |wait| format!(" ({wait})"))
    )]
    TimedOut {
        /// The time.
        after: Duration,
        /// What it waited for last.
        wait: Option<Wait>,
    },
}

/// A generator seeded by the system.
///
/// # Errors
/// The system gives no random numbers.
pub fn system_rng() -> Result<Generator, RunError> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(RunError::Random)?;
    Ok(Generator::from_seed(*seed))
}

/// Sends one file and returns when its recipient has it whole. Killed and called again with the same address and
/// file, it goes on where it was.
///
/// # Errors
/// See [`RunError`].
pub fn send_file(
    home: &Path,
    address: &Address,
    file: &Path,
    options: &Options,
    tell: &mut dyn FnMut(&SendEvent),
    stop: &AtomicBool,
) -> Result<SendSummary, RunError> {
    let began = Instant::now();
    let unreadable = |error| RunError::File {
        path: file.to_owned(),
        error,
    };
    let (source, total) = open_source(file).map_err(unreadable)?;
    let home = Home::open(home)?;
    let mut rng = system_rng()?;
    let mut hashed = |done| tell(&SendEvent::Hashing(done, total));
    let measured = measure(source, stop, &mut hashed).map_err(unreadable)?;
    let source = measured.ok_or(RunError::Stopped)?;
    let (size, hash) = source.measured();
    let mut journal = Journal {
        transfer: [0; 16],
        address: address.to_string(),
        file: file.canonicalize().map_err(unreadable)?,
        hash,
    };
    rng.fill_bytes(&mut journal.transfer);
    let journal = home.find_journal(&journal).unwrap_or(journal);
    home.save_journal(&journal).map_err(|error| HomeError::Io {
        path: home.path().to_owned(),
        error,
    })?;
    let transfer = journal.transfer;
    let own = || file.file_name().unwrap_or_default().to_owned();
    let name = options.name.clone().unwrap_or_else(own);
    let manifest = Manifest {
        transfer,
        size,
        hash,
        name: name.to_string_lossy().into_owned(),
    };
    let key = home.cached_key(&address.kem_hash);
    let storage = home.no_files().map_err(|error| HomeError::Io {
        path: home.path().to_owned(),
        error,
    })?;
    let mut session = Session::start(&home, options, Box::new(storage), rng)?;
    let started = Instant::now();
    session
        .client
        .send(*address, manifest, Box::new(source), key);
    let (mut ended, mut lookout) = (None, Lookout::default());
    // The last answer of the recipient: none yet, and none since the start.
    let (mut answered, mut acknowledged) = ((None, Instant::now()), 0);
    while ended.is_none() {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        if let Some(after) = options.timeout.filter(|after| began.elapsed() >= *after) {
            let wait = lookout.told().cloned();
            return Err(RunError::TimedOut { after, wait });
        }
        let awaited = (answered.0, answered.1.elapsed());
        if let Some(said) = lookout.look(began.elapsed(), &session.seen(Some(awaited))) {
            tell(&SendEvent::Waiting(said));
        }
        session.turn(&home, &mut |event| match event {
            Event::Key { .. } => answered = (Some(unix_s()), Instant::now()),
            Event::Sending {
                phase,
                chunks,
                total,
                loss,
                ..
            } => {
                if chunks > acknowledged || matches!(phase, Phase::Sending | Phase::Paused) {
                    answered = (Some(unix_s()), Instant::now());
                    acknowledged = chunks;
                }
                tell(&SendEvent::Progress(Progress {
                    phase: phase.clone(),
                    chunks,
                    total,
                    size,
                    loss,
                }));
                ended = match phase {
                    Phase::Complete => Some(Ok(())),
                    Phase::Failed(failure) => Some(Err(failure)),
                    _ => None,
                };
            }
            _ => {}
        })?;
    }
    if !options.keeps_journal || !matches!(ended, Some(Ok(()))) {
        home.remove_journal(&transfer);
    }
    if let Some(Err(failure)) = ended {
        return Err(RunError::Transfer(failure));
    }
    Ok(session.summary(&transfer, (size, hash), started.elapsed()))
}

/// Takes what was sent out of the journal.
///
/// # Errors
/// See [`RunError`].
pub fn forget(home: &Path, transfers: &[TransferId]) -> Result<(), RunError> {
    let home = Home::read(home)?;
    transfers
        .iter()
        .for_each(|transfer| home.remove_journal(transfer));
    Ok(())
}

/// Receives files into `out` until asked to stop.
///
/// # Errors
/// See [`RunError`].
pub fn receive(
    home: &Path,
    out: &Path,
    options: &Options,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&ReceiveEvent),
) -> Result<ReceiveSummary, RunError> {
    let home = Home::open(home)?;
    let records = home.path().join("receiving");
    let storage = DiskStorage::new(&records, out, options.file_bytes_max).map_err(|error| {
        RunError::File {
            path: out.to_owned(),
            error,
        }
    })?;
    receive_into(&home, Box::new(storage), options, stop, on_event)
}

/// Receives files into `storage` until asked to stop.
///
/// # Errors
/// See [`RunError`].
pub fn receive_into(
    home: &Home,
    storage: Box<dyn Storage>,
    options: &Options,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&ReceiveEvent),
) -> Result<ReceiveSummary, RunError> {
    let mut session = Session::start(home, options, storage, system_rng()?)?;
    let (mut files, mut lookout, began) = (0, Lookout::default(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        if let Some(after) = options.timeout.filter(|after| began.elapsed() >= *after) {
            let wait = lookout.told().cloned();
            return Err(RunError::TimedOut { after, wait });
        }
        if let Some(said) = lookout.look(began.elapsed(), &session.seen(None)) {
            on_event(&ReceiveEvent::Waiting(said));
        }
        session.turn(home, &mut |event| match event {
            Event::Attached { .. } => on_event(&ReceiveEvent::Ready(home.address())),
            Event::Received(received) => {
                files += u64::from(matches!(received, Received::Done { .. }));
                on_event(&ReceiveEvent::Received(received));
            }
            _ => {}
        })?;
    }
    Ok(ReceiveSummary { files })
}
