//! Sending files: by the `fog` that runs on the home, or alone.

use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::control::{self, Control, Order};
use super::linger::{Lingering, linger};
use super::lookout::Wait;
use super::notice::Notice;
use super::run::{Options, RunError, SendEvent, SendSummary, system_rng};
use super::session::Session;
use super::source::{Measured, Measuring, open};
use super::transit::Transit;
use crate::address::Address;
use crate::event::Event;
use crate::store::SentFile;
use crate::store::home::{Home, HomeError};
use crate::transfer::TransferId;

/// A `fog` that is just starting or ending holds the home without listening; it is waited for so long.
const CHANGE_MAX: Duration = Duration::from_secs(3);
const CHANGE_STEP: Duration = Duration::from_millis(50);
/// A request to stop is looked for so often while a file is hashed.
const LOOK: Duration = Duration::from_millis(50);
/// A file is handed over so often at most, should whoever took it end.
const HANDED_MAX: u32 = 3;

/// Who sends.
enum Way {
    /// This process: the home is its own.
    Alone(Box<Home>),
    /// The one that runs.
    Running,
}

/// Sends files of one user to one recipient, one after the other.
///
/// While a [`receive`](super::run::receive) runs on the home, that one sends them. Else this one does, through one
/// attachment that lasts from the first file to the end: cover goes on between files and, with [`Sender::linger`], after
/// the last one. Meanwhile it takes what other commands of the user hand over, as a running recipient does.
pub struct Sender {
    home: PathBuf,
    address: Address,
    alone: Option<Alone>,
}

impl Sender {
    /// Nothing is sent yet.
    pub fn new(home: &Path, address: &Address) -> Self {
        Self {
            home: home.to_owned(),
            address: *address,
            alone: None,
        }
    }

    /// Sends one file and returns when its recipient has it whole. Killed and called again with the same address and
    /// file, it goes on where it was. Rate, loops and loss are those of the first file's options.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn send(
        &mut self,
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
        let mut way = None;
        if self.alone.is_none() {
            // What can't be sent is said before anything is begun.
            open(file).map_err(unreadable)?;
            // Before the file is read: for nobody it would be in vain. The home is this process's from here on, and
            // cover leaves: whoever asks it something is heard.
            match Way::find(&self.home, stop)? {
                Way::Alone(home) => self.alone = Some(self.start_alone(*home, options)?),
                running @ Way::Running => way = Some(running),
            }
        }
        let until = (began, options.timeout);
        let measured = self.measure(Measuring::start(file), until, tell, stop)?;
        let Measured { source, path } = measured.map_err(unreadable)?;
        let own = || file.file_name().unwrap_or_default().to_owned();
        let (size, hash) = source.measured();
        let order = Order {
            address: self.address.to_string(),
            name: options.name.clone().unwrap_or_else(own).into_vec(),
            file: path,
            size,
            stamp: source.stamp(),
            hash,
            keeps_journal: options.keeps_journal,
        };
        let mut handed = 0;
        loop {
            way = match way {
                None => {
                    let home = &self.home;
                    let alone = self.alone.as_mut().ok_or_else(|| RunError::NotRunning {
                        home: home.to_owned(),
                    })?;
                    let order = (self.address, order, source);
                    return alone.send(order, until, tell, stop);
                }
                Some(Way::Alone(home)) => {
                    self.alone = Some(self.start_alone(*home, options)?);
                    None
                }
                Some(Way::Running) if handed < HANDED_MAX => {
                    handed += 1;
                    match control::send(&self.home, (&order, &source), until, tell, stop)? {
                        Some(summary) => return Ok(summary),
                        // Whoever took it has ended: it goes on with the next, or alone.
                        None => Some(Way::find(&self.home, stop)?),
                    }
                }
                Some(Way::Running) => {
                    return Err(RunError::Busy {
                        why: "the fog that runs here ended again and again".to_owned(),
                    });
                }
            };
        }
    }

    /// What this home sends alone, nobody receives on it meanwhile.
    fn start_alone(&self, home: Home, options: &Options) -> Result<Alone, RunError> {
        if home.address() == self.address {
            return Err(RunError::OwnAddress);
        }
        Alone::start(home, options)
    }

    /// Waits until a file is hashed, and serves the session meanwhile, where there is one.
    fn measure(
        &mut self,
        started: io::Result<Measuring>,
        (began, timeout): (Instant, Option<Duration>),
        tell: &mut dyn FnMut(&SendEvent),
        stop: &AtomicBool,
    ) -> Result<io::Result<Measured>, RunError> {
        let mut measuring = match started {
            Ok(measuring) => measuring,
            Err(error) => return Ok(Err(error)),
        };
        let wait = self.alone.as_ref().map_or(LOOK, |_| Duration::ZERO);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(RunError::Stopped);
            }
            if let Some(after) = timeout.filter(|after| began.elapsed() >= *after) {
                return Err(RunError::TimedOut { after, wait: None });
            }
            if let Some(measured) = measuring.outcome(wait) {
                return Ok(measured);
            }
            if let Some((done, total)) = measuring.news() {
                tell(&SendEvent::Hashing(done, total));
            }
            if let Some(alone) = &mut self.alone {
                let flow = alone.turn(&mut |event| {
                    if let Some(notice) = Notice::of(event) {
                        tell(&SendEvent::Notice(notice));
                    }
                })?;
                if flow.is_break() {
                    return Err(RunError::Stopped);
                }
            }
        }
    }

    /// All is done, or no more can be: cover goes on for a time that is drawn, `mean` on average, and what others hand
    /// over meanwhile is still sent. Not where another process has sent the files, whose cover goes on; no longer than
    /// until `until`, or until it is asked to stop.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn linger(
        &mut self,
        mean: Duration,
        until: Option<Instant>,
        tell: &mut dyn FnMut(&SendEvent),
        stop: &AtomicBool,
    ) -> Result<(), RunError> {
        let Some(alone) = &mut self.alone else {
            return Ok(());
        };
        let time = linger(mean)?;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        tell(&SendEvent::Lingering(
            left.map_or(time, |left| left.min(time)),
        ));
        let mut lingering = Lingering::new(time);
        let is_late = || until.is_some_and(|until| Instant::now() >= until);
        while !lingering.is_over(alone.control.is_busy())
            && !stop.load(Ordering::Relaxed)
            && !is_late()
        {
            // What goes wrong now ends it and no more: what became of the files is known.
            match alone.turn(&mut |_| {}) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) | Err(_) => break,
            }
        }
        Ok(())
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

/// A client of a home that this process has for itself.
struct Alone {
    home: Home,
    session: Session,
    control: Control,
    told: Option<Wait>,
}

impl Alone {
    fn start(home: Home, options: &Options) -> Result<Self, RunError> {
        let control = Control::open(&home, None);
        let session = Session::start(&home, options, None, system_rng()?)?;
        Ok(Self {
            home,
            session,
            control,
            told: None,
        })
    }

    fn send(
        &mut self,
        (address, order, source): (Address, Order, SentFile),
        (began, timeout): (Instant, Option<Duration>),
        tell: &mut dyn FnMut(&SendEvent),
        stop: &AtomicBool,
    ) -> Result<SendSummary, RunError> {
        let journal = Transit::journal(&self.home, &order)?;
        let order = (&journal, address, order);
        let mut transit = Transit::start(&self.home, &mut self.session.client, order, source)?;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(RunError::Stopped);
            }
            if let Some(after) = timeout.filter(|after| began.elapsed() >= *after) {
                let wait = transit.told().cloned();
                return Err(RunError::TimedOut { after, wait });
            }
            if let Some(said) = transit.look(self.session.client.documents(), self.session.seen()) {
                self.told.clone_from(&said);
                tell(&SendEvent::Waiting(said));
            }
            let flow = self.turn(&mut |event| {
                if let Some(progress) = transit.on_event(event) {
                    tell(&SendEvent::Progress(progress));
                }
                if let Some(notice) = Notice::of(event) {
                    tell(&SendEvent::Notice(notice));
                }
            })?;
            if let Some(ended) = transit.outcome(&self.home, &self.session.client) {
                self.session.client.withdraw(&journal.transfer);
                self.told = None;
                return ended.map_err(RunError::Transfer);
            }
            if flow.is_break() {
                return Err(RunError::Stopped);
            }
        }
    }

    /// A turn of the client, and of those who ask something of it. Breaks when one asks to stop.
    fn turn(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<ControlFlow<()>, RunError> {
        let seen = self.session.seen();
        let mut happened = Vec::new();
        let (home, sources) = (&self.home, self.control.sources());
        self.session.turn(home, &sources, &mut |event| {
            on_event(&event);
            if matches!(event, Event::Sending { .. } | Event::Key { .. }) {
                happened.push(event);
            }
        })?;
        drop(sources);
        let (client, told) = (&mut self.session.client, self.told.as_ref());
        Ok(self
            .control
            .turn(&self.home, client, (&seen, told), &happened))
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
