//! `fog`: makes a user's store, prints the address, receives and sends files.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fog::arguments::{Arguments, Command};
use fog::home::{Home, HomeError};
use fog::run::{self, Options, ReceiveEvent, RunError, SendEvent, Sender};
use fog::{Address, Failure, control};
use program::signals::{self, Stop};
use serde_json::json;
use tracing::level_filters::LevelFilter;

mod paths;
mod screen;

use screen::{Receiving, Screen, Sending};

/// Why the command ends other than well.
enum End {
    /// It was used wrongly.
    Usage(String),
    /// It could not do its work.
    Run(RunError),
    /// A transfer of this name came to nothing.
    Unsent(PathBuf, Failure),
    /// The same, with this code, and it was said.
    Told(u8),
}

impl End {
    fn file(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Run(RunError::File { path, error })
    }

    /// Why this one of several was not sent.
    fn of_item(item: &paths::Item, error: RunError) -> Self {
        match error {
            RunError::Transfer(why) => Self::Unsent(item.name.clone().into(), why),
            error => Self::Run(error),
        }
    }

    /// Says it, unless it was said; its code.
    fn tell(self, screen: &mut Screen, stop: &Stop) -> u8 {
        match self {
            Self::Usage(text) => complain(screen, &text, 64),
            Self::Unsent(name, why) => {
                let text = format!("{}: {why}", paths::shown(&name));
                complain(screen, &text, exit_code(&RunError::Transfer(why), stop))
            }
            Self::Run(error) => complain(screen, &error.to_string(), exit_code(&error, stop)),
            Self::Told(code) => code,
        }
    }

    /// Whether the user chose its moment, by a signal, by fog down or by --timeout: it says nothing of the work's.
    fn is_of_the_user(&self) -> bool {
        matches!(
            self,
            Self::Run(RunError::Stopped | RunError::GoesOn | RunError::TimedOut { .. })
        )
    }
}

impl<E: Into<RunError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

fn main() -> ExitCode {
    let mut arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if arguments.log.log.is_none() && arguments.verbose > 0 {
        let level = if arguments.verbose > 1 {
            "trace"
        } else {
            "debug"
        };
        arguments.log.log = Some(level.to_owned());
    }
    if let Err(why) = arguments.log.start(LevelFilter::WARN) {
        program::complain!("fog: {why}");
        return ExitCode::from(64);
    }
    // From here on, so that no stage is deaf.
    let stop = match signals::of_terminal() {
        Ok(stop) => stop,
        Err(error) => {
            program::complain!("fog: can't handle signals: {error}");
            return ExitCode::from(71);
        }
    };
    let mut screen = Screen::new(arguments.json, arguments.quiet);
    lock_memory(&mut screen);
    let Err(end) = start(arguments, &mut screen, &stop) else {
        // All is done, and whoever asked does not know.
        let unprinted = screen.unprinted().map(RunError::Output);
        return unprinted.map_or(ExitCode::SUCCESS, |error| exit_code(&error, &stop).into());
    };
    ExitCode::from(end.tell(&mut screen, &stop))
}

/// Says why the command ends, with which code.
fn complain(screen: &mut Screen, text: &str, code: u8) -> u8 {
    screen.end();
    screen.event(&json!({ "event": "error", "text": text, "code": code }));
    program::complain!("fog: {}", program::visible(text.as_bytes()));
    code
}

/// Keeps keys out of swap where no limit forbids it, and says so where it does and there is swap.
fn lock_memory(screen: &mut Screen) {
    if let Err(why) = program::limits::lock_memory()
        && program::limits::may_swap()
    {
        let text = format!(
            "keys may be swapped out: {why} (ulimit -l unlimited, or swap that is encrypted, mends it)"
        );
        screen.note(&format!("fog: {text}"));
        screen.event(&json!({ "event": "memory-not-locked", "text": text }));
    }
}

/// 64 wrong usage, 69 no fog runs, 71 the system, 75 the time that was given is over or the running fog is busy, 77 permission, 78 a store or network file that is
/// no use, 1 the transfer; 128 and the signal for an interrupted one.
fn exit_code(error: &RunError, stop: &Stop) -> u8 {
    let io = |error: &io::Error, otherwise| match error.kind() {
        io::ErrorKind::PermissionDenied => 77,
        io::ErrorKind::InvalidData => 78,
        // The system's fault and not the command's: a supervisor may try again.
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem => 74,
        _ => otherwise,
    };
    match error {
        RunError::Home(HomeError::Io { error, .. }) => io(error, 78),
        RunError::Home(HomeError::Locked(_)) => 71,
        RunError::Home(_) => 78,
        RunError::File { error, .. } => io(error, 64),
        RunError::Socket(error) | RunError::Output(error) => io(error, 71),
        RunError::Random(_) => 71,
        RunError::NotRunning { .. } | RunError::OwnAddress => 69,
        RunError::TimedOut { .. } | RunError::Busy { .. } => 75,
        RunError::Stopped | RunError::GoesOn => stop.exit_code(),
        RunError::Transfer(_) => 1,
    }
}

fn start(arguments: Arguments, screen: &mut Screen, stop: &Stop) -> Result<(), End> {
    let no_home = || {
        let text = "neither HOME nor XDG_DATA_HOME is set to a folder: say with --home where keys and state are kept";
        End::Usage(text.to_owned())
    };
    let home = arguments.home.or_else(Home::default_path);
    let home = home.ok_or_else(no_home)?;
    match arguments.command {
        Command::Init { network, gateway } => {
            let gateway = gateway.map(|identity| identity.0);
            let mut rng = run::system_rng()?;
            let address = Home::init(&home, &network, gateway, &mut rng)?;
            screen.note(&format!(
                "joined the network; keys are in {}\nyour address, to give to others:",
                paths::shown(&home)
            ));
            print_address(screen, &address)
        }
        Command::Address => print_address(screen, &Home::read(&home)?.address()),
        Command::Recv {
            out,
            count,
            timeout,
            linger,
        } => {
            let options = Options {
                timeout,
                ends_after: count.map(|count| (count, linger)),
                ..Options::default()
            };
            receive(&home, &out, &options, screen, stop)
        }
        Command::Up { out } => receive(&home, &out, &Options::default(), screen, stop),
        Command::Down => {
            control::stop(&home)?;
            screen.event(&json!({ "event": "stopped" }));
            screen.note("it has stopped");
            Ok(())
        }
        Command::Status => {
            screen::show_status(screen, &control::status(&home)?);
            Ok(())
        }
        Command::Send {
            address,
            files,
            name,
            timeout,
            linger,
        } => {
            let address = parse_address(&address, &files)?;
            let items = paths::collect(&files, name.as_deref())?;
            let times = (timeout, linger);
            send(&home, &address, &items, times, screen, stop)
        }
    }
}

/// What was typed is named by its beginning alone: the reason must not drown in it.
fn parse_address(text: &str, files: &[PathBuf]) -> Result<Address, End> {
    const SHOWN: usize = 12;
    text.parse().map_err(|error| {
        let mut short: String = text.chars().take(SHOWN).collect();
        if text.chars().nth(SHOWN).is_some() {
            short.push('…');
        }
        let is_address = |file: &PathBuf| {
            file.to_str()
                .is_some_and(|text| text.parse::<Address>().is_ok())
        };
        let order = match files.iter().any(is_address) {
            true => "; the address comes first, then what is sent",
            false => "",
        };
        End::Usage(format!("`{short}` is no address: {error}{order}"))
    })
}

fn print_address(screen: &Screen, address: &Address) -> Result<(), End> {
    screen.event(&json!({ "event": "address", "address": address.to_string() }));
    if !screen.is_json() {
        program::print(&address.to_string()).map_err(RunError::Output)?;
    }
    Ok(())
}

fn send(
    home: &Path,
    address: &Address,
    items: &[paths::Item],
    (timeout, linger): (Option<Duration>, Duration),
    screen: &mut Screen,
    stop: &Stop,
) -> Result<(), End> {
    let began = Instant::now();
    let mut sender = Sender::new(home, address);
    let code = match send_all(&mut sender, home, items, (began, timeout), screen, stop) {
        Ok(()) => None,
        Err(end) if end.is_of_the_user() => return Err(end),
        // That a recipient refuses a file, or that one can't be read, must not show either.
        Err(end) => Some(end.tell(screen, stop)),
    };
    let until = timeout.and_then(|timeout| began.checked_add(timeout));
    let mut tell = |event: &SendEvent| {
        if let SendEvent::Lingering(time) = event {
            screen.lingers(*time);
        }
    };
    sender.linger(linger, until, &mut tell, stop.flag())?;
    code.map_or(Ok(()), |code| Err(End::Told(code)))
}

fn send_all(
    sender: &mut Sender,
    home: &Path,
    items: &[paths::Item],
    (began, timeout): (Instant, Option<Duration>),
    screen: &mut Screen,
    stop: &Stop,
) -> Result<(), End> {
    let mut sent = Vec::new();
    for item in items {
        let mut sending = Sending::new(screen, paths::shown(Path::new(&item.name)));
        let copy;
        let mut path = item.path.as_path();
        if paths::is_stdin(item) {
            // The home must be there first.
            Home::read(home)?;
            let mut tell = |wait| sending.show(&SendEvent::Waiting(wait));
            copy = paths::Copy::make(home, (began, timeout), &mut tell, stop.flag())?;
            path = copy.path();
        }
        let options = Options {
            // The time is for all of them.
            timeout: timeout.map(|timeout| timeout.saturating_sub(began.elapsed())),
            name: Some(item.name.clone()),
            keeps_journal: items.len() > 1,
            ..Options::default()
        };
        let mut tell = |event: &SendEvent| sending.show(event);
        let summary = sender
            .send(path, &options, &mut tell, stop.flag())
            .map_err(|error| End::of_item(item, error));
        if summary.is_err() && sent.len() + 1 < items.len() {
            let left = items.len() - sent.len() - 1;
            sending.note(&format!("{left} of {} files were not begun", items.len()));
        }
        let summary = summary?;
        sending.sent(&summary);
        sent.push(summary.transfer);
    }
    Ok(run::forget(home, &sent)?)
}

fn receive(
    home: &Path,
    out: &Path,
    options: &Options,
    screen: &mut Screen,
    stop: &Stop,
) -> Result<(), End> {
    let mut receiving = Receiving::new(screen, out);
    let mut on_event = |event: &ReceiveEvent| receiving.show(event);
    run::receive(home, out, options, stop.flag(), &mut on_event)?;
    Ok(())
}
