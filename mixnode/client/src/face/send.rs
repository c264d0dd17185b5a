//! Sending one file: by the `fog` that runs on the home, or alone.

use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::control::{self, Order};
use super::notice::Notice;
use super::run::{Options, RunError, SendEvent, SendSummary, system_rng};
use super::session::Session;
use super::source::{measure, open};
use super::transit::Transit;
use crate::address::Address;
use crate::store::SentFile;
use crate::store::home::{Home, HomeError};
use crate::transfer::TransferId;

/// A `fog` that is just starting or ending holds the home without listening; it is waited for so long.
const CHANGE_MAX: Duration = Duration::from_secs(3);
const CHANGE_STEP: Duration = Duration::from_millis(50);
/// A file is handed over so often at most, should whoever took it end.
const HANDED_MAX: u32 = 3;

/// Who sends.
enum Way {
    /// This process: the home is its own.
    Alone(Box<Home>),
    /// The one that runs.
    Running,
}

/// Sends one file and returns when its recipient has it whole. Killed and called again with the same address and
/// file, it goes on where it was. While a [`receive`](super::run::receive) runs on the home, that one sends it.
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
    let (opened, total) = open(file).map_err(unreadable)?;
    // Before the file is read: for nobody it would be in vain.
    let mut way = Way::find(home, stop)?;
    let mut hashed = |done| tell(&SendEvent::Hashing(done, total));
    let measured = measure(opened, stop, &mut hashed).map_err(unreadable)?;
    let source = measured.ok_or(RunError::Stopped)?;
    let own = || file.file_name().unwrap_or_default().to_owned();
    let (size, hash) = source.measured();
    let order = Order {
        address: address.to_string(),
        name: options.name.clone().unwrap_or_else(own).into_vec(),
        file: file.canonicalize().map_err(unreadable)?,
        size,
        stamp: source.stamp(),
        hash,
        keeps_journal: options.keeps_journal,
    };
    let mut handed = 0;
    loop {
        way = match way {
            Way::Alone(home) => {
                let order = (*address, order, source);
                return alone(&home, order, options, began, tell, stop);
            }
            Way::Running if handed < HANDED_MAX => {
                handed += 1;
                let until = (began, options.timeout);
                match control::send(home, (&order, &source), until, tell, stop)? {
                    Some(summary) => return Ok(summary),
                    // Whoever took it has ended: it goes on with the next, or alone.
                    None => Way::find(home, stop)?,
                }
            }
            Way::Running => {
                return Err(RunError::Busy {
                    why: "the fog that runs here ended again and again".to_owned(),
                });
            }
        };
    }
}

impl Way {
    fn find(home: &Path, stop: &AtomicBool) -> Result<Self, RunError> {
        let until = Instant::now() + CHANGE_MAX;
        loop {
            if control::is_running(home) {
                return Ok(Self::Running);
            }
            match Home::open(home) {
                Err(HomeError::Locked(_)) if Instant::now() < until => {}
                opened => return Ok(Self::Alone(Box::new(opened?))),
            }
            if stop.load(Ordering::Relaxed) {
                return Err(RunError::Stopped);
            }
            std::thread::sleep(CHANGE_STEP);
        }
    }
}

fn alone(
    home: &Home,
    (address, order, source): (Address, Order, SentFile),
    options: &Options,
    began: Instant,
    tell: &mut dyn FnMut(&SendEvent),
    stop: &AtomicBool,
) -> Result<SendSummary, RunError> {
    let journal = Transit::journal(home, &order)?;
    let mut session = Session::start(home, options, None, system_rng()?)?;
    let order = (&journal, address, order);
    let mut transit = Transit::start(home, &mut session.client, order, source)?;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        if let Some(after) = options.timeout.filter(|after| began.elapsed() >= *after) {
            let wait = transit.told().cloned();
            return Err(RunError::TimedOut { after, wait });
        }
        if let Some(said) = transit.look(session.seen()) {
            tell(&SendEvent::Waiting(said));
        }
        session.turn(home, &[], &mut |event| {
            if let Some(progress) = transit.on_event(&event) {
                tell(&SendEvent::Progress(progress));
            }
            if let Some(notice) = Notice::of(&event) {
                tell(&SendEvent::Notice(notice));
            }
        })?;
        if let Some(ended) = transit.outcome(home, &session.client) {
            return ended.map_err(RunError::Transfer);
        }
    }
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
