//! `fog`: makes a user's store, prints the address, receives and sends files.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Parser, Subcommand};
use fog::home::{Home, HomeError};
use fog::run::{self, Options, Progress, ReceiveEvent, RunError};
use fog::{Address, Received};

mod screen;

/// Files through the mix network, without anyone on the way learning who talks to whom.
#[derive(Parser)]
#[command(name = "fog", version = directory::version())]
struct Arguments {
    /// Where keys and state are kept [default: $XDG_DATA_HOME/fog or ~/.local/share/fog]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Joins a network: makes keys (existing ones are kept) and picks a gateway
    Init {
        /// The network's file: authorities and a recent consensus
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The gateway's identity, 64 hexadecimal digits [default: drawn by capacity]
        #[arg(long, value_name = "HEX", value_parser = parse_identity)]
        gateway: Option<Identity>,
    },
    /// Prints the address to give to others
    Address,
    /// Receives files until interrupted
    Recv {
        /// Where files go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Stop after this many files
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Sends a file; interrupted or killed, the same command goes on where it stopped
    Send {
        /// The recipient's address
        #[arg(value_parser = str::parse::<Address>)]
        address: Address,
        /// The file
        file: PathBuf,
    },
}

#[derive(Clone)]
struct Identity([u8; 32]);

fn parse_identity(text: &str) -> Result<Identity, String> {
    let wrong = || "64 hexadecimal digits are expected".to_owned();
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut identity = [0; 32];
    for (byte, digits) in identity.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = core::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(Identity(identity))
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fog: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 64 wrong usage, 71 the system, 77 permission, 78 a store or network file that is no use, 1 the transfer.
fn exit_code(error: &RunError) -> u8 {
    let io = |error: &std::io::Error, otherwise| match error.kind() {
        std::io::ErrorKind::PermissionDenied => 77,
        std::io::ErrorKind::InvalidData => 78,
        _ => otherwise,
    };
    match error {
        RunError::Home(HomeError::Io { error, .. }) => io(error, 78),
        RunError::Home(HomeError::Locked(_)) => 71,
        RunError::Home(_) => 78,
        RunError::File { error, .. } => io(error, 64),
        RunError::Socket(error) => io(error, 71),
        RunError::Random(_) => 71,
        RunError::Transfer(_) | RunError::Stopped => 1,
    }
}

fn start(arguments: Arguments) -> Result<(), RunError> {
    let no_home = || RunError::Home(HomeError::Missing(PathBuf::from("$HOME")));
    let home = arguments
        .home
        .or_else(Home::default_path)
        .ok_or_else(no_home)?;
    match arguments.command {
        Command::Init { network, gateway } => {
            let gateway = gateway.map(|identity| identity.0);
            let mut rng = run::system_rng()?;
            let address = Home::init(&home, &network, gateway, &mut rng)?;
            eprintln!("joined the network; keys are in {}", home.display());
            eprintln!("your address, to give to others:");
            println!("{address}");
            Ok(())
        }
        Command::Address => {
            println!("{}", Home::read(&home)?.address());
            Ok(())
        }
        Command::Recv { out, count } => receive(&home, &out, count),
        Command::Send { address, file } => send(&home, &address, &file),
    }
}

/// Set by SIGINT and SIGTERM; the second one ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(RunError::Socket)?;
    }
    Ok(stop)
}

fn send(home: &Path, address: &Address, file: &Path) -> Result<(), RunError> {
    let stop = stop_flag()?;
    let bar = screen::Bar::new(std::fs::metadata(file).map_or(0, |found| found.len()));
    let mut shown = |progress: &Progress| bar.show(progress);
    let summary = run::send_file(home, address, file, &Options::default(), &mut shown, &stop);
    bar.end(summary.is_ok());
    screen::sent(&summary?);
    Ok(())
}

fn receive(home: &Path, out: &Path, count: Option<u64>) -> Result<(), RunError> {
    let stop = stop_flag()?;
    let linger = Linger::default();
    let mut on_event = |event: &ReceiveEvent| {
        screen::received(event, out);
        if let ReceiveEvent::Received(Received::Done { .. }) = event {
            linger.seen(count, &stop);
        }
    };
    run::receive(home, out, &Options::default(), &stop, &mut on_event)?;
    Ok(())
}

/// Stops a few seconds after the last file that was asked for: its sender must still hear that it arrived.
#[derive(Default)]
struct Linger(std::cell::Cell<u64>);

impl Linger {
    fn seen(&self, count: Option<u64>, stop: &Arc<AtomicBool>) {
        self.0.set(self.0.get() + 1);
        if Some(self.0.get()) == count {
            let stop = Arc::clone(stop);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(5));
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
    }
}
