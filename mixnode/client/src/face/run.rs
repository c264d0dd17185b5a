//! Running a client on a real socket, clock and disk: a thread that sends in the slots (`departing`), and this one for
//! all that takes time. Here is what a run can be told, and receiving; sending is in `send`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sphinx::Generator;

use crate::address::Address;
use crate::event::Event;
use crate::store::home::{Home, HomeError};
use crate::store::{DiskStorage, Storage};
use crate::transfer::{Failure, Phase, Received, TransferId};

use super::control::Control;
use super::linger::Lingering;
pub use super::linger::{LINGER_MEAN, linger, linger_of_recipient};
use super::lookout::Lookout;
pub use super::lookout::Wait;
pub use super::notice::Notice;
pub use super::send::{Sender, forget};
use super::session::Session;
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
    /// A recipient ends when it has received so many files, and cover has then gone on for a time that is drawn, this on
    /// average; what others hand over is still sent.
    pub ends_after: Option<(u64, Duration)>,
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
            ends_after: None,
            keeps_journal: false,
            name: None,
        }
    }
}

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl Progress {
    /// Bytes acknowledged.
    pub fn bytes(&self) -> u64 {
        part(self.size, self.chunks, self.total)
    }
}

/// Bytes of `size` that so many of all chunks are.
pub fn part(size: u64, chunks: u32, total: u32) -> u64 {
    let share = u128::from(chunks) * u128::from(size) / u128::from(total.max(1));
    u64::try_from(share).unwrap_or(size)
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
    /// Something that the user should know.
    Notice(Notice),
    /// All is done, and cover goes on for so long.
    Lingering(Duration),
}

/// Half of what was measured was not longer than the one, all but a hundredth than the other: milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// What became of a file that was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Packet out, answer back; the recipient's wait for more packets to answer together is part of it. None without
    /// an answer that tells.
    pub round_trip_ms: Option<Quantiles>,
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
    /// Something that the user should know.
    Notice(Notice),
    /// All that was asked for is here, and cover goes on for so long.
    Lingering(Duration),
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
    /// Nobody can receive on the home that sends.
    #[error(
        "this is your own address, and no fog is running that would receive here: fog up starts one"
    )]
    OwnAddress,
    /// Asked to stop; whoever runs on the home sends the file on.
    #[error("no longer waited for: the fog that runs here sends the file on (see fog status)")]
    GoesOn,
    /// Nobody runs on the home.
    #[error("no fog is running on {}: fog up starts one", home.display())]
    NotRunning {
        /// The home.
        home: PathBuf,
    },
    /// Whoever runs on the home can't take this now.
    #[error("{why}")]
    Busy {
        /// Why.
        why: String,
    },
    /// Asked to stop before the end.
    #[error("stopped before the file was acknowledged: the same command goes on where it stopped")]
    Stopped,
    /// The time that was given is over.
    #[error(
        "not done after {:.0} s{}{}",
        after.as_secs_f64(),
        wait.as_ref().map_or_else(String::new, |wait| format!(" ({wait})")),
        // What was read of standard input is gone.
        if matches!(wait, Some(Wait::Input)) { "" } else { ": the same command goes on where it stopped" }
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
    Generator::seeded(getrandom::fill).map_err(RunError::Random)
}

/// Receives files into `out` until asked to stop, or until all that were asked for are here, and takes what other commands of this user ask: see
/// [`control`](super::control).
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
    let out = storage.out().to_owned();
    receive_into(&home, &out, Box::new(storage), options, stop, on_event)
}

/// The same with a storage that keeps the files in `out`.
///
/// # Errors
/// See [`RunError`].
pub fn receive_into(
    home: &Home,
    out: &Path,
    storage: Box<dyn Storage>,
    options: &Options,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&ReceiveEvent),
) -> Result<ReceiveSummary, RunError> {
    let mut control = Control::open(home, Some(out));
    let mut session = Session::start(home, options, Some(storage), system_rng()?)?;
    let (mut files, mut lookout, began) = (0, Lookout::default(), Instant::now());
    let (mut happened, mut lingering) = (Vec::new(), None::<Lingering>);
    while !stop.load(Ordering::Relaxed) {
        if let Some(lingering) = &mut lingering
            && lingering.is_over(control.is_busy())
        {
            break;
        }
        if let Some(after) = options.timeout.filter(|after| began.elapsed() >= *after) {
            if lingering.is_some() {
                break;
            }
            let wait = lookout.told().cloned();
            return Err(RunError::TimedOut { after, wait });
        }
        let seen = session.seen();
        if let Some(said) = lookout.look(began.elapsed(), &seen) {
            on_event(&ReceiveEvent::Waiting(said));
        }
        session.turn(home, &control.sources(), &mut |event| match event {
            Event::Attached { .. } => on_event(&ReceiveEvent::Ready(home.address())),
            Event::Received(received) => {
                files += u64::from(matches!(received, Received::Done { .. }));
                on_event(&ReceiveEvent::Received(received));
            }
            Event::Sending { .. } | Event::Key { .. } => happened.push(event),
            other => {
                if let Some(notice) = Notice::of(&other) {
                    on_event(&ReceiveEvent::Notice(notice));
                }
            }
        })?;
        let asked = control.turn(
            home,
            &mut session.client,
            (&seen, lookout.told()),
            &happened,
        );
        happened.clear();
        if let Some((count, mean)) = options.ends_after
            && files >= count
            && lingering.is_none()
        {
            let time = linger_of_recipient(mean)?;
            on_event(&ReceiveEvent::Lingering(time));
            lingering = Some(Lingering::new(time));
        }
        if asked.is_break() {
            break;
        }
    }
    Ok(ReceiveSummary { files })
}
